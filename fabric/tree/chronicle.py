"""What the chairman's writes did to the tree, and why each host is where it is.

The planner changes cells; it does not say what that amounts to.  Here each write is compared with
the one before: a cell that is new and has members of another was split off it, a cell that is gone
was merged into where its members are now, and so on.  So whatever rule moves a host, it shows.

Kept is what the present chairman did itself (bounded, the oldest forgotten first): what was decided
before its time is told as just that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from fabric.tree.planner import Plan
from fabric.tree.roster import Cell
from fabric.wire.tree import Order

#: Hosts of which the reason for their place is kept: all of a large fabric's recent moves.
MAX_REASONS_KEPT: Final = 20_000

# what a write did
JOINED: Final = "joined"
REMOVED: Final = "removed"
MOVED: Final = "moved"
SPLIT: Final = "split"
MERGED: Final = "merged"
GREW: Final = "grew"
SHRANK: Final = "shrank"
SEATS: Final = "seats"


class TopologyNotice(NamedTuple):
    """One thing that a committed write did. ``what`` says what the other fields mean:

    * joined, removed, moved: the host or observer ``node``, to or from ``cell`` (from ``other``);
    * split: ``cell`` is new and took ``members`` members from ``other``;
    * merged: ``cell`` is gone, its members are in ``other``;
    * grew, shrank: ``cell`` is the root now, ``other`` was;
    * seats: ``cell`` has another electorate, of ``members`` seats.
    """

    what: str
    cell: int
    other: int
    node: int
    members: int
    order: Order


class Reason(NamedTuple):
    """Why a host is in its cell: the last write that put it there, and when."""

    what: str
    cell: int
    other: int
    order: Order
    at: int


class _Seen(NamedTuple):
    """A cell as it was last written."""

    seats: tuple[int, ...]
    parent: int


class Chronicle:
    """Compares each write with the last. Written by the chairman."""

    __slots__ = ("_cells", "_deeds", "_home", "_reasons", "_root", "reasons")

    def __init__(self) -> None:
        self.reasons: dict[int, Reason] = {}
        self._cells: dict[int, _Seen] = {}
        self._home: dict[int, int] = {}
        self._root = 0
        self._deeds: list[TopologyNotice] = []
        self._reasons: dict[int, Reason] = {}

    def begin(self, plan: Plan) -> None:
        """Start from what is written (a chairman has just read it)."""
        self._cells = {cell.cell: _seen(cell) for cell in plan.cells.values()}
        self._home = dict(plan.home)
        self._root = plan.root
        self._deeds, self._reasons = [], {}
        home = self._home
        self.reasons = {n: r for n, r in self.reasons.items() if home.get(n) == r.cell}

    def writing(
        self,
        plan: Plan,
        cells: Sequence[Cell],
        deleted: Sequence[int],
        moved: Iterable[int],
        removed: Iterable[int],
        order: Order,
        now: int,
    ) -> None:
        """Note what the write that is under way does; :meth:`committed` tells it."""
        deeds: list[TopologyNotice] = []
        for node in removed:
            self.reasons.pop(node, None)
            deeds.append(TopologyNotice(REMOVED, self._home.pop(node, 0), 0, node, 1, order))
        fresh = {cell.cell for cell in cells if cell.cell not in self._cells}
        sources: dict[int, dict[int, int]] = {}  # cell -> where its new members were -> how many
        gone = frozenset(deleted)
        for node in moved:
            deeds += self._move(node, plan.home[node], fresh, gone, sources, order, now)
        for cell in cells:
            if cell.level > 0:
                self._adopt_children(cell, sources)
        deeds += self._cells_changed(plan, cells, deleted, sources, order)
        self._deeds = deeds

    def committed(self) -> list[TopologyNotice]:
        """The write is stored: return what it did."""
        deeds, self._deeds = self._deeds, []
        self.reasons.update(self._reasons)
        self._reasons = {}
        while len(self.reasons) > MAX_REASONS_KEPT:
            del self.reasons[next(iter(self.reasons))]
        return deeds

    def reason(self, node: int) -> Reason | None:
        """Return why ``node`` is where it is, if that was decided in this chairman's time."""
        return self.reasons.get(node)

    def _move(
        self,
        node: int,
        home: int,
        fresh: set[int],
        gone: frozenset[int],
        sources: dict[int, dict[int, int]],
        order: Order,
        now: int,
    ) -> list[TopologyNotice]:
        before = self._home.get(node, 0)
        self._home[node] = home
        if before == home:
            return []  # only told anew
        if not before:
            self._reasons[node] = Reason(JOINED, home, 0, order, now)
            return [TopologyNotice(JOINED, home, 0, node, 1, order)]
        counts = sources.setdefault(home, {})
        counts[before] = counts.get(before, 0) + 1
        what = SPLIT if home in fresh else MERGED if before in gone else MOVED
        self._reasons[node] = Reason(what, home, before, order, now)
        # a split or a merge is told once, for all its members
        return [TopologyNotice(MOVED, home, before, node, 1, order)] if what == MOVED else []

    def _adopt_children(self, cell: Cell, sources: dict[int, dict[int, int]]) -> None:
        for child in cell.members:
            seen = self._cells.get(child)
            if seen is not None and seen.parent not in (0, cell.cell):
                counts = sources.setdefault(cell.cell, {})
                counts[seen.parent] = counts.get(seen.parent, 0) + 1

    def _cells_changed(
        self,
        plan: Plan,
        cells: Sequence[Cell],
        deleted: Sequence[int],
        sources: dict[int, dict[int, int]],
        order: Order,
    ) -> list[TopologyNotice]:
        deeds: list[TopologyNotice] = []
        for cell in cells:
            seen = self._cells.get(cell.cell)
            counts = sources.get(cell.cell, {})
            if seen is None and counts:
                source = max(counts, key=lambda c: (counts[c], -c))
                deeds.append(TopologyNotice(SPLIT, cell.cell, source, 0, counts[source], order))
            seats = tuple(cell.seats)
            if seen is not None and seen.seats != seats:
                deeds.append(TopologyNotice(SEATS, cell.cell, 0, 0, len(seats), order))
            self._cells[cell.cell] = _seen(cell)
        for dead in deleted:
            took = [cell for cell, counts in sources.items() if dead in counts]
            self._cells.pop(dead, None)
            if took:
                deeds.append(TopologyNotice(MERGED, dead, took[0], 0, 0, order))
        if self._root and plan.root != self._root:
            what = SHRANK if self._root not in plan.cells else GREW
            deeds.append(TopologyNotice(what, plan.root, self._root, 0, 0, order))
        self._root = plan.root
        return deeds


def _seen(cell: Cell) -> _Seen:
    return _Seen(tuple(cell.seats), cell.parent)
