"""Signed runs: the fabric forms and heals as without, and an insider's inventions count nothing."""

from __future__ import annotations

import dataclasses

import pytest

from fabric.machine import Contact
from fabric.units import SECOND
from fabric.wire.tree import Join, Order, Path
from sim.engine import Node
from sim.faults import Crash
from sim.insiders import Forger
from sim.inspect import cells_of, paths_of
from sim.run import Run
from sim.scenario import Scenario
from sim.signed import Signed

SMALL = {"leaf_min": 3, "leaf_max": 5, "inner_min": 2, "inner_max": 4}
LIES_FROM_US, LIES_UNTIL_US = 20 * SECOND, 40 * SECOND


def scenario(seed: int, *faults: object) -> Scenario:
    return Scenario(hosts=24, seed=seed, duration_s=70, place_rate=5, faults=faults, **SMALL)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_signed_fabric_forms_and_heals(seed: int) -> None:
    """Owners and hosts crash and come back without their seals; the checkers see to the rest."""
    run = Run(scenario(seed, *(Crash(25 * SECOND, host, 10 * SECOND) for host in (0, 5, 9))))
    Signed(run.world)
    result = run.go()
    assert result.ok, (result.violations[:3], result.notes)
    assert result.placements > 100


def pretended(run: Run, forger: Node) -> list[str]:
    """Who believed, while lies were told, that ``forger`` owns a cell that it does not own."""
    believers: list[str] = []

    def look() -> None:
        owns = cells_of(forger).leases.owns
        for node in run.world.hosts:
            for cell, owner in paths_of(node).owners.items():
                if owner.contact.node_id == forger.node_id and not owns(cell, forger.now):
                    believers.append(node.role.name)

    for at_us in range(LIES_FROM_US, LIES_UNTIL_US, SECOND):
        run.world.engine.at(at_us, look)
    return believers


@pytest.mark.parametrize("signed", [True, False])
def test_nobody_owns_a_cell_by_saying_so(signed: bool) -> None:
    run = Run(scenario(3, Forger(LIES_FROM_US, 7, LIES_UNTIL_US - LIES_FROM_US, "owners")))
    keys = Signed(run.world) if signed else None
    believers = pretended(run, run.world.hosts[7])
    run.go()
    assert bool(believers) == (not signed)
    if keys is not None:
        assert keys.counters["unproven_claims"] > 50


@pytest.mark.parametrize("signed", [True, False])
def test_nobody_writes_topology_but_candidates(signed: bool) -> None:
    """The insider tells its cell that it alone is left, and that another node has moved to it."""
    run = Run(scenario(4))
    if signed:
        Signed(run.world)
    world = run.world
    forger, victim = world.hosts[7], world.hosts[8]

    def lie() -> None:
        paths = paths_of(forger)
        record = paths.records[paths.leaf]
        order = Order(record.order.generation, record.order.lease, record.order.version + 1000)
        alone = dataclasses.replace(
            record, order=order, members=(forger.contact,), seats=(forger.contact,)
        )
        moved = Join(Contact(victim.node_id, forger.contact.address), 999, 0, "", 0, 1)
        for member in record.members:
            if member.node_id != forger.node_id:
                forger.send(member, Path(None, (alone,), ()))
                forger.send(member, moved)

    world.engine.at(LIES_FROM_US, lie)
    misled: list[str] = []

    def look() -> None:
        for node in world.hosts:
            cells = cells_of(node)
            if node is not forger and cells.paths.leaf and not cells.paths.placed:
                misled.append(node.role.name)

    world.engine.at(LIES_FROM_US + SECOND, look)
    run.go()
    assert bool(misled) == (not signed)
