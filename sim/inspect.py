"""How the simulator looks into a peer: the one place that knows where a peer keeps things.

Checkers read; they never change anything, and nothing they see reaches a decision of a machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from fabric.peer.cells import Cells
from fabric.peer.compose import Peer
from fabric.tree.chairman import Chairman
from fabric.tree.summary import Summary
from fabric.tree.topology import PathStore

if TYPE_CHECKING:
    from agent.books import Books
    from sim.engine import Node


def peer_of(node: Node) -> Peer:
    """Return the (living) node's peer, whatever stands around it."""
    machine: Any = node.machine
    peer: Peer = machine if isinstance(machine, Peer) else machine.peer
    return peer


def cells_of(node: Node) -> Cells:
    """Return the cells that the peer takes part in."""
    return peer_of(node).cells


def paths_of(node: Node) -> PathStore:
    """Return what the peer holds of the topology."""
    return cells_of(node).paths


def books_of(node: Node) -> Books:
    """Return the books of the host's agent."""
    books: Any = peer_of(node).books
    return cast("Books", books)


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
    return peer_of(node).chairman


def presides(node: Node) -> bool:
    """Tell whether the peer holds itself for the chairman now."""
    chairman = chairman_of(node)
    return chairman is not None and chairman.presides(node.now)


def is_frozen(node: Node) -> bool:
    """Tell whether the peer is chairman and removes nobody for a while."""
    chairman = chairman_of(node) if node.alive else None
    return chairman is not None and presides(node) and chairman.departures.frozen
