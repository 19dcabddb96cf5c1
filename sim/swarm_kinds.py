"""How a swarm draws faults of disks, coordinator, network, processes, clocks and insiders.

Each function returns one occurrence of its kind for a fabric of so many hosts; hosts below 0 are
candidates, of which a swarm has three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fabric.stream import Stream
from fabric.units import MS, SECOND
from sim.abandon import HOWS, Abandoned, How
from sim.coordinator_faults import Emptied, LostCommits, Restored, SlowCoordinator, StaleReads
from sim.disk_faults import BitRot, DiskError, LostSync, SlowDisk, TornWrite
from sim.faults import Fault
from sim.gray import OnOwner
from sim.hypervisor_faults import Refusal, Stall
from sim.insiders import LIES, Forger, Lie, NewerVersion, OlderVersion, StaleSummaries
from sim.network_faults import (
    Bridged,
    BrokenLink,
    Flaky,
    Gray,
    GrayLink,
    Halves,
    Reordered,
    Swizzle,
)
from sim.process_faults import (
    ClockJump,
    Draining,
    Drift,
    Leaving,
    MassRestart,
    RackLoss,
    Rolling,
)

#: Faults happen from when the tree has formed, for so long.
FROM_US: Final = 12 * SECOND
FOR_US: Final = 30 * SECOND
CANDIDATES: Final = 3

Draw = Callable[[Stream, int], list[Fault]]


def when(stream: Stream) -> int:
    """Return a time for a fault to begin."""
    return FROM_US + stream.below(FOR_US // MS) * MS


def lasts(stream: Stream, least_s: int, most_s: int) -> int:
    """Return how long a fault lasts, from the least to the most of these seconds."""
    return (least_s * 1000 + stream.below((most_s - least_s) * 1000 + 1)) * MS


def _anybody(stream: Stream, hosts: int) -> int:
    return stream.below(hosts + CANDIDATES) - CANDIDATES


def _some(stream: Stream, hosts: int) -> tuple[int, ...]:
    """Return about a third of all, one at least."""
    some = [h for h in range(-CANDIDATES, hosts) if not stream.below(3)]
    return tuple(some or [stream.below(hosts)])


def _disk(stream: Stream, hosts: int) -> list[Fault]:
    at, host = when(stream), _anybody(stream, hosts)
    span, down = lasts(stream, 1, 10), lasts(stream, 2, 5)
    kinds: tuple[Fault, ...] = (
        SlowDisk(at, host, span, (10, 200, 4000)[stream.below(3)]),
        DiskError(at, host, span),
        DiskError(at, host, span, full=True),
        TornWrite(at, host, down),
        BitRot(at, host, down),
    )
    return [kinds[stream.below(len(kinds))]]


def _lying_disk(stream: Stream, hosts: int) -> list[Fault]:
    return [LostSync(when(stream), stream.below(hosts), lasts(stream, 1, 10), 3 * SECOND)]


def _coordinator(stream: Stream, hosts: int) -> list[Fault]:
    at, span = when(stream), lasts(stream, 2, 15)
    kinds: tuple[Fault, ...] = (
        SlowCoordinator(at, span, (10, 100, 400)[stream.below(3)]),
        StaleReads(at, span),
        LostCommits(at, 1 + stream.below(3)),
    )
    return [kinds[stream.below(len(kinds))]]


def _forgetful_coordinator(stream: Stream, hosts: int) -> list[Fault]:
    if stream.below(2):
        return [Emptied(when(stream), lasts(stream, 2, 15))]
    return [Restored(FROM_US + stream.below(15) * SECOND, 15 * SECOND, lasts(stream, 2, 15))]


def _parted(stream: Stream, hosts: int) -> list[Fault]:
    at, span = when(stream), lasts(stream, 2, 15)
    kinds: tuple[Fault, ...] = (
        Bridged(at, _some(stream, hosts), _anybody(stream, hosts), span),
        Halves(at, span, stream.below(CANDIDATES + 1)),
        BrokenLink(at, _anybody(stream, hosts), _anybody(stream, hosts), span, True),
        BrokenLink(at, _anybody(stream, hosts), _anybody(stream, hosts), span),
    )
    return [kinds[stream.below(len(kinds))]]


def _gray(stream: Stream, hosts: int) -> list[Fault]:
    at, host, span = when(stream), _anybody(stream, hosts), lasts(stream, 2, 15)
    kinds: tuple[Fault, ...] = (
        Gray(at, host, span),
        GrayLink(at, host, _anybody(stream, hosts), span),
        Flaky(at, host, span, (200_000, 500_000, 900_000)[stream.below(3)]),
    )
    return [kinds[stream.below(len(kinds))]]


def _late(stream: Stream, hosts: int) -> list[Fault]:
    late = (50 * MS, 1 * SECOND)[stream.below(2)]
    return [Reordered(when(stream), lasts(stream, 2, 15), 200_000, late)]


def _swizzle(stream: Stream, hosts: int) -> list[Fault]:
    at, each = FROM_US + stream.below(10) * SECOND, lasts(stream, 0, 1)
    return [Swizzle(at, _some(stream, hosts)[:12], each, lasts(stream, 0, 5))]


def _many_processes(stream: Stream, hosts: int) -> list[Fault]:
    at, down = when(stream), lasts(stream, 1, 12)
    kinds: tuple[Fault, ...] = (
        RackLoss(at, _some(stream, hosts), down),
        MassRestart(at, down, lasts(stream, 0, 5)),
        Rolling(FROM_US, 1 * SECOND, lasts(stream, 1, 3)),
    )
    return [kinds[stream.below(len(kinds))]]


def _operator(stream: Stream, hosts: int) -> list[Fault]:
    at, span = when(stream), lasts(stream, 2, 15)
    if stream.below(2):
        return [Leaving(at, _anybody(stream, hosts), span)]
    return [Draining(at, stream.below(hosts), span)]


def _clocks(stream: Stream, hosts: int) -> list[Fault]:
    faults: list[Fault] = [
        Drift(FROM_US, _anybody(stream, hosts), FOR_US, (50, 200)[stream.below(2)], behind)
        for behind in (False, True)
    ]
    jump = (1, 60, 3600)[stream.below(3)] * SECOND
    back = bool(stream.below(2))
    return [*faults, ClockJump(when(stream), _anybody(stream, hosts), 3 * SECOND, jump, back)]


def _hypervisor(stream: Stream, hosts: int) -> list[Fault]:
    at, host, span = when(stream), stream.below(hosts), lasts(stream, 2, 15)
    return [Stall(at, host, span) if stream.below(2) else Refusal(at, host, span)]


def _insider(stream: Stream, hosts: int) -> list[Fault]:
    at, host, span = when(stream), stream.below(hosts), lasts(stream, 2, 15)
    lie: Lie = LIES[stream.below(len(LIES))]  # type: ignore[assignment]
    return [Forger(at, host, span, lie) if stream.below(3) else StaleSummaries(at, host, span)]


def _versions(stream: Stream, hosts: int) -> list[Fault]:
    """An upgrade under way: some run the version before, one already the next."""
    older = [OlderVersion(FROM_US, h, FOR_US) for h in _some(stream, hosts)]
    return [*older, NewerVersion(FROM_US, _anybody(stream, hosts), FOR_US)]


def _abandoned(stream: Stream, hosts: int) -> list[Fault]:
    how: How = HOWS[stream.below(len(HOWS))]  # type: ignore[assignment]
    return [Abandoned(when(stream), (_anybody(stream, hosts),), how)]


def _leaving(stream: Stream, hosts: int) -> list[Fault]:
    """Operators stop or drain hosts and owners, one after the other."""
    at, level = when(stream), stream.below(3)
    faults: list[Fault] = []
    for nth in range(1 + stream.below(3)):
        host, lasting = _anybody(stream, hosts), lasts(stream, 3, 12)
        one: Fault = (Leaving(at, host, lasting), Draining(at, host, lasting))[stream.below(2)]
        faults.append(OnOwner(at, level, nth, one) if stream.below(2) else one)
        at += lasts(stream, 0, 3)
    return faults


MORE_KINDS: Final[tuple[Draw, ...]] = (
    _disk,
    _lying_disk,
    _coordinator,
    _forgetful_coordinator,
    _parted,
    _gray,
    _late,
    _swizzle,
    _many_processes,
    _operator,
    _clocks,
    _hypervisor,
    _insider,
    _versions,
    _abandoned,
    _leaving,
)
