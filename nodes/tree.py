"""What can be said of a whole tree as ``Fabric.tree()`` or ``Client.tree()`` returned it."""

from __future__ import annotations

from collections.abc import Iterator

from fabric.survey import TreeCell
from fabric.tree.summary import Summary, merge
from fabric.wire.gossip import ALIVE, SUSPECT
from fabric.wire.peer import MemberRow


def cells_of(tree: TreeCell, depth: int = 0) -> Iterator[tuple[TreeCell, int]]:
    """Yield every cell with its depth (the root's is 0), each before its children."""
    yield tree, depth
    for child in tree.children:
        yield from cells_of(child, depth + 1)


def depth_of(tree: TreeCell) -> int:
    """Levels from the root to the deepest cell: 1 for a lone cell."""
    return 1 + max(depth for _, depth in cells_of(tree))


def is_leaf(cell: TreeCell) -> bool:
    """Whether the members of the cell are hosts."""
    return cell.record is not None and cell.record.level == 0


def living(cell: TreeCell) -> list[MemberRow]:
    """The members (observers not counted) that live as far as the cell's owner knows."""
    return [row for row in cell.rows if not row.observer and row.state <= SUSPECT]


def load_of(cell: TreeCell) -> Summary:
    """The cell's load, merged from what its members told."""
    rows = living(cell)
    return merge([row.summary for row in rows if row.summary is not None], len(rows))


def count_hosts(tree: TreeCell) -> int:
    """Living hosts in all leaf cells that could be read."""
    return sum(len(living(cell)) for cell, _ in cells_of(tree) if is_leaf(cell))


def is_whole(tree: TreeCell, hosts: int) -> bool:
    """Whether every cell was told by its owner, nobody is missing, and all counts are ``hosts``.

    The leaf cells are counted member by member, the root by the summaries that reached it.
    """
    for cell, _ in cells_of(tree):
        if cell.error is not None or cell.owner is None or cell.record is None:
            return False
        members = {member.node_id for member in cell.record.members}
        alive = {row.key for row in cell.rows if not row.observer and row.state == ALIVE}
        if alive != members or any(row.state != ALIVE for row in cell.rows):
            return False
    total = load_of(tree)
    return count_hosts(tree) == total.hosts == total.expected == hosts
