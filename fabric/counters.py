"""What a peer counts and measures: messages by type, refused input, drops, latencies.

Hostile or broken input costs a counter, never an exception that reaches the event loop, so these
numbers are where such input shows.  Messages are counted by class, which is one dictionary
operation on the hot path; :meth:`Counters.snapshot` turns everything into named numbers.

Latencies are histograms over fixed bounds (:data:`BOUNDS_US`): integers, no allocation per
measurement, and histograms of many peers add up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

#: Upper bounds of the buckets; what takes longer falls into one more.
BOUNDS_US: Final = (
    *(100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
    *(1_000_000, 2_500_000, 5_000_000, 10_000_000),
)

#: Every plain counter and what it counts; all start at zero: a rate is known before the first one.
COUNTED: Final[Mapping[str, str]] = {
    "bad_addresses": "messages to addresses that cannot be",
    "bad_cards": "certificates of peers that were not acceptable",
    "bad_frames": "frames received that are no message of ours",
    "bad_multiparts": "ZeroMQ messages with too many parts",
    "cards_unreachable": "certificates that could not be fetched",
    "connect_failed": "connections that could not be opened",
    "coordinator_errors": "defects of the coordinator client",
    "cut_connections": "connections cut because their key was revoked",
    "disk_failures": "writes that the disk refused; the peer stops",
    "dropped_cards": "frames dropped while a certificate was awaited",
    "dropped_full": "messages dropped because a queue was full",
    "dropped_notices": "notices dropped because a watcher was too slow",
    "dropped_stale": "messages dropped because they waited too long for a connection",
    "dropped_unreachable": "messages to nobody in this process",
    "dropped_unsent": "messages dropped with a connection that was closed",
    "forged_revocations": "revocations that nobody entitled has signed",
    "forged_senders": "frames whose sender is not whom the key belongs to",
    "forgotten_events": "events that the journal's ring has dropped",
    "hypervisor_errors": "defects of the hypervisor driver",
    "journal_errors": "notices without words: defects of the journal",
    "links_evicted": "connections closed because there were too many",
    "links_idle_closed": "connections closed because nobody used them",
    "machine_errors": "events that the protocol machine failed on: defects",
    "no_card_port": "times that the port for certificates was taken already",
    "oversize_frames": "messages too long for a frame",
    "receive_errors": "defects of the receiving driver",
    "refused_cards": "certificates that peers refused or that we did",
    "refused_keys": "connections refused because of their key",
    "refused_orders": "requests of peers that may not order this",
    "repeated_alarms": "alarms that were told a moment before, and not again",
    "rotations": "keys of this peer changed for new ones",
    "sent_bytes": "bytes of frames handed to ZeroMQ",
    "unauthenticated_frames": "frames without an identity, with keys in use",
    "unproven_claims": "signed claims of peers that did not hold",
    "unknown_types": "messages of types that this version does not know",
}


class Histogram:
    """How often something took how long. ``counts`` has one more bucket than :data:`BOUNDS_US`."""

    __slots__ = ("counts", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        self.sum_us = 0

    def observe(self, us: int) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS_US, us)] += 1
        self.sum_us += us


class Counters:
    """``received`` and ``sent`` by message class; everything else in ``counts`` by name.

    ``times`` are latencies: name and label (what was asked, say) -> histogram.
    """

    __slots__ = ("counts", "received", "sent", "times")

    def __init__(self) -> None:
        self.received: Counter[type[Any]] = Counter()
        self.sent: Counter[type[Any]] = Counter()
        self.counts: Counter[str] = Counter()
        self.times: dict[tuple[str, str], Histogram] = {}

    def count(self, name: str, amount: int = 1) -> None:
        """Add ``amount`` to the counter ``name``."""
        self.counts[name] += amount

    def time(self, name: str, label: str, us: int) -> None:
        """Note that ``name`` (of the kind ``label``) took so long."""
        histogram = self.times.get((name, label))
        if histogram is None:
            histogram = self.times[name, label] = Histogram()
        histogram.observe(us)

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    def snapshot(self) -> dict[str, int]:
        """Return all counters by name, sorted: ``received.Ping``, ``sent.Ping``, ``bad_frames``."""
        named = dict(self.counts)
        for prefix, by_class in (("received", self.received), ("sent", self.sent)):
            for cls, number in by_class.items():
                named[f"{prefix}.{cls.__name__}"] = number
        return dict(sorted(named.items()))
