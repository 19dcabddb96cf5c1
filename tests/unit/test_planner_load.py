"""A new chairman's plan is what its predecessor wrote, whatever the order of the records."""

from __future__ import annotations

import pytest

from fabric.machine import Contact
from fabric.settings import Settings
from fabric.tree.planner import Plan
from fabric.wire.tree import CellRecord, Order

SMALL = Settings(leaf_min=2, leaf_max=3, inner_min=2, inner_max=3)


def written(hosts: int) -> tuple[Plan, list[CellRecord]]:
    plan = Plan(SMALL)
    plan.add_hosts([Contact(n, f"tcp://127.0.0.1:{n}") for n in range(1, hosts + 1)])
    for cell in plan.cells.values():
        plan.fix_seats(cell)
    cells, _ = plan.take_touched(Order(1, 1, 1))
    return plan, [plan.record(cell) for cell in cells]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_deep_tree_is_loaded_in_any_order(backwards: bool) -> None:
    plan, records = written(20)
    assert max(record.level for record in records) >= 2
    loaded = Plan(SMALL)
    records.sort(key=lambda record: record.level, reverse=backwards)
    loaded.load(records, plan.root, plan.next_cell)
    assert loaded.home == plan.home
    assert {c: cell.members for c, cell in loaded.cells.items()} == {
        c: cell.members for c, cell in plan.cells.items()
    }
    loaded.add_hosts([Contact(99, "tcp://127.0.0.1:99")])
    assert 99 in loaded.home
