"""Faults as typed objects with a schedule. A run's fault plan is a list of them.

Each fault begins at a virtual time, lasts a while, and is over: :meth:`Fault.begin` puts the end
into the queue itself.  Plans are made before the run from keyed streams, so that leaving one fault
out changes nothing about the others, and a plan can be printed, saved and shrunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from fabric.units import MINUTE, SECOND
from sim.network import Partition
from sim.streams import Streams

if TYPE_CHECKING:
    from sim.coordinator import VirtualCoordinator
    from sim.engine import Engine, Node
    from sim.hypervisor import Hypervisors

#: How long a crashed host stays away.
RESTART_MIN_US: Final = 5 * SECOND
RESTART_MAX_US: Final = 30 * SECOND


class World(Protocol):
    """What faults act on."""

    engine: Engine
    coordinator: VirtualCoordinator
    hypervisors: Hypervisors
    hosts: list[Node]
    candidates: list[Node]
    #: Node ids of those that claimed cells that they do not own.
    pretenders: set[int]

    def host(self, index: int) -> Node:
        """Return the node of host ``index`` (from 0), or of a candidate (from -1 downwards)."""

    def restart(self, node: Node) -> None:
        """Start a crashed node on what its disk holds."""

    def wipe(self, node: Node) -> None:
        """Give a crashed node an empty disk."""

    def abandon(self, node: Node) -> None:
        """From now on nothing is expected of ``node`` any more."""

    def fault_over(self) -> None:
        """Something broke or came back now: convergence is measured from the last of these."""

    def fault_begins(self, fault: Fault) -> None:
        """One more fault is on."""


#: Which hosts a fault disturbs (``None``: all, and nothing proves anything), and for how long.
Hit: TypeAlias = "tuple[tuple[int, ...] | None, int]"
EVERYBODY: Final = None
NOBODY: Final[Hit] = ((), 0)


class Fault(Protocol):
    """Something that goes wrong. It is immutable: one plan may serve many runs."""

    @property
    def at_us(self) -> int:
        """When it begins."""

    def hits(self) -> Hit:
        """Return whom it disturbs: what others find out about these may be wrong meanwhile."""

    def begin(self, world: World) -> None:
        """Break it now, and put the end into the queue."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A host dies as by ``kill -9`` and starts again on its disk after ``down_us``."""

    at_us: int
    host: int
    down_us: int
    wipe: bool = False

    def hits(self) -> Hit:
        return (self.host,), self.down_us

    def begin(self, world: World) -> None:
        node = world.host(self.host)
        if not node.alive:
            return  # it is down already: two crashes of one host overlap
        node.crash()
        if self.wipe:
            world.wipe(node)
        world.fault_over()

        def restart() -> None:
            if not node.alive:
                world.restart(node)
                world.fault_over()

        world.engine.at(world.engine.now + self.down_us, restart)


@dataclass(frozen=True, slots=True)
class Dethrone:
    """Whichever candidate is chairman dies, and starts again after ``down_us``."""

    at_us: int
    down_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        chairman = world.engine.by_id.get(world.coordinator.chairman)
        if chairman is None or not chairman.alive:
            return  # the chair is vacant
        chairman.crash()
        world.fault_over()

        def restart() -> None:
            world.restart(chairman)
            world.fault_over()

        world.engine.at(world.engine.now + self.down_us, restart)


@dataclass(frozen=True, slots=True)
class Cut:
    """A partition: ``hosts`` on one side, everybody else on the other."""

    at_us: int
    hosts: tuple[int, ...]
    lasts_us: int
    one_way: bool = False

    def hits(self) -> Hit:
        return EVERYBODY, self.lasts_us

    def begin(self, world: World) -> None:
        side = frozenset(world.host(h).index for h in self.hosts)
        heal = world.engine.network.cut(Partition(side, self.one_way))

        end_after(world, self.lasts_us, heal)


@dataclass(frozen=True, slots=True)
class Lossy:
    """Messages are lost and doubled at random, everywhere."""

    at_us: int
    lasts_us: int
    loss_ppm: int
    duplicate_ppm: int = 0

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        network = world.engine.network
        network.loss_ppm += self.loss_ppm
        network.duplicate_ppm += self.duplicate_ppm
        network.changed()

        def end() -> None:
            network.loss_ppm -= self.loss_ppm
            network.duplicate_ppm -= self.duplicate_ppm
            network.changed()

        end_after(world, self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class Slow:
    """All that one host sends and gets takes ``factor`` times as long."""

    at_us: int
    lasts_us: int
    host: int
    factor: int

    def hits(self) -> Hit:
        return (self.host,), self.lasts_us

    def begin(self, world: World) -> None:
        index = world.host(self.host).index
        end_after(world, self.lasts_us, world.engine.network.slow_down(index, self.factor))


@dataclass(frozen=True, slots=True)
class Outage:
    """The coordinator cannot be reached."""

    at_us: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        world.coordinator.outages += 1

        def end() -> None:
            world.coordinator.outages -= 1

        end_after(world, self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class Expire:
    """The chairman's session expires in the coordinator."""

    at_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        world.coordinator.expire()
        world.fault_over()


def kill_plan(
    streams: Streams, hosts: int, percent_per_minute: int, from_us: int, until_us: int
) -> list[Fault]:
    """Return crashes of ``percent_per_minute`` of the hosts in each minute, evenly at random.

    Each host's fate is its own stream: of how many hosts there are, only the rate depends.
    """
    plan: list[Fault] = []
    if percent_per_minute <= 0 or until_us <= from_us:
        return plan
    for host in range(hosts):
        stream = streams.stream("kill", host)
        at = from_us
        while at < until_us:
            # within each minute the host dies with the given chance, at an even time
            dies = stream.below(100_000) < percent_per_minute * 1000
            when = at + stream.below(MINUTE)
            down = RESTART_MIN_US + stream.below(RESTART_MAX_US - RESTART_MIN_US)
            if dies and when < until_us:
                plan.append(Crash(when, host, down))
            at += MINUTE
    plan.sort(key=lambda fault: fault.at_us)
    return plan


def schedule(plan: list[Fault], world: World) -> None:
    """Put all faults of ``plan`` into the queue."""
    for fault in plan:
        world.engine.at(fault.at_us, lambda fault=fault: strike(fault, world))  # type: ignore[misc]


def strike(fault: Fault, world: World) -> None:
    """Begin ``fault`` now."""
    world.fault_begins(fault)
    fault.begin(world)


def end_after(world: World, lasts_us: int, undo: Callable[[], None]) -> None:
    """Take back with ``undo`` what a fault did, ``lasts_us`` from now: then it is over."""

    def end() -> None:
        undo()
        world.fault_over()

    world.engine.at(world.engine.now + lasts_us, end)
