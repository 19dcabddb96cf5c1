"""Inquests: the chairman asks the hosts of a silent cell, one by one, whether they are there.

A cell whose owner is gone and whose seats cannot elect another would stay dark for ever.  Whoever
notices (a member without owner for long, or the owner of the parent cell) reports it; the chairman
then asks the hosts itself, and whoever does not answer in time is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fabric.machine import NEVER, Contact, Sink
from fabric.settings import Settings
from fabric.units import SECOND
from fabric.wire.tree import Here, Inquest

#: How long hosts have to answer: several round trips on a bad day.
ANSWER_US: Final = 2 * SECOND
#: Inquests open at once; a report comes again if its cell had to wait.
MAX_OPEN: Final = 16


class _Case:
    __slots__ = ("asked", "deadline", "living", "number")

    def __init__(self, asked: list[int], number: int, deadline: int) -> None:
        self.asked = asked
        self.number = number
        self.deadline = deadline
        self.living: dict[int, None] = {}


class Inquests:
    """The chairman's open inquests, by cell."""

    def __init__(self, me: Contact, settings: Settings) -> None:
        self.me = me
        self.settings = settings
        self.number = 0
        self.cases: dict[int, _Case] = {}
        self.not_before: dict[int, int] = {}  # cell -> when it may be asked about again

    @property
    def due(self) -> int:
        return min([case.deadline for case in self.cases.values()], default=NEVER)

    def open(self, cell: int, hosts: Sequence[Contact], now: int, out: Sink) -> None:
        """Ask ``hosts`` of ``cell``, unless that is under way or was just done."""
        if cell in self.cases or len(self.cases) >= MAX_OPEN:
            return
        if now < self.not_before.get(cell, 0):
            return
        self.number += 1
        asked = [host.node_id for host in hosts]
        self.cases[cell] = _Case(asked, self.number, now + ANSWER_US)
        for host in hosts:
            out.send(host, Inquest(cell, self.number))

    def answered(self, sender: int, msg: Here) -> None:
        case = self.cases.get(msg.cell)
        if case is not None and case.number == msg.number and sender in case.asked:
            case.living[sender] = None

    def close(self, now: int) -> list[tuple[int, list[int], list[int]]]:
        """Close what is due. Returns (cell, who answered, who did not)."""
        done = [(cell, case) for cell, case in self.cases.items() if case.deadline <= now]
        verdicts = []
        for cell, case in done:
            del self.cases[cell]
            self.not_before[cell] = now + self.settings.ownerless_us
            living = list(case.living)
            verdicts.append((cell, living, [n for n in case.asked if n not in case.living]))
        return verdicts
