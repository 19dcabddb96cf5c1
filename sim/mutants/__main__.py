"""``python -m sim.mutants``: plant every bug, one at a time, and say which ones were noticed.

Exit code 0: enough were caught and the unchanged code is blamed for nothing; 5: not; 2: bad flags
or a mutant that does not fit the code any more.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence

from sim.mutants import report
from sim.mutants.catalogue import all_mutants
from sim.mutants.hunt import Catch, blame_nothing, checkout, hunt_all, scratch
from sim.mutants.mutant import Mutant, StaleMutant


def main(words: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    args = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _hunt(args)
    except KeyboardInterrupt:
        print("interrupted; nothing is left behind", file=sys.stderr)
        return 130


def _hunt(args: argparse.Namespace) -> int:
    try:
        mutants = _chosen(args.only)
        root = checkout()
    except (KeyError, FileNotFoundError) as error:
        print(error.args[0], file=sys.stderr)
        return 2
    began = time.monotonic()
    with scratch(root) as base:
        arenas = list(dict.fromkeys(m.arena for m in mutants))
        parts = [] if args.no_baseline else blame_nothing(base, arenas, args.seeds, args.jobs)
        alarms = [part for part in parts if part.caught]
        for part in parts:
            slowest = f", slowest {part.slowest_s:.1f} s"
            print(f"{part.name}: {part.cpu_s:.1f} s of CPU{slowest}", flush=True)
        for alarm in alarms:
            print(f"ALARM   seed {alarm.seed}: {alarm.invariant}: {alarm.detail}", flush=True)
        try:
            catches = hunt_all(base, mutants, args.seeds, args.jobs, _show)
        except StaleMutant as error:
            print(error, file=sys.stderr)
            return 2
    wall_s = time.monotonic() - began
    percent = report.caught_percent(catches)
    caught = sum(c.caught for c in catches)
    print(f"{caught} of {len(catches)} caught ({percent} %) in {wall_s:.0f} s")
    for catch in catches:
        if not catch.caught:
            print(report.line(catch))
    if args.write:
        page = report.markdown(catches, parts, args.seeds)
        (root / "sim" / "MUTANTS.md").write_text(page, encoding="utf-8")
    if args.json:
        print(report.to_json(alarms, catches, wall_s), flush=True)
    return 0 if percent >= report.GOAL_PERCENT and not alarms else 5


def _show(catch: Catch) -> None:
    print(report.line(catch), flush=True)


def _chosen(names: Sequence[str] | None) -> list[Mutant]:
    mutants = all_mutants()
    if not names:
        return mutants
    known = {mutant.name: mutant for mutant in mutants}
    for name in names:
        if name not in known:
            raise KeyError(f"--only {name}: no such mutant; there are {', '.join(known)}")
    return [known[name] for name in names]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sim.mutants", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="this mutant (repeatable)")
    parser.add_argument(
        "--seeds", type=_positive, default=60, metavar="N", help="runs per mutant at most (60)"
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes at the same time (one per core)",
    )
    parser.add_argument("--no-baseline", action="store_true", help="skip the unchanged code")
    parser.add_argument("--write", action="store_true", help="write sim/MUTANTS.md (all mutants)")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
