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
        """Give each new host a leaf of its zone: the emptiest, or a new one where many come.

        Hosts of a zone that has no leaf yet, and is too small for one, go to the emptiest of all.
        """
        if not self.root:
            self.root = self._new_cell(0, 0).cell
        zones: dict[str, list[Contact]] = {}
        for contact in contacts:
            zones.setdefault(self.zone(contact.node_id), []).append(contact)
        for zone, waiting in zones.items():
            by_id = {contact.node_id: contact for contact in waiting}
            in_turns = self._in_turns(list(by_id))  # of all racks into each new cell
            self._add_to_zone(zone, [by_id[node_id] for node_id in in_turns])

    def _add_to_zone(self, zone: str, waiting: list[Contact]) -> None:
        settings = self.settings
        target = (settings.leaf_min + settings.leaf_max) // 2
        heap = self._leaves_for(zone)
        while waiting:
            size, cell_id = heap[0] if heap else (settings.leaf_max, 0)
            if size >= settings.leaf_max and len(waiting) >= settings.leaf_min and self._may_grow():
                leaf = self._new_sibling(0)
                for contact in waiting[:target]:
                    self._put_host(contact, leaf)
                del waiting[:target]
                heap = self._leaves_for(zone)
                continue
            if not heap:
                heap = self._leaves_for(None)
                continue
            leaf = self.cells[cell_id]
            self._put_host(waiting.pop(0), leaf)
            heapq.heapreplace(heap, (size + 1, cell_id))
            if len(leaf.members) > settings.leaf_max:
                self._split(leaf)
                heap = self._leaves_for(zone)

    def _leaves_for(self, zone: str | None) -> list[tuple[int, int]]:
        """Return a heap of the leaves of a zone (``None``: of all) by their size."""
        heap = [
            (len(c.members), c.cell)
            for c in self.leaves()
            if zone is None or not c.members or self.zone_of(c) == zone
        ]
        heapq.heapify(heap)
        return heap

    def _may_grow(self) -> bool:
        """Whether there may be another leaf: a root that is a leaf may be too small beside one."""
        root = self.cells[self.root]
        return root.level > 0 or len(root.members) >= self.settings.leaf_min

    def settle_zones(self) -> bool:
        """Bring one host (or a new cell full) to its own zone. Returns whether anything moved.

        Hosts of a zone live in foreign leaves while their zone is too small for a leaf.  They move
        only where both cells stay well within their bounds, so that nothing moves back.
        """
        settings = self.settings
        target = (settings.leaf_min + settings.leaf_max) // 2
        strays: dict[str, list[int]] = {}
        left = {leaf.cell: len(leaf.members) - settings.leaf_min - 1 for leaf in self.leaves()}
        for leaf in self.leaves() if self.domain else ():
            here = self.zone_of(leaf)
            for host in leaf.members:
                if self.zone(host) != here and left[leaf.cell] > 0:
                    left[leaf.cell] -= 1
                    strays.setdefault(self.zone(host), []).append(host)
        for zone, hosts in strays.items():
            own = [c for c in self.leaves() if c.members and self.zone_of(c) == zone]
            home = min(own, key=lambda c: (len(c.members), c.cell), default=None)
            if home is not None and len(home.members) <= target:
                self._move_hosts(hosts[:1], home)
                return True
            free = [host for host in hosts if not self.sits_in.get(host)]
            if home is None and len(free) >= settings.leaf_min and self.cells[self.root].level > 0:
                self._move_hosts(free[:target], self._new_sibling(0))
                return True
        return False

    def _move_hosts(self, hosts: Sequence[int], to: Cell) -> None:
        """Move hosts to another leaf: several only if they hold no seats."""
        for host in hosts:
            leaf = self.cells[self.home[host]]
            leaf.members.remove(host)
            self._touch(leaf)
            self._check_seats(leaf)
        to.members = to.members + list(hosts)
        self._settle_moved(to, hosts)
        self._touch(to)
        self._check_seats(to)

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
                self.domain.pop(node_id, None)
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
        moving = self._foreign(cell)
        if not moving and len(free) < half:
            moving = (free + stay[::-1])[:half]
        elif not moving:
            moving = self._in_turns(free)[len(free) - half :]
        cell.members = [m for m in cell.members if m not in moving]
        fresh.members = moving
        self._settle_moved(fresh, moving)
        self._touch(cell)
        self._check_seats(cell)
        self._add_child(parent, fresh)

    def _foreign(self, cell: Cell) -> list[int]:
        """Return the hosts of another zone in a leaf that are enough for a cell of their own."""
        if cell.level > 0 or not self.domain:
            return []
        here = self.zone_of(cell)
        zones = [zone for zone in map(self.zone, cell.members) if zone != here]
        if not zones:
            return []
        most = max(zones, key=zones.count)
        hosts = [m for m in cell.members if self.zone(m) == most]
        seats = sum(m in cell.seats for m in hosts)
        enough = min(len(hosts), len(cell.members) - len(hosts)) >= self.settings.leaf_min
        return hosts if enough and 2 * seats < len(cell.seats) else []

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

        The largest has most members without a seat, and these move most easily.  What is joined has
        room: a few arrivals are not to split it again.  Siblings of the same zone come first.
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
        zone = self.zone_of(cell)
        siblings = [c for c in siblings if self.zone_of(c) == zone] or siblings
        sibling = min(siblings, key=lambda c: (len(c.members), c.cell))
        total = len(cell.members) + len(sibling.members)
        low, high = self._bounds(cell)
        if total <= max(2 * low - 1, high * 3 // 4):
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
        if len(sibling.members) < low and sibling.cell != self.root:
            self._merge(sibling)  # both were too small

    def _borrow(self, cell: Cell, sibling: Cell, count: int) -> None:
        free = [m for m in sibling.members if not self._anchors(sibling, m)]
        moving = free[:count]
        missing = self._bounds(cell)[0] - len(cell.members) - len(moving)
        if missing > 0:
            # some that have seats must move as well: fewer than half, the others are a majority
            seated = [m for m in sibling.members if m not in free]
            moving += seated[-min(missing, max((len(seated) - 1) // 2, 1)) :]
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
