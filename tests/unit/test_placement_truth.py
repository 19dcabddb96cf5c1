"""Placement against the truth: a brute-force look at all books, and random trouble on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import HostSpec, simulated_host
from fabric.ids import format_id
from fabric.limits import RESERVATION_LIFETIME_US
from fabric.placement.constraints import FITS, host_verdict
from fabric.placement.request import Constraint, Placed, PlacementRequest
from fabric.stream import Stream
from fabric.units import MS, SECOND
from fabric.wire.common import Done
from fabric.wire.host import AuditAsk
from fabric.wire.placement import ConfirmAsk, PlaceAsk, Refusal
from tests.unit.village import MEMBERS, PATHS, Village

HOSTS = [node for leaf in PATHS for node in MEMBERS[leaf]]
few = st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True).map(tuple)
specs = st.builds(
    simulated_host,
    st.integers(1, 6),
    st.integers(100, 1000),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 300), max_size=2),
    few,
    st.sampled_from("abc"),
    few,
)
constraints = st.one_of(
    st.builds(
        Constraint,
        st.sampled_from(["zone", "tag", "network", "datastore"]),
        few,
        st.booleans(),
    ),
    st.builds(
        Constraint,
        st.just("host"),
        st.lists(st.sampled_from(HOSTS).map(format_id), min_size=1, max_size=4).map(tuple),
        st.booleans(),
    ),
)
asks = st.tuples(
    st.sampled_from(HOSTS),
    st.integers(1, 6),
    st.integers(1, 1000),
    st.integers(0, 300),
    st.lists(constraints, max_size=3).map(tuple),
    st.sampled_from(["spread", "pack"]),
)


def fitting(village: Village, request: PlacementRequest) -> list[int]:
    """Return the hosts that have room, by looking into all books."""
    found = []
    for node, books in village.books.items():
        spec = books.spec
        free_disks = books._free_disks()
        room = (spec.cpu - books.cpu_used, spec.memory_mb - books.memory_used_mb)
        if host_verdict(request, format_id(node), spec.labels, room, free_disks) == FITS:
            found.append(node)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(specs, min_size=12, max_size=12),
    st.lists(asks, min_size=1, max_size=12),
    st.sampled_from([0, None, 30 * SECOND]),
)
def test_placed_exactly_when_a_host_has_room(
    hosts: list[HostSpec], requests: list[Any], age_us: int | None
) -> None:
    village = Village(**{f"h{node}": spec for node, spec in zip(HOSTS, hosts, strict=True)})
    village.age_us = age_us
    for i, (entry, cpu, memory_mb, disk_mb, wanted, policy) in enumerate(requests):
        request = PlacementRequest(f"k{i}", f"vm{i}", cpu, memory_mb, disk_mb, wanted, policy)
        room = fitting(village, request)
        answer = village.do(entry, PlaceAsk(request, 10_000))
        if room:
            assert isinstance(answer, Placed)
            assert answer.host.node_id in room
        else:
            assert isinstance(answer, Refusal)
            explanation = answer.explanation
            assert sum(n for _, n in explanation.counts) == explanation.hosts == len(HOSTS)


@pytest.mark.parametrize("seed", range(25))
def test_random_trouble_never_doubles_or_loses_a_confirmed_placement(seed: int) -> None:
    """Messages lost, doubled and overtaking each other, hosts killed and started again."""
    luck = Stream(seed)
    village = Village(simulated_host(cpu=4, memory_mb=4096))
    calls: dict[int, str] = {}
    for turn in range(120):
        entry = HOSTS[luck.below(12)]
        if turn % 4 == 0:
            key = f"k{luck.below(20)}"
            request = PlacementRequest(key, f"vm-{key}", 1 + len(key) % 2, 512)
            calls[village.ask(entry, PlaceAsk(request, 4_000))] = key
        for _ in range(luck.below(8)):
            stir(village, luck)
            village.step()
        if luck.chance(60_000):
            village.start(entry)
        village.pass_time(luck.below(300) * MS)
        check_capacity(village)
    village.run()
    village.pass_time(5 * SECOND)
    placed = {}
    for call, key in calls.items():
        answer = village.replies.get(call)  # None: its entry was killed
        if isinstance(answer, Placed):
            assert answer.key == key
            if village.do(HOSTS[luck.below(12)], ConfirmAsk(answer, 1000)) == Done():
                placed.setdefault(key, set()).add(answer.host.node_id)
    village.pass_time(RESERVATION_LIFETIME_US)
    check_capacity(village)
    assert placed
    assert {key: set(nodes) for key, nodes in village.held().items()} == placed
    assert not any(len(router.entry) for router in village.routers.values())
    assert not any(len(router.routing) for router in village.routers.values())


def stir(village: Village, luck: Stream) -> None:
    """Do to the mail what networks do to it."""
    mail = village.mail
    if mail and luck.chance(100_000):
        mail.popleft()
    if mail and luck.chance(100_000):
        mail.append(mail[0])
    if mail and luck.chance(300_000):
        mail.rotate(1 + luck.below(len(mail)))


def check_capacity(village: Village) -> None:
    for books in village.books.values():
        audit = books.audit(AuditAsk())
        rows = [*audit.vms, *audit.reservations]
        assert audit.cpu_used == sum(row.cpu for row in rows) <= audit.cpu
        assert audit.memory_used_mb == sum(row.memory_mb for row in rows) <= audit.memory_mb
