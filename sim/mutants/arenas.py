"""Small worlds in which a bug of one subject has nowhere to hide.

Each function draws the scenario of a seed: few hosts, and the faults that this subject has to stand
up to, close together.  Such a run takes a few tenths of a second, where the same bug in a swarm
of all faults may take a hundred runs to show.  :func:`~sim.swarm.swarm` itself is an arena, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fabric.stream import Stream
from fabric.units import MS, SECOND
from sim.coordinator_faults import LostCommits, StaleReads
from sim.disk_faults import SlowDisk
from sim.faults import Crash, Cut, Expire, Fault, Lossy, Outage, Slow
from sim.gray import Echo, OnChairman, OnOwner, Pause, Sever
from sim.insiders import Forger
from sim.network_faults import BrokenLink
from sim.scenario import Scenario
from sim.streams import Streams
from sim.swarm import swarm

#: Faults begin when the tree has formed.
FROM_S: Final = 12


def rumours(seed: int) -> Scenario:
    """One leaf cell: who is alive? Each seed is one of seven plots against the truth.

    In most of them the coordinator is away: nobody is removed, and members have to bury and to
    resurrect each other alone.
    """
    stream = Streams(seed).stream("arena", "rumours")
    hosts = 5 + stream.below(4)
    one, two, three = stream.below(hosts), stream.below(hosts), stream.below(hosts)
    nobody_goes = Outage(14 * SECOND, 100 * SECOND)
    lasts_us = _at(stream, 5, 9)
    half = tuple([(one + i) % hosts for i in range(hosts // 2)])
    plots: tuple[list[Fault], ...] = (
        _naps(stream, hosts),
        [  # one member hears of the lie, and of the refutation, only through others
            BrokenLink(15 * SECOND, one, (one + 1) % hosts, 30 * SECOND),
            Forger(15 * SECOND, (one + 2) % hosts, 30 * SECOND, "suspicions"),
        ],
        [
            Forger(15 * SECOND, one, 12 * SECOND, "deaths"),
            Forger(30 * SECOND, two, 12 * SECOND, "lives"),
        ],
        [nobody_goes, Pause(15 * SECOND, one, lasts_us), Pause(28 * SECOND, two, lasts_us)],
        [nobody_goes, Cut(15 * SECOND, (one,), lasts_us), Cut(28 * SECOND, (two,), 28 * SECOND)],
        [nobody_goes, Cut(16 * SECOND, half, 30 * SECOND)],
        [nobody_goes, Crash(20 * SECOND, three, 60 * SECOND)],
    )
    return _arena(seed, hosts, 110, plots[seed % len(plots)], leaf_max=10)


def whispers(seed: int) -> Scenario:
    """One large leaf cell where news are lost, and then nothing new: they must still arrive.

    By heavy loss, or because some members are cut off, each for itself, while loads change; too
    short for all to suspect each other, which would have everybody speak again.
    """
    stream = Streams(seed).stream("arena", "whispers")
    hosts = 12 + stream.below(4)
    faults: list[Fault] = [Outage(9 * SECOND, 85 * SECOND)]  # nobody is removed meanwhile
    more: dict[str, Any] = {}
    if seed % 3 == 0:
        faults.append(
            Lossy(_at(stream, 10, 12), _at(stream, 18, 22), 300_000 + stream.below(200_000))
        )
        more = {"place_rate": 5, "vm_life_s": 5, "placements": tuple(range(60 + stream.below(20)))}
    else:
        for nth in range(5):
            faults.append(Cut(16 * SECOND, (2 * nth,), 6 * SECOND))
        more = {"place_rate": 20, "vm_life_s": 1, "placements": tuple(range(320, 380))}
    return _arena(seed, hosts, 95, faults, leaf_max=20, **more)


def decrees(seed: int) -> Scenario:
    """A chairman at work while its coordinator comes and goes, lags, or keeps answers back."""
    stream = Streams(seed).stream("arena", "decrees")
    hosts = 8 + stream.below(6)
    faults: list[Fault] = []
    for nth in range(12):  # somebody to remove and to let in, all the time
        down_us, wipe = _at(stream, 3, 8), stream.below(3) == 0
        faults.append(Crash((FROM_S + 2 * nth) * SECOND, stream.below(hosts), down_us, wipe))
    for _ in range(6):
        at_us = _at(stream, FROM_S, FROM_S + 30)
        one: tuple[Fault, ...] = (
            LostCommits(at_us, 1 + stream.below(2)),
            Outage(at_us, _at(stream, 1, 2)),
            StaleReads(at_us, _at(stream, 2, 6)),
            Expire(at_us),
            OnChairman(at_us, Sever(0, 0, _at(stream, 1, 2))),
            OnChairman(at_us, Pause(0, 0, _at(stream, 1, 6))),
        )
        faults.append(one[stream.below(len(one))])
    return _arena(seed, hosts, 130, faults)


def errands(seed: int) -> Scenario:
    """Full hosts, hasty callers, entries that start over while answers are still under way."""
    stream = Streams(seed).stream("arena", "errands")
    hosts = 4 + stream.below(4)
    faults: list[Fault] = []
    if stream.below(2):
        for nth in range(8):
            host, at_us = stream.below(hosts), (FROM_S + 3 * nth) * SECOND
            faults.append(Pause(at_us, host, _at(stream, 1, 4)))
    if stream.below(2):
        for nth in range(6):
            host, at_us = stream.below(hosts), (FROM_S + 4 * nth) * SECOND
            faults.append(Slow(at_us, 3 * SECOND, host, 500 + stream.below(1500)))
    if stream.below(2):
        faults.append(Echo(FROM_S * SECOND, 25 * SECOND, 300_000, 4 * SECOND))
        for nth in range(12):
            host, at_us = stream.below(hosts), (FROM_S + 2 * nth) * SECOND
            faults.append(Crash(at_us, host, 500 * MS))
    if stream.below(3) == 0:
        faults.append(Lossy(_at(stream, FROM_S, FROM_S + 5), 20 * SECOND, 200_000))
    return _arena(
        seed, hosts, 115, faults, place_rate=(5, 20)[stream.below(2)], vm_life_s=5,
        host_cpu=(4, 16)[stream.below(2)], vm_percent=(0, 40)[stream.below(2)],
        pack_percent=(0, 100)[stream.below(2)],
    )  # fmt: skip


def markets(seed: int) -> Scenario:
    """No fault at all: bursts of requests, and hosts with little room to spare."""
    stream = Streams(seed).stream("arena", "markets")
    burst = (1, 1, 20)[seed % 3]
    return _arena(
        seed, 12 + stream.below(5), 100, [], place_rate=4, burst=burst, vm_life_s=4 + seed % 3,
        host_cpu=8 if burst > 1 else 4, pack_percent=(0, 50)[stream.below(2)],
    )  # fmt: skip


def haunts(seed: int) -> Scenario:
    """Entries start over again and again, while answers to what they asked before still arrive."""
    stream = Streams(seed).stream("arena", "haunts")
    hosts = 3 + stream.below(2)
    faults: list[Fault] = [
        Echo(FROM_S * SECOND, 30 * SECOND, 500_000, 3 * SECOND),
        Lossy(FROM_S * SECOND, 30 * SECOND, 250_000),
    ]
    for nth in range(15):
        at_us, host = (FROM_S + 2 * nth) * SECOND, stream.below(hosts)
        faults.append(Crash(at_us, host, 300 * MS))
    return _arena(seed, hosts, 80, faults, place_rate=20, vm_life_s=30)


def thrones(seed: int) -> Scenario:
    """Owners fall, seats start anew within a lease or stay away for long, old news return."""
    stream = Streams(seed).stream("arena", "thrones")
    hosts = 5 + stream.below(8)
    faults: list[Fault] = []
    if seed % 3 == 0:  # of an owner that goes on ruling alone, the seats remember nothing
        for nth in range(6):
            at_us = (FROM_S + 8 * nth) * SECOND
            faults.append(OnOwner(at_us, stream.below(2), 0, Cut(0, (0,), 3 * SECOND)))
            faults += [
                Crash(at_us + 10 * MS, host, 50 * MS + stream.below(400) * MS)
                for host in range(hosts)
                if stream.below(3)
            ]
    elif seed % 3 == 1:
        faults.append(Echo(FROM_S * SECOND, 40 * SECOND, 200_000, 6 * SECOND))
        for nth in range(10):
            one: Fault = (Crash(0, 0, 3 * SECOND), Pause(0, 0, 4 * SECOND))[stream.below(2)]
            faults.append(OnOwner((FROM_S + 4 * nth) * SECOND, stream.below(2), nth, one))
    else:  # most seats of a cell are gone for so long that others take their place
        for nth in range(2):
            first, at_us = stream.below(hosts), (FROM_S + 40 * nth) * SECOND
            faults.append(OnOwner(at_us - SECOND, 0, nth, Pause(0, 0, 30 * SECOND)))
            faults += [
                Pause(at_us + stream.below(800) * MS, (first + i) % hosts, _at(stream, 24, 30))
                for i in range(2 + stream.below(hosts // 2))
            ]
    return _arena(seed, hosts, 150, faults)


def disks(seed: int) -> Scenario:
    """Disks that take their time, and processes that die meanwhile."""
    stream = Streams(seed).stream("arena", "disks")
    hosts = 4 + stream.below(4)
    faults: list[Fault] = []
    for nth in range(10):
        host, at_us = stream.below(hosts), (FROM_S + 3 * nth) * SECOND
        faults.append(SlowDisk(at_us, host, 2 * SECOND, 100 + stream.below(900)))
        faults.append(Crash(at_us + _at(stream, 1, 2), host, 1 * SECOND))
    return _arena(
        seed, hosts, 110, faults, place_rate=20, vm_life_s=5, vm_percent=(0, 50)[stream.below(2)]
    )


def _naps(stream: Stream, hosts: int) -> list[Fault]:
    """Hosts that stop for just so long that they are suspected, and wake to refute."""
    return [
        Pause((FROM_S + 3 * nth) * SECOND, stream.below(hosts), (1200 + stream.below(1500)) * MS)
        for nth in range(10)
    ]


def _at(stream: Stream, least_s: int, most_s: int) -> int:
    return least_s * SECOND + stream.below((most_s - least_s) * 1000 + 1) * MS


def _arena(seed: int, hosts: int, duration_s: int, faults: list[Fault], **more: Any) -> Scenario:
    faults.sort(key=lambda fault: fault.at_us)
    small: dict[str, Any] = {"leaf_min": 3, "leaf_max": 6, "inner_min": 3, "inner_max": 6}
    shape = small | {"place_rate": 2, "vm_life_s": 10} | more
    return Scenario(
        hosts=hosts, seed=seed, duration_s=duration_s, faults=tuple(faults), **shape
    ).check()


#: By name, as :class:`~sim.mutants.mutant.Mutant` has it.
ARENAS: Final[dict[str, Callable[[int], Scenario]]] = {
    "swarm": swarm,
    "rumours": rumours,
    "whispers": whispers,
    "decrees": decrees,
    "errands": errands,
    "markets": markets,
    "haunts": haunts,
    "thrones": thrones,
    "disks": disks,
}
