"""An eighth of the peers stops for half a minute, and no healthy one is failed (Lifeguard).

The frozen ones are found dead, as they should be, and some are removed.  When they go on they are
late for everything: they may neither blame others for their own sleep nor, where several of them
were removed together, find each other's word enough to hold everybody else for dead.
"""

from __future__ import annotations

import pytest

from fabric.peer.notices import MemberNotice
from fabric.units import SECOND
from fabric.wire.gossip import ALIVE, DEAD
from sim.engine import Node
from sim.gray import Pause
from sim.inspect import cells_of
from sim.run import Run
from sim.scenario import Scenario

FREEZE_US, LASTS_US, BACK_US = 20 * SECOND, 30 * SECOND, 3 * SECOND
SMALL = {"leaf_min": 4, "leaf_max": 8, "inner_min": 4, "inner_max": 8}


class Watch:
    """Who was held for dead, by whom, and when."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.dead: list[tuple[float, str, int]] = []
        run.world.watchers.append(self.noticed)

    def noticed(self, node: Node, notice: object) -> None:
        if isinstance(notice, MemberNotice) and notice.state == DEAD:
            at_s = self.run.world.engine.now / SECOND
            self.dead.append((at_s, node.role.name, notice.key))


@pytest.mark.parametrize(
    ("seed", "hosts", "count", "shape"),
    [(1, 60, 8, {}), (2, 60, 8, SMALL), (3, 26, 3, {}), (4, 40, 5, SMALL), (5, 25, 3, SMALL)],
)
def test_no_healthy_one_is_failed_and_the_frozen_come_back(
    seed: int, hosts: int, count: int, shape: dict[str, int]
) -> None:
    faults = tuple(Pause(FREEZE_US, host, LASTS_US) for host in range(count))
    run = Run(Scenario(hosts=hosts, seed=seed, duration_s=110, faults=faults, **shape))  # type: ignore[arg-type]
    world, watch = run.world, Watch(run)
    away: list[str] = []

    def look() -> None:
        """All who were frozen are members again, alive to all of their cell."""
        for node in world.hosts[:count]:
            cells = cells_of(node)
            for other in world.hosts[count:]:
                leaf = cells_of(other).leaf_gossip
                if leaf is not None and leaf.cell == cells.paths.leaf:
                    row = leaf.members.get(node.node_id)
                    if row is None or row.state != ALIVE:
                        away.append(f"{node.role.name} to {other.role.name}")

    world.engine.at(FREEZE_US + LASTS_US + BACK_US, look)
    result = run.go()
    assert result.ok, (result.violations[:3], result.notes)
    healthy = {node.node_id for node in world.hosts[count:]}
    assert [d for d in watch.dead if d[2] in healthy] == []
    frozen = {node.node_id for node in world.hosts[:count]}
    assert frozen <= {d[2] for d in watch.dead}
    assert not away
