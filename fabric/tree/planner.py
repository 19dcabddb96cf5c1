"""The shape of the tree: where hosts go, when cells split and merge.

Pure bookkeeping on the chairman's copy of the topology: no messages, no time.  Cells behave like
the nodes of a B-tree: they split above their upper bound and merge below their lower one, so that
a host's death or arrival edits one cell and nothing else moves.  A split moves members that hold no
seat, so it leaves the electorate alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from fabric.machine import Contact
from fabric.tree.roster import Cell
from fabric.tree.seating import Seating


class Plan(Seating):
    """The topology, and how it changes its shape."""

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
