"""A small world for placement tests: routers, a tree that never changes, and a postman.

::

    root 1 -- inner 2 -- leaf 4: hosts 100..102
           |          `- leaf 5: hosts 110..112
           `- inner 3 -- leaf 6: hosts 120..122
                      `- leaf 7: hosts 130..132

The first host of a leaf cell owns it; the first of its cells' owners owns the inner cell, and so
on: host 100 owns cells 4, 2 and 1.  Messages are delivered one by one in the order sent; tests may
drop, hold or look at them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from agent import HostSpec, simulated_host
from agent.books import Books
from agent.drivers.simulated import SimulatedHypervisor
from fabric.machine import NEVER, Contact, Driven, ListSink, Write
from fabric.peer.calls import Caller
from fabric.placement.request import PlacementRequest
from fabric.placement.router import Router
from fabric.placement.tables import Child
from fabric.stream import Stream
from fabric.tree.summary import Summary, merge
from fabric.units import SECOND
from fabric.wire.codec import decode_frame, encode_frame
from fabric.wire.placement import PlaceAsk

PATHS = {4: (4, 2, 1), 5: (5, 2, 1), 6: (6, 3, 1), 7: (7, 3, 1)}
OWNERS = {4: 100, 5: 110, 6: 120, 7: 130, 2: 100, 3: 120, 1: 100}
MEMBERS = {
    1: (2, 3),
    2: (4, 5),
    3: (6, 7),
    **{leaf: tuple(range(100 + 10 * i, 103 + 10 * i)) for i, leaf in enumerate((4, 5, 6, 7))},
}


def contact(node: int) -> Contact:
    return Contact(node, f"inproc://{node}")


class VillageTables:
    """The tree as host ``node`` knows it."""

    def __init__(self, village: Village, node: int) -> None:
        self.village = village
        self.me = contact(node)
        self.leaf = next(leaf for leaf in PATHS if node in MEMBERS[leaf])

    def path(self) -> Sequence[int]:
        return PATHS[self.leaf]

    def owner_of(self, cell: int) -> Contact | None:
        owner = self.village.owners.get(cell)
        return None if owner is None else contact(owner)

    def owns(self, cell: int, now: int) -> bool:
        return self.village.owners.get(cell) == self.me.node_id

    def children(self, cell: int) -> Sequence[Child]:
        village = self.village
        return [village.child(key) for key in MEMBERS[cell]]


class Village:
    """Twelve hosts and their postman."""

    def __init__(self, spec: HostSpec | None = None, **specs: HostSpec) -> None:
        self.now = 1_000 * SECOND
        self.owners = dict(OWNERS)
        self.dead: set[int] = set()
        #: How old the tables' summaries are; ``None``: nobody knows anything.
        self.age_us: int | None = 0
        #: Summaries frozen at this moment instead of true ones.
        self.frozen: dict[int, tuple[Summary, int]] = {}
        self.spec = spec or simulated_host(cpu=8, memory_mb=8192)
        self.specs = {int(name[1:]): value for name, value in specs.items()}
        self.hypervisor = SimulatedHypervisor()
        self.books: dict[int, Books] = {}
        self.disks: dict[int, dict[bytes, bytes]] = {}
        self.routers: dict[int, Router] = {}
        self.sinks: dict[int, ListSink] = {}
        self.mail: deque[tuple[int, Contact, Any]] = deque()
        self.transcript: list[str] = []
        self.replies: dict[int, Any] = {}
        self.drop: Callable[[int, Contact, Any], bool] = lambda sender, to, message: False
        self._calls = 0
        for leaf in PATHS:
            for node in MEMBERS[leaf]:
                self.start(node)

    def start(self, node: int) -> None:
        """Start a host, or start it again after SIGKILL: its disk is what is left."""
        books = Books(self.specs.get(node, self.spec), contact(node))
        books.restore(self.disks.setdefault(node, {}).items(), self.now, ListSink())
        self.books[node] = books
        self.routers[node] = Router(VillageTables(self, node), books, Stream(node))
        self.sinks[node] = ListSink()

    # --- what tables say --------------------------------------------------------------------------

    def child(self, key: int) -> Child:
        summary, at = self.frozen.get(key) or (self.summary(key), self.now - (self.age_us or 0))
        known = None if self.age_us is None else summary
        if key in self.books:
            return Child(key, contact(key), True, key not in self.dead, known, at)
        owner = self.owners.get(key)
        alive = owner is not None and owner not in self.dead
        return Child(key, contact(owner) if owner else None, False, alive, known, at)

    def summary(self, key: int) -> Summary:
        if key in self.books:
            return self.books[key].summary()
        members = MEMBERS[key]
        living = [m for m in members if m not in self.dead]
        return merge([self.summary(member) for member in living], len(living))

    def freeze(self) -> None:
        """From now on the tables keep saying what is true now."""
        self.frozen = {key: (self.summary(key), self.now) for key in (*self.books, *MEMBERS)}

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, entry: int, body: Any) -> int:
        """Ask ``body`` of ``entry`` as a caller in its process; returns the call's id."""
        self._calls += 1
        self.routers[entry].ask(Caller(self._calls), body, self.now, self.sinks[entry])
        self.collect(entry)
        return self._calls

    def place(self, entry: int, key: str, cpu: int = 1, memory_mb: int = 1024, **more: Any) -> Any:
        """Place and wait for the answer."""
        call = self.ask(
            entry, PlaceAsk(PlacementRequest(key, f"vm-{key}", cpu, memory_mb, **more), 10_000)
        )
        self.run()
        return self.replies.get(call)

    def do(self, entry: int, body: Any) -> Any:
        call = self.ask(entry, body)
        self.run()
        return self.replies.get(call)

    # --- delivering -------------------------------------------------------------------------------

    def collect(self, node: int) -> None:
        """Take what a router put out; writes are durable at once."""
        for kind, args in self.sinks[node].take():
            if kind == "send":
                self.mail.append((node, args[0], args[1]))
            elif kind == "promise":
                self.write(node, args[0])
                self.mail.append((node, args[1], args[2]))
            elif kind == "persist":
                self.write(node, args[0])
            elif kind == "reply":
                self.replies[args[0]] = args[1]
            elif kind == "drive":
                result, error = self.hypervisor.execute(args[0])
                event = Driven(args[1], result, error)
                self.routers[node].driven(event, self.now, self.sinks[node])
                self.collect(node)

    def write(self, node: int, writes: Sequence[Write]) -> None:
        for key, value in writes:
            if value is None:
                self.disks[node].pop(key, None)
            else:
                self.disks[node][key] = value

    def step(self) -> bool:
        """Deliver one message, through its bytes."""
        if not self.mail:
            return False
        sender, to, message = self.mail.popleft()
        line = f"{sender} -> {to.node_id}: {type(message).__name__}"
        if self.drop(sender, to, message) or to.node_id in self.dead or sender in self.dead:
            self.transcript.append(f"{line} (lost)")
            return True
        self.transcript.append(line)
        frame = decode_frame(encode_frame(sender, message))
        router, sink = self.routers[to.node_id], self.sinks[to.node_id]
        router.handle_message(frame.sender, frame.message, self.now, sink)
        self.collect(to.node_id)
        return True

    def run(self) -> None:
        """Deliver until it is quiet."""
        while self.step():
            pass

    def pass_time(self, us: int) -> None:
        """Let time pass; timers fire when they are due, messages are delivered at once."""
        end = self.now + us
        while True:
            due = min(r.due for n, r in self.routers.items() if n not in self.dead)
            if due > end or due == NEVER:
                self.now = end
                return
            self.now = max(self.now, due)
            for node, router in sorted(self.routers.items()):
                if node not in self.dead and router.due <= self.now:
                    router.tick(self.now, self.sinks[node])
                    self.collect(node)
            self.run()

    def held(self) -> dict[str, list[int]]:
        """By key: the hosts that hold room under it."""
        found: dict[str, list[int]] = {}
        for node, books in sorted(self.books.items()):
            for reservation in books.reservations.values():
                found.setdefault(reservation.key, []).append(node)
        return found
