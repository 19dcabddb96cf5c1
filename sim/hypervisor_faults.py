"""Faults of hypervisors: they hang and catch up later, or refuse whatever they are asked."""

from __future__ import annotations

from dataclasses import dataclass

from sim.faults import NOBODY, Hit, World, end_after


@dataclass(frozen=True, slots=True)
class Stall:
    """The hypervisor of ``host`` hangs; what it was asked meanwhile it does at the end."""

    at_us: int
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        engine = world.engine
        stalled, index = world.hypervisors.stalled_until, world.host(self.host).index
        until = engine.now + self.lasts_us
        stalled[index] = max(stalled.get(index, 0), until)
        engine.at(until, world.fault_over)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The hypervisor of ``host`` refuses all calls."""

    at_us: int
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        refusing, index = world.hypervisors.refusing, world.host(self.host).index
        refusing[index] = refusing.get(index, 0) + 1

        def end() -> None:
            refusing[index] -= 1

        end_after(world, self.lasts_us, end)
