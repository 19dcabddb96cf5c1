"""Who left the fabric or was found gone, and whether they may be removed.

Removals wait while too many go at once.  *Freeze*: when more than max(3, 10 %) of the hosts go
within ten seconds, that looks like our own network, not like so many deaths; removals and merges
stop until fewer are gone, or nothing has changed for a minute.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fabric.machine import Sink
from fabric.tree.chair import ChairmanNotice
from fabric.units import SECOND

#: The window and marks of the freeze.
FREEZE_WINDOW_US: Final = 10 * SECOND
FREEZE_HOSTS: Final = 3
FREEZE_DIVISOR: Final = 10
THAW_US: Final = 60 * SECOND
#: Only who was reported just now is removed. Reports are repeated, inquests each 17 s or so: who is
#: reported no more has come back meanwhile (a freeze lasts long enough for that).
FRESH_US: Final = 5 * SECOND
GONE_US: Final = 30 * SECOND


def freeze_mark(hosts: int) -> int:
    """Return how many of ``hosts`` may go at about the same time before removals freeze."""
    return max(FREEZE_HOSTS, hosts // FREEZE_DIVISOR)


class Departures:
    """The chairman's list of those who are gone, and the freeze."""

    __slots__ = ("changed_at", "frozen", "frozen_at", "gone", "left", "removed_at")

    def __init__(self) -> None:
        self.gone: dict[int, int] = {}  # reported dead or left, not yet removed -> last reported
        self.left: dict[int, None] = {}  # of those, who said goodbye: they vote no more
        self.removed_at: list[int] = []
        self.frozen = False
        self.frozen_at = 0
        self.changed_at = 0

    @property
    def pending(self) -> bool:
        """Whether somebody waits to be removed, or a freeze to end."""
        return bool(self.gone) or self.frozen

    def count(self, node_ids: Iterable[int], now: int) -> bool:
        """These are gone, as far as is known at ``now``. Returns whether any of them is new."""
        node_ids = list(node_ids)
        new = any(n not in self.gone for n in node_ids)
        self.gone.update(dict.fromkeys(node_ids, now))
        if new:
            self.changed_at = now
        return new

    def said_goodbye(self, node_id: int, now: int) -> None:
        """``node_id`` goes on purpose."""
        self.count([node_id], now)
        self.left[node_id] = None

    def came_back(self, node_id: int, now: int) -> None:
        """``node_id`` was heard: if it was held for gone, it is not."""
        if self.gone.pop(node_id, None) is not None:
            self.changed_at = now

    def forget(self) -> None:
        """We are chairman no more: whoever is next will hear of them again."""
        self.gone = {}

    def take(self, hosts: int, now: int, out: Sink) -> list[int]:
        """Return who is to be removed now, of ``hosts`` in all; they are off the list then."""
        if not self.pending or not self._may_remove(hosts, now, out):
            return []
        taken = [n for n, at in self.gone.items() if now - at < FRESH_US or n in self.left]
        self.gone = {n: at for n, at in self.gone.items() if n not in taken}
        return taken

    def removed(self, count: int, now: int) -> None:
        """So many were removed: they count towards a freeze for a while."""
        self.removed_at.extend([now] * count)

    def tidy(self) -> None:
        """Forget the goodbyes of those who were removed."""
        self.left = {n: None for n in self.left if n in self.gone}

    def thaw(self, now: int, out: Sink) -> None:
        """The operator ends the freeze: as if nothing had changed for long.

        If more go later, removals freeze again.
        """
        self.frozen = False
        self.changed_at = now - THAW_US
        out.notify(ChairmanNotice("thawed", "by the operator"))

    def _may_remove(self, hosts: int, now: int, out: Sink) -> bool:
        for node_id in [n for n, at in self.gone.items() if now - at >= GONE_US]:
            if node_id not in self.left:
                del self.gone[node_id]  # it came back long ago: no change, and no reason to wait
        self.removed_at = [t for t in self.removed_at if now - t < FREEZE_WINDOW_US]
        mark = freeze_mark(hosts)
        above = len(self.gone) + len(self.removed_at) > mark
        quiet = now - self.changed_at >= THAW_US
        if above and not self.frozen and not quiet:
            self.frozen = True
            self.frozen_at = now
            out.notify(ChairmanNotice("frozen", f"{len(self.gone)} members gone, mark {mark}"))
        elif self.frozen and (not above or quiet):
            self.frozen = False
            out.notify(ChairmanNotice("thawed"))
        return not self.frozen
