"""Leaving without a gap: what we own is handed over first, and requests under way are answered.

From the root down, each cell that we own goes to its first standby, which wins it while we still
own it.  Then we linger a moment, for requests that were sent to us before their senders knew, and
say goodbye.  Where nobody takes over in time (nobody else lives, the seats do not answer) we leave
all the same: our lease lapses, as if we had died.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fabric.machine import NEVER, Sink
from fabric.units import MS

if TYPE_CHECKING:
    from fabric.peer.cells import Cells

#: How often we look whether the heir has won.
LOOK_US: Final = 20 * MS
#: Messages of a hand-over are repeated after so long.
REPEAT_US: Final = 200 * MS
#: For requests that were under way to us when others heard of our heirs.
LINGER_US: Final = 300 * MS


class Farewell:
    """One peer's leaving, from the wish to the last word."""

    __slots__ = ("cells", "deadline", "due", "finish", "handed", "owned", "repeat_at")

    def __init__(self, cells: Cells, finish: Callable[[int, Sink], None], now: int) -> None:
        self.cells = cells
        self.finish = finish
        self.deadline = now + cells.settings.lease_us
        self.owned = self._owned(now)
        self.handed = bool(self.owned)
        self.repeat_at = now
        self.due = now

    def _owned(self, now: int) -> int:
        """How many cells we own."""
        return sum([o.owns(now) for o in self.cells.leases.ownerships.values()])

    def tick(self, now: int, out: Sink) -> None:
        """Go on: hand over the next cell, linger, or finish."""
        owned = self._owned(now)
        if owned and now < self.deadline:
            if owned < self.owned or now >= self.repeat_at:
                self.owned = owned
                self.repeat_at = now + REPEAT_US
                if not self.cells.leases.hand_over(now, out):
                    self.deadline = now  # nobody is there to take over
                    self.handed = False
            if self.handed:
                self.due = now + LOOK_US
                return
        if self.handed:
            self.handed = False
            self.due = now + LINGER_US
            return
        self.due = NEVER
        self.finish(now, out)
