"""Bytes written to the coordinator: the head, a full cell, and one host's death among 10,000."""

from __future__ import annotations

from fabric.limits import MAX_INT
from fabric.machine import Contact
from fabric.settings import Settings
from fabric.tree.planner import Plan
from fabric.wire.codec import encode_record
from fabric.wire.tree import Order, Topo

#: The longest that ids, orders and IPv4 addresses get.
LARGE = Order(3, MAX_INT, MAX_INT)
SETTINGS = Settings()


def contact(number: int) -> Contact:
    host, port = divmod(number, 60_000)
    address = f"tcp://100.100.{100 + host}.{100 + number % 100}:{port + 5000}"
    return Contact(MAX_INT - number, address)


def full_plan(hosts: int) -> Plan:
    plan = Plan(SETTINGS)
    plan.add_hosts([contact(number) for number in range(hosts)])
    while plan.seats_wrong:
        fix_seats(plan)
        plan.take_touched(LARGE)
    return plan


def fix_seats(plan: Plan) -> None:
    for cell in [plan.cells[c] for c in list(plan.seats_wrong)]:
        plan.fix_seats(cell)


def test_the_head_is_below_1_kb_and_every_cell_below_4_kb() -> None:
    plan = full_plan(10_000)
    head = Topo(LARGE, MAX_INT, contact(1), plan.root, plan.next_cell)
    sizes = [len(encode_record(plan.record(cell))) for cell in plan.cells.values()]
    fullest = max(len(cell.members) for cell in plan.cells.values())
    assert fullest == SETTINGS.leaf_max
    assert len(encode_record(head)) <= 1024
    assert max(sizes) <= 4096


def test_a_hosts_death_writes_the_head_and_its_cell_alone() -> None:
    """A host without seats: all but the few that vote. Seats are given to others one by one."""
    plan = full_plan(10_000)
    head = len(encode_record(Topo(LARGE, MAX_INT, contact(0), plan.root, plan.next_cell)))
    written: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
    for victim in list(plan.home)[::97]:
        sits = bool(plan.sits_in.get(victim))
        plan.remove([victim])
        fix_seats(plan)
        cells, deleted = plan.take_touched(LARGE)
        plan.take_moved()
        size = head + sum(len(encode_record(plan.record(cell))) for cell in cells)
        written[sits].append((1 + len(cells) + len(deleted), size))
    assert {nodes for nodes, _ in written[False]} == {2}
    assert max(size for _, size in written[False] + written[True]) <= 4096
    assert max(nodes for nodes, _ in written[True]) <= 1 + 3  # its path to the root
    assert len(written[False]) > 50
