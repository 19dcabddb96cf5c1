"""Which unfinished tasks a worker may take. Sans-I/O: it looks at lists of work, given the time.

A worker's name is stable, its *life* is new each start; a work item's holder is ``name/life``.
Nobody's clock is compared with anybody else's: a holder is taken for dead when the document did not
change for :data:`SILENCE_US` by the watcher's own clock, while every holder changes it each
:data:`BEAT_US`.  The claim itself is a compare-and-set, so of two takers one wins; whoever lost a
claim finds out at the next save, which proves the claim too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from fabric.units import SECOND

#: How often a holder shows that it lives.
BEAT_US: Final = 2 * SECOND
#: Without a sign for this long a holder is dead: five beats, so that a long pause is survived.
SILENCE_US: Final = 10 * SECOND


class Item(NamedTuple):
    """A work item as listed."""

    task_id: str
    version: int
    holder: str | None


class Claims:
    """What one worker knows of all work items."""

    def __init__(self, name: str, life: str) -> None:
        self.holder = f"{name}/{life}"
        self._name = name
        self._seen: dict[str, tuple[int, int]] = {}  # task id -> version, when first seen

    def look(self, items: Iterable[Item], now_us: int) -> list[Item]:
        """Return the items that may be taken: free, of a former life of ours, or silent.

        Items of this life are among them once they miss a beat: their run was given up.
        """
        seen: dict[str, tuple[int, int]] = {}
        takeable = []
        for item in items:
            version, since = self._seen.get(item.task_id, (0, 0))
            if version != item.version:
                since = now_us
            seen[item.task_id] = (item.version, since)
            if self._may_take(item.holder, now_us - since):
                takeable.append(item)
        self._seen = seen
        return takeable

    def _may_take(self, holder: str | None, silent_us: int) -> bool:
        if holder is None:
            return True
        if holder == self.holder:
            return silent_us > 2 * BEAT_US
        return holder.rpartition("/")[0] == self._name or silent_us >= SILENCE_US
