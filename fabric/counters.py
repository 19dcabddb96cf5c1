"""What a peer counts: messages by type, refused input, drops. Plain integers, read by anyone.

Hostile or broken input costs a counter, never an exception that reaches the event loop, so these
numbers are where such input shows.  Messages are counted by class, which is one dictionary
operation on the hot path; :meth:`Counters.snapshot` turns everything into named numbers.
"""

from __future__ import annotations

from collections import Counter
from typing import Any


class Counters:
    """``received`` and ``sent`` by message class; everything else in ``counts`` by name."""

    __slots__ = ("counts", "received", "sent")

    def __init__(self) -> None:
        self.received: Counter[type[Any]] = Counter()
        self.sent: Counter[type[Any]] = Counter()
        self.counts: Counter[str] = Counter()

    def count(self, name: str, amount: int = 1) -> None:
        """Add ``amount`` to the counter ``name``."""
        self.counts[name] += amount

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    def snapshot(self) -> dict[str, int]:
        """Return all counters by name, sorted: ``received.Ping``, ``sent.Ping``, ``bad_frames``."""
        named = dict(self.counts)
        for prefix, by_class in (("received", self.received), ("sent", self.sent)):
            for cls, number in by_class.items():
                named[f"{prefix}.{cls.__name__}"] = number
        return dict(sorted(named.items()))
