"""What is to be placed, and what became of it.

A :class:`PlacementRequest` names sizes and constraints; all constraints must hold **jointly on one
host**.  Within one constraint the values are alternatives; several constraints all apply:

=============  ===============================================  ====================================
kind           positive                                         negative
=============  ===============================================  ====================================
``zone``       the host is in one of the zones                  in none of them
``host``       the host is one of those (16 hex digits)         none of them
``tag``        the host carries one of the tags                 none of them
``network``    the host offers one of the networks              none of them
``datastore``  the disk lies on one of the datastores           on none of them
=============  ===============================================  ====================================

Datastore constraints are about where *this* disk lies: a host with ``ds1`` and ``ds2`` satisfies
"not ds1" by putting it on ``ds2``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

from fabric.errors import BadInput
from fabric.ids import parse_id
from fabric.limits import (
    MAX_CONSTRAINT_VALUES,
    MAX_CONSTRAINTS,
    MAX_HOST_CPU,
    MAX_HOST_MB,
    MAX_TEXT,
)
from fabric.machine import Contact
from fabric.wire.codec import Int, Text, many

#: Kinds of constraints, in the order in which explanations count them.
KINDS: Final = ("zone", "host", "tag", "network", "datastore")
POLICIES: Final = ("spread", "pack")


@dataclass(slots=True)
class Constraint:
    """One condition on the host: one of ``values`` holds (or, when ``negative``, none)."""

    kind: Text
    values: Annotated[tuple[Text, ...], many(MAX_CONSTRAINT_VALUES)]
    negative: bool = False

    def describe(self) -> str:
        """Return the constraint as people write it: ``zone=z1|z2``, ``tag!=ssd``."""
        return f"{self.kind}{'!=' if self.negative else '='}{'|'.join(self.values)}"

    def brief(self) -> str:
        """Return the same as explanations carry it: the last of many values are only counted."""
        text = self.describe()
        if len(text) <= MAX_TEXT:
            return text
        for kept in range(len(self.values) - 1, 0, -1):
            first = Constraint(self.kind, self.values[:kept], self.negative).describe()
            text = f"{first}|and {len(self.values) - kept} more"
            if len(text) <= MAX_TEXT:
                return text
        return f"{self.kind}{'!=' if self.negative else '='}any of {len(self.values)}"


@dataclass(slots=True)
class PlacementRequest:
    """Room wanted for one VM on one host. ``key`` makes it idempotent: one key, one placement.

    ``trace`` is the id under which logs follow it; it makes no other request of it.
    """

    key: Text
    vm_id: Text
    cpu: Int
    memory_mb: Int
    disk_mb: Int = 0
    constraints: Annotated[tuple[Constraint, ...], many(MAX_CONSTRAINTS)] = ()
    policy: Text = "spread"
    trace: Text = field(default="", compare=False)

    def check(self) -> None:
        """Raise :class:`BadInput` naming the field, its value and the reason."""
        _check_text("key", self.key)
        _check_text("vm_id", self.vm_id)
        _check_size("cpu", self.cpu, 1, MAX_HOST_CPU)
        _check_size("memory_mb", self.memory_mb, 1, MAX_HOST_MB)
        _check_size("disk_mb", self.disk_mb, 0, MAX_HOST_MB)
        if self.policy not in POLICIES:
            raise _bad("policy", self.policy, f"must be one of {', '.join(POLICIES)}")
        if len(self.constraints) > MAX_CONSTRAINTS:
            raise _bad("constraints", len(self.constraints), f"at most {MAX_CONSTRAINTS} allowed")
        for constraint in self.constraints:
            _check_constraint(constraint)


@dataclass(slots=True)
class Placed:
    """The answer to a placement: ``host`` holds the room until ``expires_at`` (asker's clock, µs).

    The caller confirms it (or releases it) at that host before then.
    """

    key: Text
    attempt: Int
    host: Contact
    reservation_id: Int
    expires_at: Int
    datastore: Text = ""


def _check_text(field: str, value: str) -> None:
    if not value or len(value) > MAX_TEXT or not value.isascii() or not value.isprintable():
        raise _bad(field, value, f"must have 1 to {MAX_TEXT} printable ASCII characters")


def _check_size(field: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise _bad(field, value, f"must be an integer from {low} to {high}")


def _check_constraint(constraint: Constraint) -> None:
    if constraint.kind not in KINDS:
        raise _bad("constraints.kind", constraint.kind, f"must be one of {', '.join(KINDS)}")
    if not constraint.values or len(constraint.values) > MAX_CONSTRAINT_VALUES:
        raise _bad(
            "constraints.values", len(constraint.values), f"1 to {MAX_CONSTRAINT_VALUES} allowed"
        )
    for value in constraint.values:
        _check_text("constraints.values", value)
        if constraint.kind == "host":
            parse_id(value)


def _bad(field: str, value: object, reason: str) -> BadInput:
    return BadInput(f"{field}: {reason} (was {value!r:.80})", {"field": field, "reason": reason})
