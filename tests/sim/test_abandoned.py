"""What is broken stays so for ever: the others agree without it, and place."""

from __future__ import annotations

import json

import pytest

from fabric.errors import ScenarioError
from fabric.units import SECOND
from sim.abandon import HOWS, Abandoned, How
from sim.faults import Crash, Dethrone, Fault
from sim.run import run
from sim.save import to_toml
from sim.scenario import Scenario, parse_scenario

S = SECOND


def agree(seed: int, hosts: int, *faults: Fault) -> None:
    result = run(
        Scenario(
            hosts=hosts, duration_s=125, seed=seed, place_rate=4, vm_life_s=10, faults=faults,
            leaf_min=3, leaf_max=6, inner_min=3, inner_max=6,
        )
    )  # fmt: skip
    assert result.ok, json.dumps(result.violations[:5], indent=1)


@pytest.mark.parametrize("how", HOWS)
def test_the_others_agree_and_place_without_three_hosts(how: How) -> None:
    agree(1, 20, Abandoned(23 * S, (2, 13, 19), how), Dethrone(30 * S, 3 * S))


@pytest.mark.parametrize("how", HOWS)
def test_the_others_agree_and_place_without_the_chairman(how: How) -> None:
    wiped = Crash(26 * S, 4, 5 * S, wipe=True)
    agree(2, 12, Abandoned(20 * S, (-1,), how), Crash(25 * S, 3, 10 * S), wiped)


#: A cell too small had siblings that were too big to merge with; the smallest had seats only.
TOO_SMALL = (Crash(13_090_000, 11, 5 * S), Abandoned(23_230_000, (11, 12), "mute"))
#: A candidate that few hear becomes chairman.
UNHEARD = (
    Crash(12_435_000, 3, 5 * S),
    Abandoned(20_816_000, (-2, 8, 9, 10), "mute"),
    Dethrone(30 * S, 4_393_000),
)
UNHEARD_TOO = (
    Crash(18_805_000, 9, 5 * S),
    Abandoned(24_552_000, (-2, 2, 5, 15), "mute"),
    Dethrone(30 * S, 3_545_000),
)


@pytest.mark.parametrize(
    ("seed", "hosts", "faults"), [(8, 15, TOO_SMALL), (10, 11, UNHEARD), (11, 16, UNHEARD_TOO)]
)
def test_seeds_that_once_failed(seed: int, hosts: int, faults: tuple[Fault, ...]) -> None:
    agree(seed, hosts, *faults)


def test_a_file_says_how() -> None:
    text = '[[fault]]\nkind = "abandoned"\nat_s = 1\nhosts = [-1, 3]\nhow = "{}"\n'
    scenario = parse_scenario(text.format("deaf"), "x")
    assert scenario.faults == (Abandoned(S, (-1, 3), "deaf"),)
    assert parse_scenario(to_toml(scenario), "x") == scenario
    with pytest.raises(ScenarioError, match=r"x:5: fault.how must be one of dead, cut"):
        parse_scenario(text.format("sad"), "x")
