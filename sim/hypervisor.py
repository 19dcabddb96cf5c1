"""The hypervisors under the simulated hosts: the agent's simulated driver, with virtual latency.

A hypervisor is not part of the peer: it lives on while the peer crashes and restarts, and calls
that reached it are carried out although nobody waits for the answer any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.driver import Inventory
from agent.drivers.simulated import SimulatedHypervisor
from fabric.stream import Stream

if TYPE_CHECKING:
    from sim.engine import Engine, Node

#: Creating, removing and switching a VM takes a real hypervisor about this long.
MIN_US: Final = 50_000
SPREAD_US: Final = 450_000
#: What a hypervisor says that refuses everything.
REFUSED: Final = "HypervisorError"
#: Reading its inventory is quick.
INVENTORY_US: Final = 5_000


class Hypervisors:
    """One hypervisor per host, made when first used."""

    def __init__(self, engine: Engine, fail_ppm: int = 0) -> None:
        self._engine = engine
        self._fail = {"CreateMachine": fail_ppm, "DestroyMachine": fail_ppm} if fail_ppm else None
        self.by_node: dict[int, SimulatedHypervisor] = {}
        #: Node index -> when its hypervisor answers again.
        self.stalled_until: dict[int, int] = {}
        #: Node index -> refusals that are on; 0: it has refused before.
        self.refusing: dict[int, int] = {}
        self._delays: dict[int, Stream] = {}

    def ask(self, node: Node, call: Any, token: int) -> None:
        """Carry out ``call`` half-way through its time; answer at the end."""
        engine = self._engine
        hypervisor = self.by_node.get(node.index)
        if hypervisor is None:
            stream = engine.streams.stream("hypervisor", node.index)
            hypervisor = self.by_node[node.index] = SimulatedHypervisor(stream, self._fail)
            self._delays[node.index] = engine.streams.stream("hypervisor-delay", node.index)
        quick = isinstance(call, Inventory)
        half = (INVENTORY_US if quick else MIN_US + self._delays[node.index].below(SPREAD_US)) // 2
        generation = node.generation

        def arrive() -> None:
            stalled = self.stalled_until.get(node.index, 0)
            if stalled > engine.now:
                engine.at(stalled, arrive)  # it hangs, and does what it was asked afterwards
                return
            refuses = self.refusing.get(node.index)
            result, error = (None, REFUSED) if refuses else hypervisor.execute(call)
            if node.generation == generation:
                engine.drove(half, node, token, result, error)

        engine.at(engine.now + half, arrive)
