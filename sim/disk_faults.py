"""Faults of disks: slow, full, failing, lying, torn, rotten. ``sim.disk`` says what they do."""

from __future__ import annotations

from dataclasses import dataclass

from fabric.storage.interface import RELEARNED
from fabric.units import SECOND
from sim.faults import Crash, Hit, World, end_after, strike

#: A process whose disk failed is started again so long after the disk works.
RESTART_US = 2 * SECOND


def _start_if_dead(world: World, host: int) -> None:
    node = world.host(host)
    if not node.alive:
        world.restart(node)
    world.fault_over()


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """Commits take ``factor`` times as long: 4,000 is about ten seconds."""

    at_us: int
    host: int
    lasts_us: int
    factor: int

    def hits(self) -> Hit:
        return (self.host,), self.lasts_us

    def begin(self, world: World) -> None:
        disk = world.host(self.host).disk
        disk.slowed.append(self.factor)

        def end() -> None:
            disk.slowed.remove(self.factor)

        end_after(world, self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class DiskError:
    """Commits fail with ``EIO``; with ``full``, with ``ENOSPC``. The process ends at the first."""

    at_us: int
    host: int
    lasts_us: int
    full: bool = False

    def hits(self) -> Hit:
        return (self.host,), self.lasts_us + RESTART_US

    def begin(self, world: World) -> None:
        disk = world.host(self.host).disk
        disk.failing = "ENOSPC" if self.full else "EIO"

        def end() -> None:
            disk.failing = ""
            engine = world.engine
            engine.at(engine.now + RESTART_US, lambda: _start_if_dead(world, self.host))

        world.engine.at(world.engine.now + self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class LostSync:
    """The disk confirms what is not durable; at the end of that power fails for ``down_us``."""

    at_us: int
    host: int
    lasts_us: int
    down_us: int

    def hits(self) -> Hit:
        return (self.host,), self.lasts_us + self.down_us

    def begin(self, world: World) -> None:
        node = world.host(self.host)
        node.disk.lie(True)

        def end() -> None:
            node.crash()
            node.disk.lie(False)
            world.fault_over()
            engine = world.engine
            engine.at(engine.now + self.down_us, lambda: _start_if_dead(world, self.host))

        world.engine.at(world.engine.now + self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class TornWrite:
    """The process dies in the middle of its next commit and starts again after ``down_us``.

    LMDB's two meta pages make that an old or a new state, never a mixture: ``sim.disk`` draws one.
    """

    at_us: int
    host: int
    down_us: int

    def hits(self) -> Hit:
        return (self.host,), self.down_us + 10 * SECOND

    def begin(self, world: World) -> None:
        node = world.host(self.host)

        def die() -> None:  # which may be long after this began: that is when it disturbs
            strike(Crash(world.engine.now, self.host, self.down_us), world)

        def torn() -> None:
            world.engine.after(0, node, die)

        node.disk.on_commit = torn


@dataclass(frozen=True, slots=True)
class BitRot:
    """Power fails, and after ``down_us`` a record turns out to be rotten: the disk is replaced.

    With ``path_only`` it is one that others tell again: then it is dropped, and the peer goes on.
    """

    at_us: int
    host: int
    down_us: int
    path_only: bool = False

    def hits(self) -> Hit:
        return (self.host,), self.down_us

    def begin(self, world: World) -> None:
        node = world.host(self.host)
        node.crash()
        if self.path_only:
            for key in [key for key in node.disk.records if key.startswith(RELEARNED)]:
                del node.disk.records[key]
        else:
            node.disk.unreadable = True
        world.fault_over()
        engine = world.engine
        engine.at(engine.now + self.down_us, lambda: _start_if_dead(world, self.host))
