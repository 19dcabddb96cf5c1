"""The sans-I/O contract: what a protocol machine is given, and what it may ask for.

Theory of operation
-------------------
Every protocol in Fabric is a *machine*: an object with one entry point,

    machine.handle(event, now, out)

(and a shorter way in for the most frequent event, a message: ``machine.receive``).  It changes its
own state and puts outputs, in order, into the sink ``out``.  It never looks at a clock (``now`` is
an argument: integer microseconds), never draws randomness but from a seeded
:class:`~fabric.stream.Stream` that it was given, and never touches a socket, a file or a thread.
The same events give the same outputs, bit for bit, on any Python and under any hash seed.

Two drivers run machines: ``fabric.runtime`` (asyncio, ZeroMQ, LMDB) and ``sim`` (virtual time).
Neither holds protocol logic.

Persist before send
-------------------
An output that *promises* something (a granted lease, a reserved host, a vote) goes through
:meth:`Sink.promise`, which carries what must be durable first.  The driver writes, and only when
the writes are on disk does it send.  A crash in between loses the promise together with the
message, never the promise alone.  Writes reach the disk in the order in which they were put out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

#: A time that never comes: "no timer armed".
NEVER: Final = 1 << 61

#: A decoded wire message: an instance of a class registered in ``fabric.wire``.
Message: TypeAlias = Any


class Contact(NamedTuple):
    """Where a peer can be reached: its stable id and the address its ROUTER is bound to."""

    node_id: int
    address: str


class Write(NamedTuple):
    """One durable change: ``value`` is stored under ``key``; ``None`` deletes the key."""

    key: bytes
    value: bytes | None


# --- events -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Received:
    """A message arrived. ``sender`` is the node id that the transport vouches for."""

    sender: int
    message: Message


@dataclass(slots=True)
class Woken:
    """The time asked for with :meth:`Sink.wake` has come (or an earlier one: machines re-check)."""


@dataclass(slots=True)
class Persisted:
    """The writes put out by :meth:`Sink.persist` under ``token`` are durable."""

    token: int


@dataclass(slots=True)
class PersistFailed:
    """The disk refused. What was to be promised stays unpromised; the peer should stop."""

    token: int
    reason: str


@dataclass(slots=True)
class Coordinated:
    """The coordinator answered the request put out under ``token`` (0: news, asked by nobody)."""

    token: int
    answer: Any


@dataclass(slots=True)
class Driven:
    """The hypervisor driver finished the call put out under ``token``.

    ``error`` is ``None`` when it worked, else a machine-readable code.
    """

    token: int
    result: Any
    error: str | None = None


@dataclass(slots=True)
class LocalCall:
    """A caller in this process wants ``request`` done; it is answered by :meth:`Sink.reply`.

    ``trace`` is the id under which logs follow it (``fabric.runtime.tracing``); machines only pass
    it on.
    """

    call_id: int
    request: Message
    trace: str = ""


Event: TypeAlias = Received | Woken | Persisted | PersistFailed | Coordinated | Driven | LocalCall

#: The only instance anyone needs.
WOKEN: Final = Woken()


# --- outputs ------------------------------------------------------------------------------------


class Sink:
    """Takes a machine's outputs in order. Drivers subclass it; machines only call it.

    A base class, not a ``Protocol``: the compiled core then calls its methods directly.
    """

    __slots__ = ()

    def send(self, to: Contact, message: Message) -> None:
        """Send ``message``; it may be lost, doubled or late. To oneself is allowed."""
        raise NotImplementedError

    def wake(self, at: int) -> None:
        """Deliver :class:`Woken` no later than ``at``. The earliest wish counts."""
        raise NotImplementedError

    def rest(self, until: int) -> None:
        """Nothing is to be done before ``until``: like :meth:`wake`, in place of all wishes."""
        raise NotImplementedError

    def persist(self, writes: Sequence[Write], token: int) -> None:
        """Make ``writes`` durable as one unit, then deliver :class:`Persisted`."""
        raise NotImplementedError

    def promise(self, writes: Sequence[Write], to: Contact, message: Message) -> None:
        """Make ``writes`` durable, then (and only then) send ``message``."""
        raise NotImplementedError

    def coordinate(self, request: Any, token: int) -> None:
        """Ask the coordinator; the answer comes as :class:`Coordinated`."""
        raise NotImplementedError

    def drive(self, call: Any, token: int) -> None:
        """Have the hypervisor driver carry out ``call``; it ends as :class:`Driven`."""
        raise NotImplementedError

    def reply(self, call_id: int, result: Any) -> None:
        """Answer a :class:`LocalCall`: ``result`` is a message or a ``FabricError``."""
        raise NotImplementedError

    def notify(self, notice: Any) -> None:
        """Tell observers (metrics, traces, ``watch``) of something that happened."""
        raise NotImplementedError


class Machine:
    """A deterministic state machine: events in, outputs out."""

    __slots__ = ()

    def start(self, now: int, out: Sink) -> None:
        """Take the first turn of this life; called once, before any event."""
        raise NotImplementedError

    def handle(self, event: Event, now: int, out: Sink) -> None:
        """Take one event at time ``now`` (µs) and put all that follows from it into ``out``."""
        raise NotImplementedError

    def receive(self, sender: int, message: Message, now: int, out: Sink) -> None:
        """Take a message: the same as :class:`Received` to :meth:`handle`, which it is by default.

        Messages are most of all events: a machine that takes many saves an object for each.
        """
        self.handle(Received(sender, message), now, out)


# --- a sink that remembers, for tests and for people who want to see ------------------------------


class Output(NamedTuple):
    """One call on a sink, as data: its name and its arguments."""

    kind: str
    args: tuple[Any, ...]


class ListSink(Sink):
    """A sink that keeps outputs in a list: the test helper, and part of the public API."""

    __slots__ = ("outputs",)

    def __init__(self) -> None:
        self.outputs: list[Output] = []

    def send(self, to: Contact, message: Message) -> None:
        self.outputs.append(Output("send", (to, message)))

    def wake(self, at: int) -> None:
        self.outputs.append(Output("wake", (at,)))

    def rest(self, until: int) -> None:
        self.outputs.append(Output("rest", (until,)))

    def persist(self, writes: Sequence[Write], token: int) -> None:
        self.outputs.append(Output("persist", (tuple(writes), token)))

    def promise(self, writes: Sequence[Write], to: Contact, message: Message) -> None:
        self.outputs.append(Output("promise", (tuple(writes), to, message)))

    def coordinate(self, request: Any, token: int) -> None:
        self.outputs.append(Output("coordinate", (request, token)))

    def drive(self, call: Any, token: int) -> None:
        self.outputs.append(Output("drive", (call, token)))

    def reply(self, call_id: int, result: Any) -> None:
        self.outputs.append(Output("reply", (call_id, result)))

    def notify(self, notice: Any) -> None:
        self.outputs.append(Output("notify", (notice,)))

    def take(self) -> list[Output]:
        """Return what was put out since the last call."""
        outputs, self.outputs = self.outputs, []
        return outputs
