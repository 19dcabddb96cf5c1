"""Faults of the coordinator: slow, stale, emptied, restored, half answered.

What must hold: nobody writes a topology over one that the coordinator has lost
(``buried-topology``, noted by ``sim.coordinator``), and whoever holds the chair meanwhile says so
(``not-alarmed``).  The operator mends it in the end, by putting the newest state back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fabric.units import SECOND
from sim.faults import NOBODY, Hit, World, end_after
from sim.inspect import chairman_of

#: Whoever holds the chair of a coordinator that lost something has noticed within this.
ALARM_US: Final = 15 * SECOND


@dataclass(frozen=True, slots=True)
class SlowCoordinator:
    """Questions and answers take ``factor`` times as long: 100 is about half a second."""

    at_us: int
    lasts_us: int
    factor: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        coordinator = world.coordinator
        coordinator.slowed.append(self.factor)

        def end() -> None:
            coordinator.slowed.remove(self.factor)

        end_after(world, self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class StaleReads:
    """Readings are answered from a replica that hears of nothing new; writes are not."""

    at_us: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        coordinator = world.coordinator
        coordinator.lagging = coordinator.copy()

        def end() -> None:
            coordinator.lagging = None

        end_after(world, self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class LostCommits:
    """The next ``count`` commits are carried out, but the writer never learns it."""

    at_us: int
    count: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        world.coordinator.lose_commits += self.count
        world.fault_over()


@dataclass(frozen=True, slots=True)
class Emptied:
    """The coordinator loses everything; after ``lasts_us`` it is mended."""

    at_us: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        world.coordinator.empty()
        _mend_later(world, self.lasts_us)


@dataclass(frozen=True, slots=True)
class Restored:
    """A copy is taken; ``age_us`` later the coordinator is put back to it, until it is mended."""

    at_us: int
    age_us: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        copy = world.coordinator.copy()

        def restore() -> None:
            world.coordinator.fall_back(copy)
            world.fault_over()
            _mend_later(world, self.lasts_us)

        world.engine.at(world.engine.now + self.age_us, restore)


def _mend_later(world: World, after_us: int) -> None:
    def mend() -> None:
        if after_us >= ALARM_US:
            _see_alarm(world)
        world.coordinator.mend()
        world.fault_over()

    world.engine.at(world.engine.now + after_us, mend)


def _see_alarm(world: World) -> None:
    """Whoever holds the chair must know by now that something is wrong with the coordinator."""
    coordinator, engine = world.coordinator, world.engine
    node = engine.by_id.get(coordinator.chairman)
    if coordinator.newest is None or coordinator.outages or node is None or not node.alive:
        return
    chairman = chairman_of(node)
    if chairman is not None and chairman.lease.holds(node.now) and not chairman.halted_for:
        engine.on_violation("not-alarmed", (node,), "the coordinator lost a topology")
