"""The coordinator's records of the topology, as the chairman last read or wrote them.

There is one record of each cell (``cell/<id>``) and the head, ``topo``.  What was read may be
damaged, or make no tree: then the record is named.  A write puts what the plan touched, and the
head, into one transaction that checks the version of each record that it replaces.
"""

from __future__ import annotations

from collections.abc import Iterable

from fabric.coordination.interface import Commit, Committed, Epoch, Loaded, Put
from fabric.errors import BadFrame
from fabric.machine import Contact
from fabric.tree.planner import Plan
from fabric.tree.roster import Cell
from fabric.tree.soundness import fault_in
from fabric.wire.codec import decode_record, encode_record
from fabric.wire.tree import CellRecord, Order, Topo


class Records:
    """Which version of each record is stored there, and the head of the topology."""

    __slots__ = ("_paths", "topo", "version", "versions")

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}  # coordinator path -> version read or written
        self.version = 0  # the topology's write counter
        self.topo: Topo | None = None  # as read, or as the write under way has it
        self._paths: list[str] = []  # of the write under way

    def read(self, loaded: Loaded) -> tuple[Topo | None, list[CellRecord]]:
        """Return what was loaded.

        Raises :class:`BadFrame`, naming the record that cannot be read or fits no tree.
        """
        self.versions = {r.path: r.version for r in loaded.records}
        try:
            topo, records = _decode(loaded)
        except BadFrame as error:
            raise BadFrame(f"the topology cannot be read: {error.message}") from None
        if topo is not None and (fault := fault_in(topo, records)):
            raise BadFrame(f"the topology makes no tree: coordinator node {fault}")
        return topo, records

    def go_on_from(self, topo: Topo | None, records: Iterable[CellRecord]) -> None:
        """What was read is sound: writes go on from there."""
        self.topo = topo
        self.version = max([topo.order.version if topo else 0, *[r.order.version for r in records]])

    def commit(
        self, plan: Plan, epoch: Epoch, coordinator_id: int, me: Contact
    ) -> tuple[Commit, list[Cell], list[int]]:
        """Return the transaction for what the plan touched, the cells it writes and deletes."""
        self.version += 1
        generation = self.topo.order.generation if self.topo is not None else 1
        order = Order(generation, epoch.lease, self.version)
        cells, deleted = plan.take_touched(order)
        self.topo = Topo(order, coordinator_id, me, plan.root, plan.next_cell)
        puts = [Put("topo", self.versions.get("topo", 0), encode_record(self.topo))]
        for cell in cells:
            path = f"cell/{cell.cell}"
            record = encode_record(plan.record(cell))
            puts.append(Put(path, self.versions.get(path, 0), record))
        for cell_id in deleted:
            path = f"cell/{cell_id}"
            puts.append(Put(path, self.versions.get(path, 0), None))
        self._paths = [put.path for put in puts]
        return Commit(epoch, tuple(puts)), cells, deleted

    def committed(self, answer: Committed) -> None:
        """The transaction was taken: note the new versions."""
        for path, version in zip(self._paths, answer.versions, strict=True):
            if version:
                self.versions[path] = version
            else:
                self.versions.pop(path, None)


def _decode(loaded: Loaded) -> tuple[Topo | None, list[CellRecord]]:
    topo = None
    records = []
    for record in loaded.records:
        try:
            if record.path == "topo":
                topo = decode_record(Topo, record.value)
            elif record.path.startswith("cell/"):
                cell = decode_record(CellRecord, record.value)
                if record.path != f"cell/{cell.cell}":
                    raise BadFrame(f"it is the record of cell {cell.cell}")
                records.append(cell)
        except BadFrame as error:
            raise BadFrame(f"coordinator node {record.path}: {error.message}") from None
    return topo, records
