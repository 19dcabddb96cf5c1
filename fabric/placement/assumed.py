"""What an owner has sent to its members and not yet seen in their summaries.

Summaries are up to a second old.  Without this, a burst of requests would all see the same best
host.  Assumed use orders candidates; it never proves a "no", so nothing here needs to be exact:
an entry counts until a summary newer than it arrives, or for
:data:`~fabric.limits.ASSUMED_US`.

A refusal brings the member's true state along; until the table knows something newer, that counts.
"""

from __future__ import annotations

from typing import NamedTuple

from fabric.limits import ASSUMED_US, MAX_CELL_MEMBERS
from fabric.placement.request import PlacementRequest
from fabric.placement.tables import Child
from fabric.tree.summary import Summary


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
        self._sent: dict[int, list[tuple[int, int, int]]] = {}
        self._learned: dict[int, tuple[int, Summary]] = {}

    def sent(self, child: Child, request: PlacementRequest, now: int) -> None:
        """Count ``request`` as used at ``child``."""
        row = (now, request.cpu, request.memory_mb)
        self._sent.setdefault(_row(child), []).append(row)

    def learned(self, key: int, is_host: bool, summary: Summary, at: int) -> None:
        """Take the true state that came with a refusal; what was assumed before it is over."""
        if len(self._learned) > 4 * MAX_CELL_MEMBERS:  # members that left: start afresh
            self._learned.clear()
            self._sent.clear()
        row = key * 2 + is_host
        self._learned[row] = (at, summary)
        self._sent.pop(row, None)

    def summary(self, child: Child) -> tuple[Summary | None, int]:
        """Return the newest summary of ``child`` that is known here, and its time."""
        learned = self._learned.get(_row(child))
        if learned is None:
            return child.summary, child.summary_at
        if child.summary is not None and child.summary_at > learned[0]:
            del self._learned[_row(child)]
            return child.summary, child.summary_at
        return learned[1], learned[0]

    def used(self, child: Child, summary_at: int, now: int) -> Used:
        """Return what is on its way to ``child`` and cannot be in its summary yet."""
        rows = self._sent.get(_row(child))
        if rows is None:
            return NONE_USED
        since = max(summary_at, now - ASSUMED_US)
        live = [row for row in rows if row[0] >= since]
        if not live:
            del self._sent[_row(child)]
            return NONE_USED
        if len(live) < len(rows):
            self._sent[_row(child)] = live
        return Used(sum([row[1] for row in live]), sum([row[2] for row in live]), len(live))


def _row(child: Child) -> int:
    """Node ids and cell ids are told apart: they come from different sources."""
    return child.key * 2 + child.is_host
