"""A planted bug of the agent: shrunk to a few lines, with the story of what led to it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from agent import books
from fabric.machine import Received
from fabric.units import SECOND
from sim import replay
from sim.causes import Causes
from sim.faults import Crash, Cut, Fault, Lossy, Outage, Slow
from sim.gray import OnOwner
from sim.jobs import Jobs
from sim.run import Run, main, run
from sim.save import to_toml
from sim.scenario import Scenario, parse_scenario
from sim.shrink import shrink_to_files
from sim.simpler import renumbered, rounded, simpler
from sim.story import causal_story, last_messages
from sim.watch import WatchedWorld
from sim.world import Violation

FAULTS: tuple[Fault, ...] = (
    Lossy(12 * SECOND, 3 * SECOND, 20_000, 20_000),
    Cut(13_500_000, (0, 4), 2_345_678, one_way=True),
    Crash(20_250_000, 2, 4_400_000),
    Slow(21 * SECOND, 3 * SECOND, 1, 20),
    Outage(23 * SECOND, 2 * SECOND),
)
STORM = Scenario(hosts=6, duration_s=40, seed=5, place_rate=4, vm_life_s=80, faults=FAULTS)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a bug: a restarted host does not know what it had promised."""
    restore = books.Books.restore

    def restore_nothing(
        self: books.Books, stored: Iterable[tuple[bytes, bytes]], now: int, out: Any
    ) -> None:
        kept = [row for row in stored if not row[0].startswith(books.RESERVATION_PREFIX)]
        restore(self, kept, now, out)

    monkeypatch.setattr(books.Books, "restore", restore_nothing)


def shrunk(folder: Path) -> tuple[Scenario, str]:
    report = shrink_to_files(STORM, "storm", None, Jobs(2, timeout_s=300), folder, io.StringIO())
    assert report["invariant"] == "lost-reservation"
    text = Path(report["scenario"]).read_text()
    return parse_scenario(text, "small"), Path(report["story"]).read_text()


def test_without_the_bug_nothing_is_violated() -> None:
    assert run(STORM).ok


@pytest.mark.usefixtures("forgetful")
def test_the_bug_becomes_one_crash_of_one_host_with_one_placement(tmp_path: Path) -> None:
    small, text = shrunk(tmp_path)
    (crash,) = small.faults
    assert isinstance(crash, Crash)
    assert (crash.at_us % SECOND, crash.down_us) == (0, SECOND)
    assert small.hosts - len(small.absent) == 1
    assert len(small.placements) == 1
    assert small.duration_s < 40
    assert len(to_toml(small).splitlines()) <= 15

    lines = text.splitlines()
    places = [
        next(nth for nth, line in enumerate(lines) if word in line)
        for word in ("PlaceAsk", "Reserve(", "Confirm(", "FAULT crash", "starts again", "VIOLATED")
    ]
    assert places == sorted(places)
    key = f"p{small.placements[0]}"
    assert all(f"'{key}'" in line for line in lines if "Reserve(" in line or "Confirm(" in line)
    assert not any("Ping(" in line for line in lines)


@pytest.mark.usefixtures("forgetful")
def test_a_violation_comes_with_its_last_messages(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "storm.toml"
    path.write_text(to_toml(STORM))
    assert main({"scenario": str(path), "json": True}) == 5
    captured = capsys.readouterr()
    first = json.loads(captured.out.splitlines()[-1])["violations"][0]
    assert (first["invariant"], first["nodes"]) == ("lost-reservation", ["host-2"])
    messages = first["messages"]
    assert any("Confirm" in line and f"'{first['detail']}'" in line for line in messages)
    assert messages[-1] in captured.err
    told = Violation(first["invariant"], first["at_s"], ("host-2",), first["detail"])
    assert list(last_messages(STORM, told)) == messages


@pytest.mark.usefixtures("forgetful")
def test_replay_draws_the_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "storm.toml"
    path.write_text(to_toml(STORM))
    assert replay.main({"what": str(path), "story": True}) == 5
    out = capsys.readouterr().out
    assert "VIOLATED lost-reservation" in out
    assert "FAULT crash at_s = 20.25, host = 2, down_s = 4.4" in out


def test_a_run_that_holds_has_no_story() -> None:
    assert "did not come again" in causal_story(Scenario(hosts=3, duration_s=3), "two-owners")


def test_every_message_that_arrives_has_the_step_that_sent_it_as_its_cause() -> None:
    causes = Causes()
    recorded = Run(STORM, WatchedWorld(STORM, causes)).go()
    assert recorded.trace_hash == run(STORM).trace_hash
    steps = causes.steps()
    heard = [step for step in steps if isinstance(step.event, Received)]
    assert len(heard) > 1000
    for step in heard:
        assert step.cause is not None
        assert step.cause.number < step.number
        assert any(said.what is step.event.message for said in step.cause.said)
        assert step.cause.node.node_id == step.event.sender


# --- simpler scenarios ----------------------------------------------------------------------------


def test_times_become_whole_seconds_and_shorter() -> None:
    crash = Crash(20_250_000, 2, 4_400_000, wipe=True)
    assert rounded(crash) == Crash(20 * SECOND, 2, 4 * SECOND, wipe=True)
    assert simpler(crash) == [
        Crash(20 * SECOND, 2, 4_400_000, wipe=True),
        Crash(20_250_000, 2, SECOND, wipe=True),
        Crash(20_250_000, 2, 2 * SECOND, wipe=True),
        Crash(20_250_000, 2, 4 * SECOND, wipe=True),
        Crash(20_250_000, 2, 4_400_000),
    ]
    assert simpler(Crash(SECOND, 0, SECOND)) == []
    inner = OnOwner(SECOND, 0, 0, Crash(0, 0, 1_500_000))
    assert OnOwner(SECOND, 0, 0, Crash(0, 0, SECOND)) in simpler(inner)


def test_hosts_that_are_left_are_numbered_from_zero() -> None:
    faults: tuple[Fault, ...] = (Cut(SECOND, (2, 5), SECOND), Crash(SECOND, -1, SECOND))
    scenario = Scenario(hosts=6, absent=(0, 1, 4), faults=faults)
    (small,) = renumbered(scenario)
    assert (small.hosts, small.absent) == (3, ())
    assert small.faults == (Cut(SECOND, (0, 2), SECOND), Crash(SECOND, -1, SECOND))
    assert renumbered(Scenario(hosts=6, absent=(5,), faults=faults)) == []
    assert renumbered(Scenario(hosts=6, faults=faults)) == []
