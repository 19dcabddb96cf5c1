"""The tree keeps its shape whatever hosts come and go."""

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fabric.machine import Contact
from fabric.settings import Settings
from fabric.tree.planner import Plan
from fabric.tree.seating import seats_wanted
from fabric.wire.tree import Order

SETTINGS = Settings(leaf_min=2, leaf_max=4, inner_min=2, inner_max=4)


def contact(number: int) -> Contact:
    return Contact(number, f"tcp://127.0.0.1:{number}")


def settle_seats(plan: Plan) -> None:
    """Make seat changes one by one, as the chairman does over time, until none is left."""
    for _ in range(200):
        if not plan.seats_wrong:
            return
        for _, cell_id in sorted((plan.cells[c].level, c) for c in list(plan.seats_wrong)):
            plan.fix_seats(plan.cells[cell_id])
    raise AssertionError(f"seats never settle: {plan.seats_wrong}")


def check(plan: Plan, hosts: set[int]) -> None:
    seen: list[int] = []
    for cell in plan.cells.values():
        if cell.cell == plan.root:
            assert cell.parent == 0
        else:
            assert cell.cell in plan.cells[cell.parent].members
            assert plan.cells[cell.parent].level == cell.level + 1
        limit = SETTINGS.leaf_max if cell.level == 0 else SETTINGS.inner_max
        assert len(cell.members) <= limit
        if cell.cell != plan.root:  # both bounds have the same lower end here
            assert len(cell.members) >= SETTINGS.leaf_min
        if cell.level == 0:
            seen.extend(cell.members)
            for host in cell.members:
                assert plan.home[host] == cell.cell
        elif cell.cell == plan.root:
            assert len(cell.members) >= 2
        else:
            assert cell.members
        for seat in cell.seats:
            assert cell.cell in plan.path(seat)
        assert len(set(cell.seats)) == len(cell.seats)
    assert sorted(seen) == sorted(hosts)


def test_a_wave_of_joins_makes_a_deep_tree_at_once() -> None:
    plan = Plan(SETTINGS)
    plan.add_hosts([contact(i) for i in range(1, 65)])
    settle_seats(plan)
    check(plan, set(range(1, 65)))
    assert plan.cells[plan.root].level >= 2
    assert all(len(c.seats) == seats_wanted(len(c.members)) for c in plan.leaves())


def test_a_death_edits_one_cell() -> None:
    plan = Plan(SETTINGS)
    plan.add_hosts([contact(i) for i in range(1, 17)])
    settle_seats(plan)
    plan.take_touched(Order(1, 1, 1))
    roomy = next(c for c in plan.leaves() if len(c.members) > SETTINGS.leaf_min)
    victim = next(m for m in roomy.members if m not in roomy.seats)
    plan.remove([victim])
    written, deleted = plan.take_touched(Order(1, 1, 2))
    assert [c.cell for c in written] == [roomy.cell]
    assert deleted == []


def test_a_split_leaves_the_electorate_alone() -> None:
    settings = Settings(leaf_min=4, leaf_max=8, inner_min=2, inner_max=4)
    plan = Plan(settings)
    plan.add_hosts([contact(i) for i in range(1, 9)])
    settle_seats(plan)
    plan.take_touched(Order(1, 1, 1))
    leaf = plan.cells[plan.root]
    seats, electorate = list(leaf.seats), leaf.electorate
    plan.add_hosts([contact(9)])
    settle_seats(plan)
    plan.take_touched(Order(1, 1, 2))
    assert leaf.seats == seats[: len(leaf.seats)] or set(seats) <= set(leaf.members)
    assert leaf.electorate == electorate
    assert len(plan.leaves()) == 2


def test_seats_change_one_at_a_time_under_a_raised_floor() -> None:
    plan = Plan(Settings(leaf_min=4, leaf_max=8))
    plan.add_hosts([contact(i) for i in range(1, 8)])
    settle_seats(plan)
    plan.take_touched(Order(1, 1, 1))
    leaf = plan.cells[plan.root]
    before, floor = list(leaf.seats), leaf.term_floor
    plan.remove([before[0]])
    assert plan.fix_seats(leaf)
    written, _ = plan.take_touched(Order(1, 1, 2))
    assert leaf in written
    assert len(set(before) - set(leaf.seats)) == 1
    assert leaf.term_floor > floor
    assert leaf.electorate == Order(1, 1, 2)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 9)),
            st.tuples(st.just("remove"), st.integers(0, 1 << 20)),
        ),
        max_size=60,
    )
)
def test_any_history_keeps_the_tree_valid(history: list[tuple[str, int]]) -> None:
    plan = Plan(SETTINGS)
    hosts: list[int] = []
    next_host, version = 1, 1
    for what, number in history:
        if what == "add":
            wave = list(range(next_host, next_host + number))
            next_host += number
            plan.add_hosts([contact(n) for n in wave])
            hosts.extend(wave)
        elif hosts:
            plan.remove([hosts.pop(number % len(hosts))])
        settle_seats(plan)
        version += 1
        plan.take_touched(Order(1, 1, version))
        check(plan, set(hosts))


def test_records_survive_a_round_trip_through_the_coordinator() -> None:
    plan = Plan(SETTINGS)
    plan.add_hosts([contact(i) for i in range(1, 20)])
    plan.add_observer(contact(100))
    settle_seats(plan)
    plan.take_touched(Order(1, 1, 1))
    records = [plan.record(c) for c in plan.cells.values()]
    again = Plan(SETTINGS)
    again.load(records, plan.root, plan.next_cell)
    check(again, set(range(1, 20)))
    assert [again.record(c) for c in again.cells.values()] == records
    assert not again.seats_wrong


def test_a_record_is_one_object_until_its_cell_is_written_again() -> None:
    plan = Plan(SETTINGS)
    plan.add_hosts([contact(n) for n in range(1, 4)])
    plan.take_touched(Order(1, 1, 1))
    cell = plan.cells[plan.home[1]]
    told = plan.record(cell)
    assert plan.record(cell) is told
    plan.add_hosts([contact(4)])
    assert len(plan.record(cell).members) == 4  # as it will be written
    plan.take_touched(Order(1, 1, 2))
    assert plan.record(cell).order == Order(1, 1, 2)
    assert plan.record(cell) is plan.record(cell) is not told
