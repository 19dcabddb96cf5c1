"""``fabric sim diverge``: the first event at which two runs of one scenario differ.

The same scenario runs in other processes: under another hash seed, another interpreter, with the
compiled core.  Each keeps the digest of its trace after every :data:`~sim.trace.WINDOW` words
(some 4,096 events).  Digests are cumulative, so the first unequal one tells the window of the first
difference; both runs are then done again, and log that one window word by word.  This is exact, and
needs no snapshots.

With ``--seeds A..B`` (``make campaign-determinism``) many seeds are compared by their last digests,
and the first that differs is looked into.

A worker is this module with ``--work``: it reads a request from stdin, a JSON object, and answers
with one JSON object per scenario.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from fabric.errors import ScenarioError
from fabric.machine import WOKEN, Event, Received
from fabric.units import SECOND
from sim import compiled
from sim.engine import Node
from sim.fuzz import Results
from sim.run import Run
from sim.save import named, read_range, scenario_of, to_toml
from sim.scenario import Scenario, parse_scenario, read_int
from sim.swarm import swarm
from sim.trace import Trace
from sim.watch import WatchedWorld
from sim.world import SimWorld

#: Two that order sets of texts differently.
HASH_SEEDS: Final = ("0", "987654")
#: Scenarios that one worker of a campaign runs before it is replaced.
CHUNK: Final = 10
#: Lines before the difference that are shown.
CONTEXT: Final = 5


# --- the worker: one run, its digests, one window of it in full -----------------------------------


class WindowTrace(Trace):
    """Keeps the digest of each window, and the words of one of them."""

    def __init__(self, window: int = -1) -> None:
        super().__init__(keep=True)
        self.window = window
        self.logged: list[int] = []

    def flush(self) -> None:
        if len(self.windows) == self.window and not self.logged:
            self.logged = self.words.numbers()
        super().flush()


class Logger:
    """Notes in words what happens in one window, and how many words of the trace that made."""

    def __init__(self, trace: WindowTrace) -> None:
        self._trace = trace
        #: (number of words up to the end of it, text).
        self.lines: list[tuple[int, str]] = []
        #: An output's words are there only when it has been carried out.
        self._open: str | None = None

    def event(self, node: Node, event: Event | None) -> None:
        if len(self._trace.windows) == self._trace.window:
            self._end()
            what = "starts" if event is None else _event_text(event)
            text = f"{node.engine.now / SECOND:.6f} s {node.role.name} {what}"
            self.lines.append((len(self._trace.words), text))

    def output(self, node: Node, kind: str, args: tuple[Any, ...]) -> None:
        if len(self._trace.windows) == self._trace.window:
            self._end()
            text = ", ".join(str(arg) for arg in args)
            self._open = f"{node.engine.now / SECOND:.6f} s {node.role.name}   {kind} {text:.300}"

    def _end(self) -> None:
        if self._open is not None:
            self.lines.append((len(self._trace.words), self._open))
            self._open = None

    def finish(self) -> list[tuple[int, str]]:
        """Return all lines."""
        if self._open is not None:
            self.lines.append((len(self._trace.logged), self._open))
            self._open = None
        return self.lines


def _event_text(event: Event) -> str:
    if event is WOKEN:
        return "wakes"
    if isinstance(event, Received):
        return f"receives from {event.sender}: {event.message!s:.300}"
    return f"gets {event!s:.300}"


def observe(scenario: Scenario, window: int = -1) -> dict[str, Any]:
    """Run ``scenario`` here; return its digests, and with ``window`` that window in full."""
    trace = WindowTrace(window)
    if window < 0:
        result = Run(scenario, SimWorld(scenario, trace)).go()
        return {"hash": result.trace_hash, "windows": trace.windows, "events": result.events}
    logger = Logger(trace)
    Run(scenario, WatchedWorld(scenario, logger, trace)).go()
    return {"words": trace.logged, "lines": logger.finish()}


def work() -> None:
    """Answer the request on stdin: the whole life of a worker."""
    request = json.load(sys.stdin)
    for text in request["scenarios"]:
        answer = observe(parse_scenario(text, "stdin"), request["window"])
        answer["compiled"] = compiled.running()
        print(json.dumps(answer, separators=(",", ":")), flush=True)


# --- asking workers -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a scenario."""

    python: str
    hash_seed: str
    compiled: bool = False

    @property
    def name(self) -> str:
        """What people read."""
        where = "" if self.python == sys.executable else f"{self.python}, "
        return f"{where}hash seed {self.hash_seed}, {'compiled' if self.compiled else 'plain'}"

    def ask(self, scenarios: Sequence[Scenario], window: int = -1) -> list[dict[str, Any]]:
        """Have a worker run ``scenarios``. Raises ``ScenarioError`` if it cannot."""
        folder = compiled.FOLDER if self.compiled else compiled.ROOT
        environment = {**os.environ, "PYTHONHASHSEED": self.hash_seed, "PYTHONPATH": str(folder)}
        request = {"scenarios": [to_toml(s) for s in scenarios], "window": window}
        try:
            done = subprocess.run(
                [self.python, "-P", "-m", "sim.diverge", "--work"],
                input=json.dumps(request),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise _cannot(self, str(error.strerror)) from None
        if done.returncode:
            raise _cannot(self, (done.stderr.strip().splitlines() or ["it said nothing"])[-1])
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        if any(answer["compiled"] != self.compiled for answer in answers):
            raise _cannot(self, "it does not run the core that it should")
        return answers


def _cannot(variant: Variant, why: str) -> ScenarioError:
    return ScenarioError(f"{variant.name}: cannot run ({why})", {"field": "python"})


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two runs part."""

    window: int
    word: int
    before: list[str]
    one: str
    other: str

    def text(self, one: Variant, other: Variant) -> str:
        """Say it to people."""
        lines = [f"first difference: word {self.word} of window {self.window}"]
        lines += [f"    {line}" for line in self.before]
        lines += [f"  - {self.one}", f"  + {self.other}"]
        lines.append(f"  (- {one.name}; + {other.name})")
        return "\n".join(lines)


def first_difference(scenario: Scenario, one: Variant, other: Variant) -> Difference | None:
    """Find where the runs of two variants part; ``None``: nowhere."""
    (a,), (b,) = _both(one, other, scenario, -1)
    if a["hash"] == b["hash"]:
        return None
    pairs = zip(a["windows"], b["windows"], strict=False)
    same = min(len(a["windows"]), len(b["windows"]))
    window = next((nth for nth, (x, y) in enumerate(pairs) if x != y), same)
    (a,), (b,) = _both(one, other, scenario, window)
    words = zip(a["words"], b["words"], strict=False)
    same = min(len(a["words"]), len(b["words"]))
    word = next((nth for nth, (x, y) in enumerate(words) if x != y), same)
    here, there = _line_at(a["lines"], word), _line_at(b["lines"], word)
    before = [text for _, text in a["lines"][max(here - CONTEXT, 0) : here]]
    return Difference(window, word, before, _text(a["lines"], here), _text(b["lines"], there))


def _both(
    one: Variant, other: Variant, scenario: Scenario, window: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    with ThreadPoolExecutor(2) as pool:
        a = pool.submit(one.ask, [scenario], window)
        b = pool.submit(other.ask, [scenario], window)
        return a.result(), b.result()


def _line_at(lines: Sequence[tuple[int, str]], word: int) -> int:
    """Return the number of the line that made ``word``."""
    return next((nth for nth, (end, _) in enumerate(lines) if end > word), len(lines))


def _text(lines: Sequence[tuple[int, str]], nth: int) -> str:
    return lines[nth][1] if nth < len(lines) else "(the run is over)"


# --- campaign -------------------------------------------------------------------------------------


def campaign(
    seeds: Sequence[int],
    variants: Sequence[Variant],
    jobs: int,
    tell: Callable[[int], None] = lambda runs: None,
    results: Results | None = None,
) -> list[int]:
    """Run all ``seeds`` in all ``variants``; return the seeds whose hashes are not all equal.

    Seeds that ``results`` has are not run again; the others are added to it.
    """
    hashes: dict[int, list[str]] = {seed: [] for seed in seeds}
    if results is not None:
        hashes.update({s: line["hashes"] for s, line in results.done.items() if s in hashes})
    missing = [seed for seed in seeds if not hashes[seed]]
    chunks = [missing[at : at + CHUNK] for at in range(0, len(missing), CHUNK)]

    def one(task: tuple[Sequence[int], Variant]) -> tuple[Sequence[int], list[str]]:
        chunk, variant = task
        return chunk, [answer["hash"] for answer in variant.ask([swarm(s) for s in chunk])]

    runs = (len(seeds) - len(missing)) * len(variants)
    with ThreadPoolExecutor(jobs) as pool:
        for chunk, found in pool.map(one, [(c, v) for c in chunks for v in variants]):
            for seed, digest in zip(chunk, found, strict=True):
                hashes[seed].append(digest)
                if results is not None and len(hashes[seed]) == len(variants):
                    results.add({"seed": seed, "hashes": hashes[seed]})
            runs += len(chunk)
            tell(runs)
    return [seed for seed in seeds if len(set(hashes[seed])) > 1]


# --- command line ---------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim diverge``."""
    parser.add_argument("what", metavar="SEED|FILE", nargs="?", help="what to run")
    parser.add_argument("--seeds", metavar="A..B", help="compare many seeds, both included")
    parser.add_argument(
        "--dir", metavar="DIR", help="with --seeds: keeps what was run, and goes on"
    )
    parser.add_argument(
        "--hash-seeds", metavar="N,N", default=",".join(HASH_SEEDS),
        help=f"values of PYTHONHASHSEED (default {','.join(HASH_SEEDS)})",
    )  # fmt: skip
    parser.add_argument(
        "--python", metavar="PATH", action="append", default=[],
        help="another interpreter that has the dependencies; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--compiled", metavar="WHEN", choices=("auto", "yes", "no"), default="auto",
        help="compare with the compiled core: auto (if built), yes, no",
    )  # fmt: skip
    parser.add_argument("--jobs", metavar="N", help="workers at a time (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as last line")


def variants_from(arguments: Mapping[str, Any], out: TextIO) -> list[Variant]:
    """Return the variants that are asked for. Raises ``ScenarioError``."""
    seeds = str(arguments["hash_seeds"]).split(",")
    for seed in seeds:
        if not 0 <= read_int("--hash-seeds", seed) < 1 << 32:
            raise ScenarioError(
                f"--hash-seeds must be from 0 to 4294967295 (was {seed})", {"field": "hash_seeds"}
            )
    problem = compiled.problem()
    when = arguments["compiled"]
    if when == "yes" and problem:
        raise ScenarioError(f"--compiled yes: {problem}", {"field": "compiled"})
    if when == "auto" and problem:
        print(f"not compared with the compiled core: {problem}", file=out)
    cores = (False,) if problem or when == "no" else (False, True)
    mine = [Variant(sys.executable, seed, core) for core in cores for seed in seeds]
    others = [Variant(python, seeds[0]) for python in arguments["python"]]
    variants = list(dict.fromkeys([*mine, *others]))
    if len(variants) < 2:
        raise ScenarioError(
            "there is only one way to run: give two --hash-seeds, or a --python",
            {"field": "hash_seeds"},
        )
    return variants


def main(args: argparse.Namespace | Mapping[str, Any]) -> int:
    """Run the command. Returns the exit code (5: runs differ)."""
    arguments = args if isinstance(args, Mapping) else vars(args)
    what, seeds = arguments.get("what"), arguments.get("seeds")
    if (what is None) == (seeds is None):
        raise ScenarioError("give either SEED|FILE or --seeds A..B", {"field": "arguments"})
    out = sys.stderr if arguments.get("json") else sys.stdout
    variants = variants_from(arguments, out)
    raw = arguments.get("jobs")
    jobs = max(read_int("--jobs", str(raw)) if raw else os.cpu_count() or 1, 1)
    began = time.monotonic()
    report: dict[str, Any] = {"variants": [variant.name for variant in variants]}
    if seeds is not None:
        numbers = read_range(seeds)
        differing = _campaign(numbers, variants, jobs, out, arguments.get("dir"))
        report |= {"seeds": len(numbers), "runs": len(numbers) * len(variants),
                   "differing": [named(seed) for seed in differing]}  # fmt: skip
        scenario = swarm(differing[0]) if differing else None
    else:
        scenario = scenario_of(str(what))
    found = None if scenario is None else _compare(scenario, variants, out)
    report["difference"] = None if found is None else [found.one, found.other]
    report["wall_s"] = round(time.monotonic() - began, 1)
    if arguments.get("json"):
        print(json.dumps(report, separators=(",", ":")), flush=True)
    return 5 if found is not None or report.get("differing") else 0


def _campaign(
    seeds: Sequence[int], variants: Sequence[Variant], jobs: int, out: TextIO, folder: str | None
) -> list[int]:
    total = len(seeds) * len(variants)
    names = "; ".join(v.name for v in variants)

    def tell(runs: int) -> None:
        print(f"{runs:,} of {total:,} runs", file=out, flush=True)

    print(f"{len(seeds):,} seeds, each run with: {names}", file=out)
    if folder is None:
        differing = campaign(seeds, variants, jobs, tell)
    else:
        sources = compiled.fingerprint()
        # by sources: whoever changes them begins anew, and loses nothing of before
        results = Results(Path(folder) / sources[:12], f"{sources} run with {names}")
        try:
            differing = campaign(seeds, variants, jobs, tell, results)
        finally:
            results.close()
    for seed in differing[:20]:
        print(f"! seed {named(seed)} differs", file=out)
    print(f"{len(seeds) - len(differing):,} of {len(seeds):,} seeds identical", file=out)
    return differing


def _compare(scenario: Scenario, variants: Sequence[Variant], out: TextIO) -> Difference | None:
    """Compare the first variant with each other one; return the first difference."""
    first = variants[0]
    for other in variants[1:]:
        found = first_difference(scenario, first, other)
        if found is not None:
            print(found.text(first, other), file=out, flush=True)
            return found
        print(f"identical: {first.name}; {other.name}", file=out, flush=True)
    return None


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        work()
        sys.exit(0)
    _parser = argparse.ArgumentParser(prog="sim.diverge")
    add_arguments(_parser)
    try:
        sys.exit(main(_parser.parse_args()))
    except ScenarioError as _error:
        sys.exit(f"sim.diverge: {_error.message}")
