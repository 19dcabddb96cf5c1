"""Owning a cell: the candidate's and the owner's side of the lease.

Theory of operation
-------------------
A cell's owner is whoever holds unexpired grants of a majority of its seats under one term.

    IDLE ──(no live owner: wait rank x 150 ms)──▶ WAITING ──▶ PRE ──(majority would)──▶ ASKING
      ▲                                                        │                          │
      ├────────────── denied, or no answer in time ────────────┴──────────────────────────┤
      │                                                                       (majority granted)
      └──────────────── lease lapsed, or a higher term was seen ◀────── OWNING ◀──────────┘

The owner counts a grant from when it *asked*, less a margin for drift, so it stops before the
seats do.  It renews at a bare majority of the seats and asks the others only when an answer is
late.  When its electorate changes it goes on owning under the old grants while it collects those
of the new electorate, under a new term.

Leaving or draining, it names an heir to the seats and goes on until that one has won
(:meth:`Ownership.hand_over`): for a moment there are two owners, of two terms, rather than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fabric.machine import NEVER, Contact, Sink
from fabric.settings import Settings
from fabric.units import MS
from fabric.wire.tree import (
    CellRecord,
    HandOver,
    LeaseAsk,
    LeaseDeny,
    LeaseGrant,
    LeaseRelease,
    Order,
    Owner,
)

IDLE: Final = 0
WAITING: Final = 1
PRE: Final = 2
ASKING: Final = 3
OWNING: Final = 4

#: Subtracted from each grant: clocks may drift 200 ppm (0.4 ms a lease), timers fire late.
DRIFT_MARGIN_US: Final = 20 * MS


class Ownership:
    """Our candidacy for (and ownership of) one cell."""

    __slots__ = (
        "asked_at", "cell", "denied", "electorate", "expiry", "floor", "granted", "heir", "late_at",
        "lease_until", "me", "next_renew", "number", "record", "seats", "settings", "stamp",
        "standbys", "state", "term", "wait_until",
    )  # fmt: skip

    def __init__(self, record: CellRecord, me: Contact, settings: Settings) -> None:
        self.cell = record.cell
        self.me = me
        self.settings = settings
        self.state = IDLE
        self.term = 0  # the highest seen or asked for
        self.number = 0
        self.asked_at = 0
        self.granted: list[int] = []  # seats that answered the question ``number`` with yes
        self.denied = 0  # and how many with no
        self.expiry: dict[int, int] = {}  # seat -> when its grant to us ends, this term
        self.lease_until = 0
        self.next_renew = NEVER
        self.late_at = NEVER
        self.wait_until = NEVER
        self.stamp: Owner | None = None  # what we may speak under while the lease runs
        self.standbys: tuple[Contact, ...] = ()
        self.heir = 0  # to whom we are handing over
        self._take(record)

    def _take(self, record: CellRecord) -> None:
        self.record = record
        self.electorate: Order = record.electorate
        self.floor = record.term_floor
        self.seats: list[Contact] = list(record.seats)

    @property
    def majority(self) -> int:
        return len(self.seats) // 2 + 1

    @property
    def due(self) -> int:
        if self.state == OWNING:
            return min(self.lease_until, self.next_renew, self.late_at)
        if self.state == WAITING:
            return self.wait_until
        if self.state == IDLE:
            return NEVER
        return self.late_at

    def owns(self, now: int) -> bool:
        """Whether we hold the lease at ``now``."""
        return self.state == OWNING and now < self.lease_until

    # --- events ----------------------------------------------------------------------------------

    def update(self, record: CellRecord, now: int, out: Sink) -> None:
        """Take a newer record; under a new electorate a new term must be won."""
        changed = record.electorate > self.electorate
        self._take(record)
        if not changed:
            return
        if self.state == OWNING:
            self.heir = 0
            self.term = max(self.term, self.floor) + 1
            self.expiry = {}
            self._ask(False, self.seats, now, out)
            self.next_renew = now + self.settings.renew_us
        elif self.state != IDLE:
            self.state = IDLE

    def stand(self, rank: int, now: int, out: Sink) -> None:
        """There is no owner: try to become it, after those that rank before us."""
        if self.state == IDLE and self.seats:
            self.state = WAITING
            self.wait_until = now + rank * self.settings.standby_step_us
            out.wake(self.wait_until)

    def on_grant(self, sender: int, msg: LeaseGrant, now: int, out: Sink) -> bool:
        """Count a grant. Returns true when we have just won a new term."""
        if msg.number != self.number or sender in self.granted:
            return False
        if not any(seat.node_id == sender for seat in self.seats):
            return False
        self.granted.append(sender)
        if self.state == PRE and msg.pre:
            if len(self.granted) >= self.majority:
                self.state = ASKING
                self.term = max(self.term, self.floor) + 1
                self.expiry = {}
                self._ask(False, self.seats, now, out)
            return False
        if self.state in (ASKING, OWNING) and not msg.pre and msg.term == self.term:
            self.expiry[sender] = self.asked_at + self.settings.lease_us - DRIFT_MARGIN_US
            return self._count(now, out)
        return False

    def _count(self, now: int, out: Sink) -> bool:
        if len(self.granted) >= self.majority:
            self.late_at = NEVER
        if len(self.expiry) < self.majority:
            return False
        until = sorted(self.expiry.values(), reverse=True)[self.majority - 1]
        if until <= now:
            return False
        self.lease_until = until
        stamp = self.stamp
        if (
            self.state == OWNING
            and stamp is not None
            and (stamp.electorate, stamp.term) == (self.electorate, self.term)
        ):
            return False
        self.state = OWNING
        self.stamp = Owner(self.cell, self.electorate, self.term, self.me)
        self.next_renew = self.asked_at + self.settings.renew_us
        out.wake(self.next_renew)
        return True

    def on_deny(self, sender: int, msg: LeaseDeny, now: int, out: Sink) -> bool:
        """Take a refusal. Returns true when the seat's record is older than ours (send it)."""
        if msg.term > self.term and msg.electorate >= self.electorate:
            if msg.electorate == self.electorate:
                self.term = msg.term  # a newer electorate's terms are not for the old one to reach
            if self.state == OWNING:
                self._lost()
                return False
        if msg.number == self.number and self.state in (PRE, ASKING):
            self.denied += 1
            if self.denied > len(self.seats) - self.majority:
                self._no_majority(msg.wait_us, now, out)
        return msg.electorate < self.electorate

    def _no_majority(self, wait_us: int, now: int, out: Sink) -> None:
        """The seats will not have us now. Where a grant is just about to lapse, ask once more."""
        self.state = IDLE
        if 0 < wait_us <= 2 * self.settings.standby_step_us:
            self.state = WAITING
            self.wait_until = now + wait_us + MS
            out.wake(self.wait_until)

    def superseded(self, owner: Owner) -> bool:
        """Somebody else announced a newer term. Returns true if that deposes us."""
        stamp = self.stamp
        if owner.electorate == self.electorate:
            self.term = max(self.term, owner.term)
        if self.state == OWNING and stamp is not None:
            if (owner.electorate, owner.term) > (stamp.electorate, stamp.term):
                self._lost()
                return True
        elif self.state != IDLE:
            self.state = IDLE
        return False

    def hand_over(self, heir: Contact, out: Sink) -> None:
        """Have ``heir`` take over; we go on until it has, or until our lease lapses.

        May be repeated: each message may be lost.
        """
        stamp = self.stamp
        if self.state != OWNING or stamp is None or stamp.electorate != self.electorate:
            return
        self.heir = heir.node_id
        self.next_renew = self.late_at = NEVER
        word = HandOver(self.cell, stamp.electorate, stamp.term, heir)
        for seat in self.seats:
            if seat.node_id != heir.node_id:
                out.send(seat, word)
        out.send(heir, word)

    def release(self, out: Sink) -> None:
        """Give the lease back where there is no heir: the seats tell the standbys at once."""
        if self.state == OWNING:
            for seat in self.seats:
                out.send(seat, LeaseRelease(self.cell, self.term))
        self._lost()

    def tick(self, now: int, out: Sink) -> bool:
        """Do what is due. Returns true when the lease has just been lost."""
        if self.state == OWNING:
            if now >= self.lease_until:
                self._lost()
                return True
            if now >= self.next_renew:
                self._renew(now, out)
            elif now >= self.late_at:
                self.late_at = NEVER
                others = [s for s in self.seats if s.node_id not in self.granted]
                self._repeat(others, out)
        elif self.state == WAITING and now >= self.wait_until:
            self.state = PRE
            self._ask(True, self.seats, now, out)
        elif self.state in (PRE, ASKING) and now >= self.late_at:
            self.state = IDLE
        return False

    # --- asking ----------------------------------------------------------------------------------

    def _renew(self, now: int, out: Sink) -> None:
        seats = self.seats
        if len(self.expiry) >= self.majority:
            # those that answer, and no more than are needed; a seat of our own costs no message
            me = self.me.node_id
            seats = [s for s in seats if s.node_id in self.expiry]
            seats.sort(key=lambda s: (s.node_id != me, -self.expiry[s.node_id]))
            seats = seats[: self.majority]
        self._ask(False, seats, now, out)
        self.next_renew = now + self.settings.renew_us

    def _ask(self, pre: bool, seats: Sequence[Contact], now: int, out: Sink) -> None:
        self.number += 1
        self.asked_at = now
        self.granted = []
        self.denied = 0
        # elections allow for a disk write at the seat, renewals do not need one
        patience = 1 if self.state == OWNING else 3
        self.late_at = now + patience * self.settings.late_answer_us
        self._repeat(seats, out, pre)
        out.wake(self.due)

    def _repeat(self, seats: Sequence[Contact], out: Sink, pre: bool = False) -> None:
        term = max(self.term, self.floor) + 1 if pre else self.term
        ask = LeaseAsk(self.cell, self.electorate, term, self.number, pre, self.me, self.standbys)
        for seat in seats:
            out.send(seat, ask)

    def _lost(self) -> None:
        self.state = IDLE
        self.heir = 0
        self.stamp = None
        self.lease_until = 0
        self.expiry = {}
        self.next_renew = self.late_at = NEVER
