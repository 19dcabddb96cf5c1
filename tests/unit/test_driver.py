"""The driver against a scripted machine: order, persist before send, timers, failures, callers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import pytest

from fabric.coordination.interface import Load, Loaded, Lost, Severed
from fabric.counters import Counters
from fabric.errors import (
    BadInput,
    DeadlineExceeded,
    Overloaded,
    StorageError,
    Unavailable,
)
from fabric.machine import (
    WOKEN,
    Contact,
    Coordinated,
    Driven,
    Event,
    LocalCall,
    Persisted,
    PersistFailed,
    Received,
    Sink,
    Write,
)
from fabric.runtime.driver import Runtime
from fabric.storage.interface import Durable
from fabric.storage.memory import MemoryStorage
from fabric.transport.inproc import InprocTransport
from fabric.wire.common import Done, Failure, Request, Response

Script = Callable[[Event, int, Sink], None]


class Scripted:
    """A machine that does what its test says and remembers its events."""

    def __init__(self, script: Script = lambda event, now, out: None) -> None:
        self.script = script
        self.events: list[Event] = []
        self.changed = asyncio.Event()

    def start(self, now: int, out: Sink) -> None:
        pass

    def handle(self, event: Event, now: int, out: Sink) -> None:
        self.events.append(event)
        self.changed.set()
        self.script(event, now, out)

    async def seen(self, wanted: Event) -> None:
        async with asyncio.timeout(10):
            while wanted not in self.events:
                self.changed.clear()
                await self.changed.wait()


class SlowStorage(MemoryStorage):
    """A disk that answers when the test says so."""

    def __init__(self) -> None:
        super().__init__(node_id=1)
        self.submitted: deque[tuple[Sequence[Write], Durable]] = deque()

    def stored(self) -> Iterable[tuple[bytes, bytes]]:
        return ()

    def submit(self, writes: Sequence[Write], done: Durable) -> None:
        self.submitted.append((writes, done))

    def finish(self, error: StorageError | None = None) -> None:
        self.submitted.popleft()[1](error)


class Rig:
    """A runtime, and a second endpoint that receives what it sends."""

    def __init__(self) -> None:
        self.storage = SlowStorage()
        self.counters = Counters()
        self.machine = Scripted()
        self.got: asyncio.Queue[Any] = asyncio.Queue()
        self.other = InprocTransport("inproc://other", Counters())
        self.other_contact = Contact(2, "inproc://other")

    async def start(self, **edges: Any) -> Rig:
        self.runtime = Runtime(
            InprocTransport("inproc://me", self.counters), self.storage, self.counters, **edges
        )
        await self.runtime.listen()
        await self.other.start(2, lambda sender, message: self.got.put_nowait(message))
        self.runtime.run(self.machine)
        return self

    async def next(self) -> Any:
        async with asyncio.timeout(10):
            return await self.got.get()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = await Rig().start()
    yield rig
    await rig.runtime.stop()
    await rig.other.close()


async def test_a_promise_leaves_only_when_its_writes_are_durable(rig: Rig) -> None:
    def script(event: Event, now: int, out: Sink) -> None:
        out.promise([Write(b"k", b"v")], rig.other_contact, Failure("C", "promised"))
        out.promise([Write(b"k", b"w")], rig.other_contact, Failure("C", "second"))
        out.send(rig.other_contact, Failure("C", "sent"))

    rig.machine.script = script
    rig.runtime.handle(WOKEN)
    assert (await rig.next()).message == "sent"
    assert rig.got.empty()
    assert [writes for writes, _ in rig.storage.submitted] == [
        [Write(b"k", b"v")],
        [Write(b"k", b"w")],
    ]
    rig.storage.finish()
    assert (await rig.next()).message == "promised"
    assert rig.got.empty()
    rig.storage.finish()
    assert (await rig.next()).message == "second"


async def test_persisted_comes_with_its_token(rig: Rig) -> None:
    rig.runtime.persist([Write(b"k", b"v")], 7)
    assert rig.machine.events == []
    rig.storage.finish()
    assert rig.machine.events == [Persisted(7)]


async def test_a_failing_disk_stops_the_peer_and_nothing_promised_leaves(rig: Rig) -> None:
    rig.runtime.persist([Write(b"a", b"b")], 7)
    rig.runtime.promise([Write(b"k", b"v")], rig.other_contact, Done())
    waiting = asyncio.create_task(rig.runtime.call(Done(), 10))
    await rig.machine.seen(LocalCall(1, Done()))
    rig.storage.finish(StorageError("I/O error"))
    rig.storage.finish(StorageError("I/O error"))
    with pytest.raises(StorageError):
        await waiting
    await rig.runtime.stopped()
    assert isinstance(rig.runtime.failure, StorageError)
    assert rig.machine.events[-1] == PersistFailed(7, "I/O error")
    rig.runtime.handle(WOKEN)
    assert rig.machine.events[-1] == PersistFailed(7, "I/O error")
    with pytest.raises(StorageError):
        await rig.runtime.call(Done(), 10)
    await asyncio.sleep(0)
    assert rig.got.empty()


async def test_a_machine_that_raises_costs_a_counter_and_a_traceback(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def script(event: Event, now: int, out: Sink) -> None:
        if isinstance(event, Received) and event.message == Failure("C", "bad"):
            raise ZeroDivisionError("a defect")

    rig.machine.script = script
    for text in ("bad", "bad", "good"):
        rig.other.send("inproc://me", Failure("C", text))
    await rig.machine.seen(Received(2, Failure("C", "good")))
    assert rig.counters["machine_errors"] == 2
    assert "a defect" in caplog.text
    assert "raised on Failure" in caplog.text


async def test_the_earliest_wish_wakes_once(rig: Rig) -> None:
    start = rig.runtime.clock()
    woken_at: list[int] = []

    def script(event: Event, now: int, out: Sink) -> None:
        if event is WOKEN:
            woken_at.append(now)
        else:
            out.wake(start + 60_000_000)
            out.wake(start + 1_000)
            out.wake(start + 30_000_000)

    rig.machine.script = script
    rig.runtime.handle(Persisted(0))
    await rig.machine.seen(WOKEN)
    assert len(woken_at) == 1
    assert woken_at[0] >= start + 1_000


async def test_a_wish_in_the_past_wakes_in_a_later_turn(rig: Rig) -> None:
    rig.machine.script = lambda event, now, out: out.wake(0) if event is not WOKEN else None
    rig.runtime.handle(Persisted(0))
    assert rig.machine.events == [Persisted(0)]
    await rig.machine.seen(WOKEN)


async def test_what_is_sent_to_oneself_comes_back_later(rig: Rig) -> None:
    def script(event: Event, now: int, out: Sink) -> None:
        if event is WOKEN:
            out.send(rig.runtime.me, Done())

    rig.machine.script = script
    rig.runtime.handle(WOKEN)
    assert rig.machine.events == [WOKEN]
    await rig.machine.seen(Received(1, Done()))


async def test_local_calls_are_answered_refused_and_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(event: Event, now: int, out: Sink) -> None:
        assert isinstance(event, LocalCall)
        if event.request == Failure("C", "answer"):
            out.reply(event.call_id, Done())
        elif event.request == Failure("C", "refuse"):
            out.reply(event.call_id, BadInput("no"))

    rig.machine.script = script
    assert await rig.runtime.call(Failure("C", "answer"), 10) == Done()
    with pytest.raises(BadInput):
        await rig.runtime.call(Failure("C", "refuse"), 10)
    with pytest.raises(DeadlineExceeded):
        await rig.runtime.call(Failure("C", "ignore"), 0.001)
    monkeypatch.setattr("fabric.runtime.driver.MAX_CALLS", 0)
    with pytest.raises(Overloaded):
        await rig.runtime.call(Done(), 10)


async def test_asking_another_peer(rig: Rig) -> None:
    async def answer(body: Any, sender: int = 2) -> None:
        request = await rig.next()
        assert isinstance(request, Request)
        assert request.reply_to == rig.runtime.me
        rig.other.send(request.reply_to.address, Response(request.request_id, body))

    question = asyncio.create_task(rig.runtime.ask(rig.other_contact, Done(), 10))
    await answer(Done())
    assert await question == Done()
    question = asyncio.create_task(rig.runtime.ask(rig.other_contact, Done(), 10))
    await answer(Failure("Conflict", "held", (("by", "x"),)))
    with pytest.raises(Exception, match="held") as caught:
        await question
    assert (caught.value.code, caught.value.data) == ("Conflict", {"by": "x"})  # type: ignore[attr-defined]


async def test_an_answer_from_somebody_else_is_no_answer(rig: Rig) -> None:
    question = asyncio.create_task(rig.runtime.ask(Contact(3, "inproc://other"), Done(), 0.05))
    request = await rig.next()
    rig.other.send("inproc://me", Response(request.request_id, Done()))
    with pytest.raises(DeadlineExceeded, match="inproc://other"):
        await question


async def test_responses_to_the_machines_own_requests_reach_it(rig: Rig) -> None:
    rig.other.send("inproc://me", Response(17, Done()))
    await rig.machine.seen(Received(2, Response(17, Done())))


async def test_coordinator_and_hypervisor_answers_become_events() -> None:
    class Edge:
        def listen(self, tell: Any) -> None:
            self.tell = tell

        async def ask(self, request: Any) -> Any:
            if isinstance(request, Load):
                return Loaded((), 5)
            raise RuntimeError("a defect")

        async def execute(self, call: Any) -> Any:
            if call == "refused":
                raise BadInput("no such disk")
            return call

        async def close(self) -> None:
            pass

    edge = Edge()
    rig = await Rig().start(coordinator=edge, driver=edge)
    edge.tell(Severed("a storm"))
    rig.runtime.coordinate(Load(), 1)
    rig.runtime.coordinate(None, 2)
    rig.runtime.drive("boot", 3)
    rig.runtime.drive("refused", 4)
    await rig.machine.seen(Coordinated(0, Severed("a storm")))
    await rig.machine.seen(Coordinated(1, Loaded((), 5)))
    await rig.machine.seen(Coordinated(2, Lost("RuntimeError")))
    await rig.machine.seen(Driven(3, "boot", None))
    await rig.machine.seen(Driven(4, None, "InvalidEntity"))
    await rig.runtime.stop()
    await rig.other.close()


async def test_stopping_fails_what_waits(rig: Rig) -> None:
    call = asyncio.create_task(rig.runtime.call(Done(), 10))
    question = asyncio.create_task(rig.runtime.ask(rig.other_contact, Done(), 10))
    await rig.next()
    await rig.runtime.stop()
    for task in (call, question):
        with pytest.raises(Unavailable):
            await task
