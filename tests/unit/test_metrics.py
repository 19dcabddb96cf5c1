"""Metrics: counters and histograms, their form on the wire, Prometheus' text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fabric.counters import BOUNDS_US, COUNTED, Counters, Histogram
from fabric.errors import ConfigError
from fabric.runtime.measures import metrics
from fabric.wire.codec import decode_frame, encode_frame
from fabric.wire.common import Response
from fabric.wire.gossip import Ping
from nodes import metrics as exposed
from nodes.config import check_loopback

ROOT = Path(__file__).resolve().parents[2]


def test_a_histogram_counts_each_duration_once() -> None:
    histogram = Histogram()
    for us in (0, 100, 101, 10_000_000, 10_000_001):
        histogram.observe(us)
    assert histogram.counts[0] == 2 and histogram.counts[1] == 1
    assert histogram.counts[len(BOUNDS_US) - 1] == 1 and histogram.counts[-1] == 1
    assert sum(histogram.counts) == 5
    assert histogram.sum_us == 20_000_202


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a text that Prometheus' own parser reads."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def two_peers() -> bytes:
    found = []
    for node, pings in ((0xA, 3), (0xB, 5)):
        counters = Counters()
        counters.received[Ping] += pings
        counters.count("bad_frames", pings)
        counters.time("commit", "", 2_000)
        counters.time("call", "PlaceAsk", 20_000_000)
        found.append(metrics(node, counters, {"send_queue": pings}))
    return exposed.render(found)


def test_two_peers_in_prometheus_text() -> None:
    text = two_peers()
    found = samples(text)
    a, b = ("node", "000000000000000a"), ("node", "000000000000000b")
    assert found["fabric_received_messages_total", (a, ("type", "Ping"))] == 3
    assert found["fabric_received_messages_total", (b, ("type", "Ping"))] == 5
    assert found["fabric_bad_frames_total", (b,)] == 5
    assert found["fabric_dropped_full_total", (a,)] == 0  # known before the first one
    assert found["fabric_send_queue", (a,)] == 3
    assert found["fabric_commit_seconds_bucket", (("le", "0.001"), a)] == 0
    assert found["fabric_commit_seconds_bucket", (("le", "0.0025"), a)] == 1
    assert found["fabric_commit_seconds_sum", (a,)] == pytest.approx(0.002)
    call = (("asked", "PlaceAsk"), a)
    assert found["fabric_call_seconds_count", call] == 1
    assert found["fabric_call_seconds_bucket", (("asked", "PlaceAsk"), ("le", "10.0"), a)] == 0
    assert text.count(b"# HELP fabric_bad_frames_total ") == 1


def test_everything_that_is_counted_is_explained() -> None:
    counted = set()
    for path in (ROOT / "fabric").rglob("*.py"):
        counted |= set(re.findall(r'\bcount\(\s*"(\w+)"|\.counts\["(\w+)"\]', path.read_text()))
    assert {a or b for a, b in counted} <= set(COUNTED)


def test_metrics_travel() -> None:
    counters = Counters()
    for name in COUNTED:
        counters.count(name, 1 << 40)
    for number in range(100):
        counters.time("question", f"Message{number}", 1_000_000)
    found = metrics(1, counters, dict.fromkeys(exposed._GAUGES, 1 << 40))
    answer = Response(1, found)
    assert decode_frame(encode_frame(1, answer)).message == answer


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "example.org", "::"])
def test_metrics_are_for_this_machine(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        check_loopback(host)


def test_loopback_addresses_are_taken() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        check_loopback(host)
