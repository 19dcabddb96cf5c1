"""Terms of one electorate never leak into an older one: its floor must stay out of reach."""

from __future__ import annotations

from fabric.machine import Contact
from fabric.settings import Settings
from fabric.tree.owner import Ownership
from fabric.wire.tree import CellRecord, LeaseDeny, Order, Owner

ME, OTHER = Contact(1, "tcp://127.0.0.1:7001"), Contact(2, "tcp://127.0.0.1:7002")
OLD, NEW = Order(1, 1, 3), Order(1, 1, 9)


def candidacy() -> Ownership:
    record = CellRecord(8, 0, 0, OLD, OLD, 0, (ME, OTHER), (), (ME, OTHER))
    return Ownership(record, ME, Settings())


class NoSink:
    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"nothing should be put out ({name})")


def test_a_refusal_under_a_newer_electorate_does_not_raise_our_term() -> None:
    it = candidacy()
    it.on_deny(2, LeaseDeny(8, 2_097_153, 0, NEW, None, 0), 0, NoSink())  # type: ignore[arg-type]
    assert it.term < 2_097_153
    it.on_deny(2, LeaseDeny(8, 7, 0, OLD, None, 0), 0, NoSink())  # type: ignore[arg-type]
    assert it.term == 7


def test_nor_does_the_announcement_of_its_owner() -> None:
    it = candidacy()
    it.superseded(Owner(8, NEW, 2_097_153, OTHER))
    assert it.term < 2_097_153
    it.superseded(Owner(8, OLD, 5, OTHER))
    assert it.term == 5
