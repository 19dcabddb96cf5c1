"""What peers hold of each other, compared with the truth.

* What a host tells never has less room than it has (at any time: rises are not held back).
* An owner's sum of its cell says "maybe" wherever one of its members does.
* In a calm, each member of a leaf cell holds every living one for alive, and what it told last:
  the owner at once, the others as soon as gossip or anti-entropy have come round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fabric.gossip.cell import CellGossip
from fabric.tree.summary import GRID, Summary
from fabric.units import SECOND
from fabric.wire.gossip import SUSPECT
from sim.inspect import cells_of

if TYPE_CHECKING:
    from agent.books import Books
    from sim.engine import Node
    from sim.roll import Roll, Row
    from sim.world import SimWorld

#: So long after the last fault the tables must be right.
CALM_US: Final = 40 * SECOND
#: An owner is told directly; others hear it from a neighbour (news go round in a few rounds).
OWNER_US: Final = 3 * SECOND
OTHERS_US: Final = 8 * SECOND


class TableChecks:
    """Looks at all peers' tables each second (hosts' own summaries) or in a calm (the rest)."""

    def __init__(self, world: SimWorld, roll: Roll) -> None:
        self._world = world
        self._roll = roll

    def look(self) -> None:
        """Compare now."""
        world = self._world
        now = world.engine.now
        leaves: dict[int, list[tuple[Row, CellGossip]]] = {}
        self._roll.refresh()
        for row in self._roll.rows:
            if row.books is None:
                continue
            self._own(row, row.books)
            gossip = row.cells.leaf_gossip
            if gossip is None:
                continue
            news = gossip.news
            told = (news.incarnation, news.seq)
            if row.told != told:
                row.told = told
                row.told_us = now
            leaves.setdefault(gossip.cell, []).append((row, gossip))
        if now - world.last_fault_us < CALM_US or world.engine.network.loss_ppm:
            return
        given_up = world.abandoned  # what they hold, and what is held of them, proves nothing
        for members in leaves.values():
            sound = [(row, gossip) for row, gossip in members if row.index not in given_up]
            # one that is half deaf for ever accuses the others again and again, and they refute
            accused = len(sound) < len(members)
            for row, gossip in sound:
                self._look_at_table(row, gossip, sound, accused)

    def _own(self, row: Row, books: Books) -> None:
        """What a host told of itself, against its books."""
        node = row.node
        told = row.cells.duties.host_summary
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
        self,
        row: Row,
        gossip: CellGossip,
        members: Sequence[tuple[Row, CellGossip]],
        accused: bool,
    ) -> None:
        world = self._world
        node, now = row.node, world.engine.now
        order = row.paths.records[gossip.cell].order
        if row.table_order != order:
            row.table_order = order  # with others in it, who are yet to be heard
            row.table_us = now
        owner = row.paths.owners.get(gossip.cell)
        rules = owner is not None and owner.contact.node_id == node.node_id
        patience = OWNER_US if rules else OTHERS_US
        for other, his in members:
            if other is row:
                continue
            member = gossip.members.get(his.key)
            if member is None:
                continue  # convergence minds who is a member
            news = member.news
            if news is his.news:
                continue  # exactly what it says of itself
            if news.state > SUSPECT or (news.state == SUSPECT and not accused):
                what = ("suspect", "dead", "left")[news.state - 1]
                detail = f"holds {other.node.role.name} for {what}"
                world.violation("wrong-verdict", (node, other.node), detail)
            held = (news.incarnation, news.seq)
            if now - max(other.told_us, row.table_us) >= patience and held != other.told:
                age_s = (now - other.told_us) // SECOND
                detail = f"of {other.node.role.name} holds {held}, told {other.told} {age_s} s ago"
                world.violation("stale-table", (node, other.node), detail)

    # --- summaries --------------------------------------------------------------------------------

    def sums(self) -> None:
        """Judge what owners say of their cells: never a wrong "no"."""
        self._roll.refresh()
        for row in self._roll.rows:
            leases = row.cells.leases
            for cell in leases.ownerships:
                if leases.owns(cell, row.node.now) and cell in row.cells.gossip:
                    self._judge_sum(row.node, row.cells.gossip[cell])

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
