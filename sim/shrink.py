"""``fabric sim shrink``: from a failing run to the few things that it needs to fail.

Delta debugging (Zeller's ddmin) over faults, placements and hosts, then over the duration and all
settings that differ from their defaults.  A smaller run counts only if it violates the *same
invariant*; that it does so at another time or on other nodes does not matter.  It works since all
randomness is keyed (:mod:`sim.streams`): to leave a fault out changes nothing about the others.

Candidates run in parallel, and of those that fail the first in order is taken, so the result does
not depend on the number of cores.  It is a scenario file, a regression test that fails for as long
as the bug is there, and the story of the run (:mod:`sim.story`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO, TypeVar

from fabric.errors import ScenarioError
from sim import compiled
from sim.faults import Fault
from sim.jobs import Jobs, Outcome, Work, execute
from sim.save import mark, scenario_of, to_toml
from sim.scenario import Scenario, read_int
from sim.simpler import ending, present, renumbered, rounded, simpler, with_hosts, without
from sim.story import causal_story
from sim.world import FIRST_HOST_US, fault_plan

T = TypeVar("T")

#: Runs that a shrinking may take. Most take about a hundred.
MAX_RUNS: Final = 500
#: Settings that are not tried at their defaults: they are shrunk otherwise, or say what the run is.
_KEPT: Final = frozenset({"hosts", "seed", "duration_s", "faults", "placements", "checkers",
                          "trace", "absent", "leaf_min", "leaf_max", "inner_min",
                          "inner_max"})  # fmt: skip
_SECOND_US: Final = 1_000_000

#: Runs candidates and says what became of each.
Oracle = Callable[[Sequence[Scenario]], list[Outcome]]


def ddmin(items: Sequence[T], first: Callable[[Iterator[list[T]]], list[T] | None]) -> list[T]:
    """Return a part of ``items`` of which nothing can be left out.

    ``first`` gets candidates and returns the first that still fails, or ``None``.
    """
    now = list(items)
    if not now or first(iter([[]])) is not None:
        return []
    parts = 2
    while len(now) > 1:
        size = -(-len(now) // parts)
        chunks = [now[at : at + size] for at in range(0, len(now), size)]
        alone = first(iter(chunks))
        if alone is not None:
            now, parts = alone, 2
            continue
        # of two chunks each is what the other leaves: these were tried just now
        rests = [now[:at] + now[at + size :] for at in range(0, len(now), size)]
        rest = first(iter(rests)) if len(chunks) > 2 else None
        if rest is not None:
            now, parts = rest, max(parts - 1, 2)
        elif size == 1:
            break
        else:
            parts = min(parts * 2, len(now))
    return now


class Shrinker:
    """Makes one failing scenario smaller and smaller."""

    def __init__(
        self,
        scenario: Scenario,
        invariant: str,
        oracle: Oracle,
        batch: int = 1,
        max_runs: int = MAX_RUNS,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.now = scenario
        self.outcome = Outcome()
        self.runs = 0
        self._invariant = invariant
        self._oracle = oracle
        self._batch = batch
        self._max_runs = max_runs
        self._tell = tell
        #: Candidates that did not fail in the wanted way.
        self._held: set[str] = set()

    def shrink(self) -> Scenario:
        """Return the smallest scenario found that fails in the same way."""
        plain = dataclasses.replace(self.now, faults=tuple(fault_plan(self.now)), kill=0)
        if self._first([plain]) is None:
            raise ScenarioError(
                f"this run does not violate {self._invariant}: nothing to shrink",
                {"field": "scenario"},
            )
        before = ""
        while before != mark(self.now) and self.runs < self._max_runs:
            before = mark(self.now)
            for name, step in (
                ("duration", self._duration),
                ("faults", self._faults),
                ("settings", self._settings),
                ("placements", self._placements),
                ("hosts", self._hosts),
                ("hosts left out", self._absent),
                ("sides of cuts", self._sides),
                ("numbers", self._numbers),
            ):
                if self.runs >= self._max_runs:
                    break
                step()
                self._tell(f"{name}: {self.describe()}")
        return self.now

    def describe(self) -> str:
        """Say how big the scenario is now."""
        now = self.now
        placements = f"{len(now.placements)}" if now.placements else f"{now.place_rate}/s"
        return (
            f"{len(now.faults)} faults, {placements} placements, {len(present(now))} hosts, "
            f"{now.duration_s} s ({self.runs} runs)"
        )

    # --- trying -----------------------------------------------------------------------------------

    def _first(self, candidates: Iterable[Scenario]) -> Scenario | None:
        """Run candidates; take the first one that fails in the same way, if there is one."""
        fresh = (c for c in candidates if _possible(c) and mark(c) not in self._held)
        while self.runs < self._max_runs and (batch := list(islice(fresh, self._batch))):
            outcomes = self._oracle(batch)
            self.runs += len(batch)
            for candidate, outcome in zip(batch, outcomes, strict=True):
                if self._invariant in outcome.invariants:
                    self.now, self.outcome = candidate, outcome
                    return candidate
                self._held.add(mark(candidate))
        return None

    def _duration(self) -> None:
        """End right after the violation: every later run is shorter for it."""
        seen = int(self.outcome.at_s)
        lengths = [seen + 1, seen + 5, seen + 30]
        self._first(ending(self.now, s) for s in lengths if s < self.now.duration_s)

    def _faults(self) -> None:
        def first(parts: Iterator[list[Fault]]) -> list[Fault] | None:
            found = self._first(self._with(faults=tuple(part)) for part in parts)
            return None if found is None else list(found.faults)

        ddmin(self.now.faults, first)

    def _settings(self) -> None:
        for field in dataclasses.fields(Scenario):
            if field.name not in _KEPT and getattr(self.now, field.name) != field.default:
                self._first([self._with(**{field.name: field.default})])

    def _placements(self) -> None:
        now = self.now
        if not now.place_rate:
            return
        least_us = now.duration_s * _SECOND_US - FIRST_HOST_US
        asked = range(max(least_us, 0) * now.place_rate // _SECOND_US + 1)

        def first(parts: Iterator[list[int]]) -> list[int] | None:
            # none at all is place_rate = 0, which the settings have tried
            some = (tuple(part) for part in parts if part)
            found = self._first(self._with(placements=part) for part in some)
            return None if found is None else list(found.placements)

        ddmin(now.placements or asked, first)

    def _hosts(self) -> None:
        """Halve the number of hosts for as long as that fails, then look in between."""
        low, high = 0, self.now.hosts
        while high - low > 1:
            middle = (low + high) // 2
            if self._first([with_hosts(self.now, middle)]) is None:
                low = middle
            else:
                high = middle

    def _absent(self) -> None:
        """Leave out single hosts, wherever they stand; then number those that are left anew."""
        base = self.now

        def first(parts: Iterator[list[int]]) -> list[int] | None:
            found = self._first(without(base, tuple(part)) for part in parts if part)
            return None if found is None else present(found)

        ddmin(present(base), first)
        self._first(renumbered(self.now))

    def _numbers(self) -> None:
        """Rounder and smaller numbers in faults: all at once, then fault by fault."""
        self._first([self._with(faults=tuple([rounded(fault) for fault in self.now.faults]))])
        for nth in range(len(self.now.faults)):
            while self._first([self._changed(nth, f) for f in simpler(self.now.faults[nth])]):
                pass

    def _changed(self, nth: int, fault: Fault) -> Scenario:
        faults = self.now.faults
        return self._with(faults=(*faults[:nth], fault, *faults[nth + 1 :]))

    def _sides(self) -> None:
        for nth, fault in enumerate(self.now.faults):
            hosts = getattr(fault, "hosts", None)
            if not isinstance(hosts, tuple) or len(hosts) < 2:
                continue

            def first(parts: Iterator[list[int]], nth: int = nth) -> list[int] | None:
                found = self._first(self._side(nth, part) for part in parts if part)
                return None if found is None else list(getattr(found.faults[nth], "hosts"))  # noqa: B009

            ddmin(hosts, first)

    def _side(self, nth: int, hosts: list[int]) -> Scenario:
        return self._changed(nth, _replace(self.now.faults[nth], hosts=tuple(hosts)))

    def _with(self, **changes: Any) -> Scenario:
        return dataclasses.replace(self.now, **changes)


def _replace(fault: Any, **changes: Any) -> Fault:
    changed: Fault = dataclasses.replace(fault, **changes)
    return changed


def _possible(scenario: Scenario) -> bool:
    try:
        scenario.check()
    except ScenarioError:
        return False
    return True


# --- what comes out -------------------------------------------------------------------------------


def scenario_path(folder: Path, name: str, invariant: str) -> Path:
    """Return where the shrunk scenario of ``name`` (a seed, a file) goes."""
    return folder / f"{_identifier(invariant)}_{_identifier(Path(name).stem)}.toml"


def _identifier(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()


def shrink_to_files(
    scenario: Scenario,
    name: str,
    invariant: str | None,
    jobs: Jobs,
    folder: Path,
    out: TextIO,
    max_runs: int = MAX_RUNS,
) -> dict[str, Any]:
    """Shrink, write scenario, test and story to ``folder``, say so on ``out``; return a report.

    Without ``invariant``, the first one that is violated is kept. Raises ``ScenarioError`` when
    nothing is.
    """

    def oracle(candidates: Sequence[Scenario]) -> list[Outcome]:
        return jobs.all([_work(candidate, invariant) for candidate in candidates])

    if invariant is None:
        invariant = oracle([scenario])[0].invariant
        if invariant is None:
            raise ScenarioError(f"{name}: nothing fails in this run", {"field": "scenario"})

    def tell(line: str) -> None:
        print(f"  {line}", file=out, flush=True)

    shrinker = Shrinker(scenario, invariant, oracle, jobs.jobs, max_runs, tell)
    small = shrinker.shrink()
    outcome = shrinker.outcome
    nodes = ", ".join(outcome.nodes[:6]) or "-"
    what = f"{invariant} at {outcome.at_s:.3f} s ({nodes}): {outcome.detail[:300]}"
    path = scenario_path(folder, name, invariant)
    test = path.with_name(f"test_{path.stem}.py")
    story = path.with_suffix(".txt")
    folder.mkdir(parents=True, exist_ok=True)
    text = to_toml(small, f"{what}\nShrunk from {name} in {shrinker.runs} runs.")
    test.write_text(regression_test(path.stem, what, name, small), encoding="utf-8")
    (told,) = jobs.all([lambda: Outcome(detail=causal_story(small, invariant))])
    chart = told.detail
    story.write_text(f"{what}\n\n{chart}", encoding="utf-8")
    # last: a directory with the scenario has the rest
    path.write_text(text, encoding="utf-8")
    print(f"{text}\n{chart}", file=out)
    print(f"scenario: {path}\ntest:     {test}\nstory:    {story}", file=out, flush=True)
    return {
        "invariant": invariant,
        "runs": shrinker.runs,
        "hosts": len(present(small)),
        "faults": len(small.faults),
        "duration_s": small.duration_s,
        "scenario": str(path),
        "test": str(test),
        "story": str(story),
    }


def _work(scenario: Scenario, invariant: str | None) -> Work:
    return lambda: execute(scenario, invariant)


def regression_test(stem: str, what: str, name: str, scenario: Scenario) -> str:
    """Return a test module that fails for as long as ``scenario`` violates anything."""
    says = what.replace("\\", "/").replace('"""', "'''")
    return f'''\
"""{says}

Found and shrunk by the simulator (from {name}).
"""

import json

from sim.run import run
from sim.scenario import parse_scenario

SCENARIO = """\\
{to_toml(scenario)}"""


def test_{stem}() -> None:
    result = run(parse_scenario(SCENARIO, "{stem}"))
    assert result.ok, json.dumps(result.violations[:5], indent=1)
'''


# --- command line ---------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim shrink``."""
    from sim.fuzz import add_job_arguments

    parser.add_argument("what", metavar="SEED|FILE", help="seed, SEED@MARK or scenario file")
    parser.add_argument("--dir", metavar="DIR", default=".", help="where the results go (here)")
    parser.add_argument("--invariant", metavar="NAME", help="keep this one (default: the first)")
    parser.add_argument(
        "--max-runs", metavar="N", default=str(MAX_RUNS), help=f"at most so many ({MAX_RUNS})"
    )
    add_job_arguments(parser)
    parser.add_argument(
        "--compiled", action="store_true", help="use the compiled core that `make compiled` made"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as last line")


def main(args: argparse.Namespace | Mapping[str, Any]) -> int:
    """Run the command. Returns the exit code (0: shrunk)."""
    from sim.fuzz import jobs_from

    arguments = args if isinstance(args, Mapping) else vars(args)
    if arguments.get("compiled"):
        compiled.start_anew()
    scenario = scenario_of(arguments["what"])
    max_runs = read_int("--max-runs", arguments["max_runs"])
    out = sys.stderr if arguments.get("json") else sys.stdout
    try:
        report = shrink_to_files(
            scenario,
            Path(arguments["what"]).name,
            arguments.get("invariant"),
            jobs_from(arguments),
            Path(arguments["dir"]),
            out,
            max_runs,
        )
    except KeyboardInterrupt:
        print("interrupted", file=out)
        return 130
    if arguments.get("json"):
        print(json.dumps(report, separators=(",", ":")), flush=True)
    return 0
