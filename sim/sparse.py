"""A tree of a million hosts of which a sample is there: what one of its peers holds and sends.

What a peer does depends on the cells that it is in, not on how many hosts there are elsewhere.  So
one inner cell above the leaves is *dense*: all its leaf cells are full, as are the cells above it
up to the root.  But of every other child of those upper cells only a *thin* chain of cells exists
down to a leaf with three hosts, enough for its seats: it is spoken for by an owner, as a full one
would be.  All are whole peers and run the same code.  The hosts of the dense cell live as if all
hosts were there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fabric.machine import Contact
from fabric.tree.planner import Plan
from fabric.wire.tree import NO_ORDER, CellRecord
from sim.scenario import Scenario
from sim.world import SimWorld

#: Hosts of a thin leaf: three seats.
THIN: Final = 3


def hosts_there(widths: Sequence[int]) -> int:
    """Return how many hosts the sample of a tree has. ``widths``: members by level, leaf first."""
    dense = widths[0] * (widths[1] if len(widths) > 1 else 1)
    return dense + sum(THIN * (width - 1) for width in widths[2:])


def hosts_meant(widths: Sequence[int]) -> int:
    """Return how many hosts the whole tree would have."""
    meant = 1
    for width in widths:
        meant *= width
    return meant


class SparseWorld(SimWorld):
    """A preformed fabric of ``widths``. ``scenario.hosts`` must be ``hosts_there(widths)``."""

    def __init__(self, scenario: Scenario, widths: Sequence[int]) -> None:
        self._widths = tuple(widths)
        super().__init__(scenario)
        #: Node ids of the hosts whose surroundings are complete.
        self.dense = tuple([n.node_id for n in self.hosts[: widths[0] * widths[1]]])

    def tree(self) -> Plan:
        """Return the sparse tree."""
        grower = _Grower(self._widths, iter([node.contact for node in self.hosts]))
        root = grower.grow(len(self._widths) - 1, dense=True, parent=0)
        plan = Plan(self.settings)
        plan.load(grower.records, root, len(grower.records) + 1)
        for node in self.candidates:
            plan.add_observer(node.contact)
        return plan


class _Grower:
    """Makes the records, the dense branch first."""

    def __init__(self, widths: tuple[int, ...], hosts: Iterator[Contact]) -> None:
        self._widths = widths
        self._hosts = hosts
        self.records: list[CellRecord] = []

    def grow(self, level: int, *, dense: bool, parent: int) -> int:
        """Make a cell and all below it; return its id."""
        cell = len(self.records) + 1
        record = CellRecord(cell, level, parent, NO_ORDER, NO_ORDER, 0, (), (), ())
        self.records.append(record)
        width = self._widths[level] if dense else 1
        if level == 0:
            count = width if dense else THIN
            record.members = tuple([next(self._hosts) for _ in range(count)])
            return cell
        children = []
        for number in range(width):
            whole = dense and (level == 1 or number == 0)
            children.append(self.grow(level - 1, dense=whole, parent=cell))
        record.members = tuple([Contact(child, "") for child in children])
        return cell
