"""Looks at the tree a few times a second, writes it on the scene, and waits for things to happen.

The demo's own peer reads the whole tree from the root down.  A look that fails (an owner has just
been killed) leaves the last picture standing; the next one is soon.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from fabric.api import Fabric
from fabric.errors import CheckFailed, FabricError
from fabric.survey import TreeCell
from fabric.tree.summary import Summary
from nodes.demo.scene import CellView, Scene
from nodes.tree import cells_of, count_hosts, depth_of, is_leaf, is_whole

_PAUSE_S: Final = 0.15
_ANSWER_S: Final = 0.5


class Watch:
    """Use as an async context manager: it looks as long as that is open."""

    def __init__(self, fab: Fabric, scene: Scene) -> None:
        self._fabric = fab
        self._scene = scene
        self._looked = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.tree: TreeCell | None = None
        self.problem = "nobody was asked yet"

    async def __aenter__(self) -> Watch:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def depth(self) -> int:
        """The depth of the tree as last seen."""
        return depth_of(self.tree) if self.tree else 0

    def whole(self, hosts: int) -> bool:
        """Whether the tree as last seen is complete and counts so many hosts."""
        return self.tree is not None and is_whole(self.tree, hosts)

    async def until(self, reached: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """Wait until ``reached()`` holds after a look. Raises :class:`CheckFailed`."""
        try:
            async with asyncio.timeout(timeout_s), self._looked:
                await self._looked.wait_for(reached)
        except TimeoutError:
            raise CheckFailed(f"{otherwise} within {timeout_s:g} s ({self._account()})") from None

    def _account(self) -> str:
        if self.tree is None:
            return self.problem
        cells = [cell for cell, _ in cells_of(self.tree)]
        silent = sum(1 for cell in cells if cell.error is not None)
        return (f"{len(cells)} cells with {count_hosts(self.tree)} hosts seen, {silent} of them "
                f"silent, depth {self.depth}; {self.problem}")

    async def _look(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self._look_at_chairman()
                tree = await self._fabric.tree(_ANSWER_S)
            except FabricError as error:
                self.problem = f"{error.code}: {error.message}"
            else:
                self.problem = ""
                self.tree = tree
                self._show(tree)
            async with self._looked:
                self._looked.notify_all()
            await asyncio.sleep(max(_PAUSE_S, (time.monotonic() - began) / 2))

    async def _look_at_chairman(self) -> None:
        scene = self._scene
        status = await self._fabric.status(_ANSWER_S)
        before, now = scene.chairman, status.topo.chairman.node_id if status.topo else 0
        scene.chairman = now
        if before not in (0, now):
            scene.say(f"   {scene.name_of(now)} is chairman now")

    def _show(self, tree: TreeCell) -> None:
        scene, old = self._scene, self._scene.cells
        # a cell that nobody tells for a moment keeps its last picture
        scene.cells = {
            cell.cell: _cell_view(cell, depth) if cell.error is None else old[cell.cell]
            for cell, depth in cells_of(tree)
            if cell.error is None or cell.cell in old
        }
        for cell, _ in cells_of(tree):
            for row in cell.rows if is_leaf(cell) else ():
                peer = scene.peer_of(row.key)
                if peer is not None and row.summary is not None:
                    peer.vms, peer.load = row.summary.vms, _load(row.summary)
        for key, view in scene.cells.items():
            before = old.get(key)
            if before is not None and before.owner not in (0, view.owner) and view.owner:
                scene.say(f"   {scene.name_of(view.owner)} took over cell {key} from "
                          f"{scene.name_of(before.owner)}")


def _cell_view(cell: TreeCell, depth: int) -> CellView:
    assert cell.record is not None
    members = tuple(member.node_id for member in cell.record.members)
    owner = cell.owner.node_id if cell.owner else 0
    return CellView(cell.cell, cell.record.parent, is_leaf(cell), owner, members, depth)


def _load(summary: Summary) -> float:
    return 1 - summary.cpu_free / summary.cpu if summary.cpu else 0.0

