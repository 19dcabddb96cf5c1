"""The result of a hunt: a table for people, one JSON object, and ``sim/MUTANTS.md``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Final

from sim.mutants.catalogue import ABSENT, SUBJECTS
from sim.mutants.hunt import Catch
from sim.mutants.mutant import Mutant

#: Share of the mutants that the simulator has to catch, in percent.
GOAL_PERCENT: Final = 95


def line(catch: Catch) -> str:
    """Return one line for people."""
    if catch.caught:
        runs = "1 run" if catch.seeds == 1 else f"{catch.seeds} runs"
        return f"caught  {catch.name:32} {catch.invariant} ({runs}): {catch.detail:.90}"
    return f"MISSED  {catch.name:32} nothing noticed it in {catch.seeds} runs"


def caught_percent(catches: Sequence[Catch]) -> float:
    """Return how many of the mutants were caught."""
    return round(100 * sum(c.caught for c in catches) / max(len(catches), 1), 1)


def to_json(alarms: Sequence[Catch], catches: Sequence[Catch], wall_s: float) -> str:
    """Return everything in one line of JSON."""
    result: dict[str, Any] = {
        "mutants": len(catches),
        "caught": sum(c.caught for c in catches),
        "caught_percent": caught_percent(catches),
        "missed": [c.name for c in catches if not c.caught],
        "false_alarms": [dataclasses.asdict(c) for c in alarms],
        "absent": [a.name for a in ABSENT],
        "wall_s": round(wall_s, 1),
        "cpu_s": round(sum(c.cpu_s for c in catches), 1),
        "results": [dataclasses.asdict(c) for c in catches],
    }
    return json.dumps(result, separators=(",", ":"))


def markdown(catches: Sequence[Catch], parts: Sequence[Catch], seeds: int) -> str:
    """Return the page of the documentation. ``parts`` are the runs on the unchanged code."""
    by_name = {catch.name: catch for catch in catches}
    caught = sum(c.caught for c in catches)
    lines = [
        "# Planted bugs",
        "",
        "Made by `make mutants`; do not edit. Each line is a realistic bug, planted alone in a",
        "scratch copy of the packages (`sim/mutants/`). The simulator then runs one seed after",
        "another in an arena (`sim/mutants/arenas.py`) until a checker reports a violation.",
        "Unit tests play no part.",
        "",
        f"**{caught} of {len(catches)} caught ({caught_percent(catches)} %)**, each within {seeds} "
        "seeds.",
        _unchanged(parts),
        f"CPU of all runs: {_minutes(catches)} minutes for the mutants, {_minutes(parts)} for the "
        "unchanged code.",
        "",
        "Runs: how many were needed, the last one being the seed that caught it (they count from",
        "0). Time: virtual seconds into that run.",
        "",
    ]
    for subject, mutants in SUBJECTS.items():
        lines += [f"## {subject}", ""]
        lines.append("| planted bug | what it breaks | arena | caught by | runs | time |")
        lines.append("|---|---|---|---|---:|---:|")
        lines += [_row(mutant, by_name[mutant.name]) for mutant in mutants]
        lines.append("")
    if ABSENT:
        lines += ["## Not planted", "", "| bug | why |", "|---|---|"]
        lines += [f"| {absent.name} | {absent.why} |" for absent in ABSENT]
        lines.append("")
    return "\n".join(lines)


def _row(mutant: Mutant, catch: Catch) -> str:
    by = f"`{catch.invariant}`" if catch.caught else "**missed**"
    at = "" if catch.at_s is None else f"{catch.at_s:.1f} s"
    row = (mutant.name, mutant.breaks, mutant.arena, by, str(catch.seeds), at)
    return f"| {' | '.join(row)} |"


def _unchanged(parts: Sequence[Catch]) -> str:
    runs = sum(part.seeds for part in parts)
    alarms = [f"{part.arena} {part.seed} (`{part.invariant}`)" for part in parts if part.caught]
    if not parts:
        return "The unchanged code was not run."
    if not alarms:
        return f"The unchanged code passes the same seeds of all arenas ({runs} runs)."
    return f"The unchanged code is blamed on these seeds: {', '.join(alarms)}."


def _minutes(catches: Sequence[Catch]) -> str:
    return f"{sum(c.cpu_s for c in catches) / 60:.1f}"
