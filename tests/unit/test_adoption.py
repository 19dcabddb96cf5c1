"""Cell records that make a tree or do not, and publishing them to a coordinator that lost them."""

from __future__ import annotations

import dataclasses

import pytest

from fabric.coordination.interface import Epoch
from fabric.errors import BadInput, Conflict
from fabric.limits import MAX_TRANSACTION_BYTES
from fabric.machine import Contact
from fabric.settings import Settings
from fabric.tree.adoption import Adoption
from fabric.tree.planner import Plan
from fabric.tree.soundness import fault_in, pruned
from fabric.wire.adoption import AdoptAsk, Adopted
from fabric.wire.codec import decode_record
from fabric.wire.tree import NO_ORDER, CellRecord, Order, Topo

ME = Contact(1, "tcp://127.0.0.1:1")


SMALL = Settings(leaf_min=2, leaf_max=3, inner_min=2, inner_max=3)


def tree(hosts: int = 40, settings: Settings = SMALL) -> tuple[Topo, list[CellRecord]]:
    """A tree as a chairman makes it."""
    plan = Plan(settings)
    plan.add_hosts([Contact(n, f"tcp://10.0.0.1:{n}") for n in range(1, hosts + 1)])
    order = Order(1, 5, 9)
    cells, _ = plan.take_touched(order)
    return Topo(order, 7, ME, plan.root, plan.next_cell), [plan.record(cell) for cell in cells]


def changed(records: list[CellRecord], cell: int, **fields: object) -> list[CellRecord]:
    return [dataclasses.replace(r, **fields) if r.cell == cell else r for r in records]  # type: ignore[arg-type]


def test_what_a_chairman_writes_is_sound() -> None:
    for hosts in (1, 2, 5, 40):
        assert fault_in(*tree(hosts)) == ""


def test_each_way_of_not_being_a_tree_names_the_record() -> None:
    topo, records = tree()
    leaf = next(r for r in records if r.level == 0)
    other = next(r for r in records if r.level == 0 and r.cell != leaf.cell)
    without_leaf = [r for r in records if r.cell != leaf.cell]
    cases = [
        ([*records, leaf], "there are two"),
        ([r for r in records if r.cell != topo.root], "topo: the root"),
        (without_leaf, f"cell/{leaf.parent}: its member, cell {leaf.cell}, is missing"),
        (changed(records, leaf.cell, parent=999), "its parent, cell 999, is missing"),
        (changed(records, leaf.cell, parent=0), "it has no parent"),
        (changed(records, leaf.cell, level=1, members=()), "is of level 1"),
        (changed(records, leaf.cell, level=200), "deeper than"),
        (changed(records, leaf.cell, order=Order(9, 9, 9)), "newer"),
        (changed(records, leaf.cell, members=other.members), "and so does cell/"),
        (changed(records, leaf.cell, members=(Contact(99, ""),)), "has no address"),
        (changed(records, leaf.parent, members=()), "does not list it"),
    ]
    for broken, why in cases:
        assert why in fault_in(topo, broken)
    low = dataclasses.replace(topo, next_cell=1)
    assert "were never made" in fault_in(low, records)
    assert "names no root" in fault_in(dataclasses.replace(topo, root=0), records)


def test_pruning_makes_what_was_collected_fit() -> None:
    topo, records = tree()
    leaves = [r for r in records if r.level == 0]
    gone, twice = leaves[0], leaves[1]
    moved = twice.members[0]
    newer = Order(1, 5, 10)
    collected = [r for r in records if r.cell != gone.cell]
    collected = changed(
        collected, leaves[2].cell, members=(*leaves[2].members, moved), order=newer
    )
    fitting = pruned(topo.root, collected)
    assert fault_in(dataclasses.replace(topo, order=newer), fitting) == ""
    home = {m.node_id: r.cell for r in fitting if r.level == 0 for m in r.members}
    assert home[moved.node_id] == leaves[2].cell
    assert set(home) == set(range(1, 41)) - {m.node_id for m in gone.members}


def adoption(topo: Topo, records: list[CellRecord], part_size: int = 10) -> Adoption:
    made = Adoption()
    parts = [tuple(records[i : i + part_size]) for i in range(0, len(records), part_size)]
    for number, part in enumerate(parts):
        last = made.take(AdoptAsk(5, number, len(parts), topo, part))
        assert last == (number == len(parts) - 1)
    return made


def test_all_is_written_under_the_next_generation_the_head_last() -> None:
    topo, records = tree(20_000, Settings())
    made = adoption(topo, records)
    versions = {"topo": 3, "cell/1": 4, "cell/999999": 2}
    made.begin(Epoch(1, 2), 8, ME, topo.order, versions)
    commits = []
    while (commit := made.next_commit(Epoch(1, 2))) is not None:
        assert sum(len(put.value or b"") for put in commit.puts) < MAX_TRANSACTION_BYTES
        commits.append(commit)
    puts = [put for commit in commits for put in commit.puts]
    assert len(commits) > 1
    assert puts[-1].path == "topo"
    assert puts[-1].version == 3
    head = decode_record(Topo, puts[-1].value or b"")
    assert head.order == Order(2, 2, 10)
    assert head.coordinator_id == 8
    assert next(put for put in puts if put.value is None).path == "cell/999999"
    written = [decode_record(CellRecord, put.value) for put in puts[:-1] if put.value]
    assert {record.order for record in written} == {head.order}
    assert {r.cell: r.electorate for r in written} == {r.cell: r.electorate for r in records}
    assert made.outcome == Adopted(head.order, len(records), 20_000)


def test_what_cannot_be_published_is_refused() -> None:
    topo, records = tree()
    with pytest.raises(BadInput, match="part 3 of 2"):
        Adoption().take(AdoptAsk(1, 3, 2, topo, ()))
    with pytest.raises(BadInput, match="no cell record"):
        empty = Adoption()
        empty.take(AdoptAsk(1, 0, 1, topo, ()))
        empty.begin(Epoch(1, 2), 8, ME, NO_ORDER, {})
    with pytest.raises(BadInput, match="no tree: cell/"):
        adoption(topo, records[1:]).begin(Epoch(1, 2), 8, ME, NO_ORDER, {})
    with pytest.raises(Conflict, match="newer than what was collected"):
        adoption(topo, records).begin(Epoch(1, 2), 8, ME, Order(1, 6, 0), {})


def test_a_new_attempt_forgets_the_parts_of_the_last_one() -> None:
    topo, records = tree()
    made = Adoption()
    assert not made.take(AdoptAsk(1, 0, 2, topo, tuple(records[:5])))
    assert made.take(AdoptAsk(2, 0, 1, topo, tuple(records)))
    made.begin(Epoch(1, 2), 8, ME, NO_ORDER, {})
    assert made.writing
