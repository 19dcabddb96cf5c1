"""The whole tree of cells, read by asking: from the root down, one question per cell.

Each cell is told by its owner, whom the parent cell's table names.  Where an owner has just died,
the members of the cell that were seen before (:class:`Walker` remembers them) are asked instead, so
the tree can be watched while it repairs itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from fabric.errors import FabricError, Unavailable
from fabric.machine import Contact, Message
from fabric.tree.summary import Summary, merge
from fabric.wire.gossip import ALIVE, SUSPECT
from fabric.wire.peer import MemberRow, Members, MembersAsk, Status, StatusAsk
from fabric.wire.tree import CellRecord, Owner, Topo

#: Asks one peer something and returns its answer; raises ``FabricError``.
Ask: TypeAlias = Callable[[Contact, Message], Awaitable[Message]]

#: So many former members are asked about a cell whose owner does not answer.
_STAND_INS = 3


@dataclass(slots=True)
class TreeCell:
    """One cell as one of its members told it. ``depth`` is 0 for the root."""

    record: CellRecord
    owner: Owner | None
    rows: tuple[MemberRow, ...]
    depth: int

    @property
    def is_leaf(self) -> bool:
        """Whether its members are hosts."""
        return self.record.level == 0

    @property
    def hosts(self) -> tuple[MemberRow, ...]:
        """The hosts of a leaf cell that live as far as the teller knows."""
        return tuple(row for row in self.rows if not row.observer and row.state <= SUSPECT)

    def summary(self) -> Summary:
        """The cell's load, merged from what its members told."""
        rows = self.hosts
        return merge([row.summary for row in rows if row.summary is not None], len(rows))


@dataclass(slots=True)
class Tree:
    """All cells that could be read, by id; ``silent`` are those that nobody told."""

    topo: Topo
    cells: dict[int, TreeCell] = field(default_factory=dict)
    silent: list[int] = field(default_factory=list)

    @property
    def root(self) -> TreeCell | None:
        """The root cell."""
        return self.cells.get(self.topo.root)

    @property
    def depth(self) -> int:
        """Levels from the root to the deepest leaf cell: 1 for a lone cell."""
        return max((cell.depth + 1 for cell in self.cells.values()), default=0)

    def leaves(self) -> list[TreeCell]:
        """All leaf cells, by id."""
        return [cell for _, cell in sorted(self.cells.items()) if cell.is_leaf]

    def children(self, cell: TreeCell) -> list[TreeCell]:
        """The child cells of ``cell`` that could be read, by id."""
        keys = sorted(row.key for row in cell.rows) if not cell.is_leaf else []
        return [self.cells[key] for key in keys if key in self.cells]

    def whole(self, hosts: int) -> bool:
        """Whether every cell has a living owner, and leaves and root count just ``hosts``."""
        root = self.root
        if self.silent or root is None:
            return False
        for cell in self.cells.values():
            if cell.owner is None or any(row.state != ALIVE for row in cell.rows):
                return False
        total = root.summary()
        counted = sum(len(cell.hosts) for cell in self.leaves())
        return counted == total.hosts == total.expected == hosts


class Walker:
    """Reads the tree, any number of times, starting at any of ``entries``."""

    def __init__(self, ask: Ask, entries: Iterable[Contact]) -> None:
        self._ask = ask
        self._entries = list(entries)
        self._known: dict[int, tuple[Contact, ...]] = {}

    async def status(self) -> Status:
        """The account of the first entry that answers."""
        error: FabricError = Unavailable("there is no peer to ask")
        for entry in self._entries:
            try:
                answer = await self._ask(entry, StatusAsk())
            except FabricError as failure:
                error = failure
                continue
            assert isinstance(answer, Status)
            return answer
        raise error

    async def walk(self) -> Tree:
        """Read the whole tree. Raises :class:`Unavailable` while the entry has no place in it."""
        status = await self.status()
        if status.topo is None or not status.path:
            raise Unavailable(f"the peer at {status.contact.address} has no place in a tree yet")
        tree = Tree(status.topo)
        speakers = [owner.contact for owner in status.owners if owner.cell == status.topo.root]
        await self._read(tree, status.topo.root, [*speakers, status.contact], 0)
        return tree

    async def _read(self, tree: Tree, cell: int, tellers: list[Contact], depth: int) -> None:
        members = await self._members(cell, tellers)
        if members is None:
            tree.silent.append(cell)
            return
        rows = members.rows
        tree.cells[cell] = TreeCell(members.record, members.owner, rows, depth)
        if members.record.level == 0:
            self._known[cell] = tuple(row.contact for row in rows if not row.observer)
            return
        self._known[cell] = (*members.record.seats, *(row.contact for row in rows))
        speakers = {row.key: row.contact for row in rows}
        await asyncio.gather(
            *(
                self._read(tree, child.node_id, [speakers[child.node_id]]
                           if child.node_id in speakers else [], depth + 1)
                for child in members.record.members
            )
        )

    async def _members(self, cell: int, tellers: list[Contact]) -> Members | None:
        """Ask the likely owners of ``cell``, then whoever was in it before."""
        stand_ins = [c for c in self._known.get(cell, ()) if c not in tellers]
        for teller in (*tellers, *stand_ins[:_STAND_INS]):
            if not teller.address:
                continue
            try:
                answer = await self._ask(teller, MembersAsk(cell))
            except FabricError:
                continue
            assert isinstance(answer, Members)
            return answer
        return None
