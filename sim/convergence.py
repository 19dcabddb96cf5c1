"""Whether the peers agree with the written topology, and since when.

The truth is what the coordinator holds.  A run has *converged* when every living peer holds the
newest record of each cell from its leaf to the root, and the root's owner counts exactly the
living hosts.  :attr:`Convergence.converged_us` is when that last became true; it is looked at each
virtual second, and four times as often while it is not yet true.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fabric.wire.codec import decode_record
from fabric.wire.tree import CellRecord, Order, Topo
from sim.inspect import owns, summary_of

if TYPE_CHECKING:
    from sim.engine import Node
    from sim.roll import Roll, Row
    from sim.world import SimWorld


class Convergence:
    """Compares all peers with what is written."""

    def __init__(self, world: SimWorld, roll: Roll) -> None:
        self._world = world
        self._roll = roll
        self._changes = -1
        self.topo: Topo | None = None
        self.records: dict[int, CellRecord] = {}
        self._decoded: dict[str, tuple[bytes, CellRecord]] = {}
        self._orders: dict[int, Order] = {}
        self._home: dict[int, int] = {}
        #: (starts and ends, writes, how many are given up) -> hosts that live, that are written.
        self._counted: tuple[tuple[int, int, int], int, int] = ((-1, -1, -1), 0, 0)
        #: Since when the run is converged; ``None`` while it is not.
        self.converged_us: int | None = None
        self._why: tuple[Sequence[Node], str] = ((), "nothing was looked at")

    def look(self) -> bool:
        """Compare now. Returns whether the run is converged."""
        self._roll.look()
        self._load()
        why = self._first_difference()
        if why is not None:
            self._why = why
            self.converged_us = None
        elif self.converged_us is None:
            self.converged_us = self._world.engine.now
        return why is None

    def why(self) -> tuple[Sequence[Node], str]:
        """Return what kept the last look from agreeing."""
        return self._why

    @property
    def depth(self) -> int:
        """Return the number of levels of the written tree."""
        return max((r.level for r in self.records.values()), default=-1) + 1

    def _load(self) -> None:
        coordinator = self._world.coordinator
        if coordinator.changes == self._changes:
            return
        self._changes = coordinator.changes
        self._roll.compare_all()
        self.topo = None
        self.records = {}
        for record in coordinator.records():
            if record.path == "topo":
                self.topo = decode_record(Topo, record.value)
            elif record.path.startswith("cell/"):
                known = self._decoded.get(record.path)
                if known is None or known[0] != record.value:  # most are as they were
                    known = (record.value, decode_record(CellRecord, record.value))
                    self._decoded[record.path] = known
                self.records[known[1].cell] = known[1]
        self._orders = {cell: record.order for cell, record in self.records.items()}
        self._home = {
            contact.node_id: record.cell
            for record in self.records.values()
            if record.level == 0
            for contact in (*record.members, *record.observers)
        }

    def _first_difference(self) -> tuple[Sequence[Node], str] | None:
        if self.topo is None:
            return (), "no topology is written"
        root, given_up = self.topo.root, self._world.abandoned
        uncompared = self._roll.uncompared
        for index in sorted(uncompared):
            if index not in given_up:
                difference = self._difference(uncompared[index], root)
                if difference is not None:
                    return (uncompared[index].node,), difference
                del uncompared[index]
        return self._root_difference(root)

    def _difference(self, row: Row, root: int) -> str | None:
        """Say what a peer holds that is not what is written."""
        paths = row.paths
        home = self._home.get(row.node.node_id, 0)
        if paths.leaf != home or not home:
            return f"is in cell {paths.leaf}, written is cell {home}"
        path = paths.path
        if path[-1] != root:
            return f"its path ends at cell {path[-1]}, the root is {root}"
        orders = self._orders
        for cell in path:
            order = paths.records[cell].order
            if order != orders.get(cell):
                return f"holds {tuple(order)} of cell {cell}, written is {orders.get(cell)}"
        return None

    def _root_difference(self, root: int) -> tuple[Sequence[Node], str] | None:
        world = self._world
        sound, members = self._count()
        if members != sound:
            return (), f"{sound} hosts live, {members} are written"
        owners = self._owners(root)
        if len(owners) != 1:
            return owners, f"the root cell {root} has {len(owners)} owners"
        summary = summary_of(owners[0], root)
        most = sound + len(world.abandoned)  # these may count or not
        if summary is None or not sound <= summary.hosts <= summary.expected <= most:
            said = None if summary is None else (summary.hosts, summary.expected)
            return owners, f"{sound} hosts live, the root says {said} (reporting, expected)"
        return None

    def _count(self) -> tuple[int, int]:
        """Return how many hosts live and how many are written, those given up not counted."""
        world = self._world
        state = (world.engine.lives, self._changes, len(world.abandoned))
        if self._counted[0] != state:
            given_up = {node.node_id for node in world.hosts if node.index in world.abandoned}
            sound = sum(node.alive and node.node_id not in given_up for node in world.hosts)
            leaves = [record for record in self.records.values() if record.level == 0]
            members = sum(m.node_id not in given_up for r in leaves for m in r.members)
            self._counted = (state, sound, members)
        return self._counted[1], self._counted[2]

    def _owners(self, cell: int) -> list[Node]:
        """Return who holds the lease of ``cell``: an owner is announced when it wins."""
        by_id = self._world.engine.by_id
        claimants = [by_id.get(node_id) for node_id in self._roll.claimants.get(cell, {})]
        nodes = {node.index: node for node in claimants if node is not None and node.alive}
        return [nodes[index] for index in sorted(nodes) if owns(nodes[index], cell)]

    # --- the written tree itself ------------------------------------------------------------------

    def tree_problems(self) -> list[str]:
        """Return what is wrong with the written topology by itself."""
        self._load()
        records, topo = self.records, self.topo
        if topo is None:
            return ["no topology is written"]
        problems = []
        seen: dict[int, int] = {}
        if topo.root not in records or records[topo.root].parent:
            problems.append(f"root {topo.root} is no cell without parent")
        for record in records.values():
            problems += self._cell_problems(record, topo.root)
            for member in record.members:
                key = member.node_id if record.level == 0 else -member.node_id
                if key in seen:
                    problems.append(f"{abs(key)} is in cells {seen[key]} and {record.cell}")
                seen[key] = record.cell
        return problems

    def _cell_problems(self, record: CellRecord, root: int) -> list[str]:
        problems = []
        records = self.records
        settings = self._world.settings
        cell = record.cell
        low, high = (
            (settings.leaf_min, settings.leaf_max)
            if record.level == 0
            else (settings.inner_min, settings.inner_max)
        )
        size = len(record.members)
        if size > high or (cell != root and size < low):
            problems.append(f"cell {cell} of level {record.level} has {size} members")
        if cell != root:
            parent = records.get(record.parent)
            if parent is None:
                problems.append(f"cell {cell} has no parent {record.parent}")
            elif parent.level != record.level + 1:
                problems.append(f"cell {cell} of level {record.level} is below {parent.level}")
            elif cell not in [member.node_id for member in parent.members]:
                problems.append(f"cell {record.parent} does not list its child {cell}")
        if record.level:
            problems += [
                f"cell {cell} lists {m.node_id}, which is not below it"
                for m in record.members
                if m.node_id not in records or records[m.node_id].parent != cell
            ]
        if not record.seats:
            problems.append(f"cell {cell} has no seats")
        below = self._hosts_below(record)
        problems += [
            f"seat {s.address} of cell {cell} is no host of it"
            for s in record.seats
            if s.node_id not in below
        ]
        return problems

    def _hosts_below(self, record: CellRecord) -> set[int]:
        if record.level == 0:
            return {member.node_id for member in record.members}
        hosts: set[int] = set()
        for member in record.members:
            child = self.records.get(member.node_id)
            if child is not None and child.level < record.level:
                hosts |= self._hosts_below(child)
        return hosts
