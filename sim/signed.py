"""A run in which claims are sealed and proven, as they are between real peers with keys.

Each node gets an attestor with a cheap signer; what one sends passes through its own and through
that of whoever receives it.  A restarted node has a new one, which knows no seals any more.
Unsigned runs know nothing of all this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fabric.attestor import Attestor
from fabric.counters import Counters
from fabric.machine import Message
from fabric.units import SECOND
from fabric.wire.trust import CANDIDATE
from sim.inspect import paths_of
from sim.signer import CheapSigner

if TYPE_CHECKING:
    from fabric.wire.tree import CellRecord
    from sim.engine import Node
    from sim.faults import World


class Signed:
    """Turns a world into one with keys, from its beginning on."""

    def __init__(self, world: World) -> None:
        self.counters = Counters()
        self._world = world
        self._candidates = {node.node_id for node in world.candidates}
        self._attestors: dict[int, tuple[int, Attestor]] = {}
        world.engine.network.treat(self._carry)

    def _carry(self, source: Node, target: Node, message: Message) -> Message | None:
        sealed = self._attestor(source).outgoing(target.node_id, message)
        return self._attestor(target).incoming(source.node_id, sealed)

    def _attestor(self, node: Node) -> Attestor:
        life, attestor = self._attestors.get(node.node_id, (-1, None))
        if attestor is None or life != node.generation:
            signer = CheapSigner(node.node_id, self._rights_of, self._now_s)
            attestor = Attestor(signer, self.counters)
            attestor.boot_id = node.generation
            attestor.record_of = _record_of(node)
            self._attestors[node.node_id] = node.generation, attestor
        return attestor

    def _rights_of(self, node_id: int) -> int:
        return CANDIDATE if node_id in self._candidates else 0

    def _now_s(self) -> int:
        return self._world.engine.now // SECOND


def _record_of(node: Node) -> Callable[[int], CellRecord | None]:
    def record_of(cell: int) -> CellRecord | None:
        return paths_of(node).records.get(cell) if node.alive else None

    return record_of
