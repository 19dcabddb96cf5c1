"""All planted bugs, by subject, and those of the list that cannot be planted yet."""

from __future__ import annotations

from typing import Final

from sim.mutants import agent, chairman, gossip, placement, store, tree
from sim.mutants.mutant import Absent, Mutant

#: In the order in which the table shows them.
SUBJECTS: Final[dict[str, tuple[Mutant, ...]]] = {
    "gossip": gossip.MUTANTS,
    "tree": tree.MUTANTS,
    "chairman": chairman.MUTANTS,
    "placement": placement.MUTANTS,
    "agent": agent.MUTANTS,
    "store": store.MUTANTS,
}

ABSENT: Final[tuple[Absent, ...]] = (
    *gossip.ABSENT,
    *tree.ABSENT,
    *chairman.ABSENT,
    *placement.ABSENT,
    *agent.ABSENT,
    *store.ABSENT,
)


def all_mutants() -> list[Mutant]:
    """Return all mutants in the order of the table."""
    return [mutant for mutants in SUBJECTS.values() for mutant in mutants]
