"""VMs: what callers were told, what books say, and what the hypervisors really run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.lifecycle import LOST, PASSING
from fabric.units import SECOND
from sim.inspect import books_of

if TYPE_CHECKING:
    from sim.engine import Node
    from sim.vms import VmCallers
    from sim.world import SimWorld

#: After a restart books and hypervisor are brought together within this.
SETTLED_US: Final = 15 * SECOND
#: A hypervisor call takes half a second, and what failed is tried again each five.
STUCK_US: Final = 60 * SECOND


class VmChecks:
    """Audits all hosts' VMs."""

    def __init__(self, world: SimWorld, callers: VmCallers) -> None:
        self._world = world
        self._callers = callers
        #: (node index, VM id) -> the passing state it is in, and since when.
        self._passing: dict[tuple[int, str], tuple[str, int]] = {}

    def audit(self) -> None:
        """Compare callers, books and hypervisors now."""
        passing: dict[tuple[int, str], tuple[str, int]] = {}
        for node in self._world.hosts:
            if node.alive and not self._forgot(node):
                self._audit_host(node, passing)
        self._passing = passing
        self._callers_were_told_right()

    def _audit_host(self, node: Node, passing: dict[tuple[int, str], tuple[str, int]]) -> None:
        world = self._world
        now = world.engine.now
        books = books_of(node)
        hypervisor = world.hypervisors.by_node.get(node.index)
        machines = {} if hypervisor is None else hypervisor.machines
        settled = world.undisturbed_us(node) > SETTLED_US
        for vm in books.vms.values():
            if vm.state in PASSING:
                key = (node.index, vm.vm_id)
                before = self._passing.get(key)
                since = before[1] if before is not None and before[0] == vm.state else now
                passing[key] = (vm.state, since)
                if now - since > STUCK_US and world.undisturbed_us(node) > STUCK_US:
                    detail = f"{vm.vm_id} is {vm.state} for {(now - since) // SECOND} s"
                    world.violation("vm-stuck", (node,), detail)
            elif settled and (vm.state == LOST or vm.vm_id not in machines):
                detail = f"{vm.vm_id} is {vm.state} in the books, and on no hypervisor"
                world.violation("vm-lost", (node,), detail)
        for vm_id in machines:
            if settled and vm_id not in books.vms:
                detail = f"{vm_id} runs, and is in nobody's books"
                world.violation("vm-unaccounted", (node,), detail)

    def _forgot(self, node: Node) -> bool:
        """Whether its disk was replaced, or lied: its machines are nobody's then."""
        return node.role.lives > 1 or node.disk.broke_promises

    def _callers_were_told_right(self) -> None:
        world = self._world
        by_id = world.engine.by_id
        for vm_id, placing in self._callers.living.items():
            assert placing.placed is not None
            node = by_id[placing.placed.host.node_id]
            if node.alive and not self._forgot(node) and vm_id not in books_of(node).vms:
                detail = f"{vm_id} was made for its caller, and is not in the books"
                world.violation("vm-lost", (node,), detail)
