"""``python -m benchmarks.membership``: run both, compare, say so."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.membership import plan as goals
from benchmarks.membership import scale, serf_side
from benchmarks.membership.fabric_side import FabricSide, Figures, note, quantile
from benchmarks.membership.plan import FULL, QUICK, Plan
from benchmarks.membership.serf_side import SerfFigures, SerfSide


def main() -> int:
    """Run, print, and fail when a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.membership", description="How fast real peers find out, beside Serf."
    )
    parser.add_argument("--quick", action="store_true", help="fewer peers, fewer crashes")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--without-serf", action="store_true", help="run Fabric alone")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="fabric-membership-") as name:
        figures = asyncio.run(FabricSide(plan, Path(name)).run())
    serf = None
    if options.without_serf:
        note("serf was left out, as asked")
    elif serf_side.available():
        serf = asyncio.run(SerfSide(plan).run())
    else:
        note("serf is not installed (apt-get install serf): its figures are missing")
    note("simulating: a million hosts, a storm of joins, one death")
    simulated = {
        "scale": scale.compare(),
        "storm": scale.storm(plan.simulated),
        "death": scale.death(plan.simulated),
    }
    result = summarize(plan, figures, serf, simulated)
    if options.json:
        print(json.dumps(result), flush=True)
    else:
        for name, value in result.items():
            print(f"{name:32} {value}")
    return 0 if result["ok"] else 5


def summarize(
    plan: Plan, figures: Figures, serf: SerfFigures | None, simulated: dict[str, Any]
) -> dict[str, Any]:
    """Return the result by name; ``ok`` says whether every goal was reached."""
    payload = sum(figures.bytes_per_s) / len(figures.bytes_per_s)
    takeovers = figures.takeover_s + figures.takeover_alone_s
    result: dict[str, Any] = {
        "benchmark": "membership",
        "peers": plan.peers,
        "depth": figures.depth,
        "crash_known_p50_s": quantile(figures.killed_s, 0.5),
        "crash_known_p99_s": quantile(figures.killed_s, 0.99),
        "cutoff_known_p50_s": quantile(figures.cut_off_s, 0.5),
        "cutoff_known_p99_s": quantile(figures.cut_off_s, 0.99),
        "payload_bytes_per_s": payload,
        "payload_bytes_per_s_max": max(figures.bytes_per_s),
        "cpu_ms_per_s": 1000 * figures.cpu_share / plan.peers,
        "memory_mb": quantile(figures.grown_mb, 0.5),
        "start_s": figures.start_s,
        "join_storm_s": figures.join_storm_s,
        "owner_takeover_p50_s": quantile(takeovers, 0.5),
        "owner_takeover_p99_s": quantile(takeovers, 0.99),
        "owner_takeover_without_coordinator_p99_s": quantile(figures.takeover_alone_s, 0.99),
        "healthy_failed": figures.healthy_failed,
        "healthy_failed_by_thawed": figures.healthy_failed_by_thawed,
        "frozen_failed": figures.frozen_failed,
        "frozen_back_s": figures.frozen_back_s,
    }
    reached = [
        result["crash_known_p99_s"] <= goals.CRASH_P99_S,
        result["cutoff_known_p99_s"] <= goals.CUTOFF_P99_S,
        payload <= goals.PAYLOAD_BYTES_PER_S,
        result["memory_mb"] <= goals.MEMORY_MB,
        result["join_storm_s"] <= goals.JOIN_STORM_S,
        bool(takeovers) and result["owner_takeover_p50_s"] <= goals.TAKEOVER_P50_S,
        bool(takeovers) and result["owner_takeover_p99_s"] <= goals.TAKEOVER_P99_S,
        figures.healthy_failed == 0,
        max(simulated["scale"]["ratios"].values()) <= goals.SCALE_RATIO,
        (simulated["storm"]["formed_s"] or math.inf) <= goals.SIMULATED_STORM_S,
        simulated["death"]["bytes_written"] <= goals.DEATH_BYTES,
    ]
    if serf is not None:
        result.update(
            serf_version=serf.version,
            serf_agents=plan.serf_agents,
            serf_crash_known_max_s=max(serf.killed_s),
            serf_bytes_per_s=serf.bytes_per_s,
            serf_memory_mb=serf.memory_mb,
            serf_join_storm_s=serf.join_storm_s,
            serf_healthy_failed=serf.healthy_failed,
            crash_ratio=max(serf.killed_s) / result["crash_known_p99_s"],
            payload_ratio=serf.bytes_per_s / payload,
        )
    result["simulated"] = simulated
    result.update(cores=os.cpu_count(), load=os.getloadavg()[0], ok=all(reached))
    return {name: _rounded(value) for name, value in result.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
