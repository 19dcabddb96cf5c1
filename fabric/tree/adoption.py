"""Adoption: an operator has the halted chairman publish what the fabric itself knows.

A coordinator that was emptied or restored knows less than the peers.  The chairman then writes
nothing: only a person can say that the newer topology is really lost there.  He does so by having
the cell records collected from their owners and sent here, in parts.

They are published under the next generation, which outranks whatever any chairman wrote before,
cells first and in several transactions if need be, the head of the topology last: an adoption that
breaks off leaves a coordinator without a (new) head, so the next chairman halts again.  Electorates
and terms stay as they are, so owners go on owning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

from fabric.coordination.interface import Commit, Epoch, Put
from fabric.errors import BadInput, Conflict, FabricError
from fabric.limits import MAX_ADOPT_PARTS, MAX_TRANSACTION_BYTES
from fabric.machine import Contact
from fabric.tree.soundness import fault_in
from fabric.wire.adoption import AdoptAsk, Adopted
from fabric.wire.codec import encode_record
from fabric.wire.tree import CellRecord, Order, Topo

#: Of a transaction's bytes; the rest is for paths and headers.
_BATCH_BYTES: Final = MAX_TRANSACTION_BYTES // 2
_BATCH_PUTS: Final = 1000


class Adoption:
    """One at a time: parts come in, then transactions go out."""

    __slots__ = ("_batches", "_number", "_parts", "_result", "_topo", "outcome")

    def __init__(self) -> None:
        self._number = 0
        self._parts: dict[int, tuple[CellRecord, ...]] = {}
        self._topo: Topo | None = None
        self._batches: list[tuple[Put, ...]] = []
        self._result: Adopted | None = None
        #: What came of it, for whoever sent the last part; to be taken away.
        self.outcome: Adopted | FabricError | None = None

    @property
    def writing(self) -> bool:
        """Whether transactions are under way."""
        return self._result is not None

    def take(self, ask: AdoptAsk) -> bool:
        """Take one part; true when it was the last one. Raises :class:`BadInput`."""
        if not 0 <= ask.part < ask.parts <= MAX_ADOPT_PARTS:
            raise BadInput(f"part {ask.part} of {ask.parts} cannot be", {"field": "part"})
        if ask.number != self._number:
            self._number, self._parts = ask.number, {}
        self._parts[ask.part] = ask.records
        self._topo = ask.topo
        return len(self._parts) == ask.parts

    def begin(
        self,
        epoch: Epoch,
        coordinator_id: int,
        me: Contact,
        seen: Order,
        versions: Mapping[str, int],
    ) -> None:
        """All parts are here: make the transactions.

        ``versions`` are those of the coordinator's records as they were read.  Raises
        :class:`BadInput` or :class:`Conflict` for records that cannot be published.
        """
        topo = self._topo
        assert topo is not None
        records = [record for part in sorted(self._parts) for record in self._parts[part]]
        self._parts = {}
        if not records:
            raise BadInput("no cell record was given", {"field": "records"})
        newest = max([topo.order, *[record.order for record in records]])
        if seen > newest:
            raise Conflict(
                f"a topology newer than what was collected is known: {tuple(seen)} after "
                f"{tuple(newest)}; collect it again"
            )
        order = Order(newest.generation + 1, epoch.lease, newest.version + 1)
        next_cell = max(topo.next_cell, *[record.cell + 1 for record in records])
        head = Topo(order, coordinator_id, me, topo.root, next_cell)
        records = [dataclasses.replace(record, order=order) for record in records]
        if fault := fault_in(head, records):
            raise BadInput(f"what was collected is no tree: {fault}", {"field": "records"})
        self._batches = _batches(head, records, versions)
        hosts = sum(len(record.members) for record in records if record.level == 0)
        self._result = Adopted(order, len(records), hosts)

    def next_commit(self, epoch: Epoch) -> Commit | None:
        """Return the next transaction; ``None`` when all were written: it is done."""
        if self._batches:
            return Commit(epoch, self._batches.pop(0))
        self.outcome, self._result = self._result, None
        return None

    def fail(self, error: FabricError) -> None:
        """It broke off; what was written so far is harmless (see above)."""
        if self._result is not None:
            self._result, self._batches = None, []
            self.outcome = error


def _batches(
    head: Topo, records: Sequence[CellRecord], versions: Mapping[str, int]
) -> list[tuple[Put, ...]]:
    kept = {f"cell/{record.cell}" for record in records}
    puts = [
        Put(path, version, None)
        for path, version in sorted(versions.items())
        if path.startswith("cell/") and path not in kept
    ]
    for record in records:
        path = f"cell/{record.cell}"
        puts.append(Put(path, versions.get(path, 0), encode_record(record)))
    batches: list[tuple[Put, ...]] = []
    batch: list[Put] = []
    size = 0
    for put in puts:
        size += len(put.value or b"")
        if size > _BATCH_BYTES or len(batch) >= _BATCH_PUTS:
            batches.append(tuple(batch))
            batch, size = [], len(put.value or b"")
        batch.append(put)
    batch.append(Put("topo", versions.get("topo", 0), encode_record(head)))
    return [*batches, tuple(batch)]
