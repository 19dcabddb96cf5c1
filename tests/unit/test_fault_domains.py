"""Zones and racks: whose cell a host joins, and that no rack takes a majority of seats with it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.machine import Contact
from fabric.settings import Settings
from fabric.tree.planner import Plan
from fabric.wire.codec import decode_record, encode_record
from fabric.wire.tree import CellRecord, Order
from tests.unit.test_planner import settle_seats

BOUNDS = Settings(leaf_min=3, leaf_max=6, inner_min=2, inner_max=4)


def contact(number: int) -> Contact:
    return Contact(number, f"tcp://10.0.{number >> 8}.{number & 255}:7001")


def join(plan: Plan, domain: str, *numbers: int) -> None:
    for number in numbers:
        plan.domain[number] = domain
    plan.add_hosts([contact(n) for n in numbers])


def zones(plan: Plan) -> list[list[str]]:
    """Return the zones in each leaf."""
    return [sorted({plan.zone(m) for m in leaf.members}) for leaf in plan.leaves()]


def most_of_one_rack(plan: Plan, seats: list[int]) -> int:
    racks = [plan.domain.get(seat, "") for seat in seats]
    return max(map(racks.count, racks))


def test_zones_get_cells_of_their_own() -> None:
    plan = Plan(BOUNDS)
    join(plan, "east", *range(1, 11))
    join(plan, "west", *range(11, 21))
    assert zones(plan).count(["east"]) >= 2
    assert zones(plan).count(["west"]) >= 2
    assert ["east", "west"] not in zones(plan)


def test_a_zone_too_small_for_a_cell_is_a_guest_until_it_has_grown() -> None:
    plan = Plan(Settings(leaf_min=4, leaf_max=12, inner_min=2, inner_max=4))
    join(plan, "east", *range(1, 21))
    join(plan, "west", 31, 32)
    assert ["east", "west"] in zones(plan)
    for number in range(33, 45):
        join(plan, "west", number)
    settle_seats(plan)
    moves = 0
    while plan.settle_zones():
        settle_seats(plan)
        moves += 1
    assert moves < 14  # it comes to an end
    assert ["west"] in zones(plan)
    assert all(4 <= len(leaf.members) <= 12 for leaf in plan.leaves())


def test_a_rack_that_goes_leaves_every_cell_a_majority_of_its_seats() -> None:
    plan = Plan(Settings())
    for number in range(1, 301):
        plan.domain[number] = f"east/r{number % 6}"
    plan.add_hosts([contact(n) for n in range(1, 301)])
    settle_seats(plan)
    for cell in plan.cells.values():
        assert len(cell.seats) == 5
        assert most_of_one_rack(plan, cell.seats) <= 1 if cell.level == 0 else 2
    for leaf in plan.leaves():
        racks = [plan.domain[m] for m in leaf.members]
        assert max(map(racks.count, racks)) <= len(racks) // 3


def test_seats_of_one_rack_are_spread_when_another_rack_comes() -> None:
    plan = Plan(Settings())
    join(plan, "east/r1", *range(1, 11))
    settle_seats(plan)
    (cell,) = plan.leaves()
    assert most_of_one_rack(plan, cell.seats) == 5
    join(plan, "east/r2", *range(11, 16))
    join(plan, "east/r3", *range(21, 26))
    settle_seats(plan)
    assert most_of_one_rack(plan, cell.seats) == 2


def test_a_record_tells_the_domains_and_the_next_chairman_knows_them() -> None:
    plan = Plan(Settings())
    for number in range(1, 33):
        plan.domain[number] = f"{'z' * 60}/{'r' * 60}{number % 4}"
    plan.add_hosts([contact(n) for n in range(1, 33)])
    settle_seats(plan)
    cells, _ = plan.take_touched(Order(1, 1, 1))
    encoded = [encode_record(plan.record(cell)) for cell in cells]
    assert all(len(record) <= 4096 for record in encoded)
    heir = Plan(Settings())
    heir.load([decode_record(CellRecord, r) for r in encoded], plan.root, plan.next_cell)
    assert heir.domain == plan.domain


def test_a_cell_that_borrows_is_large_enough_then_though_seats_must_move() -> None:
    plan = Plan(BOUNDS)
    waves = ((range(1, 2), "", [1]), (range(2, 9), "", [2, 3, 4, 5]), (range(9, 18), "a", []))
    for numbers, domain, gone in waves:
        join(plan, domain, *numbers)
        plan.remove(gone)
        settle_seats(plan)
    plan.add_hosts([contact(18)])
    settle_seats(plan)
    assert len(plan.leaves()) == 3
    plan.remove([6, 15, 16])
    settle_seats(plan)
    assert [len(leaf.members) for leaf in plan.leaves()] == [3, 4, 3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "a", "a/1", "a/2", "b", "c/9"]), st.integers(1, 9)),
                min_size=1, max_size=12), st.data())  # fmt: skip
def test_the_shape_holds_whatever_zones_come_and_go(
    waves: list[tuple[str, int]], data: st.DataObject
) -> None:
    plan, number = Plan(BOUNDS), 0
    for domain, count in waves:
        joining = list(range(number + 1, number + 1 + count))
        number += count
        if domain:
            join(plan, domain, *joining)
        else:
            plan.add_hosts([contact(n) for n in joining])
        plan.remove(
            data.draw(st.lists(st.sampled_from(sorted(plan.home)), max_size=4, unique=True))
        )
        settle_seats(plan)
        for _ in range(data.draw(st.integers(0, 5))):
            plan.settle_zones()
            settle_seats(plan)
        for cell in plan.cells.values():
            assert len(cell.members) <= 6 if cell.level == 0 else len(cell.members) <= 4
            if cell.cell != plan.root:
                assert len(cell.members) >= (3 if cell.level == 0 else 2)
            assert all(cell.cell in plan.path(seat) for seat in cell.seats)
        assert sorted(m for leaf in plan.leaves() for m in leaf.members) == sorted(plan.home)
