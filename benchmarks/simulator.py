"""How fast the simulator is: whole peers with agents, formed from joins, probes each second.

``python -m benchmarks.simulator [--quick] --json``

Figures to reach, virtual seconds per CPU second of one core, 100 placements/s, checkers and trace
hash on, formation included: 10,000 hosts 4 plain and 10 compiled; 100,000 hosts compiled 0.5 in at
most 20 GB.  The trace hash may cost 20 %, the checkers 15 %.  ``steady`` figures leave the first
half of a run out.  Each run is a process of its own; costs are the least of interleaved runs.
Compiled figures need ``make compiled``; without it, and for 100,000 hosts with ``--quick``, they
are ``null`` and ``why_null`` says why.  A toy on our engine, on SimPy and on asyncio under virtual
time (:mod:`benchmarks.toys`) shows what the engine itself costs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any, Final

from benchmarks import toys
from fabric.units import SECOND
from sim import compiled
from sim.run import Run
from sim.scenario import Scenario

#: Figure and bound, and whether more is better.
BOUNDS: Final = (
    ("speed_10k_plain", 4.0, True),
    ("speed_10k_compiled", 10.0, True),
    ("speed_100k", 0.5, True),
    ("rss_100k_mb", 20 * 1024, False),
    ("hash_cost", 0.20, False),
    ("checker_cost", 0.15, False),
)
#: Interleaved repetitions of each run that a cost is made of.
REPEATS: Final = 3


class Timed(Run):
    """A run that notes what it had cost half-way."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.mark: tuple[float, int, int] = (0.0, 0, 0)
        self.world.engine.at(scenario.duration_s * SECOND // 2, self._note)

    def _note(self) -> None:
        engine = self.world.engine
        self.mark = (time.process_time() - self._began_cpu, engine.delivered, engine.messages)


def measure(scenario: Scenario) -> dict[str, Any]:
    """Run once and return the figures."""
    run = Timed(scenario)
    result = run.go()
    cpu_s, events, messages = run.mark
    hosts, steady_s = scenario.hosts, scenario.duration_s / 2
    steady_messages = result.messages - messages
    steady_cpu_s = result.cpu_s - cpu_s
    return {
        "hosts": hosts,
        "compiled": result.compiled,
        "virtual_s": result.virtual_s,
        "cpu_s": result.cpu_s,
        "speed": round(result.virtual_s / result.cpu_s, 3),
        "speed_steady": round(steady_s / steady_cpu_s, 3),
        "us_per_host_second_steady": round(steady_cpu_s / steady_s / hosts * 1e6, 2),
        "messages_per_host_second": round(result.messages / hosts / result.virtual_s, 3),
        "messages_per_host_second_steady": round(steady_messages / hosts / steady_s, 3),
        "events_per_cpu_s_steady": round((result.events - events) / steady_cpu_s),
        "max_rss_mb": result.max_rss_mb,
        "converged_s": result.converged_s,
        "depth": result.depth,
        "placements": result.placements,
        "violations": result.violations_total,
        "trace_hash": result.trace_hash,
    }


def measured(fast: bool = False, **fields: Any) -> dict[str, Any]:
    """Run a scenario in a process of its own and return its figures."""
    print(f"  {'compiled' if fast else 'plain'} {fields} ...", file=sys.stderr, flush=True)
    environment = dict(os.environ)
    if fast:
        environment["PYTHONPATH"] = f"{compiled.FOLDER}{os.pathsep}{compiled.ROOT}"
    done = subprocess.run(
        [sys.executable, *(["-P"] if fast else []), "-m", "benchmarks.simulator", "--scenario",
         json.dumps({"seed": 1, **fields})],
        cwd=compiled.ROOT, env=environment, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert figures["compiled"] == fast
    return figures


def costs(hosts: int) -> dict[str, float]:
    """Return what trace hash, checkers and an encoded hop add, as shares of a plain run."""
    fields = {"hosts": hosts, "duration_s": 20, "place_rate": hosts // 100}
    variants: dict[str, dict[str, Any]] = {
        "all": {},
        "hash": {"trace": False},
        "checker": {"checkers": False},
        "cbor": {"fidelity": True},
    }
    least: dict[str, float] = {}
    for _ in range(REPEATS):
        for name, changes in variants.items():
            cpu_s = measured(**{**fields, **changes})["cpu_s"]
            least[name] = min(cpu_s, least.get(name, cpu_s))
    return {
        "hash_cost": round(1 - least["hash"] / least["all"], 3),
        "checker_cost": round(1 - least["checker"] / least["all"], 3),
        "cbor_cost": round(least["cbor"] / least["all"] - 1, 3),
    }


def all_figures(quick: bool) -> dict[str, Any]:
    """Return everything that this benchmark shows."""
    fields: dict[str, Any] = {"hosts": 10_000, "duration_s": 25 if quick else 60, "place_rate": 100}
    plain = measured(**fields)
    figures: dict[str, Any] = {**plain, "speed_10k_plain": plain["speed"]}
    figures |= dict.fromkeys(("speed_10k_compiled", "speed_100k", "speed_100k_2s", "rss_100k_mb"))
    why = compiled.problem()
    figures["why_null"] = why or ("--quick" if quick else "")
    if not why:
        fast = measured(fast=True, **fields)
        assert fast["trace_hash"] == plain["trace_hash"]
        figures["speed_10k_compiled"] = fast["speed"]
        figures["us_per_host_second_steady_compiled"] = fast["us_per_host_second_steady"]
        if not quick:
            large = {**fields, "hosts": 100_000, "start_s": 30}
            each_second = measured(fast=True, **large)
            figures["speed_100k"] = each_second["speed"]
            figures["speed_100k_steady"] = each_second["speed_steady"]
            figures["rss_100k_mb"] = each_second["max_rss_mb"]
            figures["speed_100k_2s"] = measured(fast=True, probe_ms=2000, **large)["speed"]
    figures |= costs(1_000 if quick else 2_000)
    print("  toys ...", file=sys.stderr, flush=True)
    figures |= toys.measure()
    missed = [
        name
        for name, bound, more in BOUNDS
        if figures[name] is not None and (figures[name] < bound if more else figures[name] > bound)
    ]
    return {**figures, "missed": missed}


def main() -> int:
    """Measure and print; exit code 1 if a figure was not reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter runs, no 100,000 hosts")
    parser.add_argument("--json", action="store_true", help="last line is one JSON object")
    parser.add_argument("--scenario", metavar="JSON", help="run only this, and show its figures")
    args = parser.parse_args()
    if args.scenario:
        print(json.dumps(measure(Scenario(**json.loads(args.scenario)))), flush=True)
        return 0
    figures = all_figures(args.quick)
    if args.json:
        print(json.dumps(figures), flush=True)
    else:
        for name, value in figures.items():
            print(f"{name.ljust(36)} {value}")
    return 1 if figures["missed"] or figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
