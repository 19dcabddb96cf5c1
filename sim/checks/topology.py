"""What is written: each commit of a chairman, judged against an account of all before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from fabric.coordination.interface import Commit, Epoch
from fabric.tree.departures import FREEZE_DIVISOR, FREEZE_HOSTS, THAW_US
from fabric.units import MS, SECOND
from fabric.wire.codec import decode_record
from fabric.wire.tree import CellRecord, Order

if TYPE_CHECKING:
    from sim.engine import Node
    from sim.world import SimWorld

#: The chairman's window of the freeze, less what a commit may take to get through.
WINDOW_US: Final = 9_500 * MS
#: A host that no fault has touched for so long is no host to remove.
HEALTHY_US: Final = 20 * SECOND


class WriteChecks:
    """Told of every commit that the coordinator carried out."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._versions: dict[str, int] = {}
        self._cells: dict[int, tuple[Order, frozenset[int]]] = {}
        #: Everything that was ever written, also what the coordinator has lost since.
        self._written: set[tuple[int, Order]] = set()
        #: Leaf cell of each host, as written, and since when it is written at all.
        self.home: dict[int, int] = {}
        self.since_us: dict[int, int] = {}
        self._removals: list[int] = []
        self._epoch: Epoch | None = None
        #: Node index -> since when it does not run.
        self._down_us: dict[int, int] = {}

    def load(self) -> None:
        """Begin anew with what is written now: a preformed tree, or an old copy of one."""
        self._versions, self._cells, self.home = {}, {}, {}
        for record in self._world.coordinator.records():
            self._versions[record.path] = record.version
            if record.path.startswith("cell/"):
                self._take(int(record.path[5:]), record.value, {})
        self._judge_members({})

    def was_written(self, cell: int, order: Order) -> bool:
        """Tell whether a record of this order was ever written for ``cell``."""
        return (cell, order) in self._written

    def commit(self, commit: Commit, holder: Epoch | None) -> None:
        """Judge one commit."""
        world = self._world
        if commit.epoch != holder:
            detail = f"written under {tuple(commit.epoch)}, the chair is held under {holder}"
            world.violation("unfenced-write", (), detail)
        if commit.epoch != self._epoch:
            self._epoch, self._removals = commit.epoch, []  # a new chairman counts anew
        before: dict[int, int] = {}
        for put in commit.puts:
            if put.version != self._versions.get(put.path, 0):
                detail = f"{put.path}: over {put.version}, not {self._versions.get(put.path, 0)}"
                world.violation("lost-update", (), detail)
            self._versions[put.path] = put.version + 1
            if put.value is None:
                self._versions.pop(put.path)
            if put.path.startswith("cell/"):
                self._take(int(put.path[5:]), put.value, before)
        self._judge_members(before)

    def _take(self, cell: int, value: bytes | None, before: dict[int, int]) -> None:
        """Take one cell's record; ``before`` collects who was in it."""
        order, members = self._cells.pop(cell, (None, frozenset[int]()))
        for node_id in sorted(members):
            if self.home.get(node_id) == cell:
                before[node_id] = cell
                del self.home[node_id]
        if value is None:
            return
        record = decode_record(CellRecord, value)
        if order is not None and record.order <= order:
            detail = f"cell {cell}: {tuple(record.order)} written over {tuple(order)}"
            self._world.violation("order-fell", (), detail)
        self._written.add((cell, record.order))
        new = frozenset([m.node_id for m in record.members]) if record.level == 0 else frozenset()
        self._cells[cell] = (record.order, new)

    def _judge_members(self, before: dict[int, int]) -> None:
        world = self._world
        now = world.engine.now
        for cell, (_, members) in self._cells.items():
            for node_id in members:
                home = self.home.setdefault(node_id, cell)
                self.since_us.setdefault(node_id, now)
                if home != cell:
                    detail = f"{node_id:x} is in the cells {home} and {cell}"
                    world.violation("tree-invalid", self._nodes([node_id]), detail)
        removed = [node_id for node_id in before if node_id not in self.home]
        for node_id in removed:
            del self.since_us[node_id]
            for node in self._nodes([node_id]):
                if node.alive and world.undisturbed_us(node) > HEALTHY_US:
                    calm_s = world.undisturbed_us(node) // SECOND
                    detail = f"removed, {calm_s} s after the last fault that touched it"
                    world.violation("healthy-host-removed", (node,), detail)
        self._judge_mass(removed)

    def _judge_mass(self, removed: list[int]) -> None:
        """More than the mark may go only if all were away for as long as a thaw takes."""
        world = self._world
        now = world.engine.now
        fresh = [n for n in removed if self._recently_there(n, now)]
        self._removals = [at for at in self._removals if now - at < WINDOW_US]
        self._removals += [now] * len(fresh)
        everybody = len(self.home) + len(removed) + len(world.candidates)
        mark = max(FREEZE_HOSTS, everybody // FREEZE_DIVISOR)
        if fresh and len(self._removals) > mark:
            detail = f"{len(self._removals)} hosts removed within 10 s, the mark is {mark}"
            world.violation("mass-removal", self._nodes(fresh), detail)

    def _recently_there(self, node_id: int, now: int) -> bool:
        for node in self._nodes([node_id]):
            return node.alive or now - self._down_us.get(node.index, 0) < THAW_US - 10 * SECOND
        return False  # wiped: it is nobody any more

    def _nodes(self, node_ids: Iterable[int]) -> list[Node]:
        by_id = self._world.engine.by_id
        return [by_id[n] for n in node_ids if n in by_id and by_id[n].node_id == n]

    def watch(self) -> None:
        """Note who runs; called each second."""
        now = self._world.engine.now
        for node in self._world.hosts:
            if node.alive:
                self._down_us.pop(node.index, None)
            else:
                self._down_us.setdefault(node.index, now)
