"""Every kind of fault on a whole fabric: nothing breaks, and all comes right afterwards."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fabric.errors import ScenarioError
from fabric.units import MS, SECOND
from sim.coordinator_faults import Emptied, LostCommits, Restored, SlowCoordinator, StaleReads
from sim.disk_faults import BitRot, DiskError, LostSync, SlowDisk, TornWrite
from sim.faults import Crash, Dethrone, Expire, Fault
from sim.hypervisor_faults import Refusal, Stall
from sim.insiders import LIES, Forger, Lie, NewerVersion, OlderVersion, StaleSummaries
from sim.kinds import KINDS
from sim.network_faults import (
    Bridged,
    BrokenLink,
    Flaky,
    Gray,
    GrayLink,
    Halves,
    Reordered,
    Swizzle,
)
from sim.process_faults import ClockJump, Drift, MassRestart, RackLoss, Rolling
from sim.run import Run, run
from sim.save import to_toml
from sim.scenario import Scenario, parse_scenario

SMALL = {"leaf_min": 3, "leaf_max": 6, "inner_min": 3, "inner_max": 6}
HOSTS = 14
S = SECOND

#: What else happens meanwhile, so that the fault has something to spoil.
JOINS = (Crash(20 * S, 4, 6 * S, wipe=True), Crash(22 * S, 9, 5 * S))
NEW_CHAIRMAN = (*JOINS, Expire(24 * S), Dethrone(30 * S, 3 * S))

PLANS: dict[str, tuple[Fault, ...]] = {
    "slow-disk": (SlowDisk(14 * S, 2, 20 * S, 4000), SlowDisk(15 * S, 5, 9 * S, 200), *JOINS),
    "disk-error": (DiskError(14 * S, 2, 8 * S), DiskError(20 * S, 7, 8 * S, full=True)),
    "lost-sync": (LostSync(12 * S, 2, 12 * S, 4 * S), LostSync(30 * S, 7, 9 * S, 3 * S), *JOINS),
    "torn-write": tuple(TornWrite((14 + 3 * i) * S, 3 * i, 4 * S) for i in range(4)),
    "bit-rot": (
        BitRot(14 * S, 2, 4 * S), BitRot(22 * S, 5, 4 * S, path_only=True),
        BitRot(30 * S, 7, 4 * S), BitRot(35 * S, -1, 4 * S, path_only=True),
    ),
    "slow-coordinator": (SlowCoordinator(14 * S, 25 * S, 200), *NEW_CHAIRMAN),
    "stale-reads": (StaleReads(18 * S, 15 * S), *NEW_CHAIRMAN),
    "lost-commits": (LostCommits(19 * S, 2), LostCommits(29 * S, 1), *NEW_CHAIRMAN),
    "emptied": (Emptied(18 * S, 20 * S), *NEW_CHAIRMAN),
    "restored": (Restored(18 * S, 8 * S, 20 * S), *NEW_CHAIRMAN),
    "bridged": (Bridged(14 * S, (0, 1, 2, 3, 4, 5, -1), 9, 20 * S),),
    "halves": (Halves(14 * S, 20 * S), Halves(40 * S, 15 * S, candidates=2)),
    "broken-link": (BrokenLink(14 * S, -1, 3, 20 * S), BrokenLink(14 * S, 1, 2, 20 * S, True)),
    "gray": (Gray(14 * S, 2, 20 * S), Gray(20 * S, -1, 9 * S)),
    "gray-link": (GrayLink(14 * S, 2, 5, 20 * S), GrayLink(20 * S, -1, 9, 20 * S)),
    "flaky": (Flaky(14 * S, 2, 20 * S, 500_000), Flaky(20 * S, -1, 9 * S, 300_000)),
    "reordered": (Reordered(14 * S, 20 * S, 300_000, 1 * S), *JOINS),
    "swizzle": (Swizzle(14 * S, (0, 3, -1, 7, 9, 11), 1 * S, 2 * S),),
    "rack-loss": (RackLoss(14 * S, (0, 1, 2, 3, 4), 12 * S),),
    "rolling": (Rolling(12 * S, 1500 * MS, 1 * S),),
    "mass-restart": (MassRestart(14 * S, 10 * S, 3 * S),),
    "drift": (Drift(5 * S, 2, 60 * S, 200), Drift(5 * S, 3, 60 * S, 5000, behind=True), *JOINS),
    "clock-jump": (
        ClockJump(14 * S, 2, 3 * S, 3600 * S, back=True), ClockJump(20 * S, 5, 3 * S, 60 * S),
        ClockJump(25 * S, -1, 3 * S, 60 * S, back=True),
    ),
    "stall": (Stall(14 * S, 2, 20 * S), Stall(14 * S, 3, 8 * S), *JOINS),
    "forger": (Forger(14 * S, 2, 20 * S, "acks"), Forger(14 * S, 5, 20 * S, "suspicions"), *JOINS),
    "stale-summaries": (StaleSummaries(14 * S, 2, 20 * S), StaleSummaries(20 * S, 5, 9 * S)),
    "older-version": (OlderVersion(5 * S, 2, 60 * S), OlderVersion(5 * S, -1, 30 * S), *JOINS),
    "newer-version": (NewerVersion(5 * S, 2, 60 * S), NewerVersion(5 * S, -1, 30 * S), *JOINS),
    "refusal": (Refusal(14 * S, 2, 20 * S), Refusal(14 * S, 3, 8 * S)),
}  # fmt: skip


def scenario(faults: tuple[Fault, ...], seed: int, duration_s: int = 135) -> Scenario:
    ordered = tuple(sorted(faults, key=lambda fault: fault.at_us))
    return Scenario(
        hosts=HOSTS, duration_s=duration_s, seed=seed, place_rate=4, vm_life_s=10,
        faults=ordered, **SMALL,  # type: ignore[arg-type]
    ).check()  # fmt: skip


@pytest.mark.parametrize("kind", PLANS)
def test_it_all_comes_right_afterwards(kind: str) -> None:
    encoded = kind in ("newer-version", "older-version")
    result = run(dataclasses.replace(scenario(PLANS[kind], seed=len(kind)), fidelity=encoded))
    assert result.ok, json.dumps(result.violations[:5], indent=1)
    assert result.faults >= len(PLANS[kind])  # a torn write ends in a crash: one more


def test_every_kind_is_tried() -> None:
    tried = {type(fault) for plan in PLANS.values() for fault in plan}
    elsewhere = {"cut", "lossy", "slow", "outage", "pause", "sever", "echo"}
    elsewhere |= {"on-owner", "on-chairman", "abandoned", "leaving", "draining"}
    assert {KINDS[kind] for kind in KINDS if kind not in elsewhere} <= tried


@pytest.mark.parametrize("kind", PLANS)
def test_it_is_read_from_a_scenario_file(kind: str) -> None:
    fault = PLANS[kind][0]
    lines = ["hosts = 14", "[[fault]]", f'kind = "{kind}"']
    for field in dataclasses.fields(fault):  # type: ignore[arg-type]
        value = getattr(fault, field.name)
        if field.name.endswith("_us"):
            lines.append(f"{field.name[:-3]}_s = {value / S}")
        else:
            lines.append(f"{field.name} = {json.dumps(value)}")
    assert parse_scenario("\n".join(lines), "x.toml").faults == (fault,)
    whole = scenario(PLANS[kind], 1)
    assert parse_scenario(to_toml(whole), "x.toml") == whole


def test_hosts_and_candidates_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ScenarioError, match="hosts 0 to 13, candidates -1 to -3"):
        scenario((Gray(1, 14, 1),), 1)
    with pytest.raises(ScenarioError):
        scenario((Swizzle(1, (0, -4), 1, 1),), 1)
    with pytest.raises(ScenarioError):
        scenario((BrokenLink(1, 0, 99, 1),), 1)


# --- that they do what they say -------------------------------------------------------------------


def begun(fault: Fault, after_us: int) -> Run:
    """Return a run in the midst of ``fault``."""
    it = Run(scenario((fault,), 3, duration_s=60))
    it.world.begin()
    it.workload.start()
    it.world.engine.run(fault.at_us + after_us)
    return it


def test_a_failing_disk_ends_its_process_and_nothing_else() -> None:
    it = begun(DiskError(14 * S, 2, 15 * S), 14 * S)
    world = it.world
    assert not world.host(2).alive
    assert world.host(2).disk.failures == 1
    assert sum(node.alive for node in world.hosts) == HOSTS - 1


def test_a_lying_disk_loses_what_it_confirmed() -> None:
    it = begun(LostSync(12 * S, 2, 15 * S, 3 * S), 14 * S)
    disk = it.world.host(2).disk
    confirmed = dict(disk.records)
    it.world.engine.run(28 * S)
    assert disk.records != confirmed
    assert disk.broke_promises


def test_a_torn_commit_is_an_old_or_a_new_state() -> None:
    it = begun(TornWrite(14 * S, 2, 5 * S), 0)
    node = it.world.host(2)
    while node.alive:
        before = dict(node.disk.records)
        it.world.engine.run(it.world.engine.now + 1 * MS)
    assert node.disk.commits >= 1
    assert before.keys() & node.disk.records.keys()


def test_a_rotten_disk_is_replaced() -> None:
    it = begun(BitRot(14 * S, 2, 4 * S), -1 * S)
    node_id = it.world.host(2).node_id
    it.world.engine.run(20 * S)
    assert it.world.host(2).alive
    assert it.world.host(2).node_id != node_id


def test_a_path_that_rotted_is_learned_again() -> None:
    it = begun(BitRot(14 * S, 2, 4 * S, path_only=True), -1 * S)
    node = it.world.host(2)
    node_id, before = node.node_id, dict(node.disk.records)
    it.world.engine.run(15 * S)
    lost = before.keys() - node.disk.records.keys()
    assert lost
    assert all(key.startswith(b"topo/") for key in lost)
    it.world.engine.run(30 * S)
    assert (node.alive, node.node_id) == (True, node_id)
    assert lost <= node.disk.records.keys()


def test_a_drifting_clock_drifts() -> None:
    it = begun(Drift(14 * S, 2, 10 * S, 200), -1 * S)
    offset = it.world.host(2).offset
    it.world.engine.run(30 * S)
    assert 1900 <= it.world.host(2).offset - offset <= 2100


def test_gray_hosts_get_through_nothing_but_pings() -> None:
    it = begun(Gray(14 * S, 2, 20 * S), 8 * S)
    lost = it.world.engine.lost
    it.world.engine.run(23 * S)
    assert it.world.engine.lost > lost
    assert it.world.host(2).alive


@pytest.mark.parametrize("lie", LIES)
def test_no_single_forger_has_a_healthy_host_removed(lie: Lie) -> None:
    it = begun(Forger(14 * S, 2, 20 * S, lie), -1 * S)
    written: list[int] = []
    for second in range(14, 40):
        it.world.engine.run(second * S)
        it.checkers.convergence.look()
        leaves = [r for r in it.checkers.convergence.records.values() if r.level == 0]
        written.append(sum(len(record.members) for record in leaves))
    assert written == [HOSTS] * len(written)
