"""The rules of registered services over rows: leases, order, company, what an old boot left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fabric.coordination.services import ServiceRecord, enter, names, read, renew, withdraw
from fabric.errors import Conflict, Overloaded
from fabric.limits import MAX_SERVICE_INSTANCES


class Rows(dict[bytes, bytes]):
    def put(self, key: bytes, value: bytes) -> None:
        self[key] = value

    def delete(self, key: bytes) -> None:
        self.pop(key, None)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(row for row in self.items() if row[0].startswith(prefix)))


def record(address: str = "tcp://a", passive: bool = True) -> ServiceRecord:
    return ServiceRecord(address, passive, ())


def test_the_first_is_active_until_its_lease_ends() -> None:
    rows = Rows()
    first = enter(rows, "s", record("tcp://a"), 100, 0, "boot")
    second = enter(rows, "s", record("tcp://b"), 100, 10, "boot")
    assert second > first
    found = read(rows, "s", 20, "boot")
    assert [(i.number, i.active) for i in found] == [(first, True), (second, False)]
    assert renew(rows, "s", second, 100, 90, "boot")
    found = read(rows, "s", 100, "boot")
    assert [(i.number, i.active) for i in found] == [(second, True)]
    assert not renew(rows, "s", first, 100, 100, "boot")
    third = enter(rows, "s", record("tcp://a"), 100, 100, "boot")
    assert third > second
    assert len([key for key in rows if key.startswith(b"service/")]) == 2  # the dead row is gone
    withdraw(rows, "s", second)
    assert [i.number for i in read(rows, "s", 101, "boot")] == [third]


def test_services_do_not_meet_each_other() -> None:
    rows = Rows()
    enter(rows, "s", record(), 100, 0, "boot")
    enter(rows, "s2", record(passive=False), 200, 0, "boot")
    assert names(rows, 50, "boot") == ("s", "s2")
    assert [i.service for i in read(rows, "s", 50, "boot")] == ["s"]
    assert names(rows, 150, "boot") == ("s2",)


def test_registrations_of_an_earlier_boot_count_for_nothing() -> None:
    rows = Rows()
    enter(rows, "s", record(), 100, 5_000, "one")
    assert read(rows, "s", 5_001, "two") == ()
    assert read(rows, "s", 10, "one") == ()  # the clock began anew: impossibly far away


def test_company() -> None:
    rows = Rows()
    enter(rows, "s", record(passive=False), 100, 0, "boot")
    with pytest.raises(Conflict, match="active/active already"):
        enter(rows, "s", record(passive=True), 100, 1, "boot")
    for _ in range(MAX_SERVICE_INSTANCES - 1):
        enter(rows, "s", record(passive=False), 100, 1, "boot")
    with pytest.raises(Overloaded):
        enter(rows, "s", record(passive=False), 100, 1, "boot")
    enter(rows, "s", record(passive=True), 100, 500, "boot")  # all have ended
