"""Who rules: judged at each election, by what the winner and the others hold at that moment.

A lease is exclusive: under one electorate two majorities meet in a seat, and owners count from when
they asked.  So at the moment of a win nobody else may still hold the same cell's lease under the
same electorate, unless it named the winner its heir; and no term may have two owners, however
short either of them ruled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fabric.peer.notices import OwnerNotice
from fabric.tree.chairman import ChairmanNotice
from fabric.wire.tree import Order
from sim.inspect import cells_of, owns, presides

if TYPE_CHECKING:
    from sim.engine import Node
    from sim.world import SimWorld

#: Who a cell's owner was is remembered for so many terms.
MAX_TERMS: Final = 100_000


class LeaseChecks:
    """Looks at every win of a cell and of the chair."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._holders: dict[int, dict[int, Node]] = {}
        self._winners: dict[tuple[int, Order, int], int] = {}

    def notice(self, node: Node, notice: Any) -> None:
        """Take what a peer tells of itself."""
        if isinstance(notice, OwnerNotice):
            if notice.owns:
                self._won(node, notice)
            else:
                self._holders.get(notice.cell, {}).pop(node.index, None)
        elif isinstance(notice, ChairmanNotice) and notice.what == "elected":
            self._elected(node)

    def _won(self, node: Node, notice: OwnerNotice) -> None:
        world = self._world
        key = (notice.cell, notice.electorate, notice.term)
        if len(self._winners) >= MAX_TERMS:
            self._winners.clear()
        winner = self._winners.setdefault(key, node.node_id)
        detail = f"cell {notice.cell}, electorate {tuple(notice.electorate)}, term {notice.term}"
        if winner != node.node_id:
            world.violation("two-owners", (world.engine.by_id[winner], node), detail)
        holders = self._holders.setdefault(notice.cell, {})
        for other in list(holders.values()):
            if other is node or not other.alive or not owns(other, notice.cell):
                continue
            ownership = cells_of(other).leases.ownerships[notice.cell]
            if ownership.heir == node.node_id:
                continue  # it hands over: its seats granted by its leave
            stamp = ownership.stamp
            if stamp is not None and stamp.electorate == notice.electorate:
                world.violation("two-leases", (other, node), detail)
        holders[node.index] = node

    def _elected(self, node: Node) -> None:
        world = self._world
        lease_us = world.settings.chair_lease_us
        if world.engine.now - world.coordinator.expired_us <= lease_us:
            return  # its holder cannot know yet; the epoch fences what it writes
        for other in world.candidates:
            if other is not node and other.alive and presides(other):
                world.violation("two-chairmen", (other, node), "both hold the chair")
