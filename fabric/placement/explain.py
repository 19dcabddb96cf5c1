"""Counts of a refusal: which condition cost how many hosts, and words for people.

Each host is counted once, under the first condition that it fails: hosts that were asked by what
they answered, the others from their summaries.  So the counts add up to all hosts.
"""

from __future__ import annotations

from collections.abc import Mapping

from fabric.errors import Refused
from fabric.limits import MAX_REASONS
from fabric.wire.placement import Explanation, Refusal

#: Where the rarest conditions go when there are too many to list.
OTHER = "other"


class Counts:
    """Adds up explanations of the members of one cell."""

    __slots__ = ("_asked", "_by_reason")

    def __init__(self) -> None:
        self._by_reason: dict[str, int] = {}
        self._asked = 0

    def host(self, reason: str) -> None:
        """One host was asked and refused."""
        self._by_reason[reason] = self._by_reason.get(reason, 0) + 1
        self._asked += 1

    def cell(self, explanation: Explanation) -> None:
        """A child cell was asked and refused."""
        for reason, hosts in explanation.counts:
            self._by_reason[reason] = self._by_reason.get(reason, 0) + hosts
        self._asked += explanation.asked

    def unasked(self, counts: Mapping[str, int]) -> None:
        """Hosts that their summaries exclude."""
        for reason, hosts in counts.items():
            self._by_reason[reason] = self._by_reason.get(reason, 0) + hosts

    def explanation(self) -> Explanation:
        """Return the sums, the commonest condition first."""
        rows = sorted(self._by_reason.items(), key=lambda row: (-row[1], row[0]))
        hosts = sum(row[1] for row in rows)
        if len(rows) > MAX_REASONS:
            rest = sum(row[1] for row in rows[MAX_REASONS - 1 :])
            rows = [*rows[: MAX_REASONS - 1], (OTHER, rest)]
        return Explanation(hosts, tuple(rows), self._asked)


def describe(explanation: Explanation) -> str:
    """Return the explanation in one line for people."""
    if not explanation.hosts:
        return "no host is known"
    reasons = ", ".join(f"{hosts} by {reason}" for reason, hosts in explanation.counts)
    return f"none of {explanation.hosts} hosts can take it: {reasons}"


def refused_error(refusal: Refusal) -> Refused:
    """Return the error that a library caller gets for ``refusal``."""
    explanation = refusal.explanation
    data = {"key": refusal.key, "hosts": str(explanation.hosts)}
    data.update((f"by {reason}", str(hosts)) for reason, hosts in explanation.counts)
    return Refused(describe(explanation), data, explanation)
