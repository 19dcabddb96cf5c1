"""The path as it lies on a peer's disk, so that it finds back to the tree: one key a cell.

``topo/path`` holds what is small (a :class:`~fabric.wire.tree.Path` of topology head and owners),
``topo/cell/<id>`` the record of each cell on the path.  A change writes the records that changed.

Peers of one process (thousands in the simulator) hold the same record objects, and store them at
nearly the same time: a record is encoded once, and its bytes serve whoever stores it next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fabric.errors import BadFrame
from fabric.machine import Write
from fabric.tree.topology import PathStore
from fabric.wire.codec import decode_record, encode_record
from fabric.wire.tree import CellRecord, Path

HEAD_KEY: Final = b"topo/path"
CELL_PREFIX: Final = b"topo/cell/"

#: Records whose bytes are remembered: a record is stored by all members of its cell within moments.
_REMEMBERED: Final = 128
#: By identity: the entry holds the record, so nothing else can come to have its ``id``.
_bytes: Final[dict[int, tuple[CellRecord, bytes]]] = {}


class StoredPath:
    """What of the path is on the disk, and what a change adds to it."""

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: dict[int, CellRecord | None] = {}  # ``None``: unreadable

    def restore(self, paths: PathStore, stored: Mapping[bytes, bytes]) -> None:
        """Fill ``paths``. Whatever cannot be read is left out: it is only a cache."""
        head = Path(None, (), ())
        if HEAD_KEY in stored:
            try:
                head = decode_record(Path, stored[HEAD_KEY])
            except BadFrame:
                return
        for key in sorted(stored):
            if key.startswith(CELL_PREFIX):
                self._records[int(key[len(CELL_PREFIX) :], 16)] = _decode(stored[key])
        records = [record for record in self._records.values() if record is not None]
        paths.adopt(Path(head.topo, (*head.records, *records), head.owners))

    def writes(self, paths: PathStore) -> tuple[Write, ...]:
        """Return what must be written for the path to be on the disk as it is now."""
        owners = tuple([paths.owners[c] for c in paths.path if c in paths.owners])
        writes = [Write(HEAD_KEY, encode_record(Path(paths.topo, (), owners)))]
        records: dict[int, CellRecord | None] = {}
        for cell in paths.path:
            record = records[cell] = paths.records[cell]
            if self._records.get(cell) is not record:
                writes.append(Write(_cell_key(cell), _encode(record)))
        writes += [Write(_cell_key(cell), None) for cell in self._records if cell not in records]
        self._records = records
        return tuple(writes)


def _cell_key(cell: int) -> bytes:
    return CELL_PREFIX + b"%016x" % cell


def _decode(data: bytes) -> CellRecord | None:
    try:
        return decode_record(CellRecord, data)
    except BadFrame:
        return None


def _encode(record: CellRecord) -> bytes:
    known = _bytes.get(id(record))
    if known is not None:
        return known[1]
    data = encode_record(record)
    while len(_bytes) >= _REMEMBERED:
        del _bytes[next(iter(_bytes))]
    _bytes[id(record)] = (record, data)
    return data
