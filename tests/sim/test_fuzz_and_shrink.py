"""Sweeps, replay and shrinking, on a violation that is planted by a checker of this test."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.errors import ScenarioError
from fabric.units import SECOND
from sim import fuzz, replay, shrink
from sim.checkers import Checkers
from sim.faults import Crash, Cut, Expire, Fault, Lossy, Outage, Slow
from sim.fuzz import Results, sweep
from sim.gray import OnChairman, OnOwner, Pause, Sever
from sim.jobs import Jobs, Outcome, execute
from sim.run import Run, run
from sim.save import mark, named, read_range, scenario_of, to_toml
from sim.scenario import Scenario, parse_scenario
from sim.shrink import ddmin, shrink_to_files
from sim.swarm import swarm
from sim.watch import WatchedWorld

SMALL = {"leaf_min": 3, "leaf_max": 6, "inner_min": 3, "inner_max": 6}

#: What the planted bug needs is the crash of host 3 within the cut; all else is chaff.
FAULTS: tuple[Fault, ...] = (
    Outage(3 * SECOND, SECOND),
    Crash(4 * SECOND, 7, 5 * SECOND),
    Slow(5 * SECOND, 3 * SECOND, 1, 50),
    Cut(6 * SECOND, (0, 1, 2, 5), 6 * SECOND),
    Lossy(6_500_000, 3 * SECOND, 50_000),
    Crash(8 * SECOND, 3, 6 * SECOND),
    Expire(9 * SECOND),
    Crash(10 * SECOND, 8, 5 * SECOND, wipe=True),
)
PLANTED = Scenario(
    hosts=10, duration_s=20, seed=5, place_rate=10, vm_life_s=5, faults=FAULTS, **SMALL
)  # type: ignore[arg-type]


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Violate ``planted`` when host 3 is down while some hosts are cut off."""
    start = Checkers.start

    def with_planted(self: Checkers) -> None:
        start(self)
        world = self._world
        engine = world.engine

        def look() -> None:
            node = world.hosts[3] if len(world.hosts) > 3 else None
            if node and engine.network.partitions and node.generation and not node.alive:
                world.violation("planted", (node,), "down while others are cut off")
            engine.at(engine.now + SECOND // 2, look)

        look()

    monkeypatch.setattr(Checkers, "start", with_planted)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    yield Jobs(2, timeout_s=300)


# --- shrinking ------------------------------------------------------------------------------------


def test_ddmin_leaves_what_is_needed() -> None:
    tried: list[list[int]] = []

    def first(parts: Iterator[list[int]]) -> list[int] | None:
        for part in parts:
            tried.append(part)
            if {3, 40, 59} <= set(part):
                return part
        return None

    assert ddmin(range(60), first) == [3, 40, 59]
    assert len(tried) < 150


def test_ddmin_of_what_needs_nothing_is_nothing() -> None:
    assert ddmin([1, 2, 3], lambda parts: next(parts)) == []


def test_a_planted_violation_is_shrunk_to_what_it_needs(
    planted: None, jobs: Jobs, tmp_path: Path
) -> None:
    report = shrink_to_files(PLANTED, "5", "planted", jobs, tmp_path, io.StringIO())
    text = Path(report["scenario"]).read_text()
    small = parse_scenario(text, "small")
    assert [type(fault) for fault in small.faults] == [Cut, Crash]
    assert small.faults[1].host == 3  # type: ignore[union-attr]
    assert len(small.faults[0].hosts) == 1  # type: ignore[union-attr]
    assert small.hosts == 4
    assert small.place_rate == 0
    assert small.duration_s <= 9
    assert "planted" in execute(small).invariants
    assert len(text.splitlines()) < 30

    story = Path(report["story"]).read_text()
    assert "host-3" in story.splitlines()[2]
    assert "FAULT crash at_s = 8, host = 3" in story
    assert "VIOLATED planted: down while others are cut off" in story


def test_a_watched_run_does_what_a_normal_one_does() -> None:
    class Counter:
        events = outputs = 0

        def event(self, node: object, event: object) -> None:
            self.events += 1

        def output(self, node: object, kind: str, args: tuple[object, ...]) -> None:
            self.outputs += 1

    counter = Counter()
    watched = Run(PLANTED, WatchedWorld(PLANTED, counter)).go()
    assert watched.ok
    assert watched.trace_hash == run(PLANTED).trace_hash
    assert counter.events > watched.messages
    assert counter.outputs > watched.messages


def test_the_regression_test_fails_with_the_bug_and_passes_without(
    jobs: Jobs, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        report = shrink_to_files(PLANTED, "5", None, jobs, tmp_path, io.StringIO())
        test = load_test(Path(report["test"]))
        with pytest.raises(AssertionError, match="planted"):
            test()
    test()


def load_test(path: Path):  # type: ignore[no-untyped-def]
    names: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    return test


def test_shrinking_what_does_not_fail_is_refused(jobs: Jobs, tmp_path: Path) -> None:
    calm = Scenario(hosts=4, duration_s=3)
    with pytest.raises(ScenarioError, match="nothing fails in this run"):
        shrink_to_files(calm, "calm", None, jobs, tmp_path, io.StringIO())
    with pytest.raises(ScenarioError, match="does not violate two-owners"):
        shrink_to_files(calm, "calm", "two-owners", jobs, tmp_path, io.StringIO())


def test_only_the_placements_that_are_named_are_asked_for() -> None:
    some = Scenario(hosts=4, duration_s=20, place_rate=5, vm_life_s=90, placements=(60, 71))
    assert run(some).placements == 2


# --- sweeps ---------------------------------------------------------------------------------------


def tiny(seed: int) -> Scenario:
    """Six hosts and no faults; seed 2 has what the planted bug needs."""
    bad = seed == 2
    return Scenario(
        hosts=10 if bad else 6, duration_s=11, seed=seed, faults=FAULTS if bad else (), **SMALL
    )  # type: ignore[arg-type]


def test_a_sweep_finds_the_planted_violation(planted: None, jobs: Jobs, tmp_path: Path) -> None:
    results = Results(tmp_path, "sources")
    sweep(range(4), results, jobs, draw=tiny)
    assert sorted(results.done) == [0, 1, 2, 3]
    assert [seed for seed, line in sorted(results.done.items()) if not line["ok"]] == [2]
    assert results.done[2]["invariant"] == "planted"
    assert results.done[2]["nodes"] == ["host-3"]
    assert results.done[2]["scenario"] == mark(tiny(2))
    assert results.done[1]["trace_hash"] == run(tiny(1)).trace_hash
    results.close()


def test_an_interrupted_sweep_goes_on_where_it_was(jobs: Jobs, tmp_path: Path) -> None:
    results = Results(tmp_path, "sources")

    def interrupt() -> None:
        if len(results.done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(range(6), results, jobs, interrupt, draw=tiny)
    results.close()
    with results.path.open("ab") as file:
        file.write(b'{"seed": 5, "ok"')  # the power went while this was written

    again = Results(tmp_path, "sources")
    assert len(again.done) == 3
    drawn: list[int] = []

    def noting(seed: int) -> Scenario:
        drawn.append(seed)
        return tiny(seed)

    before = dict(again.done)
    sweep(range(6), again, jobs, draw=noting)
    assert sorted(again.done) == list(range(6))
    assert not set(drawn) & set(before)
    assert all(again.done[seed] is line for seed, line in before.items())
    again.close()
    assert len(again.path.read_bytes().splitlines()) == 6


def test_a_run_that_died_is_tried_again(jobs: Jobs, tmp_path: Path) -> None:
    results = Results(tmp_path, "sources")
    results.add({"seed": 0, "ok": False, "invariant": "process-died"})
    results.add({"seed": 1, "ok": False, "invariant": "two-owners"})
    sweep(range(2), results, jobs, draw=tiny)
    results.close()
    again = Results(tmp_path, "sources")
    assert again.done[0]["ok"]
    assert again.done[1] == {"seed": 1, "ok": False, "invariant": "two-owners"}
    again.close()


def test_results_of_other_sources_and_of_others_are_refused(tmp_path: Path) -> None:
    results = Results(tmp_path, "sources")
    with pytest.raises(ScenarioError, match="in use by another"):
        Results(tmp_path, "sources")
    results.close()
    with pytest.raises(ScenarioError, match="results of other sources"):
        Results(tmp_path, "others")
    results.path.write_bytes(b"no result\n")
    with pytest.raises(ScenarioError, match="line 1 is no result"):
        Results(tmp_path, "sources")


def test_a_run_that_dies_or_never_ends_is_a_result_and_the_others_go_on() -> None:
    def die() -> Outcome:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def hang() -> Outcome:
        signal.pause()
        raise AssertionError

    def fail() -> Outcome:
        raise ValueError("no")

    outcomes = Jobs(2, timeout_s=2).all([die, hang, fail, lambda: Outcome(events=7)])
    assert [outcome.invariant for outcome in outcomes] == [
        "process-died", "run-does-not-end", "run-raised", None,
    ]  # fmt: skip
    assert outcomes[0].detail == "exit code -9"
    assert outcomes[3].events == 7


def test_the_fuzz_command_reports_and_resumes(
    monkeypatch: pytest.MonkeyPatch, planted: None, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(fuzz, "swarm", tiny)
    monkeypatch.setattr("sim.save.swarm", tiny)
    monkeypatch.setattr(sweep, "__defaults__", (lambda: None, tiny))
    words = {"seeds": "1..3", "dir": str(tmp_path / "d"), "jobs": "2", "json": True}
    assert fuzz.main(words) == 5
    captured = capsys.readouterr()
    report = json.loads(captured.out.splitlines()[-1])
    assert report["done"] == 3
    assert [line["seed"] for line in report["failed"]] == [2]
    assert f"fabric sim shrink 2@{mark(tiny(2))}" in captured.err
    assert len(parse_scenario(Path(report["shrunk"]["planted"]).read_text(), "x").faults) == 2
    assert fuzz.main(words) == 5
    assert "3 of 3 seeds were done before" in capsys.readouterr().err


# --- scenarios and seeds as text ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_what_the_swarm_draws_can_be_written_and_read_back(seed: int) -> None:
    scenario = swarm(seed)
    assert parse_scenario(to_toml(scenario, "a\nb"), "file") == scenario


def test_every_setting_can_be_written_and_read_back() -> None:
    odd = Scenario(hosts=3, seed=1 << 60, preformed=True, placements=(1, 5), checkers=False)
    assert parse_scenario(to_toml(odd), "file") == odd
    late = Scenario(hosts=3, faults=(Cut(1, (0, 2), 86_399_999_999, one_way=True),))
    assert parse_scenario(to_toml(late), "file") == late


def test_faults_within_faults_can_be_written_and_read_back() -> None:
    cut = Cut(0, (0,), 8 * SECOND, one_way=True)
    faults = (OnOwner(SECOND, 1, 2, cut), OnChairman(5, Pause(0, 0, 7_500_000)), Sever(1, -1, 9))
    scenario = Scenario(hosts=3, faults=faults)
    assert parse_scenario(to_toml(scenario), "file") == scenario
    broken = to_toml(scenario).replace('kind = "pause"', 'kind = "nap"')
    with pytest.raises(ScenarioError, match=r"fault\.kind must be one of .* \(was 'nap'\)"):
        parse_scenario(broken, "file")


def test_a_seed_is_named_with_what_it_draws() -> None:
    assert scenario_of("17") == swarm(17)
    assert scenario_of(named(17)) == swarm(17)
    with pytest.raises(ScenarioError, match="seed 17 is of another version"):
        scenario_of("17@00000000")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version = 2\nhosts = 3", "f:1: version must be 1: this is a scenario of another version"),
        ("hosts = 3\nversion = true", "f:2: version must be 1"),
        ("hosts = 3\nplacements = [1, 'a']", "f:2: placements must be a list of whole numbers"),
        ("hosts = 3\nhots = 3", "f:2: hots is no key of a scenario"),
        ("hosts = 3\n[[fault]]\nkind = 'crash'\nat_s = 1\nhost = 3\ndown_s = 1",
         "f:5: fault.host does not exist: there are hosts 0 to 2"),
    ],
)  # fmt: skip
def test_files_of_another_kind_are_refused_by_line(text: str, says: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse_scenario(text, "f")
    assert error.value.message.startswith(says)


@pytest.mark.parametrize("text", ["", "3..1", "a..b", "1..", "-1..4", "1...3"])
def test_bad_ranges_are_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"must be A\.\.B"):
        read_range(text)


def test_a_sweep_is_bounded() -> None:
    with pytest.raises(ScenarioError, match="at most 1,000,000"):
        read_range("1..9999999999")


def test_ranges_include_both_ends() -> None:
    assert list(read_range("3..5")) == [3, 4, 5]
    assert list(read_range("8")) == [8]


def test_replay_runs_a_file_and_tells_violations(
    planted: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "planted.toml"
    path.write_text(to_toml(PLANTED))
    assert replay.main({"what": str(path), "json": True}) == 5
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {v["invariant"] for v in result["violations"]} == {"planted"}
    assert replay.main({"what": str(path), "show": True}) == 0
    assert capsys.readouterr().out == to_toml(PLANTED)
    with pytest.raises(ScenarioError, match="neither a seed"):
        replay.main({"what": "nowhere.toml"})


def test_shrink_as_a_command(
    planted: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "planted.toml"
    path.write_text(to_toml(PLANTED))
    words = {"what": str(path), "dir": str(tmp_path), "max_runs": "60", "json": True}
    assert shrink.main(words) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["invariant"] == "planted"
    assert report["runs"] <= 62
