"""Swarm testing: a seed draws a small fabric and a random subset of all faults.

Leaving most kinds of fault out of a run finds more than having all of them in each (Groce et al.,
2012): some hide what others show.  Cells are small, so that a dozen or two of hosts make a tree of
three levels; every run ends with a calm in which all must come right again.  The other kinds are in
:mod:`sim.swarm_kinds`.
"""

from __future__ import annotations

from typing import Final

from fabric.stream import Stream
from fabric.units import MS, SECOND
from sim.coordinator_faults import LostCommits
from sim.faults import Crash, Cut, Expire, Fault, Lossy, Outage, Slow
from sim.gray import Echo, OnChairman, OnOwner, Pause, Sever
from sim.insiders import Forger, Lie
from sim.scenario import Scenario
from sim.streams import Streams
from sim.swarm_kinds import FOR_US, FROM_US, MORE_KINDS, Draw, lasts, when

#: Calm at the end: longer than what checkers of liveness wait for.
CALM_S: Final = 75
#: Percent of the kinds of fault that a run has: a few, some, or a lot.
DENSITIES: Final = (8, 20, 40)


def swarm(seed: int) -> Scenario:
    """Return the scenario of ``seed``: always the same one."""
    streams = Streams(seed)
    stream = streams.stream("swarm")
    hosts = 8 + stream.below(17)
    faults: list[Fault] = []
    density = DENSITIES[streams.stream("swarm-density").below(3)]
    for draw in KINDS:
        # by its name: what a seed draws of one kind does not change when others come or go
        each = streams.stream("swarm-fault", draw.__name__)
        if each.below(100) < density:
            faults += [fault for _ in range(1 + each.below(2)) for fault in draw(each, hosts)]
    faults.sort(key=lambda fault: fault.at_us)
    end_us = (FROM_US + FOR_US) // SECOND
    return Scenario(
        hosts=hosts,
        seed=seed,
        duration_s=end_us + 15 + CALM_S,
        place_rate=(2, 5, 10)[stream.below(3)],
        vm_life_s=(5, 20, 80)[stream.below(3)],
        burst=(1, 1, 20)[stream.below(3)],
        host_cpu=(0, 4, 8)[stream.below(3)],
        vm_percent=(0, 50)[stream.below(2)],
        avoid_percent=(0, 30)[stream.below(2)],
        pack_percent=(0, 50, 100)[stream.below(3)],
        hypervisor_fail_ppm=(0, 0, 100_000)[stream.below(3)],
        fidelity=stream.below(5) == 0,
        leaf_min=3,
        leaf_max=6,
        inner_min=3,
        inner_max=6,
        faults=tuple(faults),
    )


def _crash(stream: Stream, hosts: int) -> list[Fault]:
    return [Crash(when(stream), stream.below(hosts), lasts(stream, 5, 15))]


def _wipe(stream: Stream, hosts: int) -> list[Fault]:
    return [Crash(when(stream), stream.below(hosts), lasts(stream, 5, 15), wipe=True)]


def _rack(stream: Stream, hosts: int) -> list[Fault]:
    """Several hosts go at once and come back at about the same time."""
    at, first = when(stream), stream.below(hosts)
    count = 2 + stream.below(hosts // 2)
    down = lasts(stream, 3, 15)
    return [Crash(at, (first + i) % hosts, down + stream.below(1000) * MS) for i in range(count)]


def _cut(stream: Stream, hosts: int) -> list[Fault]:
    """A few hosts on one side; one way in half of the cases, either way."""
    first, count = stream.below(hosts), 1 + stream.below(max(hosts // 2, 1))
    side = tuple([(first + i) % hosts for i in range(count)])
    one_way = bool(stream.below(2))
    if one_way and stream.below(2):  # they are heard, and hear nothing
        side = tuple([h for h in range(hosts) if h not in side])
    return [Cut(when(stream), side, lasts(stream, 2, 20), one_way)]


def _lossy(stream: Stream, hosts: int) -> list[Fault]:
    loss = (20_000, 50_000, 100_000)[stream.below(3)]
    return [Lossy(when(stream), lasts(stream, 3, 15), loss, 20_000)]


def _slow(stream: Stream, hosts: int) -> list[Fault]:
    return [Slow(when(stream), lasts(stream, 3, 15), stream.below(hosts), 10 + stream.below(300))]


def _outage(stream: Stream, hosts: int) -> list[Fault]:
    return [Outage(when(stream), lasts(stream, 1, 15))]


def _expire(stream: Stream, hosts: int) -> list[Fault]:
    return [Expire(when(stream))]


def _pause(stream: Stream, hosts: int) -> list[Fault]:
    return [Pause(when(stream), stream.below(hosts), lasts(stream, 1, 15))]


def _nap(stream: Stream, hosts: int) -> list[Fault]:
    """Hosts that do not run for just so long that they are suspected, and wake to refute."""
    at = when(stream)
    return [
        Pause(at + i * 3 * SECOND, stream.below(hosts), (1200 + stream.below(1500)) * MS)
        for i in range(6)
    ]


def _forger(stream: Stream, hosts: int) -> list[Fault]:
    lie: Lie = ("suspicions", "deaths")[stream.below(2)]
    return [Forger(when(stream), stream.below(hosts), lasts(stream, 5, 15), lie)]


def _echo(stream: Stream, hosts: int) -> list[Fault]:
    return [Echo(when(stream), lasts(stream, 5, 20), 50_000, 6 * SECOND)]


def _owner_goes(stream: Stream, hosts: int) -> list[Fault]:
    """An owner dies, is cut off or stops, and perhaps the next one as well, and the next."""
    at, level, nth = when(stream), stream.below(3), stream.below(4)
    faults: list[Fault] = []
    for _ in range(1 + stream.below(3)):
        span = lasts(stream, 3, 10)
        one: Fault = (Crash(0, 0, span), Cut(0, (0,), span), Pause(0, 0, span))[stream.below(3)]
        faults.append(OnOwner(at, level, nth, one))
        at += lasts(stream, 1, 4)
    return faults


def _owner_fades(stream: Stream, hosts: int) -> list[Fault]:
    """An owner becomes slow, then nobody hears it any more."""
    at, level, nth = when(stream), stream.below(3), stream.below(4)
    slow = Slow(0, 12 * SECOND, 0, 100 + stream.below(300))
    cut = Cut(0, (0,), 8 * SECOND, one_way=True)
    later = at + lasts(stream, 1, 3)
    return [OnOwner(at, level, nth, slow), OnOwner(later, level, nth, cut)]


def _all_restart(stream: Stream, hosts: int) -> list[Fault]:
    """A takeover, and right after it the whole fabric restarts, as after a power cut."""
    at = when(stream)
    first = OnOwner(at, stream.below(2), stream.below(4), Crash(0, 0, 5 * SECOND))
    at += lasts(stream, 2, 4)
    everybody = [Crash(at, h, 1 * SECOND + stream.below(2000) * MS) for h in range(hosts)]
    return [first, *everybody]


def _chairman_goes(stream: Stream, hosts: int) -> list[Fault]:
    at, span = when(stream), lasts(stream, 2, 12)
    one: Fault = (Pause(0, 0, span), Sever(0, 0, span))[stream.below(2)]
    return [OnChairman(at, one)]


def _commits_lost(stream: Stream, hosts: int) -> list[Fault]:
    """What the chairman writes of hosts that go is carried out, and it never learns it."""
    at = when(stream)
    return [
        LostCommits(at, 1 + stream.below(2)),
        Crash(at + SECOND, stream.below(hosts), 12 * SECOND),
        Crash(at + 2 * SECOND, stream.below(hosts), 20 * SECOND),
    ]


def _short_outages(stream: Stream, hosts: int) -> list[Fault]:
    """The coordinator is away for less than a lease, again and again, while hosts come and go."""
    at = when(stream)
    crashes = [Crash(at + i * 2 * SECOND, stream.below(hosts), 4 * SECOND) for i in range(4)]
    return [*crashes, *[Outage(at + i * 3500 * MS, 1500 * MS) for i in range(5)]]


def _expiry_amid_changes(stream: Stream, hosts: int) -> list[Fault]:
    """The chair is lost again and again while hosts come and go."""
    at = when(stream)
    crashes = [
        Crash(at + i * 700 * MS, stream.below(hosts), 5 * SECOND, wipe=True) for i in range(2)
    ]
    return [*crashes, *[Expire(at + 4 * SECOND + i * 900 * MS) for i in range(8)]]


#: All kinds of occurrences that a seed may draw.
KINDS: Final[tuple[Draw, ...]] = (
    _crash,
    _wipe,
    _rack,
    _cut,
    _lossy,
    _slow,
    _outage,
    _expire,
    _pause,
    _nap,
    _forger,
    _echo,
    _owner_goes,
    _owner_fades,
    _all_restart,
    _chairman_goes,
    _commits_lost,
    _short_outages,
    _expiry_amid_changes,
    *MORE_KINDS,
)
