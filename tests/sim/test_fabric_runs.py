"""Whole fabrics of real peers in the simulator: they form, break and mend, the same each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fabric.units import SECOND
from sim.faults import Crash, Cut, Dethrone, Expire, Fault, Lossy, Outage
from sim.result import Result
from sim.run import Run, run
from sim.scenario import Scenario

ROOT = Path(__file__).resolve().parents[2]

#: Small bounds, so that few hosts make a tree of three levels.
SMALL = {"leaf_min": 3, "leaf_max": 6, "inner_min": 3, "inner_max": 6}


def stormy(seed: int, **changes: object) -> Scenario:
    """Twenty hosts and a bit of everything within forty seconds, then calm."""
    faults: tuple[Fault, ...] = (
        Crash(12 * SECOND, seed % 20, 6 * SECOND),
        Crash(15 * SECOND, (seed + 7) % 20, 9 * SECOND),
        Crash(18 * SECOND, (seed + 3) % 20, 5 * SECOND, wipe=True),
        Cut(20 * SECOND, (1, 2, 3), 4 * SECOND, one_way=bool(seed % 2)),
        Lossy(22 * SECOND, 6 * SECOND, 50_000, 20_000),
        Outage(26 * SECOND, 5 * SECOND),
        Expire(33 * SECOND),
        Dethrone(36 * SECOND, 8 * SECOND),
    )
    values: dict[str, object] = {
        "hosts": 20, "duration_s": 100, "seed": seed, "faults": faults, "place_rate": 5,
        "vm_life_s": 10, **SMALL, **changes,
    }  # fmt: skip
    return Scenario(**values)  # type: ignore[arg-type]


def explain(result: Result) -> str:
    return json.dumps(result.violations[:5], indent=1) + str(result.notes)


def test_a_fabric_forms_from_joins_in_levels() -> None:
    result = run(Scenario(hosts=60, duration_s=70, **SMALL))  # type: ignore[arg-type]
    assert result.ok, explain(result)
    assert result.depth >= 3
    assert result.converged_s is not None
    assert result.converged_s < 30


@pytest.mark.parametrize("seed", range(8))
def test_faults_leave_nothing_broken(seed: int) -> None:
    result = run(stormy(seed))
    assert result.ok, explain(result)
    assert result.converged_s is not None
    assert result.faults == 8


def test_kills_all_along_and_calm_at_the_end() -> None:
    result = run(Scenario(hosts=40, duration_s=150, kill=30, seed=3, **SMALL))  # type: ignore[arg-type]
    assert result.faults > 5
    assert result.ok, explain(result)


def test_encoding_every_hop_gives_the_same_run() -> None:
    plain = run(stormy(1, duration_s=40))
    assert run(stormy(1, duration_s=40, fidelity=True)).trace_hash == plain.trace_hash


def hashes_of(hash_seed: str) -> list[str]:
    code = (
        "import sys; sys.path[:0] = ['tests/sim', '.'];"
        "from test_fabric_runs import run, stormy;"
        "print(*[run(stormy(s, duration_s=40)).trace_hash for s in range(20)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.split()


def test_twenty_seeds_with_faults_have_the_same_hashes_under_another_hash_seed() -> None:
    first = hashes_of("0")
    assert len(set(first)) == 20
    assert first == hashes_of("987654")


def test_a_run_can_be_interrupted_and_says_so() -> None:
    it = Run(Scenario(hosts=10, duration_s=60))
    it.world.engine.at(5 * SECOND, lambda: setattr(it.world.engine, "stop", True))
    result = it.go()
    assert result.interrupted
    assert 4.9 < result.virtual_s < 5.1


def test_the_command_prints_one_json_object_last() -> None:
    words = ["--hosts", "8", "--duration", "5", "--seed", "4", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "sim.run", *words],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["hosts"] == 8
    assert result["seed"] == 4
    assert result["virtual_s"] == 5
    assert result["violations"] == []
    assert not result["preformed"]
    for key in ("wall_s", "cpu_s", "events", "messages", "trace_hash", "converged_s", "depth",
                "placements", "refused", "max_rss_mb"):  # fmt: skip
        assert key in result


def test_a_preformed_run_says_so_and_agrees_quickly() -> None:
    result = run(Scenario(hosts=60, duration_s=70, preformed=True, **SMALL))  # type: ignore[arg-type]
    assert result.ok, explain(result)
    assert result.preformed
    assert result.depth >= 3
    assert result.converged_s is not None
    assert result.converged_s < 10
