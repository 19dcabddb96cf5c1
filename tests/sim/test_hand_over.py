"""Owners that leave or drain hand over: there is an owner at every moment, and nothing is lost."""

from __future__ import annotations

import pytest

from fabric.peer.notices import OwnerNotice
from fabric.units import MS, SECOND
from sim.engine import Node
from sim.faults import Fault
from sim.gray import OnOwner
from sim.inspect import owns, paths_of
from sim.process_faults import Draining, Leaving
from sim.run import Run
from sim.scenario import Scenario

SMALL = {"leaf_min": 3, "leaf_max": 6, "inner_min": 3, "inner_max": 6}
AT_US = 20 * SECOND


class Reign:
    """Looks each millisecond, while owners change, which cells nobody owns."""

    def __init__(self, run: Run, until_us: int) -> None:
        self.run = run
        self.until_us = until_us
        self.without: list[tuple[int, int]] = []
        self.changes = 0
        self.unavailable = 0  # while the tree grew
        run.world.watchers.append(self.noticed)
        run.world.engine.at(AT_US - SECOND, self.look)

    def failed(self) -> int:
        workload = self.run.workload
        return workload.unavailable + workload.unanswered

    def noticed(self, node: Node, notice: object) -> None:
        now = self.run.world.engine.now
        self.changes += isinstance(notice, OwnerNotice) and notice.owns and now >= AT_US

    def look(self) -> None:
        engine = self.run.world.engine
        if engine.now < AT_US:
            self.unavailable = self.failed()
        cells: dict[int, bool] = {}
        for node in self.run.world.hosts:
            if node.alive:
                for cell in paths_of(node).path:
                    cells[cell] = cells.get(cell, False) or owns(node, cell)
        self.without += [(engine.now, cell) for cell, owned in sorted(cells.items()) if not owned]
        if engine.now < self.until_us:
            engine.at(engine.now + MS, self.look)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("kind", [Leaving, Draining])
def test_there_is_no_moment_without_an_owner(kind: type[Fault], level: int) -> None:
    one = kind(0, 0, 8 * SECOND)  # type: ignore[call-arg]
    scenario = Scenario(
        hosts=40, seed=3, duration_s=65, place_rate=20, vm_life_s=5,
        faults=(OnOwner(AT_US, level, 0, one),), **SMALL,  # type: ignore[arg-type]
    )  # fmt: skip
    run = Run(scenario)
    reign = Reign(run, AT_US + 2 * SECOND)
    result = run.go()
    assert result.ok, (result.violations[:3], result.notes)
    assert reign.changes >= 1
    assert reign.without == []
    assert reign.failed() == reign.unavailable
