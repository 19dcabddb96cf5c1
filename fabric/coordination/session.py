"""One ZooKeeper session: a threaded kazoo client whose events and answers arrive on the event loop.

kazoo runs threads of its own.  Its listeners and callbacks only hand over to the loop and return at
once: a listener that blocked would block the client's connection itself.

What kazoo does not do by itself:

* It goes on after SUSPENDED as if nothing had happened.  Here a request is refused while the
  connection is in doubt, and one that was answered across a doubt counts as unanswered.
* An ensemble that was emptied, or restored from an old copy, refuses a client that has seen newer
  transactions, for ever.  After one session timeout without connection the session is over anyway;
  then a new client starts, one that has seen nothing.
* Its delays between tries grow to an hour; here they end at half a second.
* It writes credentials to its debug log, and a warning at each try of an outage; from its logger
  here only errors come through.  The chairman's notices tell of outages.
* It tells nobody which session timeout the server granted; we look over its shoulder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    ConnectionClosedError,
    ConnectionLoss,
    OperationTimeoutError,
    SessionExpiredError,
)
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

from fabric.coordination.ensemble import Ensemble

#: Pauses between tries to connect, all servers tried once in each.
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
#: How long closing waits for a server that may be frozen; the thread ends by itself later.
_CLOSE_WITHIN_S: Final = 1.0

_LOG: Final = logging.getLogger("fabric.coordination")
_KAZOO_LOG: Final = logging.getLogger("fabric.coordination.kazoo")
_KAZOO_LOG.addFilter(lambda record: record.levelno >= logging.ERROR)

#: Whatever says that the connection or session broke, and that the outcome is unknown.
BROKEN: Final = (
    ConnectionLoss, ConnectionClosedError, SessionExpiredError, OperationTimeoutError,
    AuthFailedError,
)  # fmt: skip


class Unreachable(Exception):
    """There is no connection right now, or it broke before the answer came."""


class Session:
    """Use it on one loop: ``start``, ``call``, ``close``."""

    def __init__(self, ensemble: Ensemble, on_change: Callable[[bool], None]) -> None:
        """``on_change`` is told, on the loop, of each connection found (true) and lost (false)."""
        self.ensemble = ensemble
        #: Rises with each new session; what belonged to an earlier one is gone.
        self.number = 0
        #: Rises whenever the connection comes into doubt.
        self.doubts = 0
        self.connected = False
        self._on_change = on_change
        self._client: KazooClient | None = None
        self._loop = asyncio.get_running_loop()
        self._renewal: asyncio.TimerHandle | None = None
        self._granted_s = 0.0
        self._trouble = "not connected yet"
        self._closed = False

    @property
    def session_id(self) -> int:
        """The server's id of this session, 0 without one."""
        client_id = None if self._client is None else self._client.client_id
        return 0 if client_id is None else int(client_id[0] or 0)

    @property
    def timeout_s(self) -> float:
        """The session timeout that the server granted (the one wished for, before it has)."""
        return self._granted_s or self.ensemble.session_s

    @property
    def acl(self) -> list[Any]:
        """What every node is created with: only its creator, where there are credentials."""
        acl: list[Any] = CREATOR_ALL_ACL if self.ensemble.credentials else OPEN_ACL_UNSAFE
        return acl

    def start(self) -> None:
        """Begin to connect, in the background, for as long as it takes."""
        self.number += 1
        self._client = client = self._new_client()
        client.add_listener(lambda state: self._post(self._changed, client, state))
        connect = client._connection._connect

        def connect_and_tell(*server: Any) -> Any:
            read_ms, connect_ms = connect(*server)
            self._post(self._granted, read_ms * 1.5 / 1000)  # kazoo reads for two thirds of it
            return read_ms, connect_ms

        client._connection._connect = connect_and_tell
        client.start_async()

    async def call(self, ask: Callable[[KazooClient], Any]) -> Any:
        """Return the result of an asynchronous kazoo call, or raise what it raised.

        Raises :class:`Unreachable` where the outcome is unknown, or nothing could be asked.
        """
        client, doubts = self._client, self.doubts
        if client is None or not self.connected or client.state != KazooState.CONNECTED:
            raise Unreachable(f"{self.ensemble}: {self._trouble}")
        future: asyncio.Future[Any] = self._loop.create_future()

        def settle(result: Any) -> None:
            if future.done():
                return
            if result.exception is None:
                future.set_result(result.value)
            else:
                future.set_exception(result.exception)

        ask(client).rawlink(lambda result: self._post(settle, result))
        try:
            answer = await future
        except BROKEN as error:
            raise Unreachable(f"{self.ensemble}: {type(error).__name__}") from None
        if self.doubts != doubts:
            raise Unreachable(f"{self.ensemble}: the connection broke meanwhile")
        return answer

    def forget(self, ask: Callable[[KazooClient], Any]) -> None:
        """Ask and wait for nothing. May be called in any thread."""
        client = self._client
        if client is not None and client.state == KazooState.CONNECTED:
            ask(client)

    def watcher(self, tell: Callable[[], None]) -> Callable[[Any], None]:
        """Return a watch function for kazoo that has ``tell`` called on the loop."""
        return lambda event: self._post(tell)

    async def close(self) -> None:
        """End the session, so that its ephemeral nodes go at once."""
        self._closed = True
        self.connected = False
        self._cancel_renewal()
        client, self._client = self._client, None
        if client is not None:
            ended = asyncio.Event()
            _end(client, lambda: self._post(ended.set))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _CLOSE_WITHIN_S)

    # --- on the loop ------------------------------------------------------------------------------

    def _changed(self, client: Any, state: str) -> None:
        if self._closed or self._client is None or client is not self._client:
            return
        if state == KazooState.CONNECTED:
            self._cancel_renewal()
            self.connected = True
            self._on_change(True)
            return
        self.doubts += 1
        self._trouble = "the connection is lost"
        if client.client_state == KeeperState.AUTH_FAILED:
            self._trouble = "the server refuses the credentials"
        if state == KazooState.LOST:
            self.number += 1
        if self._renewal is None:
            self._renewal = self._loop.call_later(self.timeout_s, self._renew)
        if self.connected:
            self.connected = False
            self._on_change(False)

    def _granted(self, timeout_s: float) -> None:
        self._granted_s = timeout_s

    def _renew(self) -> None:
        """No connection for a whole session timeout: begin anew, as one who has seen nothing."""
        self._renewal = None
        if self._closed or self.connected or self._client is None:
            return
        _end(self._client, lambda: None)
        self.start()

    def _cancel_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    def _new_client(self) -> KazooClient:
        ensemble = self.ensemble
        handler = SequentialThreadingHandler()
        return KazooClient(
            ensemble.servers,
            timeout=ensemble.session_s,
            handler=handler,
            auth_data=[("digest", ensemble.credentials)] if ensemble.credentials else None,
            connection_retry=KazooRetry(
                max_tries=-1, delay=_FIRST_PAUSE_S, max_delay=_LONGEST_PAUSE_S,
                sleep_func=handler.sleep_func,
            ),
            logger=_KAZOO_LOG,
            use_ssl=bool(ensemble.tls_ca),
            ca=ensemble.tls_ca or None,
            certfile=ensemble.tls_cert or None,
            keyfile=ensemble.tls_key or None,
            check_hostname=bool(ensemble.tls_ca),
        )

    # --- in kazoo's threads -----------------------------------------------------------------------

    def _post(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: nobody wants to know any more
            _LOG.debug("an event of ZooKeeper came after the loop was closed")


def _end(client: KazooClient, then: Callable[[], None]) -> None:
    """Stop ``client`` in a thread: a frozen server may keep it for seconds."""

    def work() -> None:
        try:
            client.stop()
            client.close()
        except Exception as error:  # it is given up; what matters is that its session ends
            _LOG.warning("a ZooKeeper client did not stop cleanly: %s", type(error).__name__)
        then()

    threading.Thread(target=work, name="fabric-zookeeper-end", daemon=True).start()
