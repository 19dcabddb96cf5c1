"""The HTTP edge of the front: aiohttp in, :class:`~nodes.front.call.Call` out, and back.

Everything that goes wrong ends here as the contract's ``ApiError``: coded errors with their own
status, an unknown URL as 404 ``NotFound``, anything unexpected as 500 ``InternalError`` whose
message names only the request id (the log has the rest).
"""

from __future__ import annotations

import errno
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from fabric.errors import AddressInUse, EdgeError, FabricError, NotFound
from fabric.runtime.tracing import TRACE
from nodes import metrics
from nodes.cloud.access import Cloud
from nodes.contract.errors import (
    MethodNotAllowed,
    RequestTooLarge,
    UnsupportedMediaType,
    to_json,
)
from nodes.front import paging
from nodes.front.call import Call, Route
from nodes.front.routes import ROUTES
from nodes.front.status import StatusSource
from nodes.front.unbuilt import not_built_yet

_LOG: Final = logging.getLogger(__name__)

_API_VERSION: Final = "1.0"
#: Largest JSON body: far above any real spec, and what one stored document could hold anyway.
_MAX_BODY: Final = 256 * 1024
#: Seconds that open connections get to finish when the front stops.
_SHUTDOWN_S: Final = 2.0


_REQUEST_ID: Final = web.RequestKey("request_id", str)


class Front:
    """What answers requests: the cloud, where to ask for its health, what measures it."""

    def __init__(
        self, cloud: Cloud, status: StatusSource, exposition: metrics.Exposition | None = None
    ) -> None:
        self._cloud = cloud
        self._status = status
        self._exposition = exposition or metrics.Exposition()

    def application(self) -> web.Application:
        """Return the aiohttp application, for :func:`start` and for tests."""
        middlewares = [self._measured(), _answer_errors]
        app = web.Application(client_max_size=_MAX_BODY, middlewares=middlewares)
        app.router.add_get("/metrics", self._metrics)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._adapt(route))
        app.on_response_prepare.append(_add_headers)
        return app

    def _measured(self) -> Middleware:
        """Return the middleware that times every request, by route: never by what a client made up.
        """
        times = self._exposition.requests

        @web.middleware
        async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.monotonic()
            answer = await handler(request)
            resource = request.match_info.route.resource
            if resource is None:
                labels = ("other", "other")
            else:
                labels = (request.method, resource.canonical)
            took_s = time.monotonic() - began
            times.labels(*labels, str(answer.status)).observe(took_s)
            _LOG.info(
                "%s %s: %d after %.1f ms", request.method, request.path, answer.status,
                took_s * 1000, extra={"trace": request.get(_REQUEST_ID, "")},
            )
            return answer

        return measured

    async def _metrics(self, request: web.Request) -> web.Response:
        return await metrics.handle(self._exposition)

    def _adapt(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            call = await self._call(request, route)
            if route.paged:
                paging.page_size(call.query)
            reply = await route.handler(call)
            return _json(reply.status, reply.body)

        return handle

    async def _call(self, request: web.Request, route: Route) -> Call:
        raw = await _read(request, route) if request.method == "POST" else b""
        if raw and request.content_type != "application/json":
            raise UnsupportedMediaType(
                f"The body must be application/json (was {request.content_type:.80})"
            )
        query = {name: value for name, value in request.query.items() if value}
        cursor = None
        link = query.get("pageLink")
        if link is not None:
            query, cursor = paging.decode(request.path, link)
        return Call(
            self._cloud,
            self._status,
            f"{request.scheme}://{request.host}",
            request.path,
            request.match_info,
            query,
            raw,
            cursor,
        )


class Running:
    """A front that listens. ``url`` is its endpoint."""

    def __init__(self, runner: web.AppRunner, url: str) -> None:
        self._runner = runner
        self.url = url

    async def stop(self) -> None:
        """Stop listening, let open requests finish for a moment, close."""
        await self._runner.cleanup()


async def start(front: Front, host: str, port: int) -> Running:
    """Listen on ``host`` and ``port`` (0: any free one)."""
    runner = web.AppRunner(
        front.application(), access_log=None, shutdown_timeout=_SHUTDOWN_S, handle_signals=False
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        where = {"host": host, "port": str(port)}
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"port {port} on {host} is in use by another process", where
            ) from None
        raise EdgeError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", where
        ) from None
    bound = runner.addresses[0]
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return Running(runner, f"http://{shown}:{bound[1]}")


async def _read(request: web.Request, route: Route) -> bytes:
    """Return the body; of a route that is not built it is read and dropped, whatever its size.

    Clients that upload see a reset instead of the answer if the rest is not read.
    """
    if route.handler is not not_built_yet:
        return await request.read()
    async for _ in request.content.iter_any():
        pass
    return b""


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[_REQUEST_ID] = trace = str(uuid.uuid4())
    TRACE.set(trace)  # of this request's task alone: it goes along to worker, peers and agent
    try:
        return await handler(request)
    except FabricError as error:
        return _error(error)
    except web.HTTPNotFound:
        return _error(NotFound(f"There is no {request.path:.200}"))
    except web.HTTPMethodNotAllowed as refused:
        allowed = ", ".join(sorted(refused.allowed_methods))
        answer = _error(MethodNotAllowed(f"{request.method} is not allowed here, only {allowed}"))
        answer.headers["Allow"] = allowed
        return answer
    except web.HTTPRequestEntityTooLarge:
        return _error(RequestTooLarge(f"The body must not exceed {_MAX_BODY} bytes"))
    except Exception:
        _LOG.exception(
            "request %s failed: %s %s", request[_REQUEST_ID], request.method, request.path
        )
        return _error(FabricError(f"Internal error in request {request[_REQUEST_ID]}"))


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-API-VERSION"] = _API_VERSION
    response.headers["REQUEST-ID"] = request.get(_REQUEST_ID) or str(uuid.uuid4())


def _error(error: FabricError) -> web.Response:
    return _json(error.http_status, to_json(error))


def _json(status: int, body: object) -> web.Response:
    return web.Response(
        status=status, body=json.dumps(body).encode(), content_type="application/json"
    )
