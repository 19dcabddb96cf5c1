"""Faults that leave a process alive: paused, cut off from the coordinator, haunted by echoes.

And :class:`OnOwner` and :class:`OnChairman`, which have another fault strike whoever rules when
its time comes: rulers are few, so faults on hosts drawn at random hardly ever meet them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

from fabric.machine import Event, Machine, Sink
from sim.faults import NOBODY, Crash, Cut, Fault, Hit, Slow, World, end_after, strike
from sim.inspect import owns, paths_of, presides
from sim.process_faults import Draining, Leaving


class _Asleep(Machine):
    """Stands where the machine of a paused process stood, and keeps what arrives."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.peer = getattr(machine, "peer", machine)
        self.events: list[Event] = []

    def handle(self, event: Event, now: int, out: Sink) -> None:
        self.events.append(event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.machine, name)  # checkers look through


@dataclass(frozen=True, slots=True)
class Pause:
    """A process does not run (stopped, swapped out, its VM moved); what arrives waits.

    Hosts count from 0, candidates from -1 downwards.
    """

    at_us: int
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return (self.host,), self.lasts_us

    def begin(self, world: World) -> None:
        node = world.host(self.host)
        machine = node.machine
        if machine is None or isinstance(machine, _Asleep):
            return
        asleep = _Asleep(machine)
        node.machine = asleep

        def wake() -> None:
            world.fault_over()
            if node.machine is not asleep:
                return  # it was killed in its sleep
            node.machine = machine
            for event in asleep.events:
                node.deliver(event, 0)

        world.engine.at(world.engine.now + self.lasts_us, wake)


@dataclass(frozen=True, slots=True)
class Sever:
    """One candidate cannot reach the coordinator, the others can."""

    at_us: int
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        severed = world.coordinator.severed
        index = world.host(self.host).index
        severed.append(index)

        def end() -> None:
            severed.remove(index)

        end_after(world, self.lasts_us, end)


@dataclass(frozen=True, slots=True)
class Echo:
    """Copies of some messages arrive again up to ``late_us`` later, even after a restart."""

    at_us: int
    lasts_us: int
    echo_ppm: int
    late_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        network = world.engine.network
        network.echo_ppm += self.echo_ppm
        network.echo_late_us = max(self.late_us, network.echo_late_us)
        network.changed()

        def end() -> None:
            network.echo_ppm -= self.echo_ppm
            network.changed()

        end_after(world, self.lasts_us + self.late_us, end)


@dataclass(frozen=True, slots=True)
class OnOwner:
    """``fault`` strikes the owner of the ``nth`` cell of ``level``, whoever that is then."""

    at_us: int
    level: int
    nth: int
    fault: Fault

    def hits(self) -> Hit:
        return NOBODY  # what it lets loose does

    def begin(self, world: World) -> None:
        owners = {
            cell: number
            for number, node in enumerate(world.hosts)
            if node.alive
            for cell in paths_of(node).path
            if paths_of(node).records[cell].level == self.level and owns(node, cell)
        }
        if owners:
            cells = sorted(owners)
            strike(aimed(self.fault, owners[cells[self.nth % len(cells)]]), world)


@dataclass(frozen=True, slots=True)
class OnChairman:
    """``fault`` strikes the chairman, whoever that is then."""

    at_us: int
    fault: Fault

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        for number, node in enumerate(world.candidates):
            if node.alive and presides(node):
                strike(aimed(self.fault, -1 - number), world)
                return


#: Faults that :class:`OnOwner` and :class:`OnChairman` can have strike.
AIMED: Final = (Crash, Cut, Draining, Leaving, Pause, Sever, Slow)


def aimed(fault: Fault, host: int) -> Fault:
    """Return ``fault``, one of :data:`AIMED`, with ``host`` as the only host that it hits."""
    if isinstance(fault, Cut):
        return dataclasses.replace(fault, hosts=(host,))
    if isinstance(fault, Crash | Draining | Leaving | Slow | Pause | Sever):
        return dataclasses.replace(fault, host=host)
    raise TypeError(f"{type(fault).__name__} hits no single host")
