"""What peers hold of each other, compared with the truth.

* What a host tells never has less room than it has (at any time: rises are not held back).
* An owner's sum of its cell says "maybe" wherever one of its members does.
* In a calm, each member of a leaf cell holds every living one for alive, and what it told last:
  the owner at once, the others as soon as gossip or anti-entropy have come round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fabric.gossip.cell import CellGossip
from fabric.tree.summary import GRID, Summary
from fabric.units import SECOND
from fabric.wire.gossip import ALIVE
from sim.inspect import books_of, cells_of

if TYPE_CHECKING:
    from sim.engine import Node
    from sim.world import SimWorld

#: So long after the last fault the tables must be right.
CALM_US: Final = 40 * SECOND
#: An owner is told directly; others hear it from a neighbour (news go round in a few rounds).
OWNER_US: Final = 3 * SECOND
OTHERS_US: Final = 8 * SECOND


class TableChecks:
    """Looks at all peers' tables each second (hosts' own summaries) or in a calm (the rest)."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        #: Node index -> what it told last (incarnation, sequence number) and since when.
        self._told: dict[int, tuple[tuple[int, int], int]] = {}

    def look(self) -> None:
        """Compare now."""
        world = self._world
        now = world.engine.now
        leaves: dict[int, dict[int, tuple[Node, CellGossip]]] = {}
        for node in world.hosts:
            if not node.alive:
                continue
            self._own(node)
            gossip = cells_of(node).leaf_gossip
            if gossip is None:
                continue
            news = gossip.news
            told = (news.incarnation, news.seq)
            if self._told.get(node.index, (None, 0))[0] != told:
                self._told[node.index] = (told, now)
            leaves.setdefault(gossip.cell, {})[node.node_id] = (node, gossip)
        if now - world.last_fault_us < CALM_US or world.engine.network.loss_ppm:
            return
        given_up = world.abandoned  # what they hold, and what is held of them, proves nothing
        for members in leaves.values():
            sound = {key: who for key, who in members.items() if who[0].index not in given_up}
            for node, gossip in sound.values():
                self._look_at_table(node, gossip, sound)

    def _own(self, node: Node) -> None:
        """What a host told of itself, against its books."""
        books = books_of(node)
        told = cells_of(node).duties.host_summary
        if told is None:
            return
        free = (books.spec.cpu - books.cpu_used, books.spec.memory_mb - books.memory_used_mb)
        if told.cpu_free < free[0] or told.memory_free_mb < free[1]:
            detail = f"has {free} free, told {(told.cpu_free, told.memory_free_mb)}"
            self._world.violation("room-held-back", (node,), detail)
        step = max(group.buckets[0] for group in told.classes)
        if GRID[step >> 8] < told.cpu_free or GRID[step & 255] < told.memory_free_mb:
            detail = f"{told.cpu_free} vCPUs, {told.memory_free_mb} MB free, told {told.classes}"
            self._world.violation("summary-says-no", (node,), detail)

    def _look_at_table(
        self, node: Node, gossip: CellGossip, members: dict[int, tuple[Node, CellGossip]]
    ) -> None:
        world = self._world
        now = world.engine.now
        owner = cells_of(node).paths.owners.get(gossip.cell)
        rules = owner is not None and owner.contact.node_id == node.node_id
        patience = OWNER_US if rules else OTHERS_US
        for key, (other, _) in members.items():
            if other is node:
                continue
            row = gossip.members.get(key)
            if row is None:
                continue  # convergence minds who is a member
            if row.news.state != ALIVE:
                detail = f"holds {other.role.name} for {('suspect', 'dead', 'left')[row.state - 1]}"
                world.violation("wrong-verdict", (node, other), detail)
            told, since = self._told[other.index]
            if now - since >= patience and (row.news.incarnation, row.news.seq) != told:
                held = (row.news.incarnation, row.news.seq)
                age_s = (now - since) // SECOND
                detail = f"of {other.role.name} holds {held}, told {told} {age_s} s ago"
                world.violation("stale-table", (node, other), detail)

    # --- summaries --------------------------------------------------------------------------------

    def sums(self) -> None:
        """Judge what owners say of their cells: never a wrong "no"."""
        for node in self._world.hosts:
            if node.alive:
                cells = cells_of(node)
                for gossip in cells.gossip.values():
                    if cells.leases.owns(gossip.cell, node.now):
                        self._judge_sum(node, gossip)

    def _judge_sum(self, node: Node, gossip: CellGossip) -> None:
        said = cells_of(node).duties.cell_summary(gossip)
        rows = [m for m in gossip.members.values() if not m.observer and m.alive]
        reports = [m.news.summary for m in rows if m.news.summary is not None]
        if len(reports) < len(rows):
            if said.expected <= said.hosts:
                detail = f"cell {gossip.cell}: {len(rows) - len(reports)} have not reported"
                self._world.violation("summary-says-no", (node,), f"{detail}, and none is expected")
            return
        for report in reports:
            if report.expected <= report.hosts and not _covers(said, report):
                detail = f"cell {gossip.cell}: {said.classes} leaves no room for {report.classes}"
                self._world.violation("summary-says-no", (node,), detail)


def _covers(sum_: Summary, report: Summary) -> bool:
    """Whether the sum says "maybe" to whatever the report has room for, labels aside."""
    held = [key for group in sum_.classes for key in group.buckets[::2]]
    return sum_.expected > sum_.hosts or all(
        any(key >> 8 >= told >> 8 and key & 255 >= told & 255 for key in held)
        for group in report.classes
        for told in group.buckets[::2]
    )
