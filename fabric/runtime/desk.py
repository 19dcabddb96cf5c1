"""What the edge of a peer answers by itself, without the machine.

The machine only puts notices out; they are kept here, in the edge, so the questions about them end
here too.  A question may wait for the next event (that is how ``--follow`` works); the number of
those that wait is bounded.

The edge also asks others of its process for callers that cannot reach them: the door of
``fabric up`` opens to one peer, the rest of the tree is behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from fabric.errors import BadInput, FabricError, Overloaded
from fabric.limits import (
    MAX_CALLS,
    MAX_EVENT_WAIT_MS,
    MAX_EVENT_WAITERS,
    MAX_PLACE_TIMEOUT_MS,
)
from fabric.machine import Contact, Message
from fabric.peer.calls import as_message
from fabric.runtime.journal import Journal
from fabric.transport.inproc import SCHEME
from fabric.wire.common import Request, Response
from fabric.wire.seeing import Events, EventsAsk, Metrics, MetricsAsk, Through

Send: TypeAlias = Callable[[Contact, Message], None]
Ask: TypeAlias = Callable[[Contact, Message, float], Awaitable[Message]]


class Desk:
    """Answers questions of the classes in :attr:`asks`."""

    def __init__(self, journal: Journal, measure: Callable[[], Metrics], send: Send, ask: Ask):
        self.journal = journal
        self._measure = measure
        self._send = send
        self._ask = ask
        self._waiting = 0
        self._serving: set[asyncio.Task[None]] = set()
        self.asks: Final[dict[type[Any], Callable[[Any, float], Awaitable[Message]]]] = {
            EventsAsk: self._events,
            Through: self._through,
            MetricsAsk: self._metrics,
        }

    async def answer(self, body: Message, timeout_s: float) -> Message:
        """Return the answer to ``body``, one of :attr:`asks`."""
        return await self.asks[body.__class__](body, timeout_s)

    def serve(self, sender: int, request: Request) -> None:
        """Answer a remote request when the answer is there."""
        if request.reply_to.node_id not in (0, sender):
            return  # answers go to those who ask, nobody else
        task = asyncio.get_running_loop().create_task(self._serve(request))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def close(self) -> None:
        for task in tuple(self._serving):
            task.cancel()

    async def _serve(self, request: Request) -> None:
        try:
            if len(self._serving) > MAX_CALLS:
                raise Overloaded(f"{MAX_CALLS} questions are being answered already")
            timeout_s = min(request.deadline_ms, MAX_PLACE_TIMEOUT_MS) / 1000
            answer = await self.answer(request.body, timeout_s)
        except FabricError as error:
            answer = as_message(error)
        self._send(request.reply_to, Response(request.request_id, answer))

    async def _through(self, ask: Through, timeout_s: float) -> Message:
        if not ask.to.address.startswith(SCHEME) or ask.body.__class__ is Through:
            raise BadInput(
                f"only peers of the same process are asked for others (was {ask.to.address})",
                {"field": "to"},
            )
        return await self._ask(ask.to, ask.body, timeout_s)

    async def _metrics(self, ask: MetricsAsk, timeout_s: float) -> Metrics:
        return self._measure()

    async def _events(self, ask: EventsAsk, timeout_s: float) -> Events:
        page = self.journal.page(ask.after)
        if page.rows or not ask.wait_ms or self._waiting >= MAX_EVENT_WAITERS:
            return page
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(ask.wait_ms, MAX_EVENT_WAIT_MS) / 1000):
                    await self.journal.news().wait()
        finally:
            self._waiting -= 1
        return self.journal.page(ask.after)
