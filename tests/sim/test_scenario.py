"""Scenarios from flags and files: what is accepted, and how what is not is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabric.errors import ScenarioError
from sim.faults import Crash, Cut, Expire, Outage, kill_plan
from sim.scenario import Scenario, load_scenario, parse_scenario, read_int
from sim.streams import Streams

GOOD = """\
hosts = 50
duration_s = 90
seed = 9
fidelity = true

[[fault]]
kind = "crash"
at_s = 20.5
host = 3
down_s = 10

[[fault]]
kind = "cut"
at_s = 30
hosts = [0, 1]
lasts_s = 5
one_way = true

[[fault]]
kind = "outage"
at_s = 40
lasts_s = 5

[[fault]]
kind = "expire"
at_s = 50
"""


def test_a_file_gives_a_scenario_and_flags_override_it() -> None:
    scenario = parse_scenario(GOOD, "x.toml", {"seed": 11})
    assert (scenario.hosts, scenario.seed, scenario.fidelity) == (50, 11, True)
    assert scenario.faults == (
        Crash(20_500_000, 3, 10_000_000),
        Cut(30_000_000, (0, 1), 5_000_000, True),
        Outage(40_000_000, 5_000_000),
        Expire(50_000_000),
    )


#: A fault within a fault.
ON_OWNER = 'hosts=5\n[[fault]]\nkind="on-owner"\nat_s=1\nlevel=0\nnth=0\nfault = '


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hosts = 5\nhots = 3\n", ["x.toml:2", "hots", "no key"]),
        ("hosts = 0\n", ["x.toml:1", "hosts", "from 1"]),
        ("\nhosts = 'many'\n", ["x.toml:2", "hosts", "whole number", "many"]),
        ("preformed = 1\n", ["x.toml:1", "preformed", "true or false"]),
        ("hosts = true\n", ["x.toml:1", "hosts", "whole number"]),
        ("seed = -1\n", ["x.toml:1", "seed"]),
        ("hosts = \n", ["x.toml:1: no TOML"]),
        ("kill = 5\nduration_s = 60\n", ["x.toml:2", "duration_s", "kills"]),
        ("fault = 3\n", ["x.toml:1", "[[fault]]"]),
        ('[[fault]]\nkind = "crush"\n', ["x.toml:2", "fault.kind", "crush"]),
        ('[[fault]]\nkind = "crash"\nat_s = 1\nhost = 2\n', ["fault.down_s", "missing"]),
        ('[[fault]]\nkind = "expire"\nat_s = -1\n', ["x.toml:3", "fault.at_s", "-1"]),
        ('[[fault]]\nkind = "expire"\nat_s = 1\nhost = 1\n', ["x.toml:4", "fault.host", "no key"]),
        (
            'hosts = 5\n[[fault]]\nkind = "crash"\nat_s = 1\nhost = 5\ndown_s = 1\n',
            ["fault.host", "hosts 0 to 4"],
        ),
        ("hosts = 5\nabsent = [5]\n", ["x.toml:2", "absent", "hosts 0 to 4"]),
        ("hosts = 2\nabsent = [0, 1]\n", ["x.toml:2", "absent", "no host at all"]),
        ("absent = 3\n", ["x.toml:1", "absent", "list"]),
        ("placements = [-1]\n", ["x.toml:1", "placements", "from 0"]),
        ("hosts = 9\nleaf_min = 9\nleaf_max = 9\n", ["x.toml:3", "leaf_max", "twice"]),
        (
            'duration_s = 9\n[[fault]]\nkind="expire"\nat_s=1\n[[fault]]\nkind="expire"\nat_s=9\n',
            ["x.toml:7", "fault.at_s", "end of the run at 9 s"],
        ),
        (
            'hosts = 2\n[[fault]]\nkind="expire"\nat_s=1\n'
            '[[fault]]\nkind="cut"\nat_s=1\nlasts_s=1\nhosts=[0,2]\n',
            ["x.toml:9", "fault.hosts", "hosts 0 to 1"],
        ),
        (
            '[[fault]]\nkind="expire"\nat_s=1\n[[fault]]\nkind="cut"\nat_s=1\nhosts=1\n',
            ["x.toml:7", "fault.hosts", "list"],
        ),
        ("hosts = 5\n[fault]\nkind = 'crash'\n", ["x.toml:2", "[[fault]]"]),
        ("hosts = 5\n[[faults]]\nkind = 'crash'\n", ["x.toml:2", "faults", "no key"]),
        ("hosts = 5\nhosts = 6\n", ["x.toml:2", "no TOML"]),
        (
            '[[fault]]\nkind="slow"\nat_s=1\nlasts_s=1\nhost=1\nfactor=0\n',
            ["x.toml:6", "fault.factor", "from 1"],
        ),
        (
            '[[fault]]\nkind="lossy"\nat_s=1\nlasts_s=1\nloss_ppm=2000000\n',
            ["x.toml:5", "fault.loss_ppm", "to 1000000"],
        ),
        (
            '[[fault]]\nkind="cut"\nat_s=1\nlasts_s=1\nhosts=[]\n',
            ["x.toml:5", "fault.hosts", "names nobody"],
        ),
        (
            'hosts=5\n[[fault]]\nkind="broken-link"\nat_s=1\nlasts_s=1\nhost=1\nother=7\n',
            ["x.toml:7", "fault.other", "hosts 0 to 4"],
        ),
        (ON_OWNER + '{kind="crash", at_s=0, host=7, down_s=1}\n', ["x.toml:7", "hosts 0 to 4"]),
        (ON_OWNER + '{kind="crush", at_s=0, host=1}\n', ["x.toml:7", "fault.kind", "crush"]),
        (ON_OWNER + '{kind="outage", at_s=0, lasts_s=1}\n', ["x.toml:7", "a single host"]),
    ],
)
def test_bad_files_name_line_key_value_and_reason(text: str, words: list[str]) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, "x.toml")
    for word in words:
        assert word in caught.value.message
    assert "field" in caught.value.data


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        load_scenario(tmp_path / "none.toml")


def test_flags_are_checked_as_well() -> None:
    with pytest.raises(ScenarioError, match="kill"):
        Scenario(kill=101, duration_s=100).check()
    with pytest.raises(ScenarioError, match="hosts must be a whole number"):
        read_int("hosts", "ten")


# --- kill plans -----------------------------------------------------------------------------------


def test_kills_come_at_their_rate_within_their_time() -> None:
    plan = kill_plan(Streams(1), 1000, 5, 60_000_000, 360_000_000)
    assert 200 < len(plan) < 300
    assert all(60_000_000 <= fault.at_us < 360_000_000 for fault in plan)
    crashes = [fault for fault in plan if isinstance(fault, Crash)]
    assert len(crashes) == len(plan)
    assert min(c.down_us for c in crashes) >= 5_000_000
    assert max(c.down_us for c in crashes) <= 30_000_000


def test_one_host_more_changes_nothing_for_the_others() -> None:
    few = kill_plan(Streams(1), 100, 20, 0, 60_000_000)
    more = kill_plan(Streams(1), 101, 20, 0, 60_000_000)
    assert [fault for fault in more if fault in few] == few
    assert kill_plan(Streams(1), 100, 0, 0, 60_000_000) == []
