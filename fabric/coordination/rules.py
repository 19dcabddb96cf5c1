"""What a coordinator does with a request, over any table of rows: one rule book for all stand-ins.

Rows are bytes under bytes.  Whoever calls :func:`carry_out` wraps it in one transaction; a request
that raises has changed nothing.  Time is the clock that all users of the table share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from fabric.coordination.interface import (
    Campaign,
    Chair,
    Commit,
    CommitRefused,
    Committed,
    CoordinatorAnswer,
    CoordinatorRequest,
    Epoch,
    Load,
    Loaded,
    Record,
    Resign,
    Resigned,
)
from fabric.errors import BadInput
from fabric.limits import MAX_RECORD_BYTES, MAX_TEXT
from fabric.wire.codec import Int, Text, decode_record, encode_record

_CHAIR: Final = b"chair"
_COORDINATOR_ID: Final = b"id"
_GENERATION: Final = b"generation"
_LEASES: Final = b"leases"
_RECORD: Final = b"record/"


class Table(Protocol):
    """Rows within one transaction."""

    def get(self, key: bytes) -> bytes | None: ...

    def put(self, key: bytes, value: bytes) -> None: ...

    def delete(self, key: bytes) -> None: ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows whose key starts with ``prefix``, in key order."""


@dataclass(slots=True)
class _ChairRow:
    """The lease. ``boot`` names the run of the clock that ``deadline_us`` is measured by."""

    node_id: Int
    generation: Int
    lease: Int
    deadline_us: Int
    lease_us: Int
    boot: Text


def create(table: Table, coordinator_id: int) -> None:
    """Fill an empty table: its id, and the first generation. An existing one stays as it is."""
    if table.get(_COORDINATOR_ID) is None:
        table.put(_COORDINATOR_ID, b"%d" % coordinator_id)
        table.put(_GENERATION, b"1")
        table.put(_LEASES, b"0")


def only_reads(table: Table, request: CoordinatorRequest, now: int, boot: str) -> bool:
    """Say whether ``request`` will change nothing: a reading, or a campaign against a holder."""
    if isinstance(request, Load):
        return True
    if not isinstance(request, Campaign):
        return False
    chair = _holder(table, now, boot)
    return chair is not None and chair.node_id != request.node_id


def chair_of(table: Table, now: int, boot: str) -> int:
    """Return the node id of the chair's holder, 0 if nobody holds it."""
    chair = _holder(table, now, boot)
    return 0 if chair is None else chair.node_id


def epoch_of(table: Table, now: int, boot: str) -> Epoch | None:
    """Return the epoch of the chair's holder, ``None`` if nobody holds it."""
    chair = _holder(table, now, boot)
    return None if chair is None else _epoch(chair)


def end_chair(table: Table) -> None:
    """Take the chair from whoever holds it, as when a session expires."""
    table.delete(_CHAIR)


def carry_out(table: Table, request: CoordinatorRequest, now: int, boot: str) -> CoordinatorAnswer:
    """Do what ``request`` says. ``now`` is in microseconds of the clock that ``boot`` names."""
    if isinstance(request, Campaign):
        return _campaign(table, request, now, boot)
    if isinstance(request, Commit):
        return _commit(table, request, now, boot)
    if isinstance(request, Load):
        records = tuple(
            Record(key.removeprefix(_RECORD).decode(), *_parse(value))
            for key, value in table.scan(_RECORD)
        )
        return Loaded(records, _number(table, _COORDINATOR_ID))
    if isinstance(request, Resign):
        chair = _holder(table, now, boot)
        if chair is not None and _epoch(chair) == request.epoch:
            table.delete(_CHAIR)
        return Resigned()
    raise TypeError(f"no coordinator request: {type(request).__name__}")


def _campaign(table: Table, request: Campaign, now: int, boot: str) -> Chair:
    chair = _holder(table, now, boot)
    if chair is None:
        lease = _number(table, _LEASES) + 1
        table.put(_LEASES, b"%d" % lease)
        chair = _ChairRow(request.node_id, _number(table, _GENERATION), lease, 0, 0, boot)
    held = chair.node_id == request.node_id
    if held:
        chair.deadline_us = now + request.lease_us
        chair.lease_us = request.lease_us
        table.put(_CHAIR, encode_record(chair))
    return Chair(held, chair.node_id, _epoch(chair), _number(table, _COORDINATOR_ID))


def _commit(table: Table, request: Commit, now: int, boot: str) -> Committed | CommitRefused:
    chair = _holder(table, now, boot)
    if chair is None or _epoch(chair) != request.epoch:
        return CommitRefused("lease")
    for put in request.puts:
        _check(put.path, put.value)
        stored = table.get(_RECORD + put.path.encode())
        if put.version != (0 if stored is None else _parse(stored)[0]):
            return CommitRefused("version")
    versions = []
    for put in request.puts:
        key = _RECORD + put.path.encode()
        if put.value is None:
            table.delete(key)
            versions.append(0)
        else:
            table.put(key, (put.version + 1).to_bytes(8, "big") + put.value)
            versions.append(put.version + 1)
    return Committed(tuple(versions))


def _holder(table: Table, now: int, boot: str) -> _ChairRow | None:
    """Return the chair while its lease runs.

    The clock starts anew with the machine, so a row of an earlier boot counts for nothing, nor
    does a deadline further away than its lease (the same, where boots cannot be told apart).
    """
    row = table.get(_CHAIR)
    if row is None:
        return None
    chair = decode_record(_ChairRow, row)
    running = chair.boot == boot and now < chair.deadline_us <= now + chair.lease_us
    return chair if running else None


def _epoch(chair: _ChairRow) -> Epoch:
    return Epoch(chair.generation, chair.lease)


def _check(path: str, value: bytes | None) -> None:
    if not path or len(path) > MAX_TEXT or not path.isascii():
        raise BadInput(f"record path {path[:MAX_TEXT]!r} is empty, too long or not ASCII")
    if value is not None and len(value) > MAX_RECORD_BYTES:
        raise BadInput(f"record {path} of {len(value)} bytes exceeds {MAX_RECORD_BYTES}")


def _parse(row: bytes) -> tuple[int, bytes]:
    return int.from_bytes(row[:8], "big"), row[8:]


def _number(table: Table, key: bytes) -> int:
    value = table.get(key)
    return 0 if value is None else int(value)
