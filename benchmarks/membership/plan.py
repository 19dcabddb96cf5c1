"""Sizes and times of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CANDIDATES: Final = 3
HOST_CPU: Final = 16
HOST_MEMORY_MB: Final = 65_536

#: Goals, in the units of the result.
CRASH_P99_S: Final = 4.0
CUTOFF_P99_S: Final = 6.0
PAYLOAD_BYTES_PER_S: Final = 300.0
MEMORY_MB: Final = 10.0
JOIN_STORM_S: Final = 10.0
TAKEOVER_P50_S: Final = 2.5
TAKEOVER_P99_S: Final = 5.0
SIMULATED_STORM_S: Final = 30.0
DEATH_BYTES: Final = 4096
#: A peer in a tree of a million hosts may hold and send so much more than in one of 10,000.
SCALE_RATIO: Final = 1.2


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done of what."""

    #: Peers in all, candidates among them.
    peers: int
    #: Processes that many of them share.
    processes: int
    #: Peers with a process to themselves: they are frozen, then killed or cut off.
    alone: int
    idle_s: float
    frozen_s: float
    kills: int
    cutoffs: int
    takeovers: int
    serf_agents: int
    serf_kills: int
    #: Hosts of the simulated storm of joins, and of the tree in which one of them dies.
    simulated: int


FULL: Final = Plan(
    peers=200, processes=4, alone=24, idle_s=30.0, frozen_s=30.0,
    kills=10, cutoffs=10, takeovers=16, serf_agents=200, serf_kills=10, simulated=10_000,
)  # fmt: skip
QUICK: Final = Plan(
    peers=60, processes=2, alone=8, idle_s=12.0, frozen_s=12.0,
    kills=3, cutoffs=3, takeovers=6, serf_agents=30, serf_kills=2, simulated=1_000,
)  # fmt: skip
