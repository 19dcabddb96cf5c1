"""Hearings: nobody is removed at one peer's word, be it the owner of the cell.

An owner's report that a member is gone is put to a few others of the same cell, and to the member
itself.  Two others who hold it for dead as well settle it at once, which is what a true report
costs: a round trip.  Otherwise the answers of :data:`ANSWER_US` count: whoever is heard, or of whom
somebody says that it lives, stays; the owner will report again if it is sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fabric.machine import NEVER, Contact, Sink
from fabric.stream import mix
from fabric.units import SECOND
from fabric.wire.gossip import ALIVE, DEAD
from fabric.wire.tree import Opinion, OpinionAsk

#: How long others have to answer.
ANSWER_US: Final = 1 * SECOND
#: So long a verdict stands: reports of the same member, repeated every two seconds, only renew it.
STANDS_US: Final = 8 * SECOND
#: Others of the cell that are asked beside the member itself.
ASKED: Final = 3
#: Others whose word, with the owner's, has a member removed.
ENOUGH: Final = 2
#: Hearings open at once; whoever has to wait is reported again.
MAX_OPEN: Final = 4096


class _Hearing:
    __slots__ = ("answers", "asked", "cell", "deadline", "node_id", "number")

    def __init__(self, number: int, node_id: int, cell: int, asked: list[int], deadline: int):
        self.number = number
        self.node_id = node_id
        self.cell = cell
        self.asked = asked
        self.deadline = deadline
        self.answers: dict[int, int] = {}

    def sure(self) -> bool:
        """Whether enough others hold the member for gone, and it has not spoken up itself."""
        return self._gone() >= ENOUGH and self.node_id not in self.answers

    def likely(self) -> bool:
        """What to believe when time is up: others may not reach it although we do."""
        return self._gone() >= ENOUGH or ALIVE not in self.answers.values()

    def _gone(self) -> int:
        return sum([state >= DEAD for state in self.answers.values()])


class Hearings:
    """The chairman's open hearings, by member."""

    __slots__ = ("due", "me", "number", "open", "settled")

    def __init__(self, me: Contact) -> None:
        self.me = me
        self.number = 0
        self.open: dict[int, _Hearing] = {}
        self.settled: dict[int, int] = {}  # member -> when it was last found gone
        self.due = NEVER

    def stands(self, node_id: int, now: int) -> bool:
        """Whether ``node_id`` was found gone a short while ago."""
        return now - self.settled.get(node_id, -NEVER) < STANDS_US

    def ask(
        self, suspect: Contact, cell: int, others: Sequence[Contact], now: int, out: Sink
    ) -> None:
        """Ask ``suspect`` and some of ``others`` of ``cell``, unless that is under way."""
        node_id = suspect.node_id
        if node_id in self.open or len(self.open) >= MAX_OPEN:
            return
        self.number += 1
        ranked = sorted(others, key=lambda c: mix(self.number, c.node_id))[:ASKED]
        asked = [suspect, *ranked]
        deadline = now + ANSWER_US
        ids = [contact.node_id for contact in asked]
        self.open[node_id] = _Hearing(self.number, node_id, cell, ids, deadline)
        self.due = min(self.due, deadline)
        for contact in asked:
            out.send(contact, OpinionAsk(self.me, cell, node_id, self.number))

    def answered(self, sender: int, msg: Opinion, now: int) -> int:
        """Take an answer. Returns the member if that settles that it is gone, else 0."""
        hearing = self.open.get(msg.key)
        if hearing is None or hearing.number != msg.number or sender not in hearing.asked:
            return 0
        hearing.answers[sender] = msg.state
        if not hearing.sure():
            return 0
        self._close(hearing)
        self.settled[msg.key] = now
        return msg.key

    def close(self, now: int) -> list[int]:
        """Close what is due. Returns the members that are gone."""
        gone = []
        for hearing in [h for h in self.open.values() if h.deadline <= now]:
            self._close(hearing)
            if hearing.likely():
                self.settled[hearing.node_id] = now
                gone.append(hearing.node_id)
        return gone

    def tidy(self, now: int) -> None:
        """Forget verdicts that stand no more."""
        self.settled = {n: at for n, at in self.settled.items() if now - at < STANDS_US}

    def end(self) -> None:
        """We are chairman no more."""
        self.open = {}
        self.settled = {}
        self.due = NEVER

    def _close(self, hearing: _Hearing) -> None:
        del self.open[hearing.node_id]
        self.due = min([h.deadline for h in self.open.values()], default=NEVER)
