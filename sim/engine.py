"""The virtual driver: runs any number of machines in virtual time, deterministically.

It is the counterpart of ``fabric.runtime``: it gives machines their events and carries out what
they put into the sink.  Protocol logic lives in neither.

How it works
------------
* **Time** is integer microseconds, in steps of :data:`TICK_US`.  Events wait in buckets, one list
  per tick, under a heap of ticks.  Everything takes at least one tick, and events of one tick run
  in the order in which they were put in, so there are no ties and no way back in time.
* **An event** is a tuple ``(node, generation, event, fingerprint, sender)``; a message travels as
  it is, with its sender beside it.  A crash raises the node's generation; whatever was under way
  to the old one is dropped when its turn comes.
* **A node is its machine's sink**, so a send is one call.  Messages are shared by reference:
  machines treat them as immutable.
* **Timers**: one deadline per node.  ``wake(at)`` puts an event in only when ``at`` is earlier
  than what is armed, ``rest`` whenever it differs; a superseded event is recognised by its tick
  when it comes up.
* **Clocks** differ: each node sees virtual time plus its own offset.
* Every delivered event and every output goes into the trace hash (``sim.trace``); the frequent
  ones (a message sent, delivered; a timer set) as one word each.

A machine that raises is a finding; as under the real driver, it gets its next event all the same.
"""

from __future__ import annotations

import heapq
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias

from fabric.machine import (
    NEVER,
    WOKEN,
    Contact,
    Coordinated,
    Driven,
    Event,
    LocalCall,
    Machine,
    Message,
    Received,
    Sink,
    Write,
)
from sim.disk import Disk
from sim.fidelity import Fidelity
from sim.network import Network
from sim.streams import MODULUS, MULTIPLIER, Streams
from sim.trace import (
    COORDINATE,
    DELIVER,
    DRIVE,
    EVENT,
    LIFE,
    NOTIFY,
    PERSIST,
    PROMISE,
    REPLY,
    SEND,
    WINDOW,
    WOKEN_KIND,
    Trace,
    hash_text,
    hash_value,
)
from sim.words import Word

#: One step of virtual time. Finer steps cost heap operations, coarser ones blur latencies.
TICK_US: Final = 250
#: Where virtual time begins, so that clocks look like those of real peers (microseconds since
#: 1970) and stored times lie in the past after a restart.
EPOCH_US: Final = 1_700_000_000_000_000

#: What waits in a bucket. Timers and actions have no sender (and no fingerprint: 0).
Entry: TypeAlias = "tuple[Node, int, Any, Word, Contact | None]"
Action: TypeAlias = Callable[[], None]


class Asked(Protocol):
    """Something that answers a node's requests later: the coordinator, the hypervisor."""

    def ask(self, node: Node, request: Any, token: int) -> None:
        """Take ``request``; answer by :meth:`Engine.answer` when its time has come."""


class Node(Sink):
    """One simulated process: its machine, its disk, its clock. It is the machine's sink."""

    __slots__ = (
        "address",
        "alive",
        "armed",
        "armed_tick",
        "code",
        "contact",
        "disk",
        "engine",
        "generation",
        "index",
        "machine",
        "net_state",
        "node_id",
        "offset",
        "role",
        "timer",
    )

    def __init__(self, engine: Engine, index: int, contact: Contact, skew_us: int) -> None:
        # what each event needs stands together: compiled, that is one line of the cache, not three
        self.generation = 0
        self.code: Word = index << 4
        self.machine: Machine | None = None
        self.offset = EPOCH_US + skew_us
        self.armed_tick = -1
        self.armed = NEVER
        self.engine = engine
        self.alive = False
        self.net_state: Word = engine.streams.state("network", index)
        self.node_id = contact.node_id
        self.contact = contact
        #: The event of our timer: the same one each time, until a crash.
        self.timer: Any = (self, 0, WOKEN, 0, None)
        self.index = index
        self.address = contact.address
        self.disk = Disk(self)
        #: What the scenario knows of this node (its books, its place): opaque to the engine.
        self.role: Any = None

    # --- the sink: what the machine asks for ------------------------------------------------------

    def send(self, to: Contact, message: Message) -> None:
        engine = self.engine
        mark = engine.marks.of(message, self.node_id)
        engine.words.append(mark ^ SEND)
        self.carry(to, message, mark)

    def carry(self, to: Contact, message: Message, mark: Word) -> None:
        """Hand ``message`` to the network."""
        engine = self.engine
        target = engine.by_address.get(to[1])  # by number: compiled, the name is a lookup
        if target is None or not target.alive:
            engine.undeliverable += 1
            return
        if target is self:
            tick = engine.tick + 1  # stays in the process: no network, as under the real driver
        else:
            network = engine.network
            self.net_state = state = self.net_state * MULTIPLIER % MODULUS
            if state < network.lost_below:
                engine.lost += 1
                return
            tick = engine.tick + network.latency[state & 1023]
            if network.rough:
                if network.handlings:
                    message = network.treated(self, target, message)
                    if message is None:
                        engine.lost += 1
                        return
                    mark = engine.marks.of(message, self.node_id)
                tick = network.shape(self, target, tick, message, mark)
                if tick < 0:
                    engine.lost += 1
                    return
        if engine.fidelity is not None:
            message = engine.fidelity.hop(self, target, message, mark)
        entry = (target, target.generation, message, mark, self.contact)
        bucket = engine.buckets.get(tick)
        if bucket is None:
            engine.buckets[tick] = [entry]
            heapq.heappush(engine.ticks, tick)
        else:
            bucket.append(entry)

    def wake(self, at: int) -> None:
        engine = self.engine
        engine.words.append(at << 1)
        if at < self.armed:
            self._arm(at)

    def rest(self, until: int) -> None:
        engine = self.engine
        engine.words.append(until << 1 | 1)
        if until != self.armed:
            self._arm(until)

    def _arm(self, at: int) -> None:
        self.armed = at
        if at >= NEVER:
            self.armed_tick = -1
            return
        engine = self.engine
        tick = -((self.offset - at) // TICK_US)
        if tick <= engine.tick:
            tick = engine.tick + 1
        self.armed_tick = tick
        bucket: list[Any] | None = engine.buckets.get(tick)
        if bucket is None:
            engine.buckets[tick] = [self.timer]
            heapq.heappush(engine.ticks, tick)
        else:
            bucket.append(self.timer)

    def persist(self, writes: Sequence[Write], token: int) -> None:
        self.engine.words.extend((PERSIST, token, _hash_writes(writes)))
        self.disk.write(tuple(writes), token, None, None)

    def promise(self, writes: Sequence[Write], to: Contact, message: Message) -> None:
        engine = self.engine
        mark = engine.marks.of(message, self.node_id)
        engine.words.extend((PROMISE, mark, _hash_writes(writes)))
        if writes:
            self.disk.write(tuple(writes), 0, to, message)
        else:
            self.carry(to, message, mark)

    def coordinate(self, request: Any, token: int) -> None:
        engine = self.engine
        engine.words.extend((COORDINATE, token, hash_value(request)))
        if engine.coordinator is None:
            raise RuntimeError("this run has no coordinator")
        engine.coordinator.ask(self, request, token)

    def drive(self, call: Any, token: int) -> None:
        engine = self.engine
        engine.words.extend((DRIVE, token, hash_value(call)))
        if engine.hypervisor is None:
            raise RuntimeError("this run has no hypervisor")
        engine.hypervisor.ask(self, call, token)

    def reply(self, call_id: int, result: Any) -> None:
        engine = self.engine
        engine.words.extend((REPLY, call_id, hash_value(result)))
        callback = engine.calls.pop(call_id, None)
        if callback is not None:
            # in the next tick: the caller may well ask the same machine again
            engine.after(0, engine.world, lambda: callback(result))

    def notify(self, notice: Any) -> None:
        engine = self.engine
        engine.words.extend((NOTIFY, hash_value(notice)))
        engine.on_notice(self, notice)

    # --- life -------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """What this node's clock says."""
        return self.engine.now + self.offset

    def start(self, make: Callable[[], Machine]) -> None:
        """Start the process: ``make`` builds the machine, which then gets its first turn."""
        engine = self.engine
        self.alive = True
        engine.lives += 1
        self.armed, self.armed_tick = NEVER, -1
        engine.words.extend((self.code | LIFE, 1))
        try:
            self.machine = machine = make()
            machine.start(self.now, self)
        except Exception as error:
            engine.broken(self, "start", error)

    def crash(self) -> None:
        """End the process as by ``kill -9``: what was not durable and all in flight is gone."""
        if not self.alive:
            return
        self.alive = False
        self.engine.lives += 1
        self.generation += 1
        self.timer = (self, self.generation, WOKEN, 0, None)
        self.machine = None
        self.armed, self.armed_tick = NEVER, -1
        self.engine.words.extend((self.code | LIFE, 0))
        self.disk.crash()

    def deliver(self, event: Event, mark: Word) -> None:
        """Give the machine an event now; ``mark`` is the fingerprint of its payload."""
        machine = self.machine
        if machine is None:
            return
        engine = self.engine
        engine.words.extend((self.code | EVENT, hash_text(event.__class__.__name__), mark))
        engine.delivered += 1
        try:
            machine.handle(event, engine.now + self.offset, self)
        except Exception as error:
            engine.broken(self, event, error)


def _hash_writes(writes: Sequence[Write]) -> int:
    return hash_value(tuple(writes))


class Engine:
    """Virtual time, the nodes, and what they share."""

    def __init__(
        self,
        seed: int,
        network: Network | None = None,
        trace: Trace | None = None,
        fidelity: bool = False,
    ) -> None:
        self.seed = seed
        self.streams = Streams(seed)
        self.trace = trace or Trace()
        self.words = self.trace.words
        self.marks = self.trace.marks
        self.network = network or Network()
        self.network.bind(self)
        self.buckets: dict[int, list[Entry]] = {}
        self.ticks: list[int] = []
        self.tick = 0
        #: Virtual microseconds since the run began.
        self.now = 0
        self.nodes: list[Node] = []
        self.by_address: dict[str, Node] = {}
        self.by_id: dict[int, Node] = {}
        self.coordinator: Asked | None = None
        self.hypervisor: Asked | None = None
        self.fidelity = Fidelity(self) if fidelity else None
        self.calls: dict[int, Callable[[Any], None]] = {}
        self._next_call = 1
        #: Set from a signal handler or a progress display: the run ends after the current tick.
        self.stop = False
        self.on_notice: Callable[[Node, Any], None] = lambda node, notice: None
        self.on_violation: Callable[[str, Sequence[Node], str], None] = _raise_violation
        #: Counts starts and ends of processes.
        self.lives = 0
        self.delivered = 0
        self.messages = 0
        self.lost = 0
        self.undeliverable = 0
        #: Stands for the world outside of all nodes: actions of faults and workload run on it.
        self.world = Node(self, 0, Contact(0, ""), 0)

    # --- building ---------------------------------------------------------------------------------

    def add_node(self, contact: Contact, skew_us: int = 0) -> Node:
        """Add a process that does not run yet."""
        node = Node(self, len(self.nodes) + 1, contact, skew_us)
        self.nodes.append(node)
        self.by_address[contact.address] = node
        self.by_id[contact.node_id] = node
        return node

    def rename(self, node: Node, node_id: int) -> None:
        """Give a node that does not run another id; its address stays."""
        node.node_id = node_id
        node.contact = Contact(node_id, node.address)
        self.by_id[node_id] = node

    # --- the queue --------------------------------------------------------------------------------

    def put(self, tick: int, entry: Entry) -> None:
        """Put ``entry`` in at ``tick``, which lies in the future."""
        bucket = self.buckets.get(tick)
        if bucket is None:
            self.buckets[tick] = [entry]
            heapq.heappush(self.ticks, tick)
        else:
            bucket.append(entry)

    def at(self, at_us: int, action: Action) -> None:
        """Run ``action`` at virtual time ``at_us``, or in the next tick if that is past."""
        tick = max(-(-at_us // TICK_US), self.tick + 1)
        self.put(tick, (self.world, 0, action, 0, None))

    def after(self, delay_us: int, node: Node, action: Action) -> None:
        """Run ``action`` in ``delay_us``, unless ``node`` crashes before."""
        tick = self.tick + max(-(-delay_us // TICK_US), 1)
        self.put(tick, (node, node.generation, action, 0, None))

    # --- what comes back to nodes -----------------------------------------------------------------

    def answer(self, delay_us: int, node: Node, token: int, answer: Any) -> None:
        """Deliver a coordinator's answer in ``delay_us``."""
        event = Coordinated(token, answer)
        self.after(delay_us, node, lambda: node.deliver(event, hash_value(answer)))

    def drove(self, delay_us: int, node: Node, token: int, result: Any, error: str | None) -> None:
        """Deliver what the hypervisor driver did in ``delay_us``."""
        event = Driven(token, result, error)
        self.after(delay_us, node, lambda: node.deliver(event, hash_value((result, error))))

    def call(self, node: Node, request: Message, done: Callable[[Any], None]) -> int:
        """Have ``node`` carry out a local call now; ``done`` gets its reply, if one ever comes."""
        call_id = self._next_call
        self._next_call += 1
        self.calls[call_id] = done
        node.deliver(LocalCall(call_id, request), hash_value(request))
        return call_id

    def broken(self, node: Node, event: object, error: Exception) -> None:
        """Note that a machine raised: never right, whatever it was given."""
        frames = traceback.extract_tb(error.__traceback__)
        where = "; ".join(
            f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in frames[-4:]
        )
        what = (event.message if isinstance(event, Received) else event).__class__.__name__
        if event == "start":
            node.crash()
        detail = f"{type(error).__name__} on {what}: {error!s:.200} ({where})"
        self.on_violation("machine-raised", (node,), detail)

    # --- running ----------------------------------------------------------------------------------

    def run(self, until_us: int) -> bool:
        """Run until virtual time ``until_us``; false if :attr:`stop` ended it before."""
        last = until_us // TICK_US
        ticks, buckets, words = self.ticks, self.buckets, self.words
        while ticks and ticks[0] <= last and not self.stop:
            self.tick = tick = heapq.heappop(ticks)
            self.now = tick * TICK_US
            words.append(tick)
            entries = iter(buckets.pop(tick))
            while self._fire(entries):
                pass
            if len(words) >= WINDOW:
                self.trace.flush()
        if self.stop:
            return False
        self.tick = max(self.tick, last)
        self.now = self.tick * TICK_US
        return True

    def _fire(self, entries: Iterator[Entry]) -> bool:
        """Run the events of one tick; true if one raised and there may be more."""
        words, now, tick = self.words, self.now, self.tick
        count = 0
        node = self.world
        event: Any = None
        try:
            for node, generation, event, mark, sender in entries:
                if generation != node.generation:
                    continue
                if sender is not None:
                    words.append(node.code ^ mark)
                    count += 1
                    machine = node.machine
                    if machine is not None:
                        # by number: compiled, the name is a lookup
                        machine.receive(sender[0], event, now + node.offset, node)
                elif event is WOKEN:
                    if node.armed_tick != tick:
                        continue  # superseded by an earlier one, which was dealt with
                    node.armed = NEVER
                    node.armed_tick = -1
                    words.append(node.code | WOKEN_KIND)
                    self.delivered += 1
                    machine = node.machine
                    if machine is not None:
                        machine.handle(event, now + node.offset, node)
                else:
                    event()
        except Exception as error:
            if node is self.world:
                raise
            self.broken(node, event, error)
            return True
        finally:
            self.messages += count
            self.delivered += count
        return False


def _raise_violation(name: str, nodes: Sequence[Node], detail: str) -> None:
    raise AssertionError(f"{name}: {detail} ({[node.address for node in nodes]})")


assert DELIVER == 0  # the engine uses a node's bare code for it
