"""The chronicle: what writes did to the tree, told from what changed."""

from __future__ import annotations

from collections import Counter

import pytest

from fabric.machine import Contact
from fabric.settings import Settings
from fabric.tree import chronicle
from fabric.tree.chronicle import Chronicle, TopologyNotice
from fabric.tree.planner import Plan
from fabric.wire.tree import Order


class Desk:
    """A plan, its chronicle, and the chairman between them."""

    def __init__(self) -> None:
        self.plan = Plan(Settings(leaf_min=2, leaf_max=4, inner_min=2, inner_max=4))
        self.chronicle = Chronicle()
        self.version = 0

    def write(self, *removed: int) -> list[TopologyNotice]:
        self.version += 1
        order = Order(1, 1, self.version)
        for cell in list(self.plan.seats_wrong):
            self.plan.fix_seats(self.plan.cells[cell])
        cells, deleted = self.plan.take_touched(order)
        moved = self.plan.take_moved()
        self.chronicle.writing(self.plan, cells, deleted, moved, removed, order, self.version)
        return self.chronicle.committed()

    def join(self, *numbers: int) -> list[TopologyNotice]:
        self.plan.add_hosts([Contact(n, f"h{n}") for n in numbers])
        return self.write()

    def remove(self, *numbers: int) -> list[TopologyNotice]:
        self.plan.remove(numbers)
        return self.write(*numbers)


def whats(deeds: list[TopologyNotice]) -> Counter[str]:
    return Counter(deed.what for deed in deeds)


def test_joins_and_the_split_that_one_of_them_makes() -> None:
    desk = Desk()
    assert whats(desk.join(1, 2, 3, 4)) == {chronicle.JOINED: 4}
    first = desk.plan.home[1]
    deeds = desk.join(5)
    split = next(deed for deed in deeds if deed.what == chronicle.SPLIT)
    assert split.other == first
    movers = [n for n in range(1, 6) if desk.plan.home[n] == split.cell and n != 5]
    assert split.members == len(movers) > 0
    assert {desk.chronicle.reason(n).what for n in movers} == {chronicle.SPLIT}
    assert next(deed.cell for deed in deeds if deed.what == chronicle.GREW) == desk.plan.root
    # whoever stayed has the reason it had, whoever moved a new one
    stayer = next(n for n in range(1, 5) if n not in movers)
    reason = desk.chronicle.reason(stayer)
    assert reason is not None and (reason.what, reason.order.version) == (chronicle.JOINED, 1)


def test_a_merge_and_the_root_that_goes() -> None:
    desk = Desk()
    desk.join(1, 2, 3, 4)
    desk.join(5)
    told: Counter[str] = Counter()
    while not told[chronicle.MERGED]:
        small = min(desk.plan.leaves(), key=lambda cell: len(cell.members))
        gone = small.members[0]
        told = whats(desk.remove(gone))
        assert told[chronicle.REMOVED] == 1
        assert desk.chronicle.reason(gone) is None
    assert told[chronicle.MERGED] == told[chronicle.SHRANK] == 1
    assert len(desk.plan.cells) == 1


def test_what_was_not_committed_is_not_told() -> None:
    desk = Desk()
    desk.plan.add_hosts([Contact(1, "h1")])
    order = Order(1, 1, 1)
    cells, deleted = desk.plan.take_touched(order)
    desk.chronicle.writing(desk.plan, cells, deleted, desk.plan.take_moved(), (), order, 1)
    assert desk.chronicle.reason(1) is None
    desk.chronicle.begin(Plan(desk.plan.settings))  # refused: everything is read again
    assert desk.chronicle.committed() == []
    assert desk.chronicle.reason(1) is None


def test_hosts_that_are_only_told_again_did_not_move() -> None:
    desk = Desk()
    desk.join(1, 2, 3)
    desk.plan.moved[2] = None
    desk.plan.move_address(Contact(2, "elsewhere"))
    assert whats(desk.write()) == {}


def test_the_reasons_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chronicle, "MAX_REASONS_KEPT", 3)
    desk = Desk()
    desk.join(1, 2)
    desk.join(3, 4)
    assert len(desk.chronicle.reasons) == 3
    assert desk.chronicle.reason(1) is None
