"""How the simulator looks into a peer: the one place that knows where a peer keeps things.

Checkers read; they never change anything, and nothing they see reaches a decision of a machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fabric.peer.cells import Cells
from fabric.tree.chairman import Chairman
from fabric.tree.summary import Summary
from fabric.tree.topology import PathStore

if TYPE_CHECKING:
    from agent.books import Books
    from sim.engine import Node


def cells_of(node: Node) -> Cells:
    """Return the cells that the (living) node's peer takes part in."""
    peer: Any = node.machine
    cells: Cells = peer.cells
    return cells


def paths_of(node: Node) -> PathStore:
    """Return what the peer holds of the topology."""
    return cells_of(node).paths


def books_of(node: Node) -> Books:
    """Return the books of the host's agent."""
    peer: Any = node.machine
    books: Books = peer.books
    return books


def owns(node: Node, cell: int) -> bool:
    """Tell whether the peer holds the lease of ``cell`` now."""
    return cells_of(node).leases.owns(cell, node.now)


def summary_of(node: Node, cell: int) -> Summary | None:
    """Return what the peer, as owner of ``cell``, says of all that is below it."""
    cells = cells_of(node)
    gossip = cells.gossip.get(cell)
    return None if gossip is None else cells.duties.cell_summary(gossip)


def chairman_of(node: Node) -> Chairman | None:
    """Return the chairman's machine of a candidate."""
    peer: Any = node.machine
    chairman: Chairman | None = peer.chairman
    return chairman


def presides(node: Node) -> bool:
    """Tell whether the peer holds itself for the chairman now."""
    peer: Any = node.machine
    return peer.chairman is not None and bool(peer.chairman.presides(node.now))
