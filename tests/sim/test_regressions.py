"""Runs in which the simulator once found a bug of the protocol: each stays, with what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.faults import Crash, Cut, Fault, Outage
from sim.run import run
from sim.scenario import Scenario, load_scenario

SMALL = {"leaf_min": 3, "leaf_max": 6, "inner_min": 3, "inner_max": 6}

#: Hosts that hear everybody and are heard by nobody are removed. Those of one cell went on with its
#: old record for ever: they answered each other, so none felt alone, and the others ignored them.
REMOVED_TOGETHER: tuple[Fault, ...] = (
    Outage(16_626_000, 8_384_000),
    Crash(16_947_000, 8, 9_294_000),
    Crash(26_832_000, 15, 6_890_000),
    Cut(35_431_000, (0, 1, 2, 3, 4), 15_765_000, one_way=True),
    Crash(37_345_000, 10, 12_572_000),
)


@pytest.mark.parametrize("seed", [9])
def test_hosts_that_were_removed_together_come_back(seed: int) -> None:
    result = run(
        Scenario(
            hosts=18, duration_s=125, seed=seed, place_rate=2, vm_life_s=5,
            faults=REMOVED_TOGETHER, **SMALL,  # type: ignore[arg-type]
        )
    )  # fmt: skip
    assert result.ok, json.dumps(result.violations[:5], indent=1)


#: What the swarm once drew. Each file says what was wrong.
FILES = sorted((Path(__file__).parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_scenarios_that_once_failed(path: Path) -> None:
    result = run(load_scenario(path))
    assert result.ok, json.dumps(result.violations[:5], indent=1)


#: An owner of the root lost its place there for a while and came back knowing nobody. The others
#: had found it dead, held their table for complete, and so never showed themselves to it again,
#: although the seats named it as the holder of the lease.
FORGOTTEN_BY_ITS_OWNER = Cut(29_075_000, (11,), 14_669_000, one_way=True)


def test_speakers_show_themselves_to_an_owner_that_forgot_them() -> None:
    result = run(
        Scenario(hosts=23, duration_s=132, seed=108, faults=(FORGOTTEN_BY_ITS_OWNER,), **SMALL)  # type: ignore[arg-type]
    )
    assert result.ok, json.dumps(result.violations[:5], indent=1)
