"""A small deterministic world for the replicas of one shard: network, disks, crashes, clients.

Everything follows from one seed.  Messages are encoded and decoded on every hop; they are lost,
doubled, delayed and overtaken.  A crash loses what the disk had not confirmed (or keeps a prefix
of it, unconfirmed), and all that was only in memory.  Checks run all along:

* one leader per term;
* an entry once committed somewhere is the same everywhere and for ever;
* what a client was told is what was committed;
* reads and writes of each register form a linearizable history: by the chain of versions, and by a
  search over what was written and read that trusts no version.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from fabric.cloudstore import keys
from fabric.cloudstore.shard import ShardMachine
from fabric.cloudstore.view import merge
from fabric.errors import FabricError
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
    Write,
)
from fabric.stream import Stream, mix
from fabric.units import MS, SECOND
from fabric.wire.codec import (
    decode_frame,
    decode_record,
    decode_value,
    encode_frame,
    encode_record,
    encode_value,
)
from fabric.wire.store import (
    Command,
    DebitQuota,
    Flushed,
    Outcome,
    Propose,
    Proposed,
    PutNew,
    PutOver,
    ReadAt,
    ReadReady,
    StoredDocument,
)
from sim.linearizability import READ, WRITE, Operation, chain, linearizable
from tests.sim.store_faults import figure_eight, refuse_writes, rivals

SHARD: Final = 0
START: Final = 1_000_000 * SECOND
REGISTERS: Final = ("r0", "r1", "r2")
COUNTER: Final = "counter"
MachineClass = Callable[..., ShardMachine]


def value_of(command: bytes) -> str:
    """Return what a client's write puts into its register: its idempotency key."""
    return decode_record(Command, command).key


class Violation(AssertionError):
    """The store broke a promise."""


class SimDocuments:
    """Documents of one replica: durable rows under applied ones that a crash forgets."""

    def __init__(self, on_apply: Callable[[int], None]) -> None:
        self.durable: dict[bytes, bytes] = {}
        self.durable_index = 0
        self.fresh: dict[bytes, bytes | None] = {}
        self.unflushed: deque[tuple[int, Sequence[Write]]] = deque()
        self._on_apply = on_apply

    def get(self, key: bytes) -> bytes | None:
        return self.fresh[key] if key in self.fresh else self.durable.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        below = sorted(k for k in self.durable if k > after and k.startswith(prefix))
        return merge(((k, self.durable[k]) for k in below), self.fresh, prefix, after, limit)

    def apply(self, shard: int, index: int, writes: Sequence[Write]) -> None:
        self._on_apply(index)
        self.unflushed.append((index, writes))
        self.fresh.update(writes)

    def flush(self, upto: int) -> int:
        """Make durable what was applied, not beyond the durable log."""
        while self.unflushed and self.unflushed[0][0] <= upto:
            self.durable_index, writes = self.unflushed.popleft()
            for key, value in writes:
                if value is None:
                    self.durable.pop(key, None)
                else:
                    self.durable[key] = value
        return self.durable_index

    def crash(self) -> None:
        self.fresh.clear()
        self.unflushed.clear()

    def rows(self) -> list[tuple[bytes, bytes]]:
        return self.scan(b"", b"", 1 << 30)


class Node:
    """One replica with its disk; also the sink of its machine."""

    def __init__(self, world: World, contact: Contact) -> None:
        self.world = world
        self.contact = contact
        self.up = False
        self.life = 0
        self.log_rows: dict[bytes, bytes] = {}
        self.documents = SimDocuments(self._applied)
        self.disk: deque[tuple[Sequence[Write], int | None, Contact | None, Message]] = deque()
        self.disk_free_at = 0
        #: So many of the next writes fail.
        self.failing = 0
        self.wake_at = NEVER
        self.machine: ShardMachine
        self.calls: dict[int, Callable[[Any], None]] = {}

    def boot(self) -> None:
        self.up = True
        self.life += 1
        others = [n.contact for n in self.world.nodes if n is not self]
        stream = Stream(mix(self.world.seed, mix(self.contact.node_id, self.life)))
        self.machine = self.world.machine_class(SHARD, self.contact, others, stream, self.documents)
        rows = sorted(self.log_rows.items())
        self.machine.start(rows, self.documents.durable_index, self.world.now, self)

    def crash(self, survived: int | None = None) -> None:
        self.up = False
        self.failing = 0
        if survived is None:
            survived = self.world.faults.below(len(self.disk) + 1)
        for _ in range(survived):  # it reached the disk, but nobody was told
            self._write(self.disk.popleft()[0])
        self.disk.clear()
        self.documents.crash()
        self.wake_at = NEVER
        self.calls.clear()

    def crash_after_its_disk(self) -> None:
        """Crash when all that is under way to the disk has just got there."""
        self.crash(len(self.disk))

    def handle(self, event: Event) -> None:
        if not self.up:
            return
        self.machine.handle(event, self.world.now, self)
        if self.machine.stopped is not None and isinstance(event, PersistFailed):
            self.crash(0)  # as it must
            return
        if self.machine.stopped is not None:
            raise Violation(f"replica stopped: {self.machine.stopped}")
        if self.machine.leads:
            self.world.check_leader(self)

    def ask(self, request: Message, settle: Callable[[Any], None]) -> None:
        self.world.call_id += 1
        call_id = self.world.call_id
        self.calls[call_id] = settle
        self.handle(LocalCall(call_id, request))

    def _applied(self, index: int) -> None:
        entry = self.machine.log.entry(index)
        self.world.check_committed(self, index, (entry.term, entry.now, entry.command))

    def _write(self, writes: Sequence[Write]) -> None:
        for key, value in writes:
            if value is None:
                self.log_rows.pop(key, None)
            else:
                self.log_rows[key] = value

    def disk_done(self, life: int) -> None:
        if not self.up or life != self.life:
            return
        writes, token, to, message = self.disk.popleft()
        if self.failing:
            self.failing -= 1
            self.handle(PersistFailed(token or 0, "input/output error"))
            return
        self._write(writes)
        if to is not None:
            self.send(to, message)
        if token is not None:
            self.handle(Persisted(token))

    def _to_disk(
        self, writes: Sequence[Write], token: int | None, to: Contact | None, message: Message
    ) -> None:
        faults = self.world.faults
        slow = faults.chance(20_000)
        delay = (faults.below(80) if slow else 0) * MS + faults.below(2000) + 100
        self.disk_free_at = max(self.disk_free_at, self.world.now + delay)
        self.disk.append((writes, token, to, message))
        life = self.life
        self.world.at(self.disk_free_at, lambda: self.disk_done(life))

    # --- Sink -------------------------------------------------------------------------------------

    def send(self, to: Contact, message: Message) -> None:
        self.world.carry(self.contact.node_id, to.node_id, message)
        if self.world.on_send is not None:
            self.world.on_send(self, message)

    def wake(self, at: int) -> None:
        if at < self.wake_at:
            self.wake_at = at
            life = self.life
            self.world.at(at, lambda: self._woken(at, life))

    def rest(self, until: int) -> None:
        raise AssertionError("shards only wish to be woken")

    def _woken(self, at: int, life: int) -> None:
        if self.up and life == self.life and self.wake_at == at:
            self.wake_at = NEVER
            self.handle(WOKEN)

    def persist(self, writes: Sequence[Write], token: int) -> None:
        self._to_disk(tuple(writes), token, None, None)

    def promise(self, writes: Sequence[Write], to: Contact, message: Message) -> None:
        self._to_disk(tuple(writes), None, to, message)

    def reply(self, call_id: int, result: Any) -> None:
        settle = self.calls.pop(call_id, None)
        if settle is not None:
            settle(result)

    def coordinate(self, request: Any, token: int) -> None:
        raise AssertionError("shards ask no coordinator")

    def drive(self, call: Any, token: int) -> None:
        raise AssertionError("shards drive no hypervisor")

    def notify(self, notice: Any) -> None:
        pass


class Client:
    """Does one operation after the other, alternating reads and writes; retries under one key."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.stream = Stream(mix(world.seed, 7000 + number))
        self.sequence = 0
        self.target = number % len(world.nodes)
        self.active = True
        self.attempt = 0

    def next(self) -> None:
        if not self.active:
            return
        self.sequence += 1
        self.invoked = self.world.now
        if self.number % 2:  # half of the clients roam, the others stay where they were answered
            self.target = self.stream.below(len(self.world.nodes))
        register = REGISTERS[self.stream.below(len(REGISTERS))]
        if self.stream.below(2):
            self._try_read(register)
        else:
            value = f"c{self.number}.{self.sequence}"
            body = encode_value({"value": value})
            ops = (
                PutOver("register", register, 0, 1, body, ()),
                DebitQuota("register", COUNTER, (("writes", 1),)),
            )
            command = encode_record(Command("", value, ops))
            self.world.proposed[command] = (register, self.invoked)
            self._try_write(register, command)

    def _expect(self, retry: Callable[[], None]) -> Callable[[], bool]:
        """Start an attempt; returns whether it is still the current one."""
        self.attempt += 1
        attempt = self.attempt

        def current() -> bool:
            return self.attempt == attempt

        def late() -> None:
            if current():
                self._elsewhere(retry)

        self.world.at(self.world.now + (50 + 100 * self.number) * MS, late)
        return current

    def _elsewhere(self, retry: Callable[[], None]) -> None:
        self.attempt += 1
        self.target = (self.target + 1) % len(self.world.nodes)
        if self.active:
            self.world.at(self.world.now + 5 * MS, retry)

    def _try_write(self, register: str, command: bytes) -> None:
        def retry() -> None:
            self._try_write(register, command)

        current = self._expect(retry)

        def settle(answer: Any) -> None:
            if not current():
                return
            if isinstance(answer, FabricError):
                self._elsewhere(retry)
                return
            assert isinstance(answer, Proposed)
            outcome: Outcome = answer.outcomes[0]
            if outcome.code == "OutcomeUnknown":
                self._elsewhere(retry)
                return
            if outcome.code:
                raise Violation(f"a write that must succeed failed: {outcome}")
            self.attempt += 1
            self.world.check_acknowledged(outcome.version, command)
            self._later()

        node = self.world.nodes[self.target]
        if node.up:
            node.ask(Propose(SHARD, (command,)), settle)

    def _try_read(self, register: str) -> None:
        def retry() -> None:
            self._try_read(register)

        current = self._expect(retry)
        node = self.world.nodes[self.target]

        def settle(answer: Any) -> None:
            if not current():
                return
            if isinstance(answer, FabricError):
                self._elsewhere(retry)
                return
            assert isinstance(answer, ReadReady)
            data = node.documents.get(keys.document_key(SHARD, "register", register))
            document = decode_record(StoredDocument, data) if data is not None else None
            version = document.version if document is not None else 0
            value = decode_value(document.body)["value"] if document is not None else None
            self.attempt += 1
            now = self.world.now
            self.world.history[register].append((READ, version, self.invoked, now))
            self.world.values[register].append(Operation(READ, value, self.invoked, now))
            self._later()

        if node.up:
            node.ask(ReadAt(SHARD), settle)

    def _later(self) -> None:
        self.world.at(self.world.now + self.stream.below(100) * MS, self.next)


class World:
    """Replicas, clients, faults and checks under one virtual clock."""

    def __init__(
        self, seed: int, replicas: int = 3, machine_class: MachineClass = ShardMachine
    ) -> None:
        self.seed = seed
        self.now = START
        self.machine_class = machine_class
        self.faults = Stream(mix(seed, 1))
        self.network = Stream(mix(seed, 2))
        self.loss_ppm = 30_000
        self.cut: set[tuple[int, int]] = set()
        #: Messages of this type do not get through.
        self.blocked: type[Any] | None = None
        #: Told of each message that is sent, while a fault waits for one.
        self.on_send: Callable[[Node, Message], None] | None = None
        self.call_id = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self.events = 0
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, tuple[int, int, bytes]] = {}
        self.acknowledged: dict[int, bytes] = {}
        self.proposed: dict[bytes, tuple[str, int]] = {}
        self.history: dict[str, list[tuple[str, int, int, int]]] = {r: [] for r in REGISTERS}
        #: The same with what was written and read in the place of versions.
        self.values: dict[str, list[Operation]] = {r: [] for r in REGISTERS}
        self.nodes: list[Node] = []
        for number in range(1, replicas + 1):
            self.nodes.append(Node(self, Contact(number, f"sim://{number}")))
        for node in self.nodes:
            node.boot()
        self.clients = [Client(self, number) for number in range(4)]

    # --- time and network -------------------------------------------------------------------------

    def at(self, when: int, what: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (when, self._sequence, what))

    def run_until(self, end: int, stop: Callable[[], bool] = lambda: False) -> None:
        while self._queue and self._queue[0][0] <= end and not stop():
            self.now, _, what = heapq.heappop(self._queue)
            self.events += 1
            what()
        self.now = max(self.now, end) if not stop() else self.now

    def carry(self, sender: int, to: int, message: Message) -> None:
        blocked = self.blocked is not None and isinstance(message, self.blocked)
        if blocked or (sender, to) in self.cut or self.network.chance(self.loss_ppm):
            return
        frame = encode_frame(sender, message)
        for _ in range(2 if self.network.chance(20_000) else 1):
            slow = self.network.chance(20_000)
            delay = 200 + self.network.below(3000) + (self.network.below(150) * MS if slow else 0)
            self.at(self.now + delay, lambda: self._arrive(to, frame))

    def _arrive(self, to: int, frame: bytes) -> None:
        sender, message = decode_frame(frame)
        self.nodes[to - 1].handle(Received(sender, message))

    # --- a run ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Have a leader and the documents that the clients use."""
        ops = tuple(
            PutNew("register", name, 1, encode_value({"value": ""}), ())
            for name in (*REGISTERS, COUNTER)
        )
        command = encode_record(Command("", "prepare", ops))
        done: list[Outcome] = []

        def attempt() -> None:
            for node in self.nodes:
                if node.up and node.machine.leads:
                    node.ask(Propose(SHARD, (command,)), settle)
            if not done:
                self.at(self.now + 100 * MS, attempt)

        def settle(answer: Any) -> None:
            if isinstance(answer, Proposed) and not answer.outcomes[0].code:
                done.append(answer.outcomes[0])

        attempt()
        self.run_until(self.now + 20 * SECOND, lambda: bool(done))
        if not done:
            raise Violation("no first write within 20 s")
        for register in REGISTERS:
            self.history[register].append((WRITE, done[0].version, START, self.now))
        for client in self.clients:
            client.next()

    def misbehave(self, duration: int) -> None:
        """Crash, restart, cut and heal at random for a while."""
        end = self.now + duration
        while self.now < end:
            self.pause(50, 400)
            kind = self.faults.below(10)
            node = self.nodes[self.faults.below(len(self.nodes))]
            if kind <= 1 and node.up:
                node.crash()
            elif kind <= 2:
                self.restart_all()
            elif kind == 3:  # one replica alone, the leader more often than not
                leading = [n for n in self.nodes if n.up and n.machine.leads]
                self.cut = self._links((*leading, node)[0])
            elif kind == 4:  # one direction of one link
                other = self.nodes[self.faults.below(len(self.nodes))]
                self.cut = {(node.contact.node_id, other.contact.node_id)}
            elif kind == 5:
                self.cut = set()
            elif kind == 6:
                rivals(self)
            elif kind == 7:
                figure_eight(self)
            elif kind == 8:
                refuse_writes(self, node)
            else:
                self._only_copy()
            for each in self.nodes:
                if each.up and self.faults.below(2):
                    self.flush(each)

    def _only_copy(self) -> None:
        """Make the leader and one follower the only ones who know, one with a stalled disk.

        Then both crash, and the others go on with the one whose disk had stalled.
        """
        self.restart_all()
        leader = next((n for n in self.nodes if n.machine.leads), None)
        if leader is None or len(self.nodes) != 3:
            return
        followers = [n for n in self.nodes if n is not leader]
        alone = followers.pop(self.faults.below(2))
        stalled, sound = leader, followers[0]
        if self.faults.below(2):
            stalled, sound = sound, stalled
        self.cut = self._links(alone)
        stalled.disk_free_at = self.now + 400 * MS
        self.pause(20, 250)
        for node in (stalled, sound):
            if node.up:
                node.crash()
        self.cut = set()
        stalled.disk_free_at = self.now
        stalled.boot()
        self.pause(200, 600)

    def pause(self, least_ms: int, most_ms: int) -> None:
        self.run_until(self.now + (least_ms + self.faults.below(most_ms - least_ms)) * MS)

    def _links(self, node: Node) -> set[tuple[int, int]]:
        """All links to and from one replica."""
        own, others = node.contact.node_id, [n.contact.node_id for n in self.nodes if n is not node]
        return {(own, other) for other in others} | {(other, own) for other in others}

    def flush(self, node: Node) -> None:
        index = node.documents.flush(node.machine.log.durable)
        node.handle(LocalCall(0, Flushed(SHARD, index)))

    def restart_all(self) -> None:
        for node in self.nodes:
            if not node.up:
                node.boot()

    def heal(self) -> None:
        """Stop all faults; within ten election timeouts the store must be whole again."""
        self.cut = set()
        self.loss_ppm = 0
        for node in self.nodes:
            node.failing = 0
        self.restart_all()
        before = len(self.acknowledged)
        self.run_until(self.now + 3 * SECOND)
        if len(self.acknowledged) <= before:
            raise Violation("no write was acknowledged within 3 s after the faults stopped")
        for client in self.clients:
            client.active = False
        self.run_until(self.now + SECOND)

    # --- checks -----------------------------------------------------------------------------------

    def check_leader(self, node: Node) -> None:
        term = node.machine.election.term
        leader = self.leaders.setdefault(term, node.contact.node_id)
        if leader != node.contact.node_id:
            raise Violation(f"two leaders in term {term}")

    def check_committed(self, node: Node, index: int, entry: tuple[int, int, bytes]) -> None:
        if self.committed.setdefault(index, entry) != entry:
            raise Violation(f"replica {node.contact.node_id} committed another entry at {index}")

    def check_acknowledged(self, version: int, command: bytes) -> None:
        if version not in self.committed or self.committed[version][2] != command:
            raise Violation(f"an acknowledged write is not what was committed at {version}")
        self.acknowledged[version] = command
        register, invoked = self.proposed.pop(command)
        self.history[register].append((WRITE, version, invoked, self.now))
        self.values[register].append(Operation(WRITE, value_of(command), invoked, self.now))

    def check_end(self) -> None:
        """All replicas equal, nothing acknowledged lost, nothing done twice, histories right."""
        commits = [node.machine.commit for node in self.nodes]
        if len(set(commits)) > 1 or not any(node.machine.leads for node in self.nodes):
            raise Violation(f"replicas did not come together: {commits}")
        rows = self.nodes[0].documents.rows()
        if any(node.documents.rows() != rows for node in self.nodes):
            raise Violation("documents differ at the same index")
        final = {index: self.committed[index][2] for index in range(1, commits[0] + 1)}
        for version, command in self.acknowledged.items():
            if final.get(version) != command:
                raise Violation(f"the acknowledged write at {version} is lost")
        first: dict[bytes, int] = {}
        for index, command in final.items():
            first.setdefault(command, index)
        for command, (register, invoked) in self.proposed.items():  # never answered
            self.values[register].append(Operation(WRITE, value_of(command), invoked, NEVER))
            if command in first:
                self.history[register].append((WRITE, first[command], invoked, NEVER))
        counter = dict(rows)[keys.document_key(SHARD, "register", COUNTER)]
        usage = decode_value(decode_record(StoredDocument, counter).body)["usage"]["writes"]
        distinct = sum(bool(command) for command in first) - 1  # less the preparation
        if usage != distinct:
            raise Violation(f"{distinct} writes were committed, {usage} were counted")
        for register, operations in self.history.items():
            problem = chain(operations)
            if problem is not None:
                raise Violation(f"{register} is not linearizable: {problem}")
            if not linearizable(self.values[register], ""):
                raise Violation(f"{register} is not linearizable: no order fits what was read")

    def run(self, duration: int = 8 * SECOND) -> None:
        """A whole life: prepare, suffer, heal, be judged."""
        self.prepare()
        self.misbehave(duration)
        self.heal()
        self.check_end()
