"""Registered services, and what an embedded coordinator does to keep them: pure rules over rows.

A *service* is a name; its *instances* register an address each.  In an active/active service all of
them serve; in an active/passive one only the first does, and when it goes the next one takes over.
``number`` orders instances and rises with each registration, so it fences: what was done under a
lower number is older.  A registration that is not renewed ends with its lease.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from fabric.coordination.rules import Table
from fabric.errors import BadInput, Conflict, Overloaded
from fabric.limits import MAX_SERVICE_DETAILS, MAX_SERVICE_INSTANCES, MAX_TEXT
from fabric.wire.codec import Int, Text, decode_record, encode_record, many

_SERVICE: Final = b"service/"
_COUNTER: Final = b"services"
_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")
_MAX_NAME: Final = 64


@dataclass(slots=True)
class ServiceRecord:
    """What an instance tells of itself. ``passive``: only the first of its kind serves."""

    address: Text
    passive: bool
    details: Annotated[tuple[tuple[Text, Text], ...], many(MAX_SERVICE_DETAILS)]


class Instance(NamedTuple):
    """One registered instance; ``active`` says whether it is one that serves."""

    service: str
    number: int
    address: str
    active: bool
    passive: bool
    details: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Row:
    record: ServiceRecord
    deadline_us: Int
    lease_us: Int
    boot: Text


def check_service(name: str, record: ServiceRecord) -> None:
    """Refuse what cannot be registered. Raises :class:`BadInput`."""
    check_name(name)
    texts = [record.address, *[text for pair in record.details for text in pair]]
    if not record.address or any(len(text) > MAX_TEXT for text in texts):
        raise BadInput(
            f"service {name}: an address or detail is empty or longer than {MAX_TEXT} characters",
            {"field": "address"},
        )
    if len(record.details) > MAX_SERVICE_DETAILS:
        raise BadInput(f"service {name}: more than {MAX_SERVICE_DETAILS} details",
                       {"field": "details"})


def check_name(name: str) -> None:
    """Refuse an impossible name of a service. Raises :class:`BadInput`."""
    if not 0 < len(name) <= _MAX_NAME or not _NAME_CHARACTERS.issuperset(name):
        raise BadInput(
            f"a service's name has 1 to {_MAX_NAME} of a-z 0-9 - . _ (was {name[:80]!r})",
            {"field": "service", "value": name[:80]},
        )


def instances_of(
    name: str, records: list[tuple[int, ServiceRecord]]
) -> tuple[Instance, ...]:
    """Return the instances in their order; of passive ones the first is active."""
    return tuple([
        Instance(name, number, r.address, not r.passive or position == 0, r.passive, r.details)
        for position, (number, r) in enumerate(sorted(records, key=lambda pair: pair[0]))
    ])  # fmt: skip


def check_company(name: str, record: ServiceRecord, others: tuple[Instance, ...]) -> None:
    """Refuse whoever does not go with the instances that are there."""
    if len(others) >= MAX_SERVICE_INSTANCES:
        raise Overloaded(f"service {name} has {MAX_SERVICE_INSTANCES} instances already")
    if others and others[0].passive != record.passive:
        kind = "active/passive" if others[0].passive else "active/active"
        raise Conflict(f"service {name} is {kind} already", {"service": name})


# --- over rows ------------------------------------------------------------------------------------


def enter(
    table: Table, name: str, record: ServiceRecord, lease_us: int, now: int, boot: str
) -> int:
    """Register an instance; return its number. What expired is cleared away."""
    check_service(name, record)
    alive = _alive(table, _prefix(name), now, boot)
    for key, _ in list(table.scan(_prefix(name))):
        if key not in alive:
            table.delete(key)
    found = instances_of(name, [(_number(key), row.record) for key, row in alive.items()])
    check_company(name, record, found)
    last = table.get(_COUNTER)
    number = 1 if last is None else int(last) + 1
    table.put(_COUNTER, b"%d" % number)
    _put(table, _key(name, number), _Row(record, now + lease_us, lease_us, boot))
    return number


def renew(table: Table, name: str, number: int, lease_us: int, now: int, boot: str) -> bool:
    """Go on for another lease; false when the registration has ended."""
    key = _key(name, number)
    row = _alive(table, key, now, boot).get(key)
    if row is None:
        return False
    row.deadline_us, row.lease_us = now + lease_us, lease_us
    _put(table, key, row)
    return True


def withdraw(table: Table, name: str, number: int) -> None:
    """End a registration."""
    table.delete(_key(name, number))


def read(table: Table, name: str, now: int, boot: str) -> tuple[Instance, ...]:
    """Return the living instances of one service."""
    alive = _alive(table, _prefix(name), now, boot)
    return instances_of(name, [(_number(key), row.record) for key, row in alive.items()])


def names(table: Table, now: int, boot: str) -> tuple[str, ...]:
    """Return the services that have living instances."""
    alive = _alive(table, _SERVICE, now, boot)
    return tuple(sorted({key.split(b"/")[1].decode() for key in alive}))


def _alive(table: Table, prefix: bytes, now: int, boot: str) -> dict[bytes, _Row]:
    found: dict[bytes, _Row] = {}
    for key, value in table.scan(prefix):
        row = decode_record(_Row, value)
        # the clock starts anew with the machine: see the chair's row
        if row.boot == boot and now < row.deadline_us <= now + row.lease_us:
            found[key] = row
    return found


def _put(table: Table, key: bytes, row: _Row) -> None:
    table.put(key, encode_record(row))


def _prefix(name: str) -> bytes:
    return _SERVICE + name.encode() + b"/"


def _key(name: str, number: int) -> bytes:
    return _prefix(name) + b"%016x" % number


def _number(key: bytes) -> int:
    return int(key.rpartition(b"/")[2], 16)
