"""Summaries: exact sums, never a wrong "no", bounded, independent of order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.limits import MAX_SUMMARY_BYTES
from fabric.placement.constraints import (
    FITS,
    Matcher,
    host_labels,
    host_verdict,
    may_fit,
)
from fabric.placement.request import Constraint, PlacementRequest
from fabric.tree.summary import (
    GRID,
    Summary,
    host_summary,
    merge,
    round_up,
    significant_change,
)
from fabric.wire.codec import decode_record, encode_record

names = st.sampled_from([f"{letter}{i}" for letter in "abc" for i in range(12)] + ["å" * 60])
name_sets = st.frozensets(names, max_size=4).map(sorted)


@st.composite
def hosts(draw: st.DrawFn) -> dict[str, object]:
    disks = draw(st.dictionaries(names, st.integers(0, 1 << 20), max_size=3))
    return {
        "zone": draw(names),
        "tags": draw(name_sets),
        "networks": draw(name_sets),
        "disks": disks,
        "cpu_free": draw(st.integers(0, 200)),
        "memory_free_mb": draw(st.integers(0, 1 << 18)),
        "draining": draw(st.booleans()),
    }


def summary_of(host: dict[str, object]) -> Summary:
    disks: dict[str, int] = host["disks"]  # type: ignore[assignment]
    return host_summary(
        labels=labels_of(host),
        cpu=200,
        cpu_free=host["cpu_free"],  # type: ignore[arg-type]
        memory_mb=1 << 18,
        memory_free_mb=host["memory_free_mb"],  # type: ignore[arg-type]
        disk_free_mb=max(disks.values(), default=0),
        vms=0,
    )


def labels_of(host: dict[str, object]) -> tuple[str, ...]:
    return host_labels(
        host["zone"],  # type: ignore[arg-type]
        host["tags"],  # type: ignore[arg-type]
        host["networks"],  # type: ignore[arg-type]
        sorted(host["disks"]),  # type: ignore[call-overload]
        bool(host["draining"]),
    )


constraints = st.builds(
    Constraint,
    st.sampled_from(["zone", "tag", "network", "datastore"]),
    st.lists(names, min_size=1, max_size=3).map(tuple),
    st.booleans(),
)
requests = st.builds(
    PlacementRequest,
    st.just("k"),
    st.just("vm"),
    st.integers(1, 200),
    st.integers(1, 1 << 18),
    st.integers(0, 1 << 20),
    st.lists(constraints, max_size=3).map(tuple),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(hosts(), min_size=1, max_size=40), requests, st.integers(1, 8))
def test_never_a_wrong_no_and_counts_add_up(
    members: list[dict[str, object]], request: PlacementRequest, width: int
) -> None:
    cells = [
        merge([summary_of(h) for h in members[i : i + width]], len(members[i : i + width]))
        for i in range(0, len(members), width)
    ]
    root = merge(cells, len(cells))
    fitting = sum(
        host_verdict(
            request,
            "1",
            labels_of(h),
            (h["cpu_free"], h["memory_free_mb"]),  # type: ignore[arg-type]
            h["disks"],  # type: ignore[arg-type]
        )
        == FITS
        for h in members
    )
    counts = Matcher(request).eliminated(root)
    assert sum(counts.values()) == root.hosts == len(members)
    assert counts.get(FITS, 0) >= fitting
    assert may_fit(root, request) == (counts.get(FITS, 0) > 0)
    for cell in (*cells, root):
        assert len(encode_record(cell)) <= MAX_SUMMARY_BYTES
        assert decode_record(Summary, encode_record(cell)) == cell


@settings(deadline=None)
@given(st.lists(hosts(), min_size=1, max_size=24), st.randoms(use_true_random=False))
def test_merge_does_not_depend_on_the_order_of_children(members, random) -> None:  # type: ignore[no-untyped-def]
    children = [summary_of(h) for h in members]
    first = merge(children, 24)
    random.shuffle(children)
    assert merge(children, 24) == first


def test_sums_are_exact_and_missing_members_are_counted() -> None:
    one = host_summary(
        labels=("z:a",), cpu=8, cpu_free=5, memory_mb=100, memory_free_mb=70, disk_free_mb=1, vms=2
    )
    cell = merge([one, one], expected=3)
    assert (cell.hosts, cell.expected, cell.cpu, cell.cpu_free, cell.memory_mb) == (
        2,
        3,
        16,
        10,
        200,
    )
    root = merge([cell, merge([one], 1)], expected=4)
    assert (root.hosts, root.expected, root.vms) == (3, 6, 6)


def test_a_summary_that_misses_somebody_never_says_no() -> None:
    request = PlacementRequest("k", "vm", 10_000, 1)
    assert may_fit(merge([], 1), request)
    assert not may_fit(merge([], 0), request)


@given(st.integers(0, 1 << 40))
def test_the_grid_rounds_up_by_less_than_a_quarter(value: int) -> None:
    step = GRID[round_up(value)]
    assert value <= step
    assert step * 4 <= value * 5 + 4


@given(hosts(), st.integers(0, 200), st.integers(0, 1 << 18))
def test_rises_are_always_told(host: dict[str, object], cpu: int, memory: int) -> None:
    old, new = summary_of(host), summary_of({**host, "cpu_free": cpu, "memory_free_mb": memory})
    if cpu > old.cpu_free or memory > old.memory_free_mb:
        assert significant_change(old, new)
    if significant_change(old, new):
        assert old != new


def test_small_falls_wait_and_big_ones_do_not() -> None:
    def host(cpu_free: int) -> Summary:
        return host_summary(
            labels=(),
            cpu=64,
            cpu_free=cpu_free,
            memory_mb=1,
            memory_free_mb=1,
            disk_free_mb=0,
            vms=0,
        )

    assert not significant_change(host(64), host(60))
    assert significant_change(host(64), host(56))


def test_a_rise_within_a_cell_is_told_though_its_sum_falls() -> None:
    def host(cpu_free: int) -> Summary:
        return host_summary(
            labels=(),
            cpu=64,
            cpu_free=cpu_free,
            memory_mb=1,
            memory_free_mb=1,
            disk_free_mb=0,
            vms=0,
        )

    assert significant_change(merge([host(40), host(20)], 2), merge([host(48), host(11)], 2))
