"""What a peer holds of the topology: the records and owners of the cells on its path to the root.

The single writer of the topology is the chairman; this is a cache of it that heals itself.  Each
piece carries its order, newer replaces older, and gossip compares :meth:`PathStore.digest`, so that
two neighbours who hold different things notice and exchange what the other lacks.

All records of one transaction carry the same version, drawn from one counter of the topology.  So
of two leaf records that both list a host, the one with the higher order is the newer truth, even
if the record that says "you left" was lost on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fabric.machine import Contact
from fabric.stream import mix
from fabric.tree.roster import TERM_STEP
from fabric.wire.tree import NO_ORDER, CellRecord, Order, Owner, Path, Stamp, Topo


def newest_order(news: Path) -> Order:
    """Return the order of the last write that ``news`` tells of."""
    newest = news.topo.order if news.topo is not None else NO_ORDER
    for record in news.records:
        newest = max(newest, record.order)
    return newest


def _order_of(record: CellRecord) -> Order:
    return record.order


class PathStore:
    """Topology as one peer sees it. Written by the peer that owns it, through ``adopt``."""

    __slots__ = (
        "_digests", "_parts", "_topo_part", "changes", "leaf", "node_id", "owners", "path",
        "records", "topo",
    )  # fmt: skip

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.topo: Topo | None = None
        self.leaf = 0  # the cell whose record lists us; 0: we are nowhere yet
        self.path: tuple[int, ...] = ()  # from the leaf up, as far as records reach
        self.records: dict[int, CellRecord] = {}
        self.owners: dict[int, Owner] = {}
        self._digests: dict[int, int] = {}
        self._parts: dict[int, int] = {}  # of the digests: what is held of each cell
        self._topo_part = 0
        self.changes = 0  # counts what was adopted

    # --- taking in -------------------------------------------------------------------------------

    def adopt(self, news: Path) -> Path | None:
        """Take what is newer in ``news``. Returns exactly that, or ``None`` if nothing was."""
        topo = news.topo
        if topo is not None and not (self.topo is None or topo.order > self.topo.order):
            topo = None
        if topo is not None:
            self.topo = topo
            self._topo_part = mix(topo.order.version, topo.order.lease)
        records = tuple([r for r in news.records if self._adopt_record(r)])
        if records and not all(map(self._fits, records)):
            self._settle()
            records = tuple([r for r in records if r.cell in self.records])
        owners = tuple([o for o in news.owners if self._adopt_owner(o)])
        if topo is None and not records and not owners:
            return None
        self.changes += 1
        self._digest()
        return Path(topo, records, owners)

    def _adopt_record(self, record: CellRecord) -> bool:
        held = self.records.get(record.cell)
        if held is not None and record.order <= held.order:
            return False
        self.records[record.cell] = record
        self._parts.pop(record.cell, None)
        return True

    def _adopt_owner(self, owner: Owner) -> bool:
        record = self.records.get(owner.cell)
        if record is None or owner.electorate > record.electorate:
            return False  # it comes again with the record
        if owner.electorate == record.electorate and owner.term - record.term_floor >= TERM_STEP:
            return False  # no election gets there: who claims it lies, and would never be outranked
        held = self.owners.get(owner.cell)
        if held is not None and (owner.electorate, owner.term) <= (held.electorate, held.term):
            return False
        self.owners[owner.cell] = owner
        self._parts.pop(owner.cell, None)
        return True

    def _fits(self, record: CellRecord) -> bool:
        """Whether a record that was just taken in leaves our (complete) path as it is."""
        path = self.path
        if record.cell not in path or not self.complete:
            return False
        at = path.index(record.cell)
        above = path[at + 1] if at + 1 < len(path) else 0
        return record.parent == above and (at > 0 or self.lists_us(record))

    def _settle(self) -> None:
        """Find our leaf and walk up from it; forget what is not on the way."""
        leaf, newest = 0, NO_ORDER
        for record in self.records.values():
            if record.level == 0 and record.order > newest and self.lists_us(record):
                leaf, newest = record.cell, record.order
        if leaf == 0:
            return  # the old path serves until we are told where we belong now
        self.leaf = leaf
        path: list[int] = []
        cell = leaf
        while cell in self.records and cell not in path:
            path.append(cell)
            cell = self.records[cell].parent
        self.path = tuple(path)
        if cell == 0:  # complete: nothing else can be of use
            self.records = {c: self.records[c] for c in path}
            self.owners = {c: o for c, o in self.owners.items() if c in self.records}
            self._parts = {c: part for c, part in self._parts.items() if c in self.records}

    def lists_us(self, record: CellRecord) -> bool:
        """Whether the leaf ``record`` has us among its members or observers."""
        node_id = self.node_id
        return _lists(record.members, node_id) or _lists(record.observers, node_id)

    # --- reading ---------------------------------------------------------------------------------

    @property
    def placed(self) -> bool:
        """Whether the record of our leaf (still) lists us, and that of each cell the one below.

        A whole cell may be taken out of the tree while its members cannot be reached: then
        nobody tells them so but the record of the cell above.
        """
        record = self.records.get(self.leaf)
        if record is None or not self.lists_us(record):
            return False
        for child, parent in pairwise(self.path):
            if not _lists(self.records[parent].members, child):
                return False
        return True

    @property
    def complete(self) -> bool:
        """Whether our path reaches the root."""
        return bool(self.path) and self.records[self.path[-1]].parent == 0

    @property
    def root(self) -> int:
        """The root cell, 0 if unknown."""
        return self.path[-1] if self.complete else 0

    def newest(self) -> Path:
        """Return the head of the topology, and the newest record where that is newer still.

        A chairman may write, tell a seat its cell's record, and die before it tells who it is.
        """
        records = sorted(self.records.values(), key=_order_of)[-1:]
        known = self.topo.order if self.topo is not None else NO_ORDER
        return Path(self.topo, tuple([r for r in records if r.order > known]), ())

    def above(self, cell: int) -> tuple[int, ...]:
        """Return the cells of the path from ``cell`` up, ``cell`` included."""
        path = self.path
        return path[path.index(cell) :] if cell in path else ()

    def digest(self, cell: int) -> int:
        """Return a hash of all that is held from ``cell`` up: neighbours compare it."""
        return self._digests.get(cell, 0)

    def _digest(self) -> None:
        digest = self._topo_part
        digests: dict[int, int] = {}
        for cell in reversed(self.path):
            part = self._parts.get(cell)
            if part is None:
                part = self._parts[cell] = self._part(cell)
            digest ^= part
            digests[cell] = digest
        self._digests = digests

    def _part(self, cell: int) -> int:
        order, owner = self.records[cell].order, self.owners.get(cell)
        part = mix(mix(cell, order.version), order.lease)
        if owner is not None:
            part = mix(part, mix(owner.term, owner.electorate.version))
        return part

    # --- comparing -------------------------------------------------------------------------------

    def stamps(self, cell: int) -> tuple[Stamp, ...]:
        """Return what is held from ``cell`` up, in a form to compare."""
        topo = self.topo
        stamps = [Stamp(0, topo.order if topo is not None else NO_ORDER, NO_ORDER, 0)]
        for above in self.above(cell):
            owner = self.owners.get(above)
            order = self.records[above].order
            if owner is None:
                stamps.append(Stamp(above, order, NO_ORDER, 0))
            else:
                stamps.append(Stamp(above, order, owner.electorate, owner.term))
        return tuple(stamps)

    def compare(self, cell: int, theirs: Sequence[Stamp]) -> tuple[Path | None, bool]:
        """Compare with another's stamps from ``cell`` up.

        Returns what they lack (or ``None``), and whether they hold something that we lack.
        """
        held = {s.cell: s for s in theirs}
        nothing = Stamp(0, NO_ORDER, NO_ORDER, 0)
        topo = self.topo if self.topo and self.topo.order > held.get(0, nothing).order else None
        records: list[CellRecord] = []
        owners: list[Owner] = []
        behind = 0 in held and (self.topo is None or self.topo.order < held[0].order)
        for above in self.above(cell):
            record, stamp = self.records[above], held.get(above, nothing)
            if record.order > stamp.order:
                records.append(record)
            behind = behind or record.order < stamp.order
            owner = self.owners.get(above)
            mine = (owner.electorate, owner.term) if owner is not None else (NO_ORDER, 0)
            if owner is not None and mine > (stamp.owner_electorate, stamp.owner_term):
                owners.append(owner)
            behind = behind or mine < (stamp.owner_electorate, stamp.owner_term)
        behind = behind or any(s.cell and s.cell not in self.records for s in theirs)
        if topo is None and not records and not owners:
            return None, behind
        return Path(topo, tuple(records), tuple(owners)), behind


def _lists(contacts: Sequence[Contact], node_id: int) -> bool:
    for contact in contacts:  # noqa: SIM110 - any() is three times slower, this runs all the time
        if contact.node_id == node_id:
            return True
    return False
