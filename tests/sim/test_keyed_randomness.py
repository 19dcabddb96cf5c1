"""What is left out of a scenario takes nothing else along: all randomness is keyed by entity."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fabric.machine import Contact
from sim.engine import Engine, Node
from sim.hypervisor import Hypervisors
from sim.run import Run, run
from sim.scenario import Scenario
from sim.swarm import swarm
from sim.workload import Workload


def nodes(count: int) -> tuple[Engine, list[Node]]:
    engine = Engine(1)
    return engine, [engine.add_node(Contact(n + 1, f"sim://{n}")) for n in range(count)]


@pytest.mark.parametrize("noise", [0, 1, 7])
def test_duplicates_of_one_node_do_not_depend_on_what_others_send(noise: int) -> None:
    engine, (a, b, c) = nodes(3)
    network = engine.network
    network.duplicate_ppm = 500_000
    network.changed()
    doubled = []
    for _ in range(50):
        for _ in range(noise):
            network.shape(c, b, 1, "noise", 0)
        before = sum(_heard(entries, a) for entries in engine.buckets.values())
        network.shape(a, b, 1, "message", 0)
        doubled.append(sum(_heard(entries, a) for entries in engine.buckets.values()) - before)
    assert 10 < sum(doubled) < 40
    assert doubled == _REMEMBERED.setdefault("doubled", doubled)


_REMEMBERED: dict[str, Any] = {}


def _heard(entries: list[Any], source: Node) -> int:
    return sum(sender is source.contact for _, _, _, _, sender in entries)


@pytest.mark.parametrize("noise", [0, 3])
def test_a_hypervisor_takes_as_long_whatever_others_do(noise: int) -> None:
    engine, (a, b) = nodes(2)
    hypervisors = Hypervisors(engine)
    for _ in range(noise):
        hypervisors.ask(b, "anything", 1)
    before = {tick: len(entries) for tick, entries in engine.buckets.items()}
    hypervisors.ask(a, "anything", 1)
    ticks = [t for t, e in engine.buckets.items() if len(e) > before.get(t, 0)]
    assert ticks == _REMEMBERED.setdefault("hypervisor", ticks)


def doors(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, Any]]:
    """Return whom each placement asked first, and for what."""
    asked: dict[str, tuple[str, Any]] = {}
    ask = Workload.ask

    def noting(self: Workload, entry: Node, body: Any, *rest: Any) -> None:
        if hasattr(body, "request"):
            asked[body.request.key] = (entry.role.name, body.request)
        ask(self, entry, body, *rest)

    monkeypatch.setattr(Workload, "ask", noting)
    run(scenario)
    return asked


def test_other_placements_knock_at_the_same_doors(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = Scenario(hosts=8, duration_s=20, place_rate=5)
    some = dataclasses.replace(everything, placements=(11, 40, 77))
    all_doors = doors(everything, monkeypatch)
    few = doors(some, monkeypatch)
    assert sorted(few) == ["p11", "p40", "p77"]
    assert few == {key: all_doors[key] for key in few}


def test_an_absent_host_changes_nothing_about_who_the_others_are() -> None:
    scenario = Scenario(hosts=8, duration_s=40, leaf_min=3, leaf_max=6)
    full = Run(scenario)
    partly = Run(dataclasses.replace(scenario, absent=(0, 5)))
    for a, b in zip(full.world.hosts, partly.world.hosts, strict=True):
        assert (a.contact, a.offset, a.role.spec) == (b.contact, b.offset, b.role.spec)
    result = partly.go()
    assert result.ok, result.violations
    assert result.converged_s is not None
    assert [n.role.host for n in partly.world.hosts if not n.alive] == [0, 5]


@pytest.mark.parametrize("seed", range(40))
def test_without_its_last_fault_a_run_is_the_same_until_then(seed: int) -> None:
    scenario = swarm(seed)
    if not scenario.faults:
        pytest.skip("this seed draws no faults")
    last = scenario.faults[-1]
    hashes = []
    for faults in (scenario.faults, scenario.faults[:-1]):
        it = Run(dataclasses.replace(scenario, faults=faults))
        it.world.begin()
        it.checkers.start()
        it.workload.start()
        it.world.engine.run(last.at_us - 1_000)
        hashes.append(it.world.engine.trace.hexdigest())
    assert hashes[0] == hashes[1]
