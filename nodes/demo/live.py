"""The live view of the demo: stages, the tree with every host's load, placements, the log.

Painted with ``rich`` four times a second from the :class:`~nodes.demo.scene.Scene`.  Colours carry
meaning and nothing else: green lives, bold owns its cell, red was killed, yellow is starting; a
crown marks the chairman.  Each host is its name and a bar of eighths for its load.
"""

from __future__ import annotations

from typing import Final

from rich.console import Console, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from nodes.demo.scene import CellView, PeerState, PeerView, Scene, StageState

_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_STAGE_MARKS: Final = {
    StageState.WAITING: ("·", "dim"),
    StageState.RUNNING: ("▶", "bold cyan"),
    StageState.DONE: ("✔", "green"),
    StageState.FAILED: ("✘", "bold red"),
    StageState.STOPPED: ("■", "yellow"),
}
_PEER_STYLES: Final = {
    PeerState.STARTING: "yellow",
    PeerState.ALIVE: "green",
    PeerState.KILLED: "bold red strike",
}
_REFRESHES_PER_S: Final = 4


class LiveView:
    """Paints the scene on the alternate screen while the context is open."""

    def __init__(self, scene: Scene, console: Console) -> None:
        self._scene = scene
        self._live = Live(
            get_renderable=self.render, console=console, screen=True,
            refresh_per_second=_REFRESHES_PER_S, redirect_stdout=False, redirect_stderr=False,
        )

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        """Return the whole picture as it is now."""
        layout = Layout()
        layout.split_column(Layout(name="top"), Layout(self._log(), size=8))
        layout["top"].split_row(
            Layout(self._stages(), ratio=2, minimum_size=34), Layout(name="right", ratio=3)
        )
        layout["right"].split_column(Layout(self._tree()), Layout(self._progress(), size=4))
        return layout

    def _stages(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        for stage in self._scene.stages:
            mark, style = _STAGE_MARKS[stage.state]
            table.add_row(Text(mark, style), Text(stage.title, style))
            if stage.result:
                table.add_row("", Text(stage.result, "dim"))
        return Panel(table, title="[bold]Fabric[/bold]", title_align="left",
                     subtitle=f"{self._scene.elapsed_s:5.0f} s", border_style="blue")

    def _progress(self) -> RenderableType:
        """The placements, and during the last act the simulation."""
        if self._scene.simulation is not None:
            return _panel("simulation", _bar(self._scene.simulation.done),
                          Text(self._scene.simulation.text, no_wrap=True, overflow="ellipsis"))
        counters = self._scene.counters
        figures = Text.assemble(
            (f"{counters.confirmed}", "bold green"), f"/{counters.wanted}  ",
            (f"{counters.in_flight}", "bold cyan"), " in flight  ",
            (f"{counters.retried}", "bold yellow"), " retried  ",
            f"median {counters.median_ms():.0f} ms",
            no_wrap=True, overflow="ellipsis",
        )
        return _panel(
            "placements", _bar(counters.confirmed / max(counters.wanted, 1)), figures
        )

    def _tree(self) -> RenderableType:
        cells = self._scene.cells
        roots = [cell for cell in cells.values() if cell.parent not in cells]
        if not roots:
            names = Text(" ").join(self._host(peer) for peer in self._scene.peers.values())
            return Panel(names, title="peers starting", title_align="left", border_style="blue")
        tree = Tree(self._label(roots[0]), guide_style="dim")
        self._grow(tree, roots[0])
        return Panel(tree, title="the tree", title_align="left", border_style="blue")

    def _grow(self, branch: Tree, cell: CellView) -> None:
        for child in sorted(self._scene.cells.values(), key=lambda c: c.cell_id):
            if child.parent == cell.cell_id and child is not cell:
                self._grow(branch.add(self._label(child)), child)

    def _label(self, cell: CellView) -> Text:
        owner = self._scene.name_of(cell.owner)
        kind = "leaf" if cell.is_leaf else "root" if cell.depth == 0 else "inner"
        label = Text.assemble((f"{kind} ", "dim"), (f"{owner}", "bold"), " ")
        if cell.is_leaf:
            for node_id in cell.members:
                peer = self._scene.peer_of(node_id)
                if peer is not None:
                    label.append_text(self._host(peer, owner=node_id == cell.owner)).append(" ")
        return label

    def _host(self, peer: PeerView, owner: bool = False) -> Text:
        style = _PEER_STYLES[peer.state] + (" bold" if owner else "")
        crown = "♛" if peer.node_id and peer.node_id == self._scene.chairman else ""
        step = min(8, max(0, round(peer.load * 8)))
        return Text.assemble((crown + peer.name, style), (_EIGHTHS[step], "cyan"))

    def _log(self) -> RenderableType:
        lines = Text("\n").join(
            Text.assemble((f"{at:6.1f} s ", "dim"), text) for at, text in list(self._scene.log)[-6:]
        )
        return Panel(lines, title="events", title_align="left", border_style="blue")


def _bar(done: float) -> ProgressBar:
    return ProgressBar(total=1.0, completed=min(done, 1.0), complete_style="green")


def _panel(title: str, *lines: RenderableType) -> RenderableType:
    table = Table.grid(expand=True)
    for line in lines:
        table.add_row(line)
    return Panel(table, title=title, title_align="left", border_style="blue")
