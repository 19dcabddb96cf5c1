"""The roll: who lives, and whose view of the topology changed since it was looked at last.

Checkers look at all peers each virtual second, and nearly always nothing has changed.  So here is
one short list of what they look at, made anew only when a process started or ended, and one pass
over it that costs two numbers a peer (:attr:`PathStore.changes` against the count seen before).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.books import Books
from fabric.tree.topology import PathStore
from fabric.wire.tree import Order
from sim.inspect import cells_of, paths_of, peer_of

if TYPE_CHECKING:
    from fabric.peer.cells import Cells
    from sim.engine import Node
    from sim.world import SimWorld


class Row:
    """One life of one node, and what checkers saw of it last."""

    __slots__ = (
        "books", "books_since_us", "books_version", "cells", "changes", "index", "node", "paths",
        "table_order", "table_us", "told", "told_us",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self.node = node
        self.index = node.index
        self.cells: Cells = cells_of(node)
        self.paths: PathStore = paths_of(node)
        #: Of hosts: their books, their version when they were sampled last, and since when.
        self.books: Books | None = peer_of(node).books  # type: ignore[assignment]
        self.books_version = -1
        self.books_since_us = 0
        #: What was adopted when :meth:`Roll.look` looked last.
        self.changes = -1
        #: What it told of itself last (incarnation, sequence number), and since when.
        self.told: tuple[int, int] | None = None
        self.told_us = 0
        #: The record of its leaf when its table was looked at last, and since when it holds that.
        self.table_order: Order | None = None
        self.table_us = 0


class Roll:
    """All living peers, candidates first, then hosts by number."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._lives = -1
        self.rows: list[Row] = []
        self.by_index: dict[int, Row] = {}
        #: Those whose paths changed since somebody took them out of here: one for each reader.
        self.uncompared: dict[int, Row] = {}
        self.unjudged: dict[int, Row] = {}
        #: Cell -> node ids of all that anybody ever held for its owner.
        self.claimants: dict[int, dict[int, None]] = {}

    def refresh(self) -> None:
        """Take in who started and who ended."""
        engine = self._world.engine
        if engine.lives == self._lives:
            return
        self._lives = engine.lives
        before = self.by_index
        rows: list[Row] = []
        for node in engine.nodes:
            if node.alive and node.machine is not None:
                row = before.get(node.index)
                same = row is not None and row.paths is paths_of(node)
                rows.append(row if row is not None and same else Row(node))
        self.rows = rows
        self.by_index = by_index = {row.index: row for row in rows}
        self.uncompared = {i: r for i, r in self.uncompared.items() if by_index.get(i) is r}
        self.unjudged = {i: r for i, r in self.unjudged.items() if by_index.get(i) is r}

    def look(self) -> None:
        """Find those whose paths changed."""
        self.refresh()
        for row in self.rows:
            changes = row.paths.changes
            if changes != row.changes:
                row.changes = changes
                self.uncompared[row.index] = row
                self.unjudged[row.index] = row
                for owner in row.paths.owners.values():
                    self.claimants.setdefault(owner.cell, {})[owner.contact.node_id] = None

    def take_unjudged(self) -> list[Row]:
        """Return, once, those whose paths changed since the last time."""
        self.look()
        unjudged, self.unjudged = self.unjudged, {}
        return [unjudged[index] for index in sorted(unjudged)]

    def compare_all(self) -> None:
        """What all are compared with has changed."""
        self.uncompared = dict(self.by_index)
