"""``fabric.open_blocking``: a peer for scripts that know nothing of asyncio.

The peer runs on an event loop in a thread of its own; every call hands a coroutine to that loop and
waits for its result.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar

from fabric import api
from fabric.machine import Contact, Message
from fabric.placement.request import Placed, PlacementRequest
from fabric.survey import PLACE_WITHIN_S, READ_WITHIN_S, TreeCell
from fabric.wire.adoption import Adopted
from fabric.wire.peer import MemberRow, Status
from fabric.wire.seeing import EventRow, Events, Metrics

T = TypeVar("T")


def open_blocking(address: str = "tcp://127.0.0.1:0", **options: Any) -> BlockingFabric:
    """Return a peer to be run with ``with``. Takes what :func:`fabric.open` takes."""
    return BlockingFabric(api.open(address, **options))


class BlockingFabric:
    """The calls of :class:`~fabric.api.Fabric`, each returning when it is done."""

    def __init__(self, fabric: api.Fabric) -> None:
        self._fabric = fabric
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fabric", daemon=True)

    def __enter__(self) -> BlockingFabric:
        self._thread.start()
        try:
            self._wait(self._fabric.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._wait(self._fabric.leave())
        finally:
            self._stop()

    @property
    def contact(self) -> Contact:
        return self._fabric.contact

    def ready(self, timeout_s: float = 30.0) -> None:
        self._wait(self._fabric.ready(timeout_s))

    def status(self) -> Status:
        return self._wait(self._fabric.status())

    def members(self, cell: int = 0) -> list[MemberRow]:
        return self._wait(self._fabric.members(cell))

    def tree(self) -> TreeCell:
        return self._wait(self._fabric.tree())

    def metrics(self) -> Metrics:
        return self._wait(self._fabric.metrics())

    def history(self, after: int = 0) -> Events:
        return self._wait(self._fabric.history(after))

    def place(self, request: PlacementRequest, timeout_s: float = PLACE_WITHIN_S) -> Placed:
        return self._wait(self._fabric.place(request, timeout_s))

    def confirm(self, placement: Placed, timeout_s: float = READ_WITHIN_S) -> None:
        self._wait(self._fabric.confirm(placement, timeout_s))

    def release(self, placement: Placed, timeout_s: float = READ_WITHIN_S) -> None:
        self._wait(self._fabric.release(placement, timeout_s))

    def adopt(self, partial: bool = False) -> Adopted:
        return self._wait(self._fabric.adopt(partial))

    def call(self, to: Contact, body: Message, timeout_s: float = READ_WITHIN_S) -> Message:
        return self._wait(self._fabric.call(to, body, timeout_s))

    def events(self, after: int | None = None) -> Iterator[EventRow]:
        """Yield what happens, in words, from now on or after event ``after``, waiting for it."""
        events = self._fabric.events(after)
        try:
            while True:
                try:
                    notice = self._wait(_next(events))
                except StopAsyncIteration:
                    return
                yield notice
        finally:
            self._wait(_close(events))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _next(events: Any) -> Any:
    return await events.__anext__()


async def _close(events: Any) -> None:
    await events.aclose()
