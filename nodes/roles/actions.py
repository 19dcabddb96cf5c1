"""What a task's machine wants done, and what came of it. Both are data.

A machine is asked for its next action; whoever runs it (the worker, or a simulation) carries that
out and hands back the outcome, and so on until :class:`Finished`::

    action = run.begin(now_ms)
    while not isinstance(action, Finished):
        action = run.take(await carry_out(action), now_ms)

All state that matters lies in the stored task and VM: a machine built from them again goes on
where the last :class:`Save` left off, so every action may happen twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from fabric.errors import FabricError
from fabric.machine import Contact, Message
from fabric.placement.request import Placed, PlacementRequest
from nodes.contract.entities import Attempt, Task, Vm

# --- actions --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Save:
    """Store the task, and the VM if it changed, in one transaction that proves the claim.

    ``removed`` deletes the VM and gives its cost back; ``ended`` gives the claim up.  ``left`` are
    attempts on hosts that died before they could be cleaned.
    """

    task: Task
    vm: Vm | None = None
    removed: bool = False
    ended: bool = False
    left: tuple[Attempt, ...] = ()


@dataclass(slots=True)
class Place:
    """Find a host and reserve."""

    request: PlacementRequest


@dataclass(slots=True)
class Ask:
    """Have a host's agent do something."""

    host: Contact
    body: Message


@dataclass(slots=True)
class FindHost:
    """Find out the node id of the host with this address."""

    address: str


@dataclass(slots=True)
class Pause:
    """Let some time pass before the next try."""

    ms: int


@dataclass(slots=True)
class Reap:
    """Remove those flavors that waited for this VM to go."""

    flavor_ids: tuple[str, ...]


@dataclass(slots=True)
class Finished:
    """Nothing more to do."""


Action: TypeAlias = Save | Place | Ask | FindHost | Pause | Reap | Finished

# --- outcomes -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Done:
    """It is done."""


@dataclass(slots=True)
class PlacedAt:
    """Room is reserved."""

    placed: Placed


@dataclass(slots=True)
class Refused:
    """No host can, and that is proven. ``counts``: condition -> hosts that failed it first."""

    message: str
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Answered:
    """The host's agent answered."""

    body: Message


@dataclass(slots=True)
class Found:
    """The host's id, ``None`` if there is no such host."""

    node_id: int | None


@dataclass(slots=True)
class Failed:
    """It did not work, or nobody knows whether it did. ``dead``: the host left the fabric."""

    error: FabricError
    dead: bool = False


Outcome: TypeAlias = Done | PlacedAt | Refused | Answered | Found | Failed


class TaskRun(Protocol):
    """One task being carried out."""

    def begin(self, now_ms: int) -> Action:
        """Return what to do first, given where the stored task and VM stand."""

    def take(self, outcome: Outcome, now_ms: int) -> Action:
        """Return what to do after that."""
