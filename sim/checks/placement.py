"""What callers are answered, against what the hosts really had.

A refusal is wrong if some host had room from before the request (by as much as summaries may lag)
until the answer.  Only hosts count that nothing disturbed and that were members all the while;
their books tell by their version whether anything changed in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from fabric.ids import format_id
from fabric.limits import SUMMARY_STALE_US
from fabric.placement.constraints import FITS, host_verdict
from fabric.placement.request import Placed, PlacementRequest
from fabric.units import SECOND
from fabric.wire.placement import HostRefused

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
#: Below so many placements a share means nothing.
ENOUGH: Final = 50


class PlacementChecks:
    """Samples all books each second, and judges each answer."""

    def __init__(self, world: SimWorld, writes: WriteChecks, roll: Roll) -> None:
        self._world = world
        self._writes = writes
        self._roll = roll
        self._depth = 1
        self._refused_by_hosts = 0
        self._placed = 0
        self._refused = 0
        #: Keys of placements that rightly found no answer.
        self.excused: dict[str, None] = {}
        world.engine.marks.tap(HostRefused, self._host_refused)

    def _host_refused(self, message: HostRefused) -> None:
        self._refused_by_hosts += message.reason in ("cpu", "memory", "disk")

    def sample(self, depth: int) -> None:
        """Note since when each host's books are as they are; called each second."""
        self._depth = max(depth, 1)
        now = self._world.engine.now
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
        """A caller was told that nobody can say.

        Where peers are broken for ever that is right if nobody else has room: they might have some.
        """
        if not self._world.abandoned:
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
    cpu, memory_mb = spec.cpu, spec.memory_mb
    rows: list[Reservation | Vm] = [*books.reservations.values(), *books.vms.values()]
    for row in rows:
        cpu -= row.cpu
        memory_mb -= row.memory_mb
        if row.disk_mb:
            free[row.datastore] -= row.disk_mb
    return host_verdict(request, format_id(node.node_id), spec.labels, (cpu, memory_mb), free)
