"""What an owner has sent to its members and not yet seen in their summaries.

Summaries are up to a second old.  Without this, a burst of requests would all see the same best
host.  Assumed use orders candidates; it never proves a "no", so nothing here needs to be exact: an
entry counts until the member's summary has changed (and :data:`SEEN_AFTER_US` have passed, since
the change may be of before), at the longest for :data:`~fabric.limits.ASSUMED_US`.

A refusal brings the member's true state along; until its summary in the table changes, that counts
for as long.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fabric.limits import ASSUMED_US, MAX_CELL_MEMBERS
from fabric.machine import NEVER
from fabric.placement.request import PlacementRequest
from fabric.placement.tables import Child
from fabric.tree.summary import Summary
from fabric.units import MS

#: A request is at its host and in the host's news after that long.
SEEN_AFTER_US: Final = 300 * MS


class Sent(NamedTuple):
    """One request on its way: when, how much, and what the table said then."""

    at: int
    cpu: int
    memory_mb: int
    summary: Summary | None


class Learned(NamedTuple):
    """The true state that came with a refusal, and what the table said then."""

    at: int
    summary: Summary
    table: Summary | None


class Used(NamedTuple):
    """What was sent to one member: sums over requests."""

    cpu: int
    memory_mb: int
    requests: int


NONE_USED = Used(0, 0, 0)


class Rows:
    """What is on its way to one member, and the sum of it as long as nothing changes."""

    __slots__ = ("sent", "summary", "until", "used")

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.used = NONE_USED  # true until then, while the table says ``summary``
        self.until = 0
        self.summary: Summary | None = None


class Assumed:
    """Assumed use and learned summaries of the members of all cells that this peer owns."""

    __slots__ = ("_learned", "_sent")

    def __init__(self) -> None:
        self._sent: dict[int, Rows] = {}
        self._learned: dict[int, Learned] = {}

    def sent(self, child: Child, request: PlacementRequest, now: int) -> None:
        """Count ``request`` as used at ``child``."""
        rows = self._sent.setdefault(_row(child), Rows())
        rows.sent.append(Sent(now, request.cpu, request.memory_mb, child.summary))
        rows.until = 0

    def learned(self, child: Child, summary: Summary, at: int) -> None:
        """Take the true state that came with a refusal; what was assumed before it is over."""
        if len(self._learned) > 4 * MAX_CELL_MEMBERS:  # members that left: start afresh
            self._learned.clear()
            self._sent.clear()
        self._learned[_row(child)] = Learned(at, summary, child.summary)
        self._sent.pop(_row(child), None)

    def summary(self, child: Child, now: int) -> tuple[Summary | None, int]:
        """Return the newest summary of ``child`` that is known here, and its time."""
        learned = self._learned.get(_row(child)) if self._learned else None
        if learned is None:
            return child.summary, child.summary_at
        if now - learned.at > ASSUMED_US or not same(child.summary, learned.table):
            del self._learned[_row(child)]
            return child.summary, child.summary_at
        return learned.summary, learned.at

    def used(self, child: Child, now: int) -> Used:
        """Return what is on its way to ``child`` and cannot be in its summary yet."""
        rows = self._sent.get(_row(child))
        if rows is None:
            return NONE_USED
        if now >= rows.until or child.summary is not rows.summary:
            self._add_up(rows, child.summary, now)
            if not rows.sent:
                del self._sent[_row(child)]
        return rows.used

    def _add_up(self, rows: Rows, summary: Summary | None, now: int) -> None:
        live: list[Sent] = []
        cpu = memory_mb = 0
        until = NEVER
        for row in rows.sent:
            lasts_us = ASSUMED_US if same(summary, row.summary) else SEEN_AFTER_US
            if now - row.at <= lasts_us:
                live.append(row)
                cpu += row.cpu
                memory_mb += row.memory_mb
                until = min(until, row.at + lasts_us + 1)
        rows.sent = live
        rows.used = Used(cpu, memory_mb, len(live))
        rows.until, rows.summary = until, summary


def same(a: Summary | None, b: Summary | None) -> bool:
    """Whether two summaries say the same; mostly they are the same object."""
    return a is b or a == b


def _row(child: Child) -> int:
    """Node ids and cell ids are told apart: they come from different sources."""
    return child.key * 2 + child.is_host
