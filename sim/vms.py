"""Callers that make VMs of what they were given: created on the host, deleted some time later.

Part of the workload; what callers were told is kept here for the checkers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fabric.errors import FabricError
from fabric.units import SECOND
from fabric.wire.common import Done
from fabric.wire.host import CreateVm, DeleteVm, VmInfo

if TYPE_CHECKING:
    from sim.engine import Node
    from sim.workload import Placing, Workload
    from sim.world import SimWorld

#: A call that failed, or that nobody answered, is repeated after so long.
RETRY_US: Final = 3 * SECOND


class VmCallers:
    """Creates and deletes VMs, each call repeated until the host has answered it."""

    def __init__(self, world: SimWorld, workload: Workload, life_us: int) -> None:
        self._world = world
        self._workload = workload
        self._life_us = life_us
        #: VM id -> its placement, while a caller knows that the VM exists.
        self.living: dict[str, Placing] = {}
        #: VM id -> host's index, for VMs whose deletion was acknowledged.
        self.deleted: dict[str, int] = {}

    def create(self, placing: Placing) -> None:
        """Make the VM of a confirmed placement."""
        node = self._host(placing)
        placed = placing.placed
        if node is None or placed is None:
            return
        vm_id = placing.request.vm_id
        body = CreateVm(vm_id, placed.key, placed.attempt, placed.reservation_id)

        def answered(answer: Any) -> None:
            if isinstance(answer, VmInfo):
                self.living[vm_id] = placing
                self._later(self._life_us, lambda: self.delete(placing))
            elif isinstance(answer, FabricError) and answer.code == "UnknownReservation":
                if not self._may_be_gone(node):
                    detail = f"{placed.key}: confirmed, and unknown when its VM was to be made"
                    self._world.violation("lost-reservation", (node,), detail)
                self._workload.settled(placing)
            else:
                again()

        def again() -> None:
            self._later(RETRY_US, lambda: self.create(placing))

        self._workload.ask(node, body, answered, again)

    def delete(self, placing: Placing) -> None:
        """Remove the VM, until the host says that it is gone."""
        node = self._host(placing)
        vm_id = placing.request.vm_id
        self.living.pop(vm_id, None)
        if node is None:
            return

        def answered(answer: Any) -> None:
            if isinstance(answer, Done):
                self.deleted[vm_id] = node.index
                self._workload.settled(placing)
            else:
                again()

        def again() -> None:
            self._later(RETRY_US, lambda: self.delete(placing))

        self._workload.ask(node, DeleteVm(vm_id), answered, again)

    def _host(self, placing: Placing) -> Node | None:
        """Return the host, or ``None`` if it was wiped: then nobody minds the VM any more."""
        assert placing.placed is not None
        node_id = placing.placed.host.node_id
        node = self._world.engine.by_id[node_id]
        if node.node_id == node_id:
            return node
        self.living.pop(placing.request.vm_id, None)
        self._workload.settled(placing)
        return None

    def _may_be_gone(self, node: Node) -> bool:
        """Whether a reservation may have been used up by a creation that failed, or by a lie."""
        world = self._world
        fails = world.scenario.hypervisor_fail_ppm or node.index in world.hypervisors.refusing
        return bool(fails) or node.disk.broke_promises

    def _later(self, delay_us: int, action: Any) -> None:
        engine = self._world.engine
        engine.at(engine.now + delay_us, action)
