"""The topology on the chairman's desk: its cells, who is in them, and what was changed.

Pure bookkeeping: no messages, no time.  :class:`Roster` knows what is; :mod:`fabric.tree.seating`
gives out seats, :mod:`fabric.tree.planner` says where hosts go and when cells split and merge.
Whatever a change touches is collected in :attr:`Roster.touched`; the chairman writes exactly those
records.
"""

from __future__ import annotations

from collections.abc import Iterable

from fabric.machine import Contact
from fabric.settings import Settings
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


class Roster:
    """The whole topology, and the changes that were made to it since the last write."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cells: dict[int, Cell] = {}
        self.contacts: dict[int, Contact] = {}  # every host and observer
        self.home: dict[int, int] = {}  # node id -> leaf cell
        self.domain: dict[int, str] = {}  # host -> its fault domain, of those that told any
        self.root = 0
        self.next_cell = 1
        self.moved: dict[int, None] = {}  # hosts and observers that must be told a whole new path
        self.touched: dict[int, bool] = {}  # cells to write, in order; False: deleted
        self.seats_wrong: dict[int, None] = {}  # cells whose seats need attention
        self.sits_in: dict[int, list[int]] = {}  # node id -> cells where it holds a seat
        self._records: dict[int, CellRecord] = {}  # of cells as they were last written

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

    def zone(self, node_id: int) -> str:
        """Return the zone of a host: the part of its fault domain before the slash."""
        return self.domain.get(node_id, "").partition("/")[0]

    def zone_of(self, cell: Cell) -> str:
        """Return the zone of a leaf cell: that of the host that has been in it for longest."""
        return self.zone(cell.members[0]) if cell.level == 0 and cell.members else ""

    def hosts_of(self, cell: Cell) -> list[int]:
        """Return all hosts below ``cell``."""
        if cell.level == 0:
            return list(cell.members)
        return [h for child in cell.members for h in self.hosts_of(self.cells[child])]

    def record(self, cell: Cell) -> CellRecord:
        """Return ``cell`` as the record that is written and spread.

        It is the same object until the next write: many are told, each of its whole path.
        """
        changed = cell.cell in self.touched
        known = self._records.get(cell.cell)
        if known is not None and known.order == cell.order and not changed:
            return known
        record = self._record(cell)
        if not changed:
            self._records[cell.cell] = record
        return record

    def _record(self, cell: Cell) -> CellRecord:
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
            *self._located(cell),
        )

    def _located(self, cell: Cell) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the fault domains of a cell's members, and which of them each is in."""
        domain = self.domain
        if cell.level > 0 or not any(member in domain for member in cell.members):
            return (), ()
        told = [domain.get(member, "") for member in cell.members]
        names = tuple(dict.fromkeys(told))
        index = {name: i for i, name in enumerate(names)}
        return names, tuple([index[name] for name in told])

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
                for member, at in zip(cell.members, record.located, strict=False):
                    if at < len(record.domains) and record.domains[at]:
                        self.domain[member] = record.domains[at]
                self.home.update(dict.fromkeys([*cell.members, *cell.observers], cell.cell))
            for seat in cell.seats:
                self.sits_in.setdefault(seat, []).append(cell.cell)

    # --- writing ---------------------------------------------------------------------------------

    def _touch(self, cell: Cell) -> None:
        self.touched[cell.cell] = True

    def take_touched(self, order: Order) -> tuple[list[Cell], list[int]]:
        """Stamp what changed with ``order``. Returns the cells to write and those to delete."""
        write, delete = [], []
        for cell_id, kept in self.touched.items():
            if not kept:
                delete.append(cell_id)
                self._records.pop(cell_id, None)
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
