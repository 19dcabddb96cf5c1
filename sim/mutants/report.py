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


def markdown(catches: Sequence[Catch], seeds: int) -> str:
    """Return the page of the documentation; the same result gives the same page."""
    by_name = {catch.name: catch for catch in catches}
    caught = sum(c.caught for c in catches)
    lines = [
        "# Planted bugs",
        "",
        "Made by `make mutants`; do not edit. Each line is a realistic bug, planted alone in a",
        "scratch copy of the packages (`sim/mutants/`). The simulator then runs scenarios with",
        "faults drawn from a seed until a checker reports a violation. Unit tests play no part.",
        "",
        f"**{caught} of {len(catches)} caught ({caught_percent(catches)} %)**, each within "
        f"{seeds} seeds; the unchanged code passes all of them.",
        "",
    ]
    for subject, mutants in SUBJECTS.items():
        lines += [f"## {subject}", "", "| planted bug | what it breaks | caught by | runs |"]
        lines.append("|---|---|---|---:|")
        lines += [_row(mutant, by_name[mutant.name]) for mutant in mutants]
        lines.append("")
    if ABSENT:
        lines += ["## Not planted yet", "", "| bug | why |", "|---|---|"]
        lines += [f"| {absent.name} | {absent.why} |" for absent in ABSENT]
        lines.append("")
    return "\n".join(lines)


def _row(mutant: Mutant, catch: Catch) -> str:
    by = f"`{catch.invariant}`" if catch.caught else "**missed**"
    return f"| {mutant.name} | {mutant.breaks} | {by} | {catch.seeds} |"
