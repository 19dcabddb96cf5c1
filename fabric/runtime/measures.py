"""Counters, queues and latencies of a peer as one record that travels (``fabric.wire.seeing``)."""

from __future__ import annotations

from collections.abc import Mapping

from fabric.counters import COUNTED, Counters
from fabric.limits import MAX_METRICS
from fabric.wire.seeing import Metrics, Number, Times

RECEIVED = "received_messages"
SENT = "sent_messages"


def metrics(node_id: int, counters: Counters, gauges: Mapping[str, int]) -> Metrics:
    """Return what ``counters`` hold, with ``gauges`` beside it. Messages are labelled by type."""
    plain = dict.fromkeys(COUNTED, 0) | counters.counts
    numbers = [Number(name, "", value) for name, value in sorted(plain.items())]
    for name, by_class in ((RECEIVED, counters.received), (SENT, counters.sent)):
        labelled = sorted((cls.__name__, number) for cls, number in by_class.items())
        numbers += [Number(name, label, number) for label, number in labelled]
    times = [
        Times(name, label, tuple(histogram.counts), histogram.sum_us)
        for (name, label), histogram in sorted(counters.times.items())
    ]
    return Metrics(
        node_id,
        tuple(numbers[:MAX_METRICS]),
        tuple([Number(name, "", value) for name, value in sorted(gauges.items())]),
        tuple(times[:MAX_METRICS]),
    )
