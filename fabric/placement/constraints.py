"""The one place that says whether a host, or any host of a summary, can take a request.

Both questions are asked of the same constraints, so they stand beside each other:

* :func:`host_verdict`: the host itself, exactly (its books call it before they reserve);
* :meth:`Matcher.may_fit`: a summary; "maybe" too often, never "no" wrongly;
* :meth:`Matcher.eliminated`: the same walk, counting for the explanation which condition cost how
  many hosts.  Each host is counted once, under the first condition that it fails, so the counts of
  a refusal add up to all hosts.

An owner judges all members of its cell for one request, most of them of the same few classes: a
:class:`Matcher` is made once per request and remembers its verdict on each class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fabric.placement.request import Constraint, PlacementRequest
from fabric.tree.summary import DRAINING, GRID, ClassSummary, Summary, round_up

#: Letter of the label of each kind of constraint that hosts carry as labels.
LETTERS: Final = {"zone": "z:", "tag": "t:", "network": "n:", "datastore": "d:"}
FITS: Final = ""


def host_labels(
    zone: str,
    tags: Sequence[str],
    networks: Sequence[str],
    datastores: Sequence[str],
    draining: bool = False,
) -> tuple[str, ...]:
    """Return the sorted labels that a host with these attributes carries."""
    labels = [f"z:{zone}"] if zone else []
    labels += [f"t:{tag}" for tag in tags]
    labels += [f"n:{network}" for network in networks]
    labels += [f"d:{datastore}" for datastore in datastores]
    if draining:
        labels.append(DRAINING)
    return tuple(sorted(labels))


def pick_datastore(request: PlacementRequest, free_mb: Mapping[str, int]) -> str | None:
    """Return the allowed datastore with most room for the disk; ``None`` when there is none.

    Without a disk and without a positive datastore constraint none is needed: ``""``.
    """
    if not _needs_datastore(request):
        return ""
    best = None
    for name in sorted(free_mb):
        if free_mb[name] < request.disk_mb or not _allowed("datastore", name, request.constraints):
            continue
        if best is None or free_mb[name] > free_mb[best]:
            best = name
    return best


def host_verdict(
    request: PlacementRequest,
    host_id: str,
    labels: Sequence[str],
    room: tuple[int, int],
    free_disk_mb: Mapping[str, int],
) -> str:
    """Return :data:`FITS`, or the name of the first condition that this host fails."""
    if DRAINING in labels:
        return "draining"
    for constraint in request.constraints:
        if constraint.kind == "host":
            if (host_id in constraint.values) == constraint.negative:
                return constraint.brief()
        elif constraint.kind != "datastore" and _carries(constraint, labels) == constraint.negative:
            return constraint.brief()
    if not _datastores_left(request, labels):
        return _datastore_reason(request)
    if request.cpu > room[0]:
        return "cpu"
    if request.memory_mb > room[1]:
        return "memory"
    return FITS if pick_datastore(request, free_disk_mb) is not None else "disk"


class Matcher:
    """One request, ready to be held against many summaries."""

    __slots__ = (
        "_cpu_step", "_memory_step", "_seen", "_seen_verdict", "_verdicts", "names_hosts",
        "request",
    )  # fmt: skip

    def __init__(self, request: PlacementRequest) -> None:
        self.request = request
        self._cpu_step = round_up(request.cpu)
        self._memory_step = round_up(request.memory_mb)
        self._verdicts: dict[tuple[tuple[str, ...], tuple[str, ...], bool, int], str] = {}
        self._seen: ClassSummary | None = None  # the class judged last, and how
        self._seen_verdict = FITS
        #: Whether there is a constraint on hosts by name.
        self.names_hosts = any(c.kind == "host" for c in request.constraints)

    def may_fit(self, summary: Summary) -> bool:
        """Whether any host of ``summary`` may take the request: never a wrong "no"."""
        if summary.expected > summary.hosts:
            return True
        cpu, memory = self._cpu_step, self._memory_step
        for group in summary.classes:
            if not self._failure(group):
                buckets = group.buckets
                for at in range(len(buckets) - 2, -1, -2):  # most room first: mostly that is it
                    key = buckets[at]
                    if key >> 8 >= cpu and key & 255 >= memory:
                        return True
        return False

    def eliminated(self, summary: Summary) -> dict[str, int]:
        """Count hosts of ``summary`` by the first condition that they fail, as far as it can tell.

        Hosts that may fit are counted under :data:`FITS`: the counts add up to its hosts.
        """
        counts: dict[str, int] = {}
        for group in summary.classes:
            reason = self._failure(group)
            if reason:
                counts[reason] = counts.get(reason, 0) + group.hosts
                continue
            for key, hosts in zip(group.buckets[::2], group.buckets[1::2], strict=True):
                # room was rounded up to a grid line: enough unless the request exceeds that line
                if self._cpu_step > key >> 8:
                    reason = "cpu"
                else:
                    reason = "memory" if self._memory_step > key & 255 else FITS
                counts[reason] = counts.get(reason, 0) + hosts
        return counts

    def takes_more(self, summary: Summary, than: int) -> bool:
        """Whether the hosts of ``summary`` may take more than so many such requests."""
        cpu, memory_mb = max(self.request.cpu, 1), max(self.request.memory_mb, 1)
        places = 0
        for group in summary.classes:
            if not self._failure(group):
                buckets = group.buckets
                for at in range(len(buckets) - 2, -1, -2):
                    key = buckets[at]
                    room = min(GRID[key >> 8] // cpu, GRID[key & 255] // memory_mb)
                    places += buckets[at + 1] * room
                    if places > than:
                        return True
        return False

    def _failure(self, group: ClassSummary) -> str:
        """Return the condition that no host of the class can meet, or :data:`FITS`."""
        seen = self._seen
        if seen is not None and (
            seen.labels is group.labels
            and seen.disk == group.disk
            and seen.blurred == group.blurred
            and seen.maybe is group.maybe
        ):
            return self._seen_verdict  # hosts of one kind share their labels: no need to hash them
        identity = (group.labels, group.maybe, group.blurred, group.disk)
        verdict = self._verdicts.get(identity)
        if verdict is None:
            verdict = self._verdicts[identity] = _class_failure(group, self.request)
        self._seen, self._seen_verdict = group, verdict
        return verdict


def may_fit(summary: Summary, request: PlacementRequest) -> bool:
    """Whether any host of ``summary`` may take ``request``: never a wrong "no"."""
    return Matcher(request).may_fit(summary)


def _class_failure(group: ClassSummary, request: PlacementRequest) -> str:
    """Return the condition that no host of the class can meet, or :data:`FITS`."""
    if DRAINING in group.labels:
        return "draining"
    for constraint in request.constraints:
        kind = constraint.kind
        if kind in ("host", "datastore"):
            continue  # hosts are not named in summaries; datastores are judged together below
        if constraint.negative:
            if _carries(constraint, group.labels):
                return constraint.brief()
        elif not (
            group.blurred or _carries(constraint, group.labels) or _carries(constraint, group.maybe)
        ):
            return constraint.brief()
    if not group.blurred and not _datastores_left(request, (*group.labels, *group.maybe)):
        return _datastore_reason(request)
    if request.disk_mb > GRID[group.disk] and _needs_datastore(request):
        return "disk"
    return FITS


def _carries(constraint: Constraint, labels: Sequence[str]) -> bool:
    letter = LETTERS[constraint.kind]
    return any(letter + value in labels for value in constraint.values)


def _needs_datastore(request: PlacementRequest) -> bool:
    return request.disk_mb > 0 or any(
        c.kind == "datastore" and not c.negative for c in request.constraints
    )


def _datastores_left(request: PlacementRequest, labels: Sequence[str]) -> bool:
    """Whether a datastore among ``labels`` is allowed by every datastore constraint."""
    return not _needs_datastore(request) or any(
        label.startswith("d:") and _allowed("datastore", label[2:], request.constraints)
        for label in labels
    )


def _datastore_reason(request: PlacementRequest) -> str:
    for constraint in request.constraints:
        if constraint.kind == "datastore":
            return constraint.brief()
    return "datastore"


def _allowed(kind: str, value: str, constraints: Sequence[Constraint]) -> bool:
    return all(
        (value in constraint.values) != constraint.negative
        for constraint in constraints
        if constraint.kind == kind
    )
