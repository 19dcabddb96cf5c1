"""Holding the chair: the candidate's side of the chairman's lease in the coordinator.

Every candidate campaigns each third of the lease.  Whoever holds the chair may act only until
``lease_us`` after it *sent* the campaign that was granted, by its own clock; past that it stops,
whatever the coordinator thinks.  What it writes is fenced by the epoch besides.
"""

from __future__ import annotations

from dataclasses import dataclass

from fabric.coordination.interface import Campaign, Chair, Epoch, Resign
from fabric.machine import NEVER, Sink
from fabric.settings import Settings


@dataclass(slots=True)
class ChairmanNotice:
    """Told to observers: ``what`` is one of elected, lost, unreachable, halted, frozen, thawed."""

    what: str
    detail: str = ""


class ChairLease:
    """Whether we hold the chair, under which epoch, until when."""

    __slots__ = (
        "coordinator_id", "deadline", "epoch", "holder", "next_campaign", "node_id", "pending",
        "sent_at", "settings",
    )  # fmt: skip

    def __init__(self, node_id: int, settings: Settings, now: int) -> None:
        self.node_id = node_id
        self.settings = settings
        self.epoch: Epoch | None = None  # ours, while we hold the chair
        self.deadline = 0
        self.holder = 0
        self.coordinator_id = 0
        self.pending = 0  # token of the campaign under way; 0: none
        self.sent_at = 0
        self.next_campaign = now

    def holds(self, now: int) -> bool:
        """Whether we may act as chairman at ``now``."""
        return self.epoch is not None and now < self.deadline

    @property
    def due(self) -> int:
        return min(self.next_campaign, self.deadline if self.epoch is not None else NEVER)

    def tick(self, now: int, token: int, out: Sink) -> bool:
        """Campaign when it is time. Returns true when the chair has just been lost."""
        if now >= self.next_campaign:
            self.next_campaign = now + self.settings.chair_lease_us // 3
            # an unanswered campaign is given up after a lease: its answer would be void anyway
            if not self.pending or now - self.sent_at >= self.settings.chair_lease_us:
                self.pending = token
                self.sent_at = now
                out.coordinate(Campaign(self.node_id, self.settings.chair_lease_us), token)
        if self.epoch is not None and now >= self.deadline:
            self.epoch = None
            return True
        return False

    def answered(self, chair: Chair, now: int) -> bool:
        """Take a campaign's answer. Returns true when the chair has just become ours."""
        self.pending = 0
        self.holder = chair.holder
        # An emptied coordinator counts its leases anew, and may come to the same epoch.  So may one
        # that was restored from before our election; that shows only at our next write, which is
        # refused, since the versions of the records fell back.  Nothing is lost by then: peers go
        # on with what they hold, and any other chairman is halted by what its own peer knows.
        another = chair.coordinator_id != self.coordinator_id
        self.coordinator_id = chair.coordinator_id
        until = self.sent_at + self.settings.chair_lease_us
        if not chair.held or now >= until:
            self.epoch = None
            return False
        new = another or self.epoch != chair.epoch
        self.epoch = chair.epoch
        self.deadline = until
        return new

    def hurry(self, now: int) -> None:
        """Campaign now: the chair may be free. Whoever keeps away from it goes on doing so."""
        if self.next_campaign - now <= self.settings.chair_lease_us // 3:
            self.next_campaign = now
            self.pending = 0  # what is under way was asked too early

    def resign(self, token: int, out: Sink) -> None:
        """Give the chair back, so that another candidate need not wait."""
        if self.epoch is not None:
            out.coordinate(Resign(self.epoch), token)
            self.epoch = None
        self.pending = 0  # what was asked before this may still be granted: it is void
        self.next_campaign = NEVER
