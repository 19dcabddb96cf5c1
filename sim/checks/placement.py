"""What callers are answered, against what the hosts really had.

A refusal is wrong if some host had room from before the request (by as much as summaries may lag)
until the answer.  Only hosts count that nothing disturbed and that were members all the while;
their books tell by their version whether anything changed in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from fabric.errors import FabricError
from fabric.ids import format_id
from fabric.limits import RESERVATION_LIFETIME_US, SUMMARY_STALE_US
from fabric.placement.constraints import FITS, host_verdict
from fabric.placement.request import Placed, PlacementRequest
from fabric.units import MS, SECOND
from fabric.wire.placement import CellUnavailable, HostRefused

if TYPE_CHECKING:
    from agent.books import Books
    from agent.records import Reservation, Vm
    from sim.checks.topology import WriteChecks
    from sim.engine import Node
    from sim.roll import Roll, Row
    from sim.workload import Placing
    from sim.world import SimWorld

#: A host counts as a member when it has been one for so long, undisturbed.
SETTLED_US: Final = 25 * SECOND
#: Reserves that hosts refuse for want of room, per hundred placements, where nearly all requests
#: found room: a burst must not pile up. (Sound runs stay below 8, a herd makes it 30 and more.)
PILED_UP_PERCENT: Final = 20
#: After so long without a fault every question has an answer.
CALM_US: Final = 50 * SECOND
#: Giving back takes a message; retries and slow hosts take a few seconds.
STRAY_US: Final = 15 * SECOND
#: Below so many placements a share means nothing.
ENOUGH: Final = 50


class PlacementChecks:
    """Samples all books each second, and judges each answer."""

    def __init__(self, world: SimWorld, writes: WriteChecks, roll: Roll) -> None:
        self._world = world
        self._writes = writes
        self._roll = roll
        self._depth = 1
        #: When messages were last lost or repeated, and when a process was last killed or started.
        self._unreliable_us = self._restarts_us = 0
        self._lives = 0
        self._refused_by_hosts = 0
        self._placed = 0
        self._refused = 0
        #: Keys of placements that rightly found no answer.
        self.excused: dict[str, None] = {}
        world.engine.marks.tap(HostRefused, self._host_refused)
        world.engine.marks.tap(CellUnavailable, self._cell_unavailable)

    def _host_refused(self, message: HostRefused) -> None:
        self._refused_by_hosts += message.reason in ("cpu", "memory", "disk")

    def _cell_unavailable(self, message: CellUnavailable) -> None:
        """An owner could not find out: in a calm it can ask whomever it wants."""
        world = self._world
        calm_us = world.engine.now - max(world.last_fault_us, world.calm_since_us)
        known = message.code != "NotOwner"  # that may change hands at any time
        if known and calm_us > CALM_US and not world.abandoned:
            detail = f"the owner of cell {message.cell} could not find out: {message.message}"
            world.violation("unavailable-in-calm", (), detail)

    def sample(self, depth: int) -> None:
        """Note since when each host's books are as they are; called each second."""
        self._depth = max(depth, 1)
        now = self._world.engine.now
        if self._world.engine.network.unreliable:
            self._unreliable_us = now
        if self._world.engine.lives != self._lives:
            self._lives, self._restarts_us = self._world.engine.lives, now
        self._roll.refresh()
        for row in self._roll.rows:
            books = row.books
            if books is not None and row.books_version != books.version:
                row.books_version = books.version
                row.books_since_us = now

    def placed(self, request: PlacementRequest, placed: Placed) -> None:
        """A caller was given a place: all constraints must hold there."""
        self._placed += 1
        node = self._world.engine.by_id.get(placed.host.node_id)
        for constraint in request.constraints:
            value = {"datastore": placed.datastore, "host": format_id(placed.host.node_id)}
            here = value.get(constraint.kind)
            if here is not None and (here in constraint.values) == constraint.negative:
                nodes = () if node is None else (node,)
                detail = f"{request.key}: {constraint.describe()}, placed on {here}"
                self._world.violation("constraint-broken", nodes, detail)

    def refused(self, request: PlacementRequest, asked_us: int) -> None:
        """A caller was told that no host has room."""
        self._refused += 1
        for row in self._with_room(request, asked_us - SUMMARY_STALE_US * self._depth):
            world = self._world
            settled = world.engine.now - self._writes.since_us.get(
                row.node.node_id, world.engine.now
            )
            if min(settled, world.undisturbed_us(row.node)) >= SETTLED_US:
                waited_s = (world.engine.now - row.books_since_us) // SECOND
                detail = f"{request.key} was refused; this host has had room for {waited_s} s"
                world.violation("wrong-refusal", (row.node,), detail)
                return

    def unavailable(self, placing: Placing) -> None:
        """A caller was told that nobody can say: never, long after the last fault.

        Where peers are broken for ever that is right if nobody else has room: they might have some.
        """
        if not self._world.abandoned:
            calm_us = placing.asked_us - self._world.last_fault_us
            if calm_us > CALM_US:
                detail = f"{placing.key} found no answer, {calm_us // SECOND} s after all faults"
                self._world.violation("unavailable-in-calm", (), detail)
            return
        rows = self._with_room(placing.request, placing.asked_us)
        if all(row.index in self._world.abandoned for row in rows):
            self.excused[placing.key] = None

    def _with_room(self, request: PlacementRequest, since_us: int) -> Iterator[Row]:
        """Yield hosts whose books have not changed since then, and have room for ``request``."""
        self._roll.refresh()
        for row in self._roll.rows:
            books = row.books
            if books is None or row.books_version != books.version or row.books_since_us > since_us:
                continue
            if _verdict(row.node, books, request) == FITS:
                yield row

    def unconfirmed(self, placing: Placing, error: FabricError) -> None:
        """A host did not know what its caller was given a moment ago: it had been promised."""
        assert placing.placed is not None
        world = self._world
        node = world.engine.by_id.get(placing.placed.host.node_id)
        if error.code != "UnknownReservation" or node is None or node.disk.broke_promises:
            return
        if placing.changed_us <= self._unreliable_us + SECOND:
            return  # a copy of the host's answer may have met an entry that had started anew
        # by the clock of the host, which may have been set meanwhile
        held_us = world.engine.now - placing.changed_us + max(node.offset - placing.set_us, 0)
        same = node.node_id == placing.placed.host.node_id  # or its promises went with its disk
        if same and held_us < RESERVATION_LIFETIME_US // 2:
            detail = f"{placing.key} was given a place, which was unknown {held_us // MS} ms later"
            world.violation("lost-promise", (node,), detail)

    def audit(self, open_: Mapping[str, Placing]) -> None:
        """What a second host reserved for a key is given back as soon as the first has it."""
        now = self._world.engine.now
        since = max(self._unreliable_us, self._restarts_us) + SECOND  # all answers have arrived
        if self._world.abandoned:
            return  # whom an abandoned host told of its promises, or did not, nobody knows
        self._roll.refresh()
        for row in self._roll.rows:
            node = row.node
            for held in row.books.reservations.values() if row.books is not None else ():
                placing = open_.get(held.key)
                made_us = held.expires_at - RESERVATION_LIFETIME_US - node.offset
                if not held.expires_at or placing is None or placing.placed is None:
                    continue
                kept = placing.placed.host.node_id, placing.placed.reservation_id
                if (
                    kept != (node.node_id, held.reservation_id)
                    and since < made_us < now - STRAY_US
                    and placing.changed_us < now - STRAY_US
                ):
                    detail = f"{held.key}, placed elsewhere, for {(now - made_us) // SECOND} s"
                    self._world.violation("stray-reservation", (node,), detail)

    def finish(self) -> None:
        """Judge the whole run: how often hosts had to refuse what their owners sent."""
        share = 100 * self._refused_by_hosts // max(self._placed, 1)
        plenty = self._placed >= max(ENOUGH, 50 * self._refused)
        if plenty and share > PILED_UP_PERCENT:
            detail = f"{self._refused_by_hosts} reserves refused for {self._placed} placements"
            self._world.violation("piled-up", (), detail)


def _verdict(node: Node, books: Books, request: PlacementRequest) -> str:
    """Say whether the host can take the request, from its rows alone."""
    spec = books.spec
    free = dict(spec.datastores)
    labels = spec.draining_labels if books.draining else spec.labels
    cpu, memory_mb = spec.cpu, spec.memory_mb
    rows: list[Reservation | Vm] = [*books.reservations.values(), *books.vms.values()]
    for row in rows:
        cpu -= row.cpu
        memory_mb -= row.memory_mb
        if row.disk_mb:
            free[row.datastore] -= row.disk_mb
    return host_verdict(request, format_id(node.node_id), labels, (cpu, memory_mb), free)
