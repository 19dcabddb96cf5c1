"""What the chairman writes: a death edits one cell; zones and racks; trees of any depth."""

from __future__ import annotations

from typing import Any

import pytest

from fabric.coordination.interface import Commit, Epoch
from fabric.tree.planner import Plan
from fabric.units import SECOND
from sim.faults import Crash
from sim.inspect import presides
from sim.process_faults import RackLoss
from sim.run import Run
from sim.scenario import Scenario

SMALL = {"leaf_min": 3, "leaf_max": 6, "inner_min": 3, "inner_max": 6}
TINY = {"leaf_min": 2, "leaf_max": 3, "inner_min": 2, "inner_max": 3}


class Writes:
    """The transactions of a run, from a moment on: bytes and cells of each."""

    def __init__(self, run: Run, since_us: int) -> None:
        self.bytes: list[int] = []
        self.cells: list[list[str]] = []
        self.coordinator = run.world.coordinator
        run.world.engine.at(since_us, self.begin)

    def begin(self) -> None:
        inner = self.coordinator.on_commit

        def committed(commit: Commit, holder: Epoch | None) -> None:
            inner(commit, holder)
            self.bytes.append(sum(len(put.value or b"") for put in commit.puts))
            self.cells.append([put.path for put in commit.puts if put.path != "topo"])

        self.coordinator.on_commit = committed


def plan_of(run: Run) -> Plan:
    """Return the plan of the chairman."""
    (node,) = [n for n in run.world.candidates if presides(n)]
    machine: Any = node.machine
    plan: Plan = machine.chairman.plan
    return plan


def test_a_death_and_a_return_edit_one_cell_each_in_less_than_4_kb() -> None:
    run = Run(Scenario(hosts=200, seed=5, duration_s=60))
    writes = Writes(run, 20 * SECOND)
    world = run.world

    def strike() -> None:
        plan = plan_of(run)
        bystanders = [h for h, n in enumerate(world.hosts) if n.node_id not in plan.sits_in]
        Crash(0, bystanders[7], 15 * SECOND).begin(world)

    world.engine.at(20 * SECOND, strike)
    result = run.go()
    assert result.ok, (result.violations[:3], result.notes)
    assert [len(cells) for cells in writes.cells] == [1, 1]
    assert max(writes.bytes) <= 4096


@pytest.mark.parametrize(("hosts", "depth"), [(30, 4), (70, 5)])
def test_the_same_code_makes_trees_of_any_depth(hosts: int, depth: int) -> None:
    faults = tuple(Crash((30 + 3 * i) * SECOND, 7 * i % hosts, 8 * SECOND) for i in range(4))
    run = Run(
        Scenario(hosts=hosts, seed=depth, duration_s=110, place_rate=5, faults=faults, **TINY)
    )  # type: ignore[arg-type]
    result = run.go()
    assert result.ok, (result.violations[:3], result.notes)
    assert result.depth is not None and result.depth >= depth


def test_a_rack_that_goes_takes_no_cells_majority_with_it() -> None:
    hosts = 60
    rack = tuple(h for h in range(hosts) if h // 2 % 5 == 1)
    fault = RackLoss(30 * SECOND, rack, 20 * SECOND)
    run = Run(
        Scenario(hosts=hosts, seed=8, duration_s=120, zones=2, racks=5, faults=(fault,), **SMALL)  # type: ignore[arg-type]
    )
    gone = {run.world.hosts[h].node_id for h in rack}
    lost: list[int] = []

    def look() -> None:
        plan = plan_of(run)
        assert {plan.zone_of(leaf) for leaf in plan.leaves()} == {"z0", "z1"}
        for cell in plan.cells.values():
            if 2 * sum(seat in gone for seat in cell.seats) > len(cell.seats):
                lost.append(cell.cell)

    run.world.engine.at(29 * SECOND, look)
    result = run.go()
    assert result.ok, (result.violations[:3], result.notes)
    assert lost == []
