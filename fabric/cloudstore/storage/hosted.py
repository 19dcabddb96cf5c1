"""One shard's machine in a node: its sink, its timer, and the calls that wait for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from fabric.cloudstore.shard import ShardMachine
from fabric.cloudstore.view import Documents
from fabric.errors import FabricError, OutcomeUnknown, Overloaded, StorageError, Unavailable
from fabric.limits import MAX_BATCH, MAX_PROPOSALS
from fabric.machine import WOKEN, Contact, Event, LocalCall, Message, Sink, Write
from fabric.stream import Stream
from fabric.wire.store import Campaign, Outcome, Propose, Proposed, ReadAt

#: The replica's name among its (here: no) others.
_NODE_ID: Final = 1


class ShardHost(Protocol):
    """What a hosted shard needs of its node."""

    @property
    def documents(self) -> Documents:
        """The documents of all shards."""

    def now(self) -> int:
        """The time in microseconds."""

    def persist(self, writes: Sequence[Write], hosted: HostedShard, token: int) -> None:
        """Make ``writes`` durable, then hand in ``Persisted(token)``."""

    def refuse_writes(self) -> FabricError | None:
        """Return why no new transactions are taken, if so."""


class HostedShard(Sink):
    """One shard's machine in the node, its sink, and the calls that wait for it."""

    def __init__(self, node: ShardHost, shard: int) -> None:
        self._node = node
        self._shard = shard
        self._loop = asyncio.get_running_loop()
        stream = Stream(secrets.randbits(61))
        self._machine = ShardMachine(
            shard, Contact(_NODE_ID, "inproc://store"), (), stream, node.documents
        )
        self._inbox: list[tuple[bytes, asyncio.Future[Outcome]]] = []
        self._readers: list[asyncio.Future[None]] = []
        self._calls: dict[int, Callable[[Any], None]] = {}
        self._next_call = 1
        self._flush_planned = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self, stored: list[tuple[bytes, bytes]], applied: int) -> None:
        self._machine.start(stored, applied, self._node.now(), self)
        # the only replica: nobody to wait for
        self.handle(LocalCall(0, Campaign(self._shard)))

    def handle(self, event: Event) -> None:
        led = self._machine.leads
        self._machine.handle(event, self._node.now(), self)
        if self._machine.stopped is not None:
            self.close(StorageError(f"shard {self._shard} has stopped: {self._machine.stopped}"))
        elif self._machine.leads and not led:
            self._deliver()
            for reader in self._readers:
                self._ask(ReadAt(self._shard), partial(_settle_read, reader))
            self._readers.clear()

    def close(self, error: FabricError | None = None) -> None:
        """Fail what waits, and take no more wishes."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        error = error or Unavailable("the store is closed")
        inbox, self._inbox = self._inbox, []
        readers, self._readers = self._readers, []
        calls, self._calls = self._calls, {}
        for _, outcome in inbox:
            if not outcome.done():
                outcome.set_exception(_fresh(error))
        for reader in readers:
            if not reader.done():
                reader.set_exception(_fresh(error))
        for settle in calls.values():
            settle(OutcomeUnknown(error.message))

    # --- calls ------------------------------------------------------------------------------------

    async def propose(self, command: bytes) -> Outcome:
        if self._machine.stopped is not None:
            raise StorageError(f"shard {self._shard} has stopped: {self._machine.stopped}")
        if len(self._inbox) >= MAX_PROPOSALS:
            raise Overloaded(f"shard {self._shard}: too many transactions wait")
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._inbox.append((command, future))
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._deliver)
        return await future

    async def read(self) -> None:
        if self._machine.stopped is not None:
            raise StorageError(f"shard {self._shard} has stopped: {self._machine.stopped}")
        reader: asyncio.Future[None] = self._loop.create_future()
        if self._machine.leads:
            self._ask(ReadAt(self._shard), partial(_settle_read, reader))
        else:
            self._readers.append(reader)
        await reader

    def _deliver(self) -> None:
        """Hand everything that came together to the machine, as few proposals."""
        self._flush_planned = False
        if not self._inbox or not self._machine.leads:
            return  # it is delivered when the machine leads
        refusal = self._node.refuse_writes()
        waiting, self._inbox = self._inbox, []
        for start in range(0, len(waiting), MAX_BATCH):
            part = waiting[start : start + MAX_BATCH]
            futures = [future for _, future in part]
            if refusal is not None:
                _settle_all(futures, refusal)
                continue
            commands = tuple(command for command, _ in part)
            self._ask(Propose(self._shard, commands), partial(_settle_all, futures))

    def _ask(self, request: Message, settle: Callable[[Any], None]) -> None:
        call_id = self._next_call
        self._next_call += 1
        self._calls[call_id] = settle
        self._machine.handle(LocalCall(call_id, request), self._node.now(), self)

    # --- Sink -------------------------------------------------------------------------------------

    def send(self, to: Contact, message: Message) -> None:
        raise AssertionError("the only replica has nobody to talk to")

    def promise(self, writes: Sequence[Write], to: Contact, message: Message) -> None:
        self.send(to, message)

    def wake(self, at: int) -> None:
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0, at - self._node.now()) / 1_000_000
        self._timer = self._loop.call_later(delay_s, self._wake)

    def rest(self, until: int) -> None:
        self.wake(until)

    def _wake(self) -> None:
        self._timer = None
        self.handle(WOKEN)

    def persist(self, writes: Sequence[Write], token: int) -> None:
        self._node.persist(writes, self, token)

    def reply(self, call_id: int, result: Any) -> None:
        settle = self._calls.pop(call_id, None)
        if settle is not None:
            settle(result)

    def coordinate(self, request: Any, token: int) -> None:
        raise AssertionError("shards ask no coordinator")

    def drive(self, call: Any, token: int) -> None:
        raise AssertionError("shards drive no hypervisor")

    def notify(self, notice: Any) -> None:
        """Nobody listens yet."""


def _settle_all(futures: Sequence[asyncio.Future[Outcome]], answer: object) -> None:
    """Tell everyone in a batch what became of his transaction."""
    if isinstance(answer, Proposed):
        for future, outcome in zip(futures, answer.outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)
        return
    assert isinstance(answer, FabricError)
    for future in futures:
        if not future.done():
            future.set_exception(_fresh(answer))


def _fresh(error: FabricError) -> FabricError:
    """Return a copy: an exception that is raised in several tasks would mix up their traces."""
    return type(error)(error.message, error.data)


def _settle_read(reader: asyncio.Future[None], answer: object) -> None:
    if reader.done():
        return
    if isinstance(answer, FabricError):
        reader.set_exception(answer)
    else:
        reader.set_result(None)
