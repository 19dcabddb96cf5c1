"""``fabric sim fuzz``: many seeds, each its own small fabric with its own faults; what breaks?

Each seed is one run of :func:`sim.swarm.swarm`, in a process of its own.  What a seed gave is
appended to ``DIR/results.jsonl`` as soon as it is known, one line each; started again, the command
goes on with the seeds that are missing.  ``DIR/about.json`` says which sources gave the results:
other sources do not add to them.  In the end, the first failing seed of each invariant is shrunk
(:mod:`sim.shrink`) into ``DIR``.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from fabric.errors import ScenarioError
from sim import compiled, shrink
from sim.display import LIVE_EVERY_S, PLAIN_EVERY_S
from sim.jobs import TIMEOUT_S, Jobs, Outcome, Work, execute
from sim.save import mark, named, read_range
from sim.scenario import Scenario, read_int
from sim.swarm import swarm

#: Failing seeds that are listed; the others are counted, and stand in the results.
SHOWN: Final = 20
#: The computer may have been at fault, not the run: the next sweep tries these again.
UNSURE: Final = frozenset({"process-died", "run-does-not-end"})

Draw = Callable[[int], Scenario]


class Results:
    """The directory of a sweep: what each seed gave. One process at a time has it open."""

    def __init__(self, folder: Path, sources: str) -> None:
        """Open ``folder``, made if missing. Raises ``ScenarioError`` if it is of others."""
        self.folder = folder
        self.path = folder / "results.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise _bad_dir(folder, f"cannot be written ({error.strerror})") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise _bad_dir(folder, "is in use by another fabric sim fuzz") from None
        try:
            self._check_sources(sources)
            #: Seed -> its line.
            self.done: dict[int, dict[str, Any]] = dict(self._read())
        except ScenarioError:
            self.close()
            raise

    def close(self) -> None:
        """Let others have the directory."""
        self._file.close()

    def settled(self, seed: int) -> bool:
        """Tell whether ``seed`` need not be run (again)."""
        line = self.done.get(seed)
        return line is not None and line["invariant"] not in UNSURE

    def add(self, line: dict[str, Any]) -> None:
        """Keep what a seed gave, on disk."""
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done[line["seed"]] = line

    def _check_sources(self, sources: str) -> None:
        about = self.folder / "about.json"
        if not about.exists():
            about.write_text(json.dumps({"sources": sources}) + "\n", encoding="utf-8")
            return
        try:
            before = str(json.loads(about.read_text(encoding="utf-8"))["sources"])
        except (ValueError, KeyError, TypeError):
            raise _bad_dir(self.folder, "has an about.json that fuzz did not write") from None
        if before != sources:
            raise _bad_dir(
                self.folder,
                f"holds results of other sources ({before[:8]}, these are {sources[:8]}); "
                "use another directory, or remove this one",
            )

    def _read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        self._file.seek(0)
        raw = self._file.read()
        # what was being written when the power went: that seed is run again
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            self._file.truncate(whole)
        for number, text in enumerate(raw[:whole].splitlines(), 1):
            try:
                line = json.loads(text)
                yield int(line["seed"]), line
            except (ValueError, KeyError, TypeError):
                raise _bad_dir(self.path, f"line {number} is no result") from None


def _bad_dir(path: Path, reason: str) -> ScenarioError:
    return ScenarioError(f"{path}: {reason}", {"field": "dir", "value": str(path)})


def sweep(
    seeds: Sequence[int],
    results: Results,
    jobs: Jobs,
    tell: Callable[[], None] = lambda: None,
    draw: Draw = swarm,
) -> None:
    """Run those of ``seeds`` that ``results`` does not have; ``tell`` is called after each."""

    def work(seed: int) -> Work:
        return lambda: execute(draw(seed))

    missing = [seed for seed in seeds if not results.settled(seed)]
    running = jobs.each((seed, work(seed)) for seed in missing)
    try:
        for seed, outcome in running:
            results.add(_line(seed, mark(draw(seed)), outcome))
            tell()
    finally:
        running.close()  # ends what still runs


def _line(seed: int, scenario: str, outcome: Outcome) -> dict[str, Any]:
    return {"seed": seed, "scenario": scenario, "ok": outcome.ok, **dataclasses.asdict(outcome)}


class Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, seeds: Sequence[int], results: Results, stream: TextIO) -> None:
        self._seeds = seeds
        self._results = results
        self._stream = stream
        self._next = 0.0
        self._bar: Any = None
        if stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("[bold]fuzzing"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[line]}"),
                TimeRemainingColumn(),
                console=Console(file=stream),
                auto_refresh=False,  # no thread in a process that forks
            )
            self._task = self._bar.add_task("seeds", total=len(seeds), line="")
            self._bar.start()

    def tell(self) -> None:
        """Show how far it is, if it is time to."""
        if time.monotonic() < self._next:
            return
        done = [line for seed in self._seeds if (line := self._results.done.get(seed))]
        failed = sum(not line["ok"] for line in done)
        text = f"{len(done):,} of {len(self._seeds):,} seeds, {failed:,} failed"
        if self._bar is None:
            self._next = time.monotonic() + PLAIN_EVERY_S
            print(text, file=self._stream, flush=True)
        else:
            self._next = time.monotonic() + LIVE_EVERY_S
            self._bar.update(self._task, completed=len(done), line=text)
            self._bar.refresh()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def terminable() -> Iterator[None]:
    """Have SIGTERM end a sweep as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- command line ---------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim fuzz``."""
    parser.add_argument("--seeds", metavar="A..B", required=True, help="both included")
    parser.add_argument("--dir", metavar="DIR", required=True, help="keeps what was found")
    add_job_arguments(parser)
    parser.add_argument(
        "--no-shrink", action="store_true", help="list failing seeds, do not shrink them"
    )
    parser.add_argument(
        "--compiled", action="store_true", help="use the compiled core that `make compiled` made"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as last line")


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all commands with many runs have."""
    parser.add_argument("--jobs", metavar="N", help="runs at the same time (default: one per core)")
    parser.add_argument(
        "--timeout", metavar="S", help=f"wall seconds a run may take (default {TIMEOUT_S:.0f})"
    )


def jobs_from(arguments: Mapping[str, Any]) -> Jobs:
    """Return what ``--jobs`` and ``--timeout`` ask for. Raises ``ScenarioError``."""
    values = {}
    for name, highest in (("jobs", 1_000), ("timeout", 86_400)):
        raw = arguments.get(name)
        values[name] = 0 if raw is None else read_int(f"--{name}", str(raw))
        if raw is not None and not 1 <= values[name] <= highest:
            raise ScenarioError(
                f"--{name} must be from 1 to {highest} (was {raw})", {"field": name, "value": raw}
            )
    return Jobs(values["jobs"], values["timeout"] or TIMEOUT_S)


def main(args: argparse.Namespace | Mapping[str, Any]) -> int:
    """Run the command. Returns the exit code (5: seeds failed, 130: interrupted)."""
    arguments = args if isinstance(args, Mapping) else vars(args)
    if arguments.get("compiled"):
        compiled.start_anew()
    seeds = read_range(arguments["seeds"])
    jobs = jobs_from(arguments)
    results = Results(Path(arguments["dir"]), compiled.fingerprint())
    out = sys.stderr if arguments.get("json") else sys.stdout
    progress = Progress(seeds, results, out)
    interrupted = False
    shrunk: dict[str, str] = {}
    try:
        with terminable():
            try:
                before = sum(results.settled(seed) for seed in seeds)
                if before:
                    print(f"{before:,} of {len(seeds):,} seeds were done before", file=out)
                sweep(seeds, results, jobs, progress.tell)
            finally:
                progress.close()
            failed = _failed(seeds, results)
            _list(failed, out)
            if not arguments.get("no_shrink"):
                shrunk = _shrink_firsts(failed, jobs, results.folder, out)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted: what was finished is kept, the same command goes on", file=out)
    finally:
        results.close()
    failed = _failed(seeds, results)
    done = sum(seed in results.done for seed in seeds)
    print(f"{done:,} of {len(seeds):,} seeds done, {len(failed):,} failed", file=out)
    if arguments.get("json"):
        report = {"seeds": len(seeds), "done": done, "interrupted": interrupted,
                  "failed": failed, "shrunk": shrunk}  # fmt: skip
        print(json.dumps(report, separators=(",", ":")), flush=True)
    if interrupted:
        return 130
    return 5 if failed else 0


def _failed(seeds: Sequence[int], results: Results) -> list[dict[str, Any]]:
    lines = (results.done.get(seed) for seed in seeds)
    return [line for line in lines if line is not None and not line["ok"]]


def _list(failed: list[dict[str, Any]], out: TextIO) -> None:
    for line in failed[:SHOWN]:
        nodes = ", ".join(line["nodes"][:6])
        print(f"! seed {line['seed']}: {line['invariant']} at {line['at_s']:.3f} s ({nodes}): "
              f"{line['detail'][:200]}", file=out)  # fmt: skip
        print(f"    fabric sim shrink {line['seed']}@{line['scenario']}", file=out)
    if len(failed) > SHOWN:
        print(f"! and {len(failed) - SHOWN:,} more", file=out)


def _shrink_firsts(
    failed: list[dict[str, Any]], jobs: Jobs, folder: Path, out: TextIO
) -> dict[str, str]:
    """Shrink one seed per invariant; return the scenario file of each."""
    files: dict[str, str] = {}
    for line in failed:
        invariant = line["invariant"]
        if invariant in files:
            continue
        name = named(line["seed"])
        path = shrink.scenario_path(folder, name, invariant)
        if not path.exists():
            print(f"shrinking {name} ({invariant})", file=out, flush=True)
            shrink.shrink_to_files(swarm(line["seed"]), name, invariant, jobs, folder, out)
        files[invariant] = str(path)
    return files
