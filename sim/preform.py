"""A formed topology put in place before a run: for runs whose subject is not the forming.

The planner of the real chairman makes the tree; it is written to the virtual coordinator under a
first chairman's lease, and every node's disk gets its path, as if the fabric had formed and been
shut down.  Owners are elected when the run begins.  Results of such runs say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fabric.coordination.interface import Campaign, Chair, Commit, Committed, Put
from fabric.tree.planner import Plan
from fabric.tree.stored import HEAD_KEY
from fabric.wire.codec import encode_record
from fabric.wire.tree import CellRecord, Order, Path, Topo

if TYPE_CHECKING:
    from sim.world import SimWorld

#: Seats settle one change at a time; more rounds than that mean that the planner is wrong.
_MAX_ROUNDS = 100


def preform(world: SimWorld, plan: Plan) -> None:
    """Write ``plan``, which has all nodes of ``world``; call before any of them starts."""
    settings = world.settings
    _seat(plan)

    first = world.candidates[0]
    chair = world.coordinator.carry_out(Campaign(first.node_id, settings.chair_lease_us))
    assert isinstance(chair, Chair)
    order = Order(chair.epoch.generation, chair.epoch.lease, 1)
    cells, _ = plan.take_touched(order)
    records = {cell.cell: plan.record(cell) for cell in cells}
    topo = Topo(order, chair.coordinator_id, first.contact, plan.root, plan.next_cell)
    puts = [Put("topo", 0, encode_record(topo))]
    puts += [Put(f"cell/{cell}", 0, encode_record(record)) for cell, record in records.items()]
    written = world.coordinator.carry_out(Commit(chair.epoch, tuple(puts)))
    assert isinstance(written, Committed)
    _store_paths(world, plan, topo, records)


def planned(world: SimWorld) -> Plan:
    """Return the tree that the chairman's planner makes of the nodes of ``world``."""
    plan = Plan(world.settings)
    for node in world.hosts:
        if domain := world.domain_of(node.role):
            plan.domain[node.node_id] = domain
    plan.add_hosts([node.contact for node in world.hosts])
    for node in world.candidates:
        plan.add_observer(node.contact)
    return plan


def _seat(plan: Plan) -> None:
    for _ in range(_MAX_ROUNDS):
        wrong = sorted((plan.cells[cell].level, cell) for cell in plan.seats_wrong)
        if not wrong:
            return
        for _, cell in wrong:
            plan.fix_seats(plan.cells[cell])
    raise AssertionError("the planner's seats do not settle")


def _store_paths(world: SimWorld, plan: Plan, topo: Topo, records: dict[int, CellRecord]) -> None:
    stored: dict[int, bytes] = {}  # by leaf: all members of a leaf have one path
    for node in (*world.candidates, *world.hosts):
        leaf = plan.home[node.node_id]
        if leaf not in stored:
            path = tuple([records[cell] for cell in plan.path(node.node_id)])
            stored[leaf] = encode_record(Path(topo, path, ()))
        node.disk.records[HEAD_KEY] = stored[leaf]
