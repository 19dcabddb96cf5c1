"""Questions put to other peers from this process: a :class:`Request` out, its :class:`Response` in.

Shared by the runtime (``Fabric.call``) and by the small client of the command line.  Request ids
are random and carry a bit of their own, so they never meet the ids that machines count up, and a
stranger cannot guess one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

from fabric.errors import DeadlineExceeded, Overloaded, Unavailable, error_from_code
from fabric.ids import format_id
from fabric.limits import MAX_CALLS
from fabric.machine import Contact, Message
from fabric.runtime.tracing import TRACE
from fabric.wire.common import Failure, Request, Response

#: Set in every id made here; machines count from zero.
_OURS: Final = 1 << 61


class Asker:
    """Keeps the questions that wait for an answer."""

    def __init__(self, send: Callable[[Contact, Message], None], reply_to: Contact) -> None:
        self._send = send
        self._reply_to = reply_to
        self._waiting: dict[int, tuple[int, asyncio.Future[Message]]] = {}

    def __len__(self) -> int:
        """Questions that wait for their answers."""
        return len(self._waiting)

    async def ask(self, to: Contact, body: Message, timeout_s: float) -> Message:
        """Return the answer; raises what a :class:`Failure` says, or ``DeadlineExceeded``."""
        if len(self._waiting) >= MAX_CALLS:
            raise Overloaded(f"{MAX_CALLS} requests are waiting for answers already")
        request_id = _OURS | secrets.randbits(60)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = (to.node_id, future)
        deadline_ms = round(timeout_s * 1000)
        self._send(to, Request(request_id, self._reply_to, deadline_ms, body, TRACE.get()))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError:
            name = f"peer {format_id(to.node_id)} at " if to.node_id else ""
            raise DeadlineExceeded(
                f"no answer from {name}{to.address} within {timeout_s:g} s",
                {"address": to.address},
            ) from None
        finally:
            self._waiting.pop(request_id, None)
        if answer.__class__ is Failure:
            raise error_from_code(answer.code, answer.message, dict(answer.data))
        return answer

    def take(self, sender: int, response: Response) -> bool:
        """Hand ``response`` to its asker; false when it is not for one of ours."""
        waiting = self._waiting.get(response.request_id)
        if waiting is None:
            return False
        asked, future = waiting
        if asked in (0, sender) and not future.done():
            future.set_result(response.body)
        return True

    def close(self) -> None:
        """Fail all that still waits."""
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the peer was closed"))
