"""A hundred small fabrics with faults of processes, networks and owners, each of its own seed.

``make campaign-tree`` runs thousands of the swarm's, with every kind of fault; these are those of
gossip, tree and chairman alone, on so few hosts that all of them take a minute together.
"""

from __future__ import annotations

import json

import pytest

from sim import swarm, swarm_kinds
from sim.faults import Fault
from sim.run import run
from sim.scenario import Scenario
from sim.streams import Streams

#: What touches these layers, the coordinator's own losses aside: those have tests of their own.
KINDS = (
    swarm._crash, swarm._wipe, swarm._rack, swarm._cut, swarm._lossy, swarm._slow, swarm._outage,
    swarm._expire, swarm._pause, swarm._nap, swarm._forger, swarm._echo, swarm._owner_goes,
    swarm._owner_fades, swarm._all_restart, swarm._chairman_goes, swarm_kinds._gray,
    swarm_kinds._late, swarm_kinds._many_processes, swarm_kinds._leaving,
)  # fmt: skip
#: Seeds in one test: a failure names its seed.
EACH = 10


def scenario(seed: int) -> Scenario:
    """Return the scenario of ``seed``: five to twelve hosts, two or three kinds of fault."""
    streams = Streams(seed)
    stream = streams.stream("tree-seeds")
    hosts = 5 + stream.below(8)
    faults: list[Fault] = []
    for _ in range(2 + stream.below(2)):
        faults += KINDS[stream.below(len(KINDS))](streams.stream("tree-fault", len(faults)), hosts)
    faults.sort(key=lambda fault: fault.at_us)
    small = {"leaf_min": 2, "leaf_max": 4, "inner_min": 2, "inner_max": 4}
    zones, racks = stream.below(3), stream.below(3)
    return Scenario(
        hosts=hosts, seed=seed, duration_s=42 + 15 + swarm.CALM_S, place_rate=1, vm_life_s=5,
        zones=zones, racks=racks, faults=tuple(faults), **small,
    )  # fmt: skip


@pytest.mark.parametrize("first", range(0, 100, EACH))
def test_all_comes_right(first: int) -> None:
    for seed in range(first, first + EACH):
        result = run(scenario(seed))
        assert result.ok, f"seed {seed}: " + json.dumps(result.violations[:3], indent=1)


