"""Suspicions: how a silent member is held for dead, and how it is not when it should not be.

* Whoever got no answer, not even through others, is a *witness*, and tells every member so.
* Three members, picked by rank, probe the suspect at once; each that fails is a witness too.
* A removal needs ``min(3, living others)`` witnesses, counted by their authenticated senders: no
  single member, forging or not, can have a healthy one removed.  Who testifies counts among the
  living others, whatever is said of it: nobody can make itself the only one left.
* A case without enough witnesses stays open: each round another member probes the suspect, so
  witnesses come in one by one (where Lifeguard shrinks a long timeout with each confirmation).
  With enough of them it is decided ``suspicion_us`` after it began.  Meanwhile the suspect may
  refute by a higher incarnation, which closes the case.
* Where we are the only one left, a case takes three times as long, and our word counts only while
  somebody beyond the cell answers us: cut off, we would find everybody else dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fabric.gossip.members import (
    MAX_HEARSAY_STEP,
    Member,
    Suspicion,
    lives,
    newer_life,
)
from fabric.machine import NEVER, Sink
from fabric.stream import mix
from fabric.units import SECOND
from fabric.wire.gossip import ALIVE, DEAD, SUSPECT, News, Suspect

if TYPE_CHECKING:
    from fabric.gossip.cell import CellGossip

#: Independent witnesses that a removal needs, where so many others live.
WITNESSES = 3
#: A witness whose probes go on failing says so again after this: its word may have been lost, and
#: the case would stay open for ever.  (Cases where all is heard are closed long before.)
AGAIN_US = 10 * SECOND


class Court:
    """The open cases of one cell, as one member sees them."""

    __slots__ = ("cases", "cell", "due", "probes")

    def __init__(self, cell: CellGossip) -> None:
        self.cell = cell
        self.cases: dict[int, Member] = {}
        #: number -> (key, deadline, whether only an open case makes its failure count)
        self.probes: dict[int, tuple[int, int, bool]] = {}
        self.due = NEVER

    def open(self, member: Member, now: int, out: Sink) -> Suspicion:
        """Open a case (or return the open one); probe at once when it is our turn."""
        case = member.suspicion
        if case is not None and case.incarnation == member.news.incarnation:
            return case
        case = Suspicion(member.news.incarnation, now)
        member.suspicion = case
        self.cases[member.key] = member
        if self._is_our_duty(member):
            if self._needed(case) == 1:
                self.cell.hooks.in_touch(self.cell, member, now, out)
            number = self.cell.probe_now(member, out)
            settings = self.cell.settings
            wait = settings.ack_timeout_us * (1 + self.cell.health)
            self.probes[number] = (member.key, now + wait, True)
        self._reckon()
        return case

    def accuse(self, member: Member, incarnation: int, witness: int, now: int, out: Sink) -> None:
        """Count ``witness`` (perhaps ourselves) against ``member``."""
        news = member.news
        if news.state >= DEAD or incarnation < news.incarnation:
            return
        if witness == self.cell.key and now < self.cell.sure_from:
            return
        if member.sworn and newer_life(incarnation, news.incarnation):
            self.cell.verify(member, out)
            return
        if news.state == ALIVE or incarnation > news.incarnation:
            seq, summary = news.seq, news.summary
            if newer_life(incarnation, news.incarnation):
                seq, summary = 0, None  # a new life: what the old one had is void
            elif incarnation > news.incarnation + MAX_HEARSAY_STEP:
                return
            word = News(news.key, incarnation, SUSPECT, news.contact, seq, summary)
            self.cell.renew(member, word)
        case = self.open(member, now, out)
        new = case.testify(witness)
        if new and len(case.witnesses) == 1:
            self.cell.hooks.suspected(self.cell, member, witness, out)
        if witness == self.cell.key and (new or now - case.told_at >= AGAIN_US):
            case.told_at = now
            statement = Suspect(self.cell.cell, member.key, incarnation, False)
            for other in self.cell.members.values():
                if other.news.contact.node_id:
                    out.send(other.news.contact, statement)
        self._reckon()

    def answered(self, number: int, key: int) -> None:
        """The probe ``number`` that we sent as a witness was answered by ``key``."""
        probe = self.probes.get(number)
        if probe is not None and probe[0] == key:
            del self.probes[number]
            self._reckon()

    def wait_for(self, number: int, key: int, deadline: int) -> None:
        """Go on waiting for a probe of the rotation that outlasts its round."""
        self.probes[number] = (key, deadline, False)
        self._reckon()

    def forget(self, number: int) -> None:
        """Others reached whom our probe ``number`` did not."""
        if self.probes.pop(number, None) is not None:
            self._reckon()

    def withdraw(self, member: Member) -> None:
        """The suspect answered us: we are no witness any more."""
        case = member.suspicion
        if case is not None and self.cell.key in case.witnesses:
            case.witnesses.remove(self.cell.key)
            self._reckon()

    def acquit(self, member: Member) -> None:
        """The suspect refuted: close the case."""
        member.suspicion = None
        self.cases.pop(member.key, None)
        self._reckon()

    def keep_only(self, members: Mapping[int, Member]) -> None:
        """Drop the cases of those that are no members any more."""
        self.cases = {k: m for k, m in self.cases.items() if k in members}
        self._reckon()

    def postpone(self, by_us: int) -> None:
        """We were not running for ``by_us``: nobody loses time to refute for that."""
        self.probes.clear()
        for member in self.cases.values():
            if member.suspicion is not None:
                member.suspicion.since += by_us
        self._reckon()

    def tick(self, now: int, out: Sink) -> None:
        """Testify where our probe stayed unanswered; convict where the case is complete."""
        for number, (key, deadline, duty) in list(self.probes.items()):
            if deadline <= now:
                del self.probes[number]
                member = self.cell.members.get(key)
                if member is not None and (member.suspicion is not None or not duty):
                    incarnation = member.news.incarnation
                    self.accuse(member, incarnation, self.cell.key, now, out)
        for key, member in list(self.cases.items()):
            case = member.suspicion
            if case is None or self._deadline(member) > now:
                continue
            cell = self.cell
            if self._needed(case) == 1 and not cell.hooks.in_touch(cell, member, now, out):
                case.since = now - 2 * cell.settings.suspicion_us  # and look again a while later
                continue
            del self.cases[key]
            member.accusers = tuple(case.witnesses)
            member.suspicion = None
            cell.convict(member, now, out)
        self._reckon()

    # --- reckoning -------------------------------------------------------------------------------

    def _is_our_duty(self, member: Member) -> bool:
        """Whether we are one of the three that rank first for this suspect."""
        cell = self.cell
        salt = mix(member.key, member.news.incarnation)
        ours = mix(salt, cell.key)
        before = 0
        for other in cell.members.values():
            if other is not member and other.alive and mix(salt, other.key) < ours:
                before += 1
        return before < WITNESSES

    def _deadline(self, member: Member) -> int:
        """When the case is decided: never while witnesses are missing."""
        case = member.suspicion
        if case is None:
            return NEVER
        needed = self._needed(case)
        if len(case.witnesses) < needed:
            return NEVER
        wait = self.cell.settings.suspicion_us
        return max(case.since + (wait if needed > 1 else 3 * wait), self.cell.sure_from)

    def _needed(self, case: Suspicion) -> int:
        """How many witnesses a removal needs: those who testified are among the living others."""
        others = self.cell.living + 1  # ourselves; a suspect is not counted as living
        for witness in case.witnesses:
            member = self.cell.members.get(witness)
            if member is not None and not lives(member.news):
                others += 1
        return min(WITNESSES, others)

    def _reckon(self) -> None:
        due = NEVER
        for _, deadline, _ in self.probes.values():
            due = min(due, deadline)
        for member in self.cases.values():
            due = min(due, self._deadline(member))
        self.due = due
