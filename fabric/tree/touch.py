"""Whether the fabric hears its chairman.

A chairman that reaches the coordinator and nobody else would hold the chair for ever while joins
and repairs wait.  So it asks a few peers every two seconds for an answer, the root's seats and some
others in turn; when nobody has answered for long it resigns and leaves the chair to the others for
a while.
"""

from __future__ import annotations

from typing import Final

from fabric.machine import NEVER, Sink
from fabric.tree.planner import Plan
from fabric.tree.readmission import NO_CELL
from fabric.units import SECOND
from fabric.wire.tree import Inquest

ASK_US: Final = 2 * SECOND
#: Nobody answered for so long: several questions to different peers were in vain.
SILENCE_US: Final = 10 * SECOND
#: So long another candidate may take the chair; then we are one among them again.
ABSTAIN_US: Final = 20 * SECOND
#: Peers asked at once beside the root's seats.
OTHERS: Final = 3
#: The number of these inquests; those that have another purpose count from 1.
NUMBER: Final = 0


class Touch:
    """Asks for signs of life, and minds the last one."""

    __slots__ = ("due", "heard_at", "turn")

    def __init__(self) -> None:
        self.due = NEVER
        self.heard_at = 0
        self.turn = 0

    def begin(self, now: int) -> None:
        """We are chairman from now on."""
        self.heard_at = now
        self.due = now + ASK_US

    def end(self) -> None:
        self.due = NEVER

    def heard(self, now: int) -> None:
        """Somebody answered."""
        self.heard_at = now

    def lost(self, now: int) -> bool:
        """Whether nobody has answered for too long."""
        return now - self.heard_at >= SILENCE_US

    def ask(self, me: int, plan: Plan, now: int, out: Sink) -> None:
        """Ask the next ones; where there is nobody to ask, nobody is missed."""
        self.due = now + ASK_US
        root = plan.cells.get(plan.root)
        asked = dict.fromkeys(root.seats if root is not None else ())
        everybody = list(plan.home)
        for _ in range(min(OTHERS, len(everybody))):
            self.turn = (self.turn + 1) % len(everybody)
            asked[everybody[self.turn]] = None
        asked.pop(me, None)
        if not asked:
            self.heard_at = now
        for node_id in asked:
            out.send(plan.contacts[node_id], Inquest(NO_CELL, NUMBER))
