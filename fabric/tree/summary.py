"""What a host tells of its load and capacity, and a cell's owner of its whole cell.

A :class:`Summary` counts hosts by *class*: hosts with the same labels (zone, tags, networks,
datastores, state).  Per class it holds a joint CPU x memory histogram of free room, rounded **up**
to quarter octaves, and the largest free disk.  Two facts make a summary safe to route by:

* it may say "maybe" too often, never "no" wrongly: everything lossy rounds free room up, widens
  the labels that hosts *may* carry, and narrows those that *all* of them carry;
* it says when it is incomplete: ``expected > hosts`` means that somebody below has not reported,
  and an incomplete summary never proves a "no" (``fabric.placement.constraints.may_fit``).

It stays below :data:`~fabric.limits.MAX_SUMMARY_BYTES`.  Up to a bound of classes and buckets the
merge is exact (after rounding); beyond it the smallest classes melt into one, and buckets move
to a coarser grid.  Merging is associative up to that loss, and independent of the children's order.

Labels are texts with a one-letter kind: ``z:`` zone, ``t:`` tag, ``n:`` network, ``d:`` datastore,
``!`` state (``!draining``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from fabric.limits import (
    MAX_INT,
    MAX_SUMMARY_BUCKETS,
    MAX_SUMMARY_CLASSES,
    MAX_SUMMARY_LABEL_BYTES,
)
from fabric.wire.codec import Int, Small, Text, many

#: Label of a host that takes no new placements.
DRAINING: Final = "!draining"

#: The grid of the histogram: 0..4, then four steps to each doubling; the last one is "any amount".
GRID: Final[tuple[int, ...]] = (
    *range(5),
    *[(4 + step) << octave for octave in range(40) for step in (1, 2, 3, 4)],
    MAX_INT,
)

#: Bound of the label tuples on the wire. Fewer bytes than that many labels are allowed anyway.
_LABELS: Final = many(MAX_SUMMARY_LABEL_BYTES)


def round_up(value: int) -> int:
    """Return the index in :data:`GRID` of the first step that is at least ``value``."""
    return bisect_left(GRID, value)


@dataclass(slots=True)
class ClassSummary:
    """Hosts that carry the same labels.

    Every one of them carries all of ``labels``; some may carry labels of ``maybe``; when
    ``blurred``, some may carry labels that are not told at all.  ``buckets`` holds
    ``key, hosts, key, hosts, ...`` with ascending keys ``cpu step * 256 + memory step``.
    """

    labels: Annotated[tuple[Text, ...], _LABELS]
    buckets: Annotated[tuple[Int, ...], many(2 * MAX_SUMMARY_BUCKETS)]
    disk: Small = 0
    maybe: Annotated[tuple[Text, ...], _LABELS] = ()
    blurred: bool = False

    @property
    def hosts(self) -> int:
        """Number of hosts in this class."""
        return sum(self.buckets[1::2])


@dataclass(slots=True)
class Summary:
    """Load and capacity of a host or of a cell. The sums are exact, the classes rounded up."""

    hosts: Int
    """Hosts that reported."""
    expected: Int
    """``hosts`` plus the members, anywhere below, that have not reported."""
    age_us: Int
    """Age of the oldest input when this was made."""
    cpu: Int
    cpu_free: Int
    memory_mb: Int
    memory_free_mb: Int
    vms: Int
    classes: Annotated[tuple[ClassSummary, ...], many(MAX_SUMMARY_CLASSES)]


#: What is said of a cell of which nothing is known.
NOTHING: Final = Summary(0, 0, 0, 0, 0, 0, 0, 0, ())


def host_summary(
    *,
    labels: tuple[str, ...],
    cpu: int,
    cpu_free: int,
    memory_mb: int,
    memory_free_mb: int,
    disk_free_mb: int,
    vms: int,
) -> Summary:
    """Return the summary of one host. ``labels`` is sorted; ``disk_free_mb`` its roomiest disk."""
    key = round_up(max(cpu_free, 0)) * 256 + round_up(max(memory_free_mb, 0))
    group = ClassSummary(labels, (key, 1), round_up(max(disk_free_mb, 0)))
    if len(labels) * 2 + sum(map(len, labels)) > MAX_SUMMARY_LABEL_BYTES // 4:
        (group,) = _bounded([group])
    return Summary(1, 1, 0, cpu, max(cpu_free, 0), memory_mb, max(memory_free_mb, 0), vms, (group,))


def draining(host: Summary) -> bool:
    """Whether this is the summary of a host that takes no new placements."""
    return any(DRAINING in group.labels for group in host.classes)


def merge(children: Sequence[Summary], expected: int, age_us: int | None = None) -> Summary:
    """Return the summary of a cell of ``expected`` members, of which ``children`` reported.

    ``age_us`` is the age of the oldest input now; by default the oldest age that a child told.
    """
    hosts = reported = cpu = cpu_free = memory_mb = memory_free_mb = vms = oldest = 0
    # by labels: [largest disk, {bucket key: hosts}]
    table: dict[tuple[tuple[str, ...], tuple[str, ...], bool], tuple[list[int], dict[int, int]]]
    table = {}
    for child in children:
        hosts += child.hosts
        reported += child.expected
        cpu += child.cpu
        cpu_free += child.cpu_free
        memory_mb += child.memory_mb
        memory_free_mb += child.memory_free_mb
        vms += child.vms
        if child.age_us > oldest:
            oldest = child.age_us
        for group in child.classes:
            identity = (group.labels, group.maybe, group.blurred)
            row = table.get(identity)
            if row is None:
                row = table[identity] = ([group.disk], {})
            elif group.disk > row[0][0]:
                row[0][0] = group.disk
            counts = row[1]
            told = group.buckets
            if len(told) == 2:  # a host: most children there are
                counts[told[0]] = counts.get(told[0], 0) + told[1]
            else:
                for key, count in zip(told[::2], told[1::2], strict=True):
                    counts[key] = counts.get(key, 0) + count
    groups = [
        ClassSummary(labels, _flat(counts), disk[0], maybe, blurred)
        for (labels, maybe, blurred), (disk, counts) in sorted(table.items())
    ]
    return Summary(
        hosts,
        reported + max(expected - len(children), 0),
        oldest if age_us is None else age_us,
        cpu,
        cpu_free,
        memory_mb,
        memory_free_mb,
        vms,
        tuple(_bounded(groups)),
    )


def significant_change(old: Summary, new: Summary) -> bool:
    """Whether ``new`` should be told now. Every rise of free room is; falls below an eighth wait.

    A fall that waits makes the old summary say "maybe" too often, which is allowed.  A rise that
    waited would make it say "no" wrongly.
    """
    if new.cpu_free > old.cpu_free or new.memory_free_mb > old.memory_free_mb:
        return True
    if new.hosts != old.hosts or new.expected != old.expected:
        return True
    if new.cpu != old.cpu or new.memory_mb != old.memory_mb:
        return True
    if (old.cpu_free - new.cpu_free) * 8 >= old.cpu_free > new.cpu_free:
        return True
    if (old.memory_free_mb - new.memory_free_mb) * 8 >= old.memory_free_mb > new.memory_free_mb:
        return True
    if len(new.classes) != len(old.classes):
        return True
    return any(_class_changed(a, b) for a, b in zip(old.classes, new.classes, strict=True))


def _class_changed(old: ClassSummary, new: ClassSummary) -> bool:
    """Whether labels differ, or room rose within the class, or its disk changed by a step."""
    if old.labels != new.labels or old.maybe != new.maybe or old.blurred != new.blurred:
        return True
    if new.disk != old.disk:
        return True
    if old.buckets == new.buckets:
        return False
    if sum(old.buckets[1::2]) != sum(new.buckets[1::2]):
        return True
    return any(
        _count_at_least(new.buckets, key) > _count_at_least(old.buckets, key)
        for key in new.buckets[::2]
    )


def _count_at_least(buckets: tuple[int, ...], wanted: int) -> int:
    """How many hosts have at least that much CPU and memory free."""
    cpu, memory = wanted >> 8, wanted & 255
    return sum(
        count
        for key, count in zip(buckets[::2], buckets[1::2], strict=True)
        if key >> 8 >= cpu and key & 255 >= memory
    )


# --- staying below the bound ----------------------------------------------------------------------


def _flat(counts: dict[int, int]) -> tuple[int, ...]:
    if len(counts) == 1:
        for item in counts.items():
            return item
    return tuple([part for item in sorted(counts.items()) for part in item])


def _label_bytes(group: ClassSummary) -> int:
    # characters beyond Latin take up to four bytes in UTF-8; two of head each
    return sum(2 + len(label.encode()) for label in (*group.labels, *group.maybe))


def _bounded(groups: list[ClassSummary]) -> list[ClassSummary]:
    """Return ``groups``, melted together and coarsened until they fit the bounds."""
    label_bytes = sum(map(_label_bytes, groups))
    if len(groups) > MAX_SUMMARY_CLASSES or label_bytes > MAX_SUMMARY_LABEL_BYTES:
        groups = _melt_smallest(groups)
    buckets = sum([len(group.buckets) for group in groups])
    step = 1
    while buckets > 2 * MAX_SUMMARY_BUCKETS:
        step *= 2
        groups = [_coarser(group, step) for group in groups]
        buckets = sum([len(group.buckets) for group in groups])
    return groups


def _melt_smallest(groups: list[ClassSummary]) -> list[ClassSummary]:
    """Keep the classes with most hosts while they fit; melt the rest into one."""
    ranked = sorted(groups, key=lambda g: (-g.hosts, g.labels, g.maybe, g.blurred))
    for keep in range(min(len(ranked), MAX_SUMMARY_CLASSES) - 1, -1, -1):
        melted = _melt(ranked[keep:])
        kept = [*ranked[:keep], melted]
        used = sum(map(_label_bytes, ranked[:keep]))
        if used + _label_bytes(melted) > MAX_SUMMARY_LABEL_BYTES:
            if used > MAX_SUMMARY_LABEL_BYTES // 2 and keep:
                continue
            kept[-1] = ClassSummary((), melted.buckets, melted.disk, (), True)
        if used <= MAX_SUMMARY_LABEL_BYTES:
            return sorted(kept, key=lambda g: (g.labels, g.maybe, g.blurred))
    raise AssertionError("one blurred class carries no labels and always fits")


def _melt(groups: list[ClassSummary]) -> ClassSummary:
    """Return one class that may be any of ``groups``: common labels, union of the others."""
    common = set(groups[0].labels)
    union: set[str] = set()
    counts: dict[int, int] = {}
    for group in groups:
        common.intersection_update(group.labels)
        union.update(group.labels, group.maybe)
        for key, count in zip(group.buckets[::2], group.buckets[1::2], strict=True):
            counts[key] = counts.get(key, 0) + count
    return ClassSummary(
        tuple(sorted(common)),
        _flat(counts),
        max([group.disk for group in groups]),
        tuple(sorted(union - common)),
        any(group.blurred for group in groups),
    )


def _coarser(group: ClassSummary, step: int) -> ClassSummary:
    """Round the class's buckets up to every ``step``-th grid line, but not above its maximum."""
    keys = group.buckets[::2]
    most_cpu = max([key >> 8 for key in keys])
    most_memory = max([key & 255 for key in keys])
    counts: dict[int, int] = {}
    for key, count in zip(keys, group.buckets[1::2], strict=True):
        cpu = min(-(-(key >> 8) // step) * step, most_cpu)
        memory = min(-(-(key & 255) // step) * step, most_memory)
        rounded = cpu * 256 + memory
        counts[rounded] = counts.get(rounded, 0) + count
    return ClassSummary(group.labels, _flat(counts), group.disk, group.maybe, group.blurred)
