"""The tree as placement sees it: one read-only view over gossip's and the tree's tables."""

from __future__ import annotations

from collections.abc import Sequence

from fabric.gossip.cell import CellGossip
from fabric.gossip.members import Member
from fabric.machine import NEVER, Contact
from fabric.peer.cells import Cells
from fabric.placement.tables import Child
from fabric.tree.owner import OWNING
from fabric.wire.gossip import ALIVE, DEAD
from fabric.wire.tree import HOST


class CellTables:
    """Implements ``fabric.placement.tables.Tables`` over :class:`Cells`.

    The rows of a cell are made anew when its table has changed, not for each question.
    """

    __slots__ = ("_rows", "cells")

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self._rows: dict[int, tuple[CellGossip, int, list[Child]]] = {}

    @property
    def me(self) -> Contact:
        return self.cells.me

    def path(self) -> Sequence[int]:
        return self.cells.paths.path

    def owner_of(self, cell: int) -> Contact | None:
        cells = self.cells
        ownership = cells.leases.ownerships.get(cell)
        if ownership is not None and ownership.state == OWNING:
            return cells.me
        owner = cells.paths.owners.get(cell)
        if owner is None or owner.contact.node_id == cells.me.node_id:
            return None
        gossip = cells.gossip.get(cell)
        speaker = gossip.speaker(owner.contact.node_id) if gossip is not None else None
        if speaker is not None and speaker.news.state >= DEAD:
            return None
        return owner.contact

    def owns(self, cell: int, now: int) -> bool:
        return self.cells.leases.owns(cell, now)

    def children(self, cell: int) -> Sequence[Child]:
        gossip = self.cells.gossip.get(cell)
        if gossip is None:
            self._rows.pop(cell, None)
            return ()
        known = self._rows.get(cell)
        if known is not None and known[0] is gossip and known[1] == gossip.version:
            return known[2]
        rows = self._children(gossip)
        self._rows[cell] = (gossip, gossip.version, rows)
        return rows

    def _children(self, gossip: CellGossip) -> list[Child]:
        is_host = gossip.level == 0
        rows = [self._child(m, is_host) for m in gossip.members.values() if not m.observer]
        if not is_host or self.cells.role == HOST:
            mine = gossip.news
            summary = self.cells.duties.host_summary if is_host else mine.summary
            rows.insert(gossip.position, Child(gossip.key, self.me, is_host, True, summary, NEVER))
        return rows

    def _child(self, member: Member, is_host: bool) -> Child:
        news = member.news
        contact = news.contact if news.contact.node_id else None
        # a member that answers probes tells every change: what it said last is true now
        heard_at = NEVER if news.state == ALIVE else member.heard_at
        return Child(member.key, contact, is_host, news.state < DEAD, news.summary, heard_at)
