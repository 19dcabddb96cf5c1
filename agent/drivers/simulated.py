"""A hypervisor that is only bookkeeping: deterministic, for the simulator and for tests.

``fail`` makes calls fail, by call class name in parts per million; what fails leaves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.driver import CreateMachine, DestroyMachine, DriverCall, Inventory, Machines, SetPower
from fabric.stream import Stream


class SimulatedHypervisor:
    """VMs as a dict. Its contents survive what happens to the books: it is another machine."""

    __slots__ = ("_fail", "_stream", "machines")

    def __init__(self, stream: Stream | None = None, fail: Mapping[str, int] | None = None) -> None:
        self._stream = stream or Stream(0)
        self._fail = dict(fail or {})
        self.machines: dict[str, tuple[CreateMachine, bool]] = {}

    def execute(self, call: DriverCall) -> tuple[Any, str | None]:
        """Carry out ``call``; return ``result, error`` as ``Driven`` takes them."""
        chance = self._fail.get(type(call).__name__, 0)
        if chance and self._stream.chance(chance):
            return None, "HypervisorError"
        match call:
            case CreateMachine():
                self.machines.setdefault(call.vm_id, (call, False))
            case DestroyMachine():
                self.machines.pop(call.vm_id, None)
            case SetPower():
                machine = self.machines.get(call.vm_id)
                if machine is None:
                    return None, "NotFound"
                self.machines[call.vm_id] = (machine[0], call.on)
            case Inventory():
                rows = ((vm_id, self.machines[vm_id][1]) for vm_id in sorted(self.machines))
                return Machines(tuple(rows)), None
        return None, None
