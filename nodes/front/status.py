"""The health of the installation, as ``GET /status`` tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

READY: Final = "READY"
INITIALIZING: Final = "INITIALIZING"
PARTIAL_ERROR: Final = "PARTIAL_ERROR"
UNREACHABLE: Final = "UNREACHABLE"
ERROR: Final = "ERROR"

#: From best to worst.
_SEVERITY: Final = (READY, INITIALIZING, PARTIAL_ERROR, UNREACHABLE, ERROR)


@dataclass(slots=True, frozen=True)
class Instance:
    address: str
    status: str
    message: str = ""


@dataclass(slots=True, frozen=True)
class Component:
    """One of ``chairman``, ``rootScheduler``, ``cloudStore``... and those that run it."""

    name: str
    instances: tuple[Instance, ...]

    @property
    def status(self) -> str:
        found = {instance.status for instance in self.instances}
        if found & {ERROR, UNREACHABLE} and found & {READY, INITIALIZING}:
            return PARTIAL_ERROR
        return _worst(found) if found else UNREACHABLE


#: Asked at each ``GET /status``.
StatusSource: TypeAlias = Callable[[], Awaitable[Sequence[Component]]]


def render(components: Sequence[Component]) -> dict[str, Any]:
    """Return the contract's ``SystemStatus``."""
    worst = _worst({component.status for component in components})
    return {
        "status": ERROR if worst == UNREACHABLE else worst,
        "components": [_component(component) for component in components],
    }


def _component(it: Component) -> dict[str, Any]:
    counts = Counter(instance.status for instance in it.instances)
    return {
        "component": it.name,
        "status": it.status,
        "stats": {status: str(counts[status]) for status in _SEVERITY if counts[status]},
        "instances": [_instance(instance) for instance in it.instances],
    }


def _instance(it: Instance) -> dict[str, Any]:
    out: dict[str, Any] = {"address": it.address, "status": it.status}
    if it.message:
        out["message"] = it.message
    return out


def _worst(found: set[str]) -> str:
    return max(found, key=_SEVERITY.index, default=UNREACHABLE)
