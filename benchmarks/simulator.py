"""How fast the simulator is: whole peers with agents, formed from joins, probes each second.

``python -m benchmarks.simulator [--quick] [--hosts N] [--duration S] --json``

The figure to reach: 10,000 hosts, 100 placements/s, checkers on: at least one virtual second per
CPU second in at most 6 GB, with at least 2.5 messages per host and virtual second.  Formation is
part of the run; ``steady`` figures leave the first seconds out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from fabric.units import SECOND
from sim.display import Display
from sim.run import Run
from sim.scenario import Scenario


class Timed(Run):
    """A run that notes what it had cost at one virtual time."""

    def __init__(self, scenario: Scenario, mark_s: int) -> None:
        super().__init__(scenario)
        self.mark: tuple[float, int, int] = (0.0, 0, 0)
        self.world.engine.at(mark_s * SECOND, self._note)

    def _note(self) -> None:
        engine = self.world.engine
        self.mark = (time.process_time() - self._began_cpu, engine.delivered, engine.messages)


def measure(
    hosts: int, duration_s: int, rate: int, mark_s: int, display: Display
) -> dict[str, Any]:
    """Run once and return the figures."""
    run = Timed(Scenario(hosts=hosts, duration_s=duration_s, place_rate=rate, seed=1), mark_s)
    result = run.go(display)
    cpu_s, events, messages = run.mark
    steady_s = duration_s - mark_s
    steady_cpu_s = result.cpu_s - cpu_s
    return {
        "hosts": hosts,
        "virtual_s": result.virtual_s,
        "cpu_s": result.cpu_s,
        "speed": round(result.virtual_s / result.cpu_s, 3),
        "speed_steady": round(steady_s / steady_cpu_s, 3),
        "us_per_host_second_steady": round(steady_cpu_s / steady_s / hosts * 1e6, 2),
        "messages_per_host_second": round(result.messages / hosts / result.virtual_s, 3),
        "messages_per_host_second_steady": round(
            (result.messages - messages) / hosts / steady_s, 3
        ),
        "events_per_cpu_s": round(result.events / result.cpu_s),
        "events_per_cpu_s_steady": round((result.events - events) / steady_cpu_s),
        "max_rss_mb": result.max_rss_mb,
        "converged_s": result.converged_s,
        "depth": result.depth,
        "placements": result.placements,
        "refused": result.refused,
        "unavailable": result.unavailable,
        "violations": result.violations_total,
        "trace_hash": result.trace_hash,
        "interrupted": result.interrupted,
    }


def main() -> int:
    """Measure and print; exit code 1 if a figure was not reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="at most 50 seconds")
    parser.add_argument("--json", action="store_true", help="last line is one JSON object")
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--duration", type=int, default=0, help="virtual seconds")
    args = parser.parse_args()
    duration_s = args.duration or (25 if args.quick else 60)
    display = Display(duration_s, sys.stderr)
    try:
        figures = measure(args.hosts, duration_s, args.hosts // 100, duration_s // 2, display)
    finally:
        display.close()
    reached = (
        figures["speed"] >= 1.0
        and figures["max_rss_mb"] <= 6 * 1024
        and figures["messages_per_host_second"] >= 2.5
        and figures["violations"] == 0
    )
    figures["reached"] = reached
    if args.json:
        print(json.dumps(figures), flush=True)
    else:
        for name, value in figures.items():
            print(f"{name.ljust(34)} {value}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
