"""More faults of the network: bridges, halves, links, gray hosts, bad cables, lateness, clogging.

Candidates count as hosts from -1 downwards wherever hosts are named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fabric.machine import Message
from fabric.wire.gossip import Ack, Ping
from sim.faults import EVERYBODY, NOBODY, Hit, World, end_after
from sim.network import Bridge, Cutting, Link, Partition

if TYPE_CHECKING:
    from sim.engine import Node

#: What a gray host still gets through: it looks well and does nothing.
PINGS: Final = (Ping, Ack)


@dataclass(frozen=True, slots=True)
class Bridged:
    """``hosts`` and all others are cut from each other, but ``host`` reaches both sides."""

    at_us: int
    hosts: tuple[int, ...]
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return EVERYBODY, self.lasts_us

    def begin(self, world: World) -> None:
        side = frozenset(world.host(h).index for h in self.hosts)
        heal = world.engine.network.cut(Bridge(side, world.host(self.host).index))
        end_after(world, self.lasts_us, heal)


@dataclass(frozen=True, slots=True)
class Halves:
    """Hosts of even number and ``candidates`` of the candidates are cut from all the others."""

    at_us: int
    lasts_us: int
    candidates: int = 1

    def hits(self) -> Hit:
        return EVERYBODY, self.lasts_us

    def begin(self, world: World) -> None:
        nodes = [*world.hosts[::2], *world.candidates[: self.candidates]]
        heal = world.engine.network.cut(Partition(frozenset(n.index for n in nodes)))
        end_after(world, self.lasts_us, heal)


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """``host`` and ``other`` do not reach each other, or ``other`` alone does not hear ``host``."""

    at_us: int
    host: int
    other: int
    lasts_us: int
    one_way: bool = False

    def hits(self) -> Hit:
        return EVERYBODY, self.lasts_us

    def begin(self, world: World) -> None:
        link = Link(world.host(self.host).index, world.host(self.other).index, self.one_way)
        end_after(world, self.lasts_us, world.engine.network.cut(link))


@dataclass(frozen=True, slots=True)
class Gray:
    """``host`` answers pings, and nothing else that it sends or gets arrives."""

    at_us: int
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return (self.host,), self.lasts_us

    def begin(self, world: World) -> None:
        heal = world.engine.network.treat(only_pings(world.host(self.host)))
        end_after(world, self.lasts_us, heal)


@dataclass(frozen=True, slots=True)
class GrayLink:
    """Between ``host`` and ``other`` only pings pass; both look well to each other."""

    at_us: int
    host: int
    other: int
    lasts_us: int

    def hits(self) -> Hit:
        return EVERYBODY, self.lasts_us

    def begin(self, world: World) -> None:
        ends = (world.host(self.host), world.host(self.other))

        def treat(source: Node, target: Node, message: Message) -> Message | None:
            passes = source is target or source not in ends or target not in ends
            return message if passes or isinstance(message, PINGS) else None

        end_after(world, self.lasts_us, world.engine.network.treat(treat))


def only_pings(gray: Node) -> Callable[[Node, Node, Message], Message | None]:
    """Return what lets only pings through from and to ``gray``."""

    def treat(source: Node, target: Node, message: Message) -> Message | None:
        passes = source is target or gray not in (source, target) or isinstance(message, PINGS)
        return message if passes else None

    return treat


@dataclass(frozen=True, slots=True)
class Flaky:
    """Of all that ``host`` sends or gets, ``loss_ppm`` is lost: a bad cable."""

    at_us: int
    host: int
    lasts_us: int
    loss_ppm: int

    def hits(self) -> Hit:
        return (self.host,), self.lasts_us

    def begin(self, world: World) -> None:
        engine, bad = world.engine, world.host(self.host)
        stream = engine.streams.stream("flaky", f"{self.host}/{self.at_us}")

        def treat(source: Node, target: Node, message: Message) -> Message | None:
            if bad in (source, target) and source is not target and stream.chance(self.loss_ppm):
                return None
            return message

        end_after(world, self.lasts_us, engine.network.treat(treat))


@dataclass(frozen=True, slots=True)
class Reordered:
    """Some messages arrive up to ``late_us`` later, long after those that were sent after them."""

    at_us: int
    lasts_us: int
    late_ppm: int
    late_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        network = world.engine.network
        network.late_ppm += self.late_ppm
        network.late_us = max(self.late_us, network.late_us)
        network.changed()

        def end() -> None:
            network.late_ppm -= self.late_ppm
            network.changed()

        end_after(world, self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class Swizzle:
    """``hosts`` are clogged one by one, ``each_us`` apart, and freed in another order.

    The order of freeing is drawn.  What FoundationDB found most bugs with.
    """

    at_us: int
    hosts: tuple[int, ...]
    each_us: int
    lasts_us: int

    def hits(self) -> Hit:
        return EVERYBODY, self.lasts_us + 2 * len(self.hosts) * self.each_us

    def begin(self, world: World) -> None:
        engine = world.engine
        stream = engine.streams.stream("swizzle", self.at_us)
        cuts: list[Cutting] = [Partition(frozenset((world.host(h).index,))) for h in self.hosts]
        order = list(range(len(cuts)))
        for last in range(len(order) - 1, 0, -1):
            other = stream.below(last + 1)
            order[last], order[other] = order[other], order[last]
        all_clogged = engine.now + len(cuts) * self.each_us + self.lasts_us
        for place, cut in enumerate(cuts):
            freed_at = all_clogged + order[place] * self.each_us
            engine.at(engine.now + place * self.each_us, _clog(world, cut, freed_at))


def _clog(world: World, cut: Cutting, freed_at: int) -> Callable[[], None]:
    def clog() -> None:
        engine = world.engine
        heal = engine.network.cut(cut)
        end_after(world, freed_at - engine.now, heal)

    return clog
