"""Faults of many processes at once, and of their clocks.

A peer's time is the wall clock at its start, advanced by the monotonic clock: a drift shows all
along, a jump of the wall clock only at the next start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fabric.units import MS, SECOND
from fabric.wire.host import Drain
from fabric.wire.peer import LeaveAsk
from sim.faults import EVERYBODY, NOBODY, Crash, Hit, World

if TYPE_CHECKING:
    from sim.engine import Node

#: Whoever takes longer to leave is stopped without goodbye, as the runtime does it.
LEAVE_WITHIN_US: Final = 5 * SECOND
#: Clocks that drift are moved in steps of this.
DRIFT_STEP_US: Final = 100 * MS


def _crash(world: World, node: Node, down_us: int) -> None:
    """Crash ``node`` and start it again later."""
    if not node.alive:
        return
    node.crash()
    world.fault_over()

    def start() -> None:
        if not node.alive:
            world.restart(node)
            world.fault_over()

    world.engine.at(world.engine.now + down_us, start)


@dataclass(frozen=True, slots=True)
class Leaving:
    """A host (or candidate) is stopped by its operator: it leaves, and starts again later."""

    at_us: int
    host: int
    down_us: int

    def hits(self) -> Hit:
        return (self.host,), self.down_us

    def begin(self, world: World) -> None:
        node, engine = world.host(self.host), world.engine
        if not node.alive:
            return
        generation = node.generation  # not its machine: it may be asleep

        def gone(_answer: object = None) -> None:
            if node.alive and node.generation == generation:
                _crash(world, node, self.down_us)

        engine.call(node, LeaveAsk("operator"), gone)
        engine.at(engine.now + LEAVE_WITHIN_US, gone)


@dataclass(frozen=True, slots=True)
class Draining:
    """A host takes no new placements for a while."""

    at_us: int
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        node, engine = world.host(self.host), world.engine
        if not node.alive:
            return

        def drain(on: bool) -> None:
            if node.alive:
                engine.call(node, Drain(on), lambda _answer: None)

        drain(True)

        def end() -> None:
            if node.alive:
                drain(False)
                world.fault_over()
            else:  # it remembers over a restart
                engine.at(engine.now + SECOND, end)

        engine.at(engine.now + self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class RackLoss:
    """``hosts`` lose power together; they are back after ``down_us``, all within a second."""

    at_us: int
    hosts: tuple[int, ...]
    down_us: int

    def hits(self) -> Hit:
        return self.hosts, self.down_us + SECOND

    def begin(self, world: World) -> None:
        stream = world.engine.streams.stream("rack", self.at_us)
        for host in self.hosts:
            _crash(world, world.host(host), self.down_us + stream.below(SECOND))


@dataclass(frozen=True, slots=True)
class Rolling:
    """An upgrade: candidates and hosts restart one after the other, ``each_us`` apart."""

    at_us: int
    each_us: int
    down_us: int

    def hits(self) -> Hit:
        return EVERYBODY, 600 * SECOND

    def begin(self, world: World) -> None:
        engine = world.engine
        for place, node in enumerate([*world.candidates, *world.hosts]):
            at = engine.now + place * self.each_us
            engine.at(at, lambda node=node: _crash(world, node, self.down_us))  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class MassRestart:
    """A power cut: everybody dies at once and comes back within ``spread_us`` after ``down_us``."""

    at_us: int
    down_us: int
    spread_us: int

    def hits(self) -> Hit:
        return EVERYBODY, self.down_us + self.spread_us

    def begin(self, world: World) -> None:
        stream = world.engine.streams.stream("mass-restart", self.at_us)
        for node in [*world.candidates, *world.hosts]:
            _crash(world, node, self.down_us + stream.below(self.spread_us + 1))


@dataclass(frozen=True, slots=True)
class Drift:
    """The clock of ``host`` runs ``ppm`` too fast, or with ``behind`` too slow."""

    at_us: int
    host: int
    lasts_us: int
    ppm: int
    behind: bool = False

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        engine, node = world.engine, world.host(self.host)
        until = engine.now + self.lasts_us
        step = DRIFT_STEP_US * self.ppm // 1_000_000 * (-1 if self.behind else 1)

        def move() -> None:
            node.offset += step
            if engine.now < until:
                engine.at(engine.now + DRIFT_STEP_US, move)
            else:
                world.fault_over()

        move()


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The wall clock of ``host`` is set ``jump_us`` on (``back``: back) while it restarts."""

    at_us: int
    host: int
    down_us: int
    jump_us: int
    back: bool = False

    def hits(self) -> Hit:
        return (self.host,), self.down_us

    def begin(self, world: World) -> None:
        node = world.host(self.host)
        Crash(self.at_us, self.host, self.down_us).begin(world)
        if not node.alive:  # a process that runs does not look at the wall clock
            node.offset += -self.jump_us if self.back else self.jump_us
