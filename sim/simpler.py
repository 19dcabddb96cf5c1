"""Simpler faults and scenarios, for shrinking to try: rounder times, shorter lasts, lower numbers.

Nothing here knows the kinds of faults: fields are told by their names and types, so a new kind
shrinks without another line.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from fabric.units import SECOND
from sim.scenario import Scenario, hosts_of


def rounded(fault: Any) -> Any:
    """Return ``fault`` with all its times in whole seconds, none of them zero."""
    changes = {
        field.name: max(round(getattr(fault, field.name) / SECOND), 1) * SECOND
        for field in dataclasses.fields(fault)
        if field.name.endswith("_us") and getattr(fault, field.name) > 0
    }
    return dataclasses.replace(fault, **changes)


def simpler(fault: Any) -> list[Any]:
    """Return faults that differ from ``fault`` in one field, which is simpler there."""
    found = []
    for field in dataclasses.fields(fault):
        value = getattr(fault, field.name)
        values: list[Any] = []
        if isinstance(value, bool):
            values = [False] if value else []
        elif field.name == "at_us":
            values = [value // SECOND * SECOND] if value % SECOND else []
        elif field.name.endswith("_us"):
            values = _shorter(value)
        elif dataclasses.is_dataclass(value):
            values = simpler(value)
        found += [dataclasses.replace(fault, **{field.name: v}) for v in values]
    return found


def _shorter(value_us: int) -> list[int]:
    """Return shorter times in whole seconds, the shortest first; none for a second or less."""
    halves = {SECOND, value_us // 2 // SECOND * SECOND, value_us // SECOND * SECOND}
    return sorted(half for half in halves if SECOND <= half < value_us)


def ending(scenario: Scenario, duration_s: int) -> Scenario:
    """Return the scenario with an earlier end, without the faults that would come after it."""
    faults = tuple([f for f in scenario.faults if f.at_us < duration_s * SECOND])
    return dataclasses.replace(scenario, duration_s=duration_s, faults=faults)


def present(scenario: Scenario) -> list[int]:
    """Return the hosts that take part."""
    return [host for host in range(scenario.hosts) if host not in scenario.absent]


def with_hosts(scenario: Scenario, hosts: int) -> Scenario:
    """Return the scenario with only the first ``hosts`` hosts, and the faults that these have."""
    faults: list[Any] = []
    for fault in scenario.faults:
        side = getattr(fault, "hosts", None)
        if isinstance(side, tuple):
            here = tuple(host for host in side if host < hosts)
            if here:
                faults.append(_with_side(fault, here))
        elif getattr(fault, "host", 0) < hosts:
            faults.append(fault)
    absent = tuple([host for host in scenario.absent if host < hosts])
    return dataclasses.replace(scenario, hosts=hosts, absent=absent, faults=tuple(faults))


def _with_side(fault: Any, hosts: tuple[int, ...]) -> Any:
    return dataclasses.replace(fault, hosts=hosts)


def without(scenario: Scenario, present: tuple[int, ...]) -> Scenario:
    """Return the scenario with these hosts only; the others are absent."""
    kept = frozenset(present)
    absent = tuple([host for host in range(scenario.hosts) if host not in kept])
    return dataclasses.replace(scenario, absent=absent)


def renumbered(scenario: Scenario) -> list[Scenario]:
    """Return the scenario with nobody absent: the hosts that are left, numbered from 0.

    They are others then, with other ids and clocks: it may well not fail any more.
    """
    left = present(scenario)
    number = {host: nth for nth, host in enumerate(left)}
    named = [host for fault in scenario.faults for host in hosts_of(fault) if host >= 0]
    if not scenario.absent or any(host not in number for host in named):
        return []
    faults = tuple([_renumbered(fault, number) for fault in scenario.faults])
    return [dataclasses.replace(scenario, hosts=len(left), absent=(), faults=faults)]


def _renumbered(fault: Any, number: dict[int, int]) -> Any:
    changes: dict[str, Any] = {}
    if hasattr(fault, "host"):
        changes["host"] = number.get(fault.host, fault.host)  # candidates keep theirs
    if hasattr(fault, "hosts"):
        changes["hosts"] = tuple([number.get(host, host) for host in fault.hosts])
    return dataclasses.replace(fault, **changes)
