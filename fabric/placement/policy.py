"""Which candidate is asked first: scores by policy, and the draw among the best few.

A policy turns the free share of a member *after* the placement (in thousandths, of its scarcest
resource) into a score.  **spread** likes the emptiest, **pack** the fullest that still fits.

The best one is never simply taken: many owners and entries look at the same slightly old picture,
and all would take the same "best" (stale minima herd).  The draw among the best few, weighted by
how much better they are than the last of them, keeps the quality and loses the herd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fabric.limits import CHOICE_WIDTH
from fabric.placement.assumed import Used
from fabric.placement.constraints import Matcher
from fabric.stream import Stream
from fabric.tree.summary import Summary

#: Score of a member that assumed use has filled: asked only when no better one is left.
FULL: Final = -1_000_000
#: Score of a member of which nothing (fresh) is known.
UNKNOWN: Final = -2_000_000

#: Policy -> score of a member that is full, and what each thousandth free adds to it.
POLICIES: Final[dict[str, tuple[int, int]]] = {"spread": (0, 1), "pack": (1000, -1)}


def score(summary: Summary, matcher: Matcher, used: Used) -> int:
    """Return how much a member is liked for the request; more is better."""
    request = matcher.request
    cpu_left = summary.cpu_free - used.cpu - request.cpu
    memory_left = summary.memory_free_mb - used.memory_mb - request.memory_mb
    if cpu_left < 0 or memory_left < 0:
        return FULL
    if used.requests and summary.hosts > 1 and not matcher.takes_more(summary, used.requests):
        return FULL
    free = cpu_left * 1000 // (summary.cpu or 1)
    memory_free = memory_left * 1000 // (summary.memory_mb or 1)
    if memory_free < free:
        free = memory_free
    base, slope = POLICIES[request.policy]
    return base + slope * free


def draw(scores: Sequence[int], sizes: Sequence[int], stream: Stream) -> int:
    """Return the index of one of the best few of ``scores``, the better the likelier.

    Of two that are equally good, the one of twice the size (in hosts) is drawn twice as often.
    """
    if len(scores) == 1:
        return 0
    roomy = [i for i, value in enumerate(scores) if value > FULL] or range(len(scores))
    floor = sorted([scores[i] for i in roomy], reverse=True)[:CHOICE_WIDTH][-1]
    pool = [i for i in roomy if scores[i] >= floor]
    weights = [(scores[i] - floor + 1) * sizes[i] for i in pool]
    ticket = stream.below(sum(weights))
    for i, weight in zip(pool, weights, strict=True):
        ticket -= weight
        if ticket < 0:
            return i
    raise AssertionError("a ticket below the sum of the weights finds its candidate")
