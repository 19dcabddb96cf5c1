"""Whether the fabric hears its chairman.

A chairman that reaches the coordinator and few others would hold the chair for ever while joins and
repairs wait, and would take for gone whoever does not hear its questions.  So it asks every two
seconds for signs of life, of the root's seats and some others in turn.  Together with itself, a
majority of those it asked must have answered lately:

* while they have not, the silence of others proves nothing: nobody is judged by it;
* when they have not for long, it resigns, and leaves the chair to the others for a while.

Where a majority has really died every chairman is unheard.  So whoever wins the chair again soon
after it had to resign twice takes it that the others fare no better: it stays, and judges.
"""

from __future__ import annotations

from typing import Final

from fabric.machine import NEVER, Sink
from fabric.tree.planner import Plan
from fabric.tree.readmission import NO_CELL
from fabric.units import SECOND
from fabric.wire.tree import Inquest

ASK_US: Final = 2 * SECOND
#: Questions and answers of so long ago count no more: several questions were in vain then.
LATELY_US: Final = 10 * SECOND
#: So long another candidate may take the chair; then we are one among them again.
ABSTAIN_US: Final = 20 * SECOND
#: Resignations of so long ago say nothing any more: others may have been heard well meanwhile.
SOON_US: Final = 120 * SECOND
#: Once may be chance: another one was heard, and lost the coordinator.
ENOUGH: Final = 2
#: Who stays unheard stays so long: a freeze thaws in it, and the dead are removed.
STAY_US: Final = 90 * SECOND
#: Peers asked at once beside the root's seats.
OTHERS: Final = 3
#: The number of these inquests; those that have another purpose count from 1.
NUMBER: Final = 0


class Touch:
    """Asks for signs of life, and counts them."""

    __slots__ = ("asked", "began", "due", "heard", "resigned", "stays", "turn", "vain")

    def __init__(self) -> None:
        self.due = NEVER
        self.began = 0  # when we became chairman
        self.asked: dict[int, int] = {}  # whom we asked lately -> when
        self.heard: dict[int, int] = {}  # of these, who answered -> when
        self.resigned = -NEVER
        self.vain = 0  # how often we resigned of late
        self.stays = False
        self.turn = 0

    def begin(self, now: int) -> None:
        """We are chairman from now on."""
        self.began = now
        if now - self.resigned >= SOON_US:
            self.vain = 0
        self.stays = self.vain >= ENOUGH
        self.asked = {}
        self.heard = {}
        self.due = now + ASK_US // 2

    def end(self) -> None:
        self.due = NEVER

    def resign(self, now: int) -> None:
        """We leave the chair because we are not heard."""
        self.resigned = now
        self.vain += 1

    def answered(self, sender: int, now: int) -> None:
        if sender in self.asked:
            self.heard[sender] = now

    def sure(self) -> bool:
        """Whether most hear us; where there is nobody to ask, nobody is missed."""
        return 2 * (len(self.heard) + 1) > len(self.asked) + 1

    def may_judge(self) -> bool:
        """Whether the silence of others means anything."""
        return self.stays or self.sure()

    def lost(self, now: int) -> bool:
        """Whether most have not answered for too long."""
        return not self.sure() and now - self.began >= (STAY_US if self.stays else LATELY_US)

    def ask(self, me: int, plan: Plan, now: int, out: Sink) -> None:
        """Ask the next ones, and forget who was asked long ago or has gone from the plan."""
        self.due = now + ASK_US
        lately = now - LATELY_US
        home = plan.home
        self.asked = {n: at for n, at in self.asked.items() if at > lately and n in home}
        self.heard = {n: at for n, at in self.heard.items() if at > lately and n in self.asked}
        root = plan.cells.get(plan.root)
        chosen = dict.fromkeys(root.seats if root is not None else ())
        everybody = list(home)
        for _ in range(min(OTHERS, len(everybody))):
            self.turn = (self.turn + 1) % len(everybody)
            chosen[everybody[self.turn]] = None
        chosen.pop(me, None)
        for node_id in chosen:
            self.asked[node_id] = now
            out.send(plan.contacts[node_id], Inquest(NO_CELL, NUMBER))
