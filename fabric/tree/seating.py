"""Who sits where: the electorates of all cells.

Seats change one at a time, each change with a raised term floor.  In a leaf cell they go by
rendezvous rank; in an inner cell they are seats of its child cells, of as many as possible, and
stay whoever owns what.  Where hosts told their fault domains (zone, rack), seats are spread over as
many of them as possible: no rack is to take a majority with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fabric.limits import MAX_SEATS
from fabric.stream import mix
from fabric.tree.roster import Cell, Roster
from fabric.wire.tree import CellRecord


def seats_wanted(hosts: int) -> int:
    """Return how many seats a cell with so many eligible hosts should have: odd, at most five."""
    if hosts >= MAX_SEATS:
        return MAX_SEATS
    return 3 if hosts >= 3 else min(hosts, 1)


class Seating(Roster):
    """A roster that knows which seats are not as they should be, and mends them."""

    def load(self, records: Iterable[CellRecord], root: int, next_cell: int) -> None:
        """Take over what is written in the coordinator."""
        super().load(records, root, next_cell)
        for cell in self.cells.values():  # needs whole paths
            self._check_seats(cell)

    def _candidates(self, cell: Cell) -> list[int]:
        """Return who may sit in ``cell``, the best first.

        In a leaf cell its hosts by rendezvous rank.  In an inner cell seats of its child cells,
        taken in turns, so that they come from as many child cells as possible.
        """
        if cell.level == 0:
            return self._in_turns(sorted(cell.members, key=lambda h: (mix(cell.cell, h), h)))
        columns = []
        for child_id in sorted(cell.members, key=lambda c: (mix(cell.cell, c), c)):
            child = self.cells[child_id]
            columns.append(child.seats or self._candidates(child)[:MAX_SEATS])
        depth = max((len(c) for c in columns), default=0)
        turns = [column[i] for i in range(depth) for column in columns if i < len(column)]
        return self._in_turns(turns)

    def _in_turns(self, hosts: list[int]) -> list[int]:
        """Return ``hosts`` so that their fault domains take turns, each in its given order."""
        if not self.domain:
            return hosts
        turns: dict[str, int] = {}
        ranked = []
        for at, host in enumerate(hosts):
            domain = self.domain.get(host, "")
            turns[domain] = turns.get(domain, 0) + 1
            ranked.append((turns[domain], at, host))
        return [host for _, _, host in sorted(ranked)]

    def _next_seat(self, seats: Sequence[int], spare: Sequence[int]) -> int:
        """Return which of ``spare`` should sit beside ``seats``: the first of the rarest domain."""
        if not self.domain:
            return spare[0]
        taken = [self.domain.get(seat, "") for seat in seats]
        return min(spare, key=lambda h: taken.count(self.domain.get(h, "")))

    def _piled(self, cell: Cell) -> int:
        """Return a seat that should go to another domain, since its own has a majority; else 0."""
        if not self.domain or len(cell.seats) < 3:
            return 0
        taken = [self.domain.get(seat, "") for seat in cell.seats]
        most = max(taken, key=taken.count)
        if taken.count(most) < len(taken) // 2 + 1:
            return 0
        spare = [h for h in self._candidates(cell) if h not in cell.seats]
        if not any(taken.count(self.domain.get(h, "")) <= taken.count(most) - 2 for h in spare):
            return 0
        return cell.seats[len(taken) - 1 - taken[::-1].index(most)]

    def _belongs(self, cell: Cell, node_id: int) -> bool:
        return cell.cell in self.path(node_id)

    def _wanted(self, cell: Cell) -> int:
        if cell.level == 0:
            return seats_wanted(len(cell.members))
        return seats_wanted(sum(max(1, len(self.cells[c].seats)) for c in cell.members))

    def _check_seats(self, cell: Cell) -> None:
        """Remember ``cell`` if its seats are not as they should be."""
        if len(cell.seats) != self._wanted(cell) or self.seats_gone(cell) or self._piled(cell):
            self.seats_wrong[cell.cell] = None

    def seats_gone(self, cell: Cell) -> list[int]:
        """Return the seats whose hosts belong to the cell no more."""
        return [s for s in cell.seats if not self._belongs(cell, s)]

    def seats_lost(self, cell: Cell) -> bool:
        """Whether a majority of the seats is gone, so that nobody can be elected any more."""
        there = len(cell.seats) - len(self.seats_gone(cell))
        return bool(cell.seats) and there < len(cell.seats) // 2 + 1

    def new_electorate(self, cell: Cell, living: Sequence[int]) -> bool:
        """Give ``cell`` new seats, all at once, from those that are known to live."""
        kept = [s for s in cell.seats if s in living and self._belongs(cell, s)]
        spare = [h for h in self._candidates(cell) if h in living and h not in kept]
        seats = kept[: self._wanted(cell)]
        while spare and len(seats) < self._wanted(cell):
            seats.append(self._next_seat(seats, spare))
            spare.remove(seats[-1])
        if not seats or seats == cell.seats:
            return False
        self._seat(cell, seats)
        self._check_seats(cell)
        return True

    def fix_seats(self, cell: Cell) -> bool:
        """Make one change towards the right seats (all of them for a cell without any).

        Returns whether something changed.
        """
        wanted = self._wanted(cell)
        gone = self.seats_gone(cell)
        spare = [h for h in self._candidates(cell) if h not in cell.seats]
        seats = list(cell.seats)
        if not seats:
            seats = spare[:wanted]
        elif gone:
            at = seats.index(gone[0])
            if len(seats) <= wanted and spare:
                seats[at] = self._next_seat([s for s in seats if s not in gone], spare)
            else:
                del seats[at]
        elif len(seats) < wanted and spare:
            seats.append(self._next_seat(seats, spare))
        elif len(seats) > wanted:
            seats.pop()
        elif piled := self._piled(cell):
            seats.remove(piled)
            seats.append(self._next_seat(seats, spare))
        self.seats_wrong.pop(cell.cell, None)
        if seats == cell.seats:
            return False  # nothing better is to be had now
        self._seat(cell, seats)
        self._check_seats(cell)
        return True

    def _seat(self, cell: Cell, seats: list[int]) -> None:
        for seat in cell.seats:
            self.sits_in[seat].remove(cell.cell)
        for seat in seats:
            self.sits_in.setdefault(seat, []).append(cell.cell)
        cell.seats = seats
        cell.seats_changed = True
        self._touch(cell)

    def _unseat(self, node_id: int) -> None:
        """``node_id`` left its place: cells where it sits and does not belong need another."""
        for cell_id in self.sits_in.get(node_id, ()):
            self._check_seats(self.cells[cell_id])
