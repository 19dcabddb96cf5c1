"""The fabric as a worker sees it: place, ask a host's agent, find out whether a host is gone.

Hosts are known by their node id; the address at which one was last seen may have changed, so a
host that does not answer is looked up in the tree.
"""

from __future__ import annotations

from collections.abc import Iterator

from fabric.api import Fabric
from fabric.errors import FabricError
from fabric.machine import Contact, Message
from fabric.placement.request import Placed, PlacementRequest
from fabric.survey import TreeCell
from fabric.wire.gossip import ALIVE, SUSPECT
from fabric.wire.peer import MemberRow


class FabricHosts:
    """Implements ``nodes.worker.Hosts`` with a peer of this process."""

    def __init__(self, fab: Fabric) -> None:
        self._fab = fab
        self._moved: dict[int, Contact] = {}  # hosts that were found at another address

    async def place(self, request: PlacementRequest, timeout_s: float) -> Placed:
        return await self._fab.place(request, timeout_s)

    async def ask(self, host: Contact, body: Message, timeout_s: float) -> Message:
        return await self._fab.call(self._moved.get(host.node_id, host), body, timeout_s)

    async def gone(self, host: Contact) -> bool:
        """Look for the host in the whole tree; a tree that cannot be read proves nothing."""
        try:
            tree = await self._fab.tree()
        except FabricError:
            return False
        for row in _hosts(tree):
            if row.contact.node_id == host.node_id:
                self._moved[host.node_id] = row.contact
                return row.state not in (ALIVE, SUSPECT)
        return not _unread(tree)

    async def find(self, address: str) -> int | None:
        tree = await self._fab.tree()
        for row in _hosts(tree):
            if row.contact.address == address and row.state == ALIVE:
                return row.contact.node_id
        return None


def _hosts(cell: TreeCell) -> Iterator[MemberRow]:
    """Yield the members of all leaf cells that are hosts."""
    if cell.record is not None and cell.record.level == 0:
        yield from (row for row in cell.rows if not row.observer)
    for child in cell.children:
        yield from _hosts(child)


def _unread(cell: TreeCell) -> bool:
    return cell.error is not None or any(_unread(child) for child in cell.children)
