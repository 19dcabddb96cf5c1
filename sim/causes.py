"""What was the cause of what: a recording of a watched run (:mod:`sim.watch`) as a graph of steps.

A *step* is one event at one node with what was put out during it.  Its *cause* is the step that
sent the message, asked for the timer, the write or the call.  With ``wanted`` only the last few
steps of each node for which it says yes are kept, and no causes: enough to say what was last heard,
on runs of any size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from fabric.machine import Coordinated, Driven, Event, LocalCall, Persisted, Received, Woken
from sim.engine import Node

#: Steps that are kept of each node where not all are.
RING: Final = 16

_ANSWERED: Final = {"persist": Persisted, "coordinate": Coordinated, "drive": Driven}


@dataclass(slots=True)
class Said:
    """One output of a step."""

    kind: str
    what: Any
    to: str = ""
    #: The step that it led to: for a message, its (last) delivery.
    led_to: Step | None = None


@dataclass(slots=True)
class Step:
    """One event at one node. ``event`` is ``None`` for the first turn of a process."""

    number: int
    at_us: int
    node: Node
    event: Event | None
    cause: Step | None = None
    said: list[Said] = field(default_factory=list)


class Causes:
    """Records the run that it watches."""

    def __init__(self, wanted: Callable[[Step], bool] | None = None) -> None:
        self._wanted = wanted
        self._count = 0
        #: Node index -> its steps, oldest first.
        self.of: dict[int, deque[Step]] = {}
        #: Node index -> the step that it is in, or was in last.
        self._now: dict[int, Step] = {}
        #: What was put out under which key, until it leads to something.
        self._open: dict[tuple[Any, ...], tuple[Step, Said]] = {}

    def steps(self) -> list[Step]:
        """Return all steps in the order in which they happened; call it when the run has ended."""
        for index in list(self._now):
            self._over(index)
        return sorted([s for steps in self.of.values() for s in steps], key=_number)

    def event(self, node: Node, event: Event | None) -> None:
        """Begin a step."""
        self._over(node.index)
        step = Step(self._count, node.engine.now, node, event)
        self._count += 1
        self._now[node.index] = step
        if self._wanted is None and event is not None:
            asked = self._open.get(_key_of(node, event))
            if asked is not None:
                step.cause, said = asked
                said.led_to = step

    def output(self, node: Node, kind: str, args: tuple[Any, ...]) -> None:
        """Note an output of the step that the node is in."""
        step = self._now[node.index]
        said, key = _said(node, kind, args)
        step.said.append(said)
        if self._wanted is None and key is not None:
            self._open[key] = (step, said)

    def _over(self, index: int) -> None:
        """Keep the step that the node was in, if it is wanted."""
        step = self._now.pop(index, None)
        if step is not None and (self._wanted is None or self._wanted(step)):
            steps = self.of.get(index)
            if steps is None:
                steps = self.of[index] = deque(maxlen=RING if self._wanted else None)
            steps.append(step)


def _number(step: Step) -> int:
    return step.number


def _key_of(node: Node, event: Event) -> tuple[Any, ...]:
    """Return the key under which the output that leads to ``event`` was noted."""
    if isinstance(event, Received):
        # steps hold their messages, so an id stays that message's own
        return ("message", id(event.message), node.address)
    if isinstance(event, Woken):
        return ("wake", node.index)
    if isinstance(event, LocalCall):
        return ("call", node.index)
    return (type(event), node.index, event.token)


def _said(node: Node, kind: str, args: tuple[Any, ...]) -> tuple[Said, tuple[Any, ...] | None]:
    """Return an output, and the key of the event that it leads to."""
    if kind in ("send", "promise"):
        to, message = args[-2:]
        return Said(kind, message, to.address), ("message", id(message), to.address)
    if kind == "wake":
        return Said(kind, args[0]), ("wake", node.index) if args[0] < node.armed else None
    if kind == "rest":
        return Said(kind, args[0]), ("wake", node.index) if args[0] != node.armed else None
    if kind in _ANSWERED:
        return Said(kind, args[0]), (_ANSWERED[kind], node.index, args[1])
    return Said(kind, args[-1]), None
