"""Takeovers: standbys are warm, and a cell of two hosts does not stay dark for long."""

from __future__ import annotations

import pytest

from fabric.peer.notices import OwnerNotice
from fabric.peer.tables import CellTables
from fabric.units import SECOND
from sim.engine import Node
from sim.faults import Crash
from sim.gray import OnOwner
from sim.inspect import cells_of, owns, paths_of
from sim.run import Run
from sim.scenario import Scenario

SMALL = {"leaf_min": 3, "leaf_max": 6, "inner_min": 3, "inner_max": 6}
AT_US = 20 * SECOND


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_new_owner_knows_what_its_cell_has_to_offer_from_its_first_moment(level: int) -> None:
    """So that its first placement needs no round of questions: nothing is a cold "maybe"."""
    crash = OnOwner(AT_US, level, 0, Crash(0, 0, 60 * SECOND))
    run = Run(
        Scenario(hosts=40, seed=3, duration_s=30, place_rate=10, faults=(crash,), **SMALL)  # type: ignore[arg-type]
    )
    won: list[int] = []
    cold: list[tuple[int, int]] = []

    def noticed(node: Node, notice: object) -> None:
        if isinstance(notice, OwnerNotice) and notice.owns and run.world.engine.now > AT_US:
            won.append(notice.cell)
            tables = CellTables(cells_of(node))
            for child in tables.children(notice.cell):
                if child.alive and child.contact is not None and child.summary is None:
                    cold.append((notice.cell, child.key))

    run.world.watchers.append(noticed)
    run.go()
    assert won
    assert cold == []


def test_a_cell_of_two_hosts_has_an_owner_again_soon_after_its_seat_died() -> None:
    run = Run(Scenario(hosts=2, seed=4, duration_s=60))
    world = run.world
    without: list[int] = []

    def strike() -> None:
        (seat,) = [h for h, n in enumerate(world.hosts) if paths_of(n).records[paths_of(n).leaf]
                   .seats[0].node_id == n.node_id]  # fmt: skip
        Crash(0, seat, 60 * SECOND).begin(world)
        look(world.hosts[1 - seat])

    def look(survivor: Node) -> None:
        if not owns(survivor, paths_of(survivor).leaf):
            without.append(world.engine.now - AT_US)
        if world.engine.now < AT_US + 30 * SECOND:
            world.engine.at(world.engine.now + SECOND // 10, lambda: look(survivor))

    world.engine.at(AT_US, strike)
    run.go()
    assert without
    assert without[-1] <= 10 * SECOND
