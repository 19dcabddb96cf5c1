"""The shape of the tree: where hosts go, when cells split and merge, who gets a seat.

Pure bookkeeping on the chairman's copy of the topology: no messages, no time.  Cells behave like
the nodes of a B-tree: they split above their upper bound and merge below their lower one, so that
a host's death or arrival edits one cell and nothing else moves.  Whatever a change touches is
collected in :attr:`Plan.touched`; the chairman writes exactly those records.

Seats change one at a time, each change with a raised term floor; a split moves members that hold
no seat, so it leaves the electorate alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from fabric.limits import MAX_SEATS
from fabric.machine import Contact
from fabric.settings import Settings
from fabric.stream import mix
from fabric.wire.tree import NO_ORDER, CellRecord, Order

#: How far a new electorate's terms lie above the old one's: more than it can reach.
TERM_STEP = 1 << 20


class Cell:
    """One cell, as the chairman keeps it. Members are node ids (leaf) or cell ids (inner)."""

    __slots__ = (
        "cell", "electorate", "level", "members", "new", "observers", "order", "parent", "seats",
        "seats_changed", "term_floor",
    )  # fmt: skip

    def __init__(self, cell: int, level: int, parent: int) -> None:
        self.cell = cell
        self.level = level
        self.parent = parent
        self.members: list[int] = []
        self.observers: list[int] = []
        self.seats: list[int] = []
        self.order: Order = NO_ORDER
        self.electorate: Order = NO_ORDER
        self.term_floor = 0
        self.seats_changed = False  # since the last write
        self.new = True  # never written


def seats_wanted(hosts: int) -> int:
    """Return how many seats a cell with so many eligible hosts should have: odd, at most five."""
    if hosts >= MAX_SEATS:
        return MAX_SEATS
    return 3 if hosts >= 3 else min(hosts, 1)


class Plan:
    """The whole topology, and the changes that were made to it since the last write."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cells: dict[int, Cell] = {}
        self.contacts: dict[int, Contact] = {}  # every host and observer
        self.home: dict[int, int] = {}  # node id -> leaf cell
        self.root = 0
        self.next_cell = 1
        self.moved: dict[int, None] = {}  # hosts and observers that must be told a whole new path
        self.touched: dict[int, bool] = {}  # cells to write, in order; False: deleted
        self.seats_wrong: dict[int, None] = {}  # cells whose seats need attention
        self.sits_in: dict[int, list[int]] = {}  # node id -> cells where it holds a seat

    # --- reading ---------------------------------------------------------------------------------

    def leaves(self) -> list[Cell]:
        """Return all leaf cells."""
        return [c for c in self.cells.values() if c.level == 0]

    def path(self, node_id: int) -> list[int]:
        """Return the cells from the leaf of ``node_id`` to the root."""
        path = []
        cell = self.home.get(node_id, 0)
        while cell:
            path.append(cell)
            cell = self.cells[cell].parent
        return path

    def hosts_of(self, cell: Cell) -> list[int]:
        """Return all hosts below ``cell``."""
        if cell.level == 0:
            return list(cell.members)
        return [h for child in cell.members for h in self.hosts_of(self.cells[child])]

    def record(self, cell: Cell) -> CellRecord:
        """Return ``cell`` as the record that is written and spread."""
        contacts = self.contacts
        if cell.level == 0:
            members = tuple([contacts[m] for m in cell.members])
        else:
            members = tuple([Contact(m, "") for m in cell.members])
        return CellRecord(
            cell.cell,
            cell.level,
            cell.parent,
            cell.order,
            cell.electorate,
            cell.term_floor,
            members,
            tuple([contacts[o] for o in cell.observers]),
            tuple([contacts[s] for s in cell.seats]),
        )

    # --- loading ---------------------------------------------------------------------------------

    def load(self, records: Iterable[CellRecord], root: int, next_cell: int) -> None:
        """Take over what is written in the coordinator."""
        self.root, self.next_cell = root, next_cell
        for record in records:
            cell = Cell(record.cell, record.level, record.parent)
            cell.members = [m.node_id for m in record.members]
            cell.observers = [o.node_id for o in record.observers]
            cell.seats = [s.node_id for s in record.seats]
            cell.order, cell.electorate = record.order, record.electorate
            cell.term_floor = record.term_floor
            cell.new = False
            self.cells[cell.cell] = cell
            for contact in (*record.seats, *record.observers):
                self.contacts[contact.node_id] = contact
            if cell.level == 0:
                self.contacts.update({m.node_id: m for m in record.members})
                self.home.update(dict.fromkeys([*cell.members, *cell.observers], cell.cell))
            for seat in cell.seats:
                self.sits_in.setdefault(seat, []).append(cell.cell)
        for cell in self.cells.values():  # needs whole paths
            self._check_seats(cell)

    # --- hosts and observers ---------------------------------------------------------------------

    def add_hosts(self, contacts: Sequence[Contact]) -> None:
        """Give each new host a leaf: the emptiest, or a new one where many come at once."""
        settings = self.settings
        if not self.root:
            self.root = self._new_cell(0, 0).cell
        heap = [(len(c.members), c.cell) for c in self.leaves()]
        heapq.heapify(heap)
        target = (settings.leaf_min + settings.leaf_max) // 2
        waiting = list(contacts)
        while waiting:
            size, cell_id = heap[0]
            if size >= settings.leaf_max and len(waiting) >= settings.leaf_min:
                leaf = self._new_sibling(0)
                heapq.heappush(heap, (0, leaf.cell))
                for contact in waiting[:target]:
                    self._put_host(contact, leaf)
                del waiting[:target]
                heap = [(len(c.members), c.cell) for c in self.leaves()]
                heapq.heapify(heap)
                continue
            leaf = self.cells[cell_id]
            self._put_host(waiting.pop(0), leaf)
            heapq.heapreplace(heap, (size + 1, cell_id))
            if len(leaf.members) > settings.leaf_max:
                self._split(leaf)
                heap = [(len(c.members), c.cell) for c in self.leaves()]
                heapq.heapify(heap)

    def add_observer(self, contact: Contact) -> None:
        """Attach an observer to the leaf with the fewest of them."""
        if not self.root:
            self.root = self._new_cell(0, 0).cell
        leaf = min(self.leaves(), key=lambda c: (len(c.observers), c.cell))
        self.contacts[contact.node_id] = contact
        self.home[contact.node_id] = leaf.cell
        leaf.observers.append(contact.node_id)
        self.moved[contact.node_id] = None
        self._touch(leaf)

    def move_address(self, contact: Contact) -> None:
        """A known peer came back under another address."""
        self.contacts[contact.node_id] = contact
        self._touch(self.cells[self.home[contact.node_id]])
        for cell in self.sits_in.get(contact.node_id, ()):
            self._touch(self.cells[cell])

    def remove(self, node_ids: Iterable[int]) -> None:
        """Take hosts and observers out; cells that become too small merge."""
        small: dict[int, None] = {}
        for node_id in node_ids:
            leaf = self.cells.get(self.home.pop(node_id, 0))
            if leaf is None:
                continue
            if node_id in leaf.observers:
                leaf.observers.remove(node_id)
            else:
                leaf.members.remove(node_id)
                self._unseat(node_id)
                if len(leaf.members) < self.settings.leaf_min:
                    small[leaf.cell] = None
            self._touch(leaf)
        for cell_id in small:
            if cell_id in self.cells:
                self._merge(self.cells[cell_id])

    def _put_host(self, contact: Contact, leaf: Cell) -> None:
        self.contacts[contact.node_id] = contact
        self.home[contact.node_id] = leaf.cell
        leaf.members.append(contact.node_id)
        self.moved[contact.node_id] = None
        self._touch(leaf)
        self._check_seats(leaf)

    def _unseat(self, node_id: int) -> None:
        """``node_id`` left its place: cells where it sits and does not belong need another."""
        for cell_id in self.sits_in.get(node_id, ()):
            self._check_seats(self.cells[cell_id])

    # --- splitting -------------------------------------------------------------------------------

    def _bounds(self, cell: Cell) -> tuple[int, int]:
        settings = self.settings
        if cell.level == 0:
            return settings.leaf_min, settings.leaf_max
        return settings.inner_min, settings.inner_max

    def _new_cell(self, level: int, parent: int) -> Cell:
        cell = Cell(self.next_cell, level, parent)
        self.next_cell += 1
        self.cells[cell.cell] = cell
        self._touch(cell)
        self.seats_wrong[cell.cell] = None
        return cell

    def _new_sibling(self, level: int) -> Cell:
        """Make an empty cell at ``level`` under the inner cell with the fewest children."""
        if self.cells[self.root].level == level:
            self._new_root()
        parents = [c for c in self.cells.values() if c.level == level + 1]
        parent = min(parents, key=lambda c: (len(c.members), c.cell))
        cell = self._new_cell(level, parent.cell)
        self._add_child(parent, cell)
        return cell

    def _new_root(self) -> None:
        old = self.cells[self.root]
        root = self._new_cell(old.level + 1, 0)
        root.members.append(old.cell)
        old.parent = root.cell
        self.root = root.cell
        self._touch(old)

    def _add_child(self, parent: Cell, child: Cell) -> None:
        parent.members.append(child.cell)
        child.parent = parent.cell
        self._touch(parent)
        self._touch(child)
        self._check_seats(parent)
        if len(parent.members) > self._bounds(parent)[1]:
            self._split(parent)

    def _split(self, cell: Cell) -> None:
        """Move half of the members to a new cell: those that nobody's seat hangs on."""
        if cell.cell == self.root:
            self._new_root()
        parent = self.cells[cell.parent]
        fresh = self._new_cell(cell.level, parent.cell)
        stay = [m for m in cell.members if self._anchors(cell, m)]
        free = [m for m in cell.members if m not in stay]
        half = len(cell.members) // 2
        moving = (free + stay[::-1])[:half] if len(free) < half else free[len(free) - half :]
        cell.members = [m for m in cell.members if m not in moving]
        fresh.members = moving
        self._settle_moved(fresh, moving)
        self._touch(cell)
        self._check_seats(cell)
        self._add_child(parent, fresh)

    def _anchors(self, cell: Cell, member: int) -> bool:
        """Whether one of the cell's seats is ``member``, or lies below it."""
        if cell.level == 0:
            return member in cell.seats
        return any(member in self.path(seat) for seat in cell.seats)

    def _settle_moved(self, cell: Cell, members: Sequence[int]) -> None:
        """``members`` now belong to ``cell``: fix what points to their old place."""
        for member in members:
            if cell.level == 0:
                self.home[member] = cell.cell
                self.moved[member] = None
                self._unseat(member)
            else:
                child = self.cells[member]
                child.parent = cell.cell
                self._touch(child)
                for host in self._seat_hosts(child):
                    self._unseat(host)

    def _seat_hosts(self, cell: Cell) -> list[int]:
        """Return the hosts below ``cell`` that sit anywhere (few: at most five a cell)."""
        hosts = list(cell.seats)
        if cell.level > 0:
            for child in cell.members:
                hosts.extend(self._seat_hosts(self.cells[child]))
        return hosts

    # --- merging ---------------------------------------------------------------------------------

    def _merge(self, cell: Cell) -> None:
        """Join a cell that is too small with its smallest sibling, or let it borrow of the largest.

        The largest has most members without a seat, and these move most easily.
        """
        if cell.cell == self.root:
            self._collapse_root()
            return
        parent = self.cells[cell.parent]
        siblings = [self.cells[c] for c in parent.members if c != cell.cell]
        if not siblings:
            if not cell.members:
                self._delete(cell)
            return
        sibling = min(siblings, key=lambda c: (len(c.members), c.cell))
        total = len(cell.members) + len(sibling.members)
        if total <= self._bounds(cell)[1]:
            moving = cell.members
            sibling.members = sibling.members + moving
            sibling.observers = sibling.observers + cell.observers
            self.home.update(dict.fromkeys(cell.observers, sibling.cell))
            self.moved.update(dict.fromkeys(cell.observers))
            cell.members, cell.observers = [], []
            self._settle_moved(sibling, moving)
            self._delete(cell)
        else:
            sibling = max(siblings, key=lambda c: (len(c.members), -c.cell))
            self._borrow(cell, sibling, (len(sibling.members) - len(cell.members)) // 2)
        self._touch(sibling)
        self._check_seats(sibling)

    def _borrow(self, cell: Cell, sibling: Cell, count: int) -> None:
        free = [m for m in sibling.members if not self._anchors(sibling, m)]
        # where all have seats one of them has to move: the others are still a majority
        moving = free[:count] or sibling.members[-1:]
        sibling.members = [m for m in sibling.members if m not in moving]
        cell.members = cell.members + moving
        self._settle_moved(cell, moving)
        self._touch(cell)
        self._check_seats(cell)

    def _delete(self, cell: Cell) -> None:
        parent = self.cells[cell.parent]
        parent.members.remove(cell.cell)
        for seat in cell.seats:
            self.sits_in[seat].remove(cell.cell)
        del self.cells[cell.cell]
        self.seats_wrong.pop(cell.cell, None)
        if cell.new:
            self.touched.pop(cell.cell, None)
        else:
            self.touched[cell.cell] = False
        self._touch(parent)
        self._check_seats(parent)
        if parent.cell == self.root:
            self._collapse_root()
        elif len(parent.members) < self._bounds(parent)[0]:
            self._merge(parent)

    def _collapse_root(self) -> None:
        """A root with a single child is one level too many."""
        root = self.cells[self.root]
        while root.level > 0 and len(root.members) == 1:
            child = self.cells[root.members[0]]
            for seat in root.seats:
                self.sits_in[seat].remove(root.cell)
            del self.cells[root.cell]
            self.seats_wrong.pop(root.cell, None)
            if root.new:
                self.touched.pop(root.cell, None)
            else:
                self.touched[root.cell] = False
            child.parent = 0
            self.root = child.cell
            self._touch(child)
            root = child

    # --- seats -----------------------------------------------------------------------------------

    def _candidates(self, cell: Cell) -> list[int]:
        """Return who may sit in ``cell``, the best first.

        In a leaf cell its hosts by rendezvous rank.  In an inner cell seats of its child cells,
        taken in turns, so that they come from as many child cells as possible.
        """
        if cell.level == 0:
            return sorted(cell.members, key=lambda h: (mix(cell.cell, h), h))
        columns = []
        for child_id in sorted(cell.members, key=lambda c: (mix(cell.cell, c), c)):
            child = self.cells[child_id]
            columns.append(child.seats or self._candidates(child)[:MAX_SEATS])
        depth = max((len(c) for c in columns), default=0)
        return [column[i] for i in range(depth) for column in columns if i < len(column)]

    def _belongs(self, cell: Cell, node_id: int) -> bool:
        return cell.cell in self.path(node_id)

    def _wanted(self, cell: Cell) -> int:
        if cell.level == 0:
            return seats_wanted(len(cell.members))
        return seats_wanted(sum(max(1, len(self.cells[c].seats)) for c in cell.members))

    def _check_seats(self, cell: Cell) -> None:
        """Remember ``cell`` if its seats are not as they should be."""
        if len(cell.seats) != self._wanted(cell) or self.seats_gone(cell):
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
        seats = (kept + spare)[: self._wanted(cell)]
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
                seats[at] = spare[0]
            else:
                del seats[at]
        elif len(seats) < wanted and spare:
            seats.append(spare[0])
        elif len(seats) > wanted:
            seats.pop()
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

    # --- writing ---------------------------------------------------------------------------------

    def _touch(self, cell: Cell) -> None:
        self.touched[cell.cell] = True

    def take_touched(self, order: Order) -> tuple[list[Cell], list[int]]:
        """Stamp what changed with ``order``. Returns the cells to write and those to delete."""
        write, delete = [], []
        for cell_id, kept in self.touched.items():
            if not kept:
                delete.append(cell_id)
                continue
            cell = self.cells[cell_id]
            cell.order = order
            if cell.seats_changed or cell.new:
                cell.electorate = order
                cell.term_floor += 0 if cell.new else TERM_STEP
                cell.seats_changed = False
            cell.new = False
            write.append(cell)
        self.touched = {}
        return write, delete

    def take_moved(self) -> list[int]:
        """Return who changed its leaf since the last write."""
        moved = [n for n in self.moved if n in self.home]
        self.moved = {}
        return moved
