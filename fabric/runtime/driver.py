"""The asyncio driver: receive, handle, persist, send, re-arm the timer. No protocol logic.

One machine, one loop.  Everything that happens (a message, a timer, a commit, an answer) becomes an
event, and :meth:`Runtime.handle` gives it to the machine with this driver as its sink.  Sends leave
at once; a promise leaves when its writes are durable, promises in the order in which they were
made.  What a machine sends to itself comes back in a later turn of the loop, and what it wants of
the coordinator or the hypervisor is an errand (:mod:`fabric.runtime.errands`).

A machine that raises on an event is a defect: it is counted, logged with its traceback, and the
next event goes on.  A disk that fails stops the peer for good (:attr:`Runtime.failure`): what it
promised from then on would be lost with the next crash.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from fabric.counters import Counters, Histogram
from fabric.errors import (
    DeadlineExceeded,
    FabricError,
    Overloaded,
    StorageError,
    Unavailable,
)
from fabric.limits import MAX_CALLS
from fabric.machine import (
    NEVER,
    WOKEN,
    Contact,
    Event,
    LocalCall,
    Message,
    Persisted,
    PersistFailed,
    Received,
    Sink,
    Write,
)
from fabric.peer.notices import JoinRefusedNotice, TwinNotice
from fabric.placement.host import HostDriver
from fabric.runtime.asking import Asker
from fabric.runtime.clock import Clock
from fabric.runtime.desk import Desk
from fabric.runtime.errands import Coordinator, Errands
from fabric.runtime.journal import Journal
from fabric.runtime.measures import metrics
from fabric.runtime.tracing import CARRIERS, TRACE, Tracer
from fabric.storage.interface import Durable, Storage
from fabric.transport.interface import Transport
from fabric.wire.common import Request, Response
from fabric.wire.seeing import Metrics
from fabric.wire.tree import Path

_LOG = logging.getLogger("fabric.runtime")

#: Tracebacks written in full before only every thousandth is: a loop of errors must not fill disks.
_LOGGED_ERRORS: Final = 20


class StartingMachine(Protocol):
    """A machine as the driver runs it: started once, then given events."""

    def start(self, now: int, out: Sink) -> None: ...

    def handle(self, event: Event, now: int, out: Sink) -> None: ...


class Runtime(Sink):
    """Runs ``machine`` on the running loop. It is the machine's sink."""

    def __init__(
        self,
        transport: Transport,
        storage: Storage,
        counters: Counters,
        *,
        coordinator: Coordinator | None = None,
        driver: HostDriver | None = None,
    ) -> None:
        self.transport = transport
        self.storage = storage
        self.counters = counters
        self.clock = Clock()
        self.failure: FabricError | None = None
        #: Called when news of the topology were taken in: the journal looks at what is held now.
        self.look: Callable[[], None] = lambda: None
        #: Numbers of the machine, read when somebody asks for metrics.
        self.gauges: Callable[[], dict[str, int]] = dict
        self.watchers: list[Callable[[Any], None]] = []
        self.journal = Journal(self.clock, counters, storage.boot_id)
        self.desk = Desk(self.journal, self.measure, self.send, self.ask)
        self._errands = Errands(coordinator, driver, counters, self.clock, self.handle, self._ended)
        self._machine: StartingMachine | None = None
        self._lateness = counters.times.setdefault(("timer_lateness", ""), Histogram())
        self._wish = NEVER
        self._armed = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._next_call = 1
        self._tracer: Tracer | None = None
        self._trace = ""  # of the event that is being handled
        self._stopped: asyncio.Future[None] | None = None

    # --- life -------------------------------------------------------------------------------------

    async def listen(self) -> Contact:
        """Bind the transport. The machine, which needs to know the address, comes after."""
        self._loop = asyncio.get_running_loop()
        self._stopped = self._loop.create_future()
        self.transport.on_trouble(self._untrusted)
        await self.transport.start(self.storage.node_id, self._deliver)
        self.me = Contact(self.storage.node_id, self.transport.address)
        self._asker = Asker(self.send, self.me)
        self._tracer = Tracer.wanted(self.me.node_id)
        return self.me

    def run(self, machine: StartingMachine) -> None:
        """Start the machine and give it all that happens from now on."""
        self._machine = machine
        self._errands.listen()
        self._enter(lambda now: machine.start(now, self))

    async def stop(self) -> None:
        """Stop handling, finish writes, close everything. Says nothing to other peers."""
        self._halt()
        await self._errands.finish()
        await self.transport.close()
        await self.storage.close()
        await self._errands.close()

    @property
    def running(self) -> bool:
        """Whether the machine gets events."""
        return self._machine is not None

    async def stopped(self) -> None:
        """Wait until the machine no longer runs; see :attr:`failure` for why."""
        assert self._stopped is not None
        await asyncio.shield(self._stopped)

    def _halt(self) -> None:
        self._machine = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._asker.close()
        self.desk.close()
        self.journal.news().set()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(self.failure or Unavailable("the peer was closed"))
        self._calls.clear()
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def measure(self) -> Metrics:
        """Return all that was counted and measured, and how long the queues are."""
        edge = {
            "calls_waiting": len(self._calls),
            "questions_waiting": len(self._asker),
            "edge_tasks": len(self._errands),
            "send_queue": self.transport.waiting,
            "connections": self.transport.connections,
            "storage_queue": self.storage.waiting,
            "events_kept": len(self.journal),
        }
        return metrics(self.storage.node_id, self.counters, edge | self.gauges())

    # --- callers in this process ------------------------------------------------------------------

    async def call(self, body: Message, timeout_s: float) -> Any:
        """Have the machine do ``body`` (a ``LocalCall``) and return its answer, or raise it."""
        if self._machine is None:
            raise self.failure or Unavailable("the peer is not running")
        if body.__class__ in self.desk.asks:
            return await self._at_desk(body, timeout_s)
        if len(self._calls) >= MAX_CALLS:
            raise Overloaded(f"{MAX_CALLS} calls are in progress already")
        call_id = self._next_call
        self._next_call += 1
        future: asyncio.Future[Any] = self._loop.create_future()
        self._calls[call_id] = future
        began, trace = self.clock(), TRACE.get()
        outcome: object = "cancelled"
        self.handle(LocalCall(call_id, body, trace), trace)
        try:
            async with asyncio.timeout(timeout_s):
                outcome = await future
                return outcome
        except TimeoutError:
            outcome = _not_answered(body, timeout_s)
            raise outcome from None
        except FabricError as error:
            outcome = error
            raise
        finally:
            self._calls.pop(call_id, None)
            self._ended("call", body, trace, began, outcome)

    def _ended(self, name: str, what: object, trace: str, began: int, outcome: object) -> None:
        """Measure what has ended, and log it if it was traced."""
        us, kind = self.clock() - began, type(what).__name__
        self.counters.time(name, kind, us)
        if self._tracer is not None:
            self._tracer.ended(kind, trace, us, outcome)

    async def _at_desk(self, body: Message, timeout_s: float) -> Message:
        try:
            async with asyncio.timeout(timeout_s):
                return await self.desk.answer(body, timeout_s)
        except TimeoutError:
            raise _not_answered(body, timeout_s) from None

    async def ask(self, to: Contact, body: Message, timeout_s: float) -> Message:
        """Ask another peer and return its answer; raises what a failure says."""
        began = self.clock()
        outcome: object = "cancelled"
        try:
            answer = outcome = await self._asker.ask(to, body, timeout_s)
            return answer
        except FabricError as error:
            outcome = error
            raise
        finally:
            self._ended("question", body, TRACE.get(), began, outcome)

    # --- events -----------------------------------------------------------------------------------

    def handle(self, event: Event, trace: str = "") -> None:
        """Give one event to the machine, then see to its timer.

        What the machine puts out meanwhile is done on behalf of ``trace``.
        """
        machine = self._machine
        if machine is None:
            return
        self._trace = trace
        try:
            machine.handle(event, self.clock(), self)
        except Exception:
            self._machine_failed(event)
        self._trace = ""
        if self._wish < self._armed:
            self._arm()

    def _enter(self, step: Callable[[int], None]) -> None:
        try:
            step(self.clock())
        except Exception:
            self._machine_failed(None)
            raise
        if self._wish < self._armed:
            self._arm()

    def _machine_failed(self, event: Event | None) -> None:
        self.counters.count("machine_errors")
        number = self.counters["machine_errors"]
        if number <= _LOGGED_ERRORS or number % 1000 == 0:
            what = type(event.message if isinstance(event, Received) else event).__name__
            _LOG.exception("the machine raised on %s (error %d)", what, number)

    def _deliver(self, sender: int, message: Message) -> None:
        cls = message.__class__
        self.counters.received[cls] += 1
        if cls is Response and self._asker.take(sender, message):
            return
        if cls is Request and message.body.__class__ in self.desk.asks:
            self.desk.serve(sender, message)
            return
        trace = ""
        if self._tracer is not None and cls in CARRIERS:
            trace = self._tracer.received(sender, message)
        self.handle(Received(sender, message), trace)
        if cls is Path:
            self.look()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = self._wish
        self._timer = self._loop.call_at(self.clock.loop_time(self._armed), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._armed = NEVER
        late_us = self.clock() - self._wish
        if late_us < 0:  # the loop rounds its clock, and machines rest
            if self._wish < NEVER:
                self._arm()
            return
        self._lateness.observe(late_us)
        self._wish = NEVER
        self.handle(WOKEN)

    # --- the sink: what a machine puts out --------------------------------------------------------

    def send(self, to: Contact, message: Message) -> None:
        self.counters.sent[message.__class__] += 1
        if self._tracer is not None:
            self._tracer.sent(to, message, self._trace)
        if to.address == self.me.address:
            self._loop.call_soon(self._deliver, self.me.node_id, message)
        else:
            self.transport.send(to.address, message, to.node_id)

    def wake(self, at: int) -> None:
        if at < self._wish:
            self._wish = at

    def rest(self, until: int) -> None:
        self._wish = until  # a timer that is armed for earlier arms itself anew

    def persist(self, writes: Sequence[Write], token: int) -> None:
        trace = self._trace

        def done(error: StorageError | None) -> None:
            if error is None:
                self.handle(Persisted(token), trace)
            else:
                self.handle(PersistFailed(token, error.message))
                self._disk_failed(error)

        self._submit(writes, done)

    def promise(self, writes: Sequence[Write], to: Contact, message: Message) -> None:
        trace = self._trace

        def done(error: StorageError | None) -> None:
            if error is not None:
                self._disk_failed(error)
            elif self._machine is not None:
                self._trace = trace
                self.send(to, message)
                self._trace = ""

        self._submit(writes, done)

    def _submit(self, writes: Sequence[Write], done: Durable) -> None:
        began = self.clock()

        def measured(error: StorageError | None) -> None:
            self.counters.time("commit", "", self.clock() - began)
            done(error)

        self.storage.submit(writes, measured)

    def coordinate(self, request: Any, token: int) -> None:
        self._errands.coordinate(request, token)

    def drive(self, call: Any, token: int) -> None:
        self._errands.drive(call, token, self._trace)

    def reply(self, call_id: int, result: Any) -> None:
        future = self._calls.pop(call_id, None)
        if future is None or future.done():
            return
        if isinstance(result, FabricError):
            future.set_exception(result)
        else:
            future.set_result(result)

    def notify(self, notice: Any) -> None:
        if isinstance(notice, TwinNotice) and notice.yields:
            self._loop.call_soon(self._fail, notice.error())  # the machine is still at it
        try:
            self.journal.take(notice)
        except Exception:  # words only: the machine, which is in the middle of something, goes on
            self.counters.count("journal_errors")
            _LOG.exception("no words for %s", type(notice).__name__)
        for watcher in self.watchers:
            watcher(notice)

    # --- what takes longer ------------------------------------------------------------------------

    def _untrusted(self, error: FabricError, fatal: bool) -> None:
        """Certificates do not fit: for good if our own is void, else as long as it lasts."""
        if not fatal:
            self.notify(JoinRefusedNotice(error.code, error.message))
        else:
            self._fail(error)

    def _disk_failed(self, error: StorageError) -> None:
        if self.failure is None:
            self.counters.count("disk_failures")
        self._fail(error)

    def _fail(self, error: FabricError) -> None:
        """Stop for good; the first reason is kept."""
        if self.failure is None:
            self.failure = error
            _LOG.critical("stopping: %s", error.message)
        self._halt()


def _not_answered(body: Message, timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"{type(body).__name__} was not answered within {timeout_s:g} s")
