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


class Assumed:
    """Assumed use and learned summaries of the members of all cells that this peer owns."""

    __slots__ = ("_learned", "_sent")

    def __init__(self) -> None:
        self._sent: dict[int, list[Sent]] = {}
        self._learned: dict[int, Learned] = {}

    def sent(self, child: Child, request: PlacementRequest, now: int) -> None:
        """Count ``request`` as used at ``child``."""
        row = Sent(now, request.cpu, request.memory_mb, child.summary)
        self._sent.setdefault(_row(child), []).append(row)

    def learned(self, child: Child, summary: Summary, at: int) -> None:
        """Take the true state that came with a refusal; what was assumed before it is over."""
        if len(self._learned) > 4 * MAX_CELL_MEMBERS:  # members that left: start afresh
            self._learned.clear()
            self._sent.clear()
        self._learned[_row(child)] = Learned(at, summary, child.summary)
        self._sent.pop(_row(child), None)

    def summary(self, child: Child, now: int) -> tuple[Summary | None, int]:
        """Return the newest summary of ``child`` that is known here, and its time."""
        learned = self._learned.get(_row(child))
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
        live = [
            row
            for row in rows
            if now - row.at <= SEEN_AFTER_US
            or (now - row.at <= ASSUMED_US and same(child.summary, row.summary))
        ]
        if not live:
            del self._sent[_row(child)]
            return NONE_USED
        if len(live) < len(rows):
            self._sent[_row(child)] = live
        return Used(sum([row.cpu for row in live]), sum([row.memory_mb for row in live]), len(live))


def same(a: Summary | None, b: Summary | None) -> bool:
    """Whether two summaries say the same; mostly they are the same object."""
    return a is b or a == b


def _row(child: Child) -> int:
    """Node ids and cell ids are told apart: they come from different sources."""
    return child.key * 2 + child.is_host
