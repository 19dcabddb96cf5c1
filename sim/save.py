"""Scenarios as text: files that :func:`~sim.scenario.parse_scenario` reads back, and seeds by name.

A seed alone means little on another commit, since what a seed draws (:mod:`sim.swarm`) changes now
and then.  So a seed is named together with a *mark*, a short hash of the scenario that it drew, as
in ``17@5c0e91aa``; a seed whose mark does not fit any more is refused.  A change of the protocol
leaves marks alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from fabric.errors import ScenarioError
from fabric.units import SECOND
from sim.kinds import KINDS
from sim.scenario import MAX_SEED, VERSION, Scenario, load_scenario
from sim.swarm import swarm

#: Of one sweep: it would take weeks.
MAX_SEEDS: Final = 1_000_000


def to_toml(scenario: Scenario, comment: str = "") -> str:
    """Return the file of ``scenario``: what differs from the defaults, and every fault."""
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += [f"version = {VERSION}", f"hosts = {scenario.hosts}", f"seed = {scenario.seed}"]
    lines.append(f"duration_s = {scenario.duration_s}")
    for field in dataclasses.fields(Scenario):
        value = getattr(scenario, field.name)
        if field.name not in ("hosts", "seed", "duration_s", "faults") and value != field.default:
            lines.append(f"{field.name} = {_value(value)}")
    for fault in scenario.faults:
        lines += ["", "[[fault]]", *_fault(fault)]
    return "\n".join(lines) + "\n"


def fault_line(fault: Any) -> str:
    """Return a fault in one line, for people."""
    kind, *pairs = _fault(fault)
    return f"{kind[8:-1]} {', '.join(pairs)}"


def _fault(fault: Any) -> Iterable[str]:
    """Return the keys of one fault, each as ``key = value``."""
    kinds = [kind for kind, cls in KINDS.items() if cls is type(fault)]
    if not kinds:
        name = type(fault).__name__
        raise ScenarioError(f"a fault {name} has no kind in scenario files", {"field": "fault"})
    yield f'kind = "{kinds[0]}"'
    for field in dataclasses.fields(fault):
        value = getattr(fault, field.name)
        if value == field.default:
            continue
        if field.name.endswith("_us"):
            yield f"{field.name[:-3]}_s = {_seconds(value)}"
        elif field.name == "fault":
            yield f"fault = {{ {', '.join(_fault(value))} }}"
        else:
            yield f"{field.name} = {_value(value)}"


def _seconds(value_us: int) -> str:
    """Write microseconds as seconds: exactly, and without an exponent."""
    whole, rest = divmod(value_us, SECOND)
    return f"{whole}.{rest:06}".rstrip("0") if rest else str(whole)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    return str(value)


def mark(scenario: Scenario) -> str:
    """Return the eight hex digits that tell this scenario from others."""
    return blake2b(to_toml(scenario).encode(), digest_size=4).hexdigest()


def named(seed: int) -> str:
    """Return ``seed`` with the mark of what it draws here, to be typed elsewhere."""
    return f"{seed}@{mark(swarm(seed))}"


def scenario_of(text: str) -> Scenario:
    """Return the scenario meant by ``SEED``, ``SEED@MARK`` or the path of a scenario file.

    Raises :class:`~fabric.errors.ScenarioError`.
    """
    seed = re.fullmatch(r"(\d{1,19})(?:@([0-9a-fA-F]+))?", text)
    if seed is None:
        if not Path(text).exists():
            raise ScenarioError(
                f"{text!r:.80} is neither a seed (17 or 17@5c0e91aa) nor a scenario file",
                {"field": "scenario", "value": text[:80]},
            )
        return load_scenario(text)
    number = int(seed[1])
    if number > MAX_SEED:
        raise ScenarioError(f"seed must be from 0 to {MAX_SEED} (was {number})", {"field": "seed"})
    scenario = swarm(number)
    if seed[2] and seed[2].lower() != mark(scenario):
        raise ScenarioError(
            f"seed {number} is of another version: it drew the scenario {seed[2].lower()}, here it "
            f"draws {mark(scenario)}; use the sources that named it, or a scenario file",
            {"field": "seed", "value": text},
        )
    return scenario


def read_range(text: str) -> range:
    """Read ``A..B``, both included, or one seed. Raises :class:`~fabric.errors.ScenarioError`."""
    found = re.fullmatch(r"(\d{1,19})(?:\.\.(\d{1,19}))?", text)
    first = int(found[1]) if found else 1
    last = int(found[2] or found[1]) if found else 0
    if not first <= last <= MAX_SEED:
        raise ScenarioError(
            f"--seeds must be A..B with A <= B, such as 0..199 (was {text!r:.60})",
            {"field": "seeds", "value": text[:60]},
        )
    if last - first >= MAX_SEEDS:
        raise ScenarioError(
            f"--seeds: at most {MAX_SEEDS:,} at a time (was {text!r:.60})",
            {"field": "seeds", "value": text[:60]},
        )
    return range(first, last + 1)
