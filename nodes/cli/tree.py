"""``fabric tree``: the whole tree of cells, once or for as long as somebody watches.

Each owner tells its own cell, so the picture is asked together from the root down.  With
``--watch`` it is painted anew each second on a terminal; elsewhere it is printed again whenever
something in it changed, each time under a line with the time.  Somebody who cannot be asked for
a moment is part of the picture.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import fabric
from fabric.errors import FabricError
from fabric.ids import format_id
from fabric.survey import TreeCell
from fabric.units import SECOND
from fabric.wire.peer import MemberRow
from fabric.wire.seeing import EventRow
from nodes.cli.ask import (
    contact_object,
    load_text,
    row_object,
    state_of,
    summary_object,
    with_peer,
)
from nodes.cli.output import Exit, Output
from nodes.config import Config
from nodes.tree import cells_of, depth_of, is_leaf, load_of

if TYPE_CHECKING:
    from rich.console import RenderableType

_EVENTS_SHOWN: Final = 8
_REFRESHES_PER_S: Final = 4
_STYLES: Final = {"alive": "green", "suspect": "bold yellow", "expected": "dim", "dead": "bold red",
                  "left": "dim strike"}


def run(config: Config, out: Output) -> int:
    """Print the tree, or watch it until Ctrl-C."""
    if not config.flag("watch"):
        return with_peer(config, lambda client, timeout_s: _once(client, timeout_s, out))
    interval_s = config.seconds("interval_s")
    live = sys.stdout.isatty() and not out.as_json and not config.flag("plain")
    show = _paint if live else _print_changes

    async def watch(client: fabric.Client, timeout_s: float) -> int:
        await client.status(timeout_s)  # a peer that is not there is an error, not a picture
        scene = Scene()
        tasks = [
            asyncio.create_task(_look(client, scene, interval_s, timeout_s)),
            asyncio.create_task(_listen(client, scene, interval_s)),
            asyncio.create_task(show(scene, out)),
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return Exit.OK

    return with_peer(config, watch)


async def _once(client: fabric.Client, timeout_s: float, out: Output) -> int:
    root = await client.tree(timeout_s)
    for line in tree_lines(root):
        out.line(line)
    told = tree_object(root)
    out.object(told)
    return Exit.UNAVAILABLE if told["silent"] else Exit.OK


# --- watching -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Scene:
    """What is to be seen: the last tree, the last events, and why there is no newer tree."""

    tree: TreeCell | None = None
    problem: str = ""
    looked: int = 0
    events: deque[EventRow] = field(default_factory=lambda: deque(maxlen=_EVENTS_SHOWN))
    changed: asyncio.Event = field(default_factory=asyncio.Event)


async def _look(
    client: fabric.Client, scene: Scene, interval_s: float, timeout_s: float
) -> None:
    while True:
        try:
            scene.tree = await client.tree(min(timeout_s, max(interval_s, 1.0)))
            scene.problem = ""
        except FabricError as error:
            scene.problem = f"{error.code}: {error.message}"
        scene.looked += 1
        scene.changed.set()
        await asyncio.sleep(interval_s)


async def _listen(client: fabric.Client, scene: Scene, pause_s: float) -> None:
    after = 0
    while True:
        try:
            async for row in client.events(after):
                after = row.number
                scene.events.append(row)
        except FabricError:  # the tree's problem says it; the peer may come back
            await asyncio.sleep(pause_s)


async def _print_changes(scene: Scene, out: Output) -> None:
    """Print the tree again when anything that is shown of it has changed."""
    before: list[str] = []
    while True:
        await scene.changed.wait()
        scene.changed.clear()
        lines = list(tree_lines(scene.tree)) if scene.tree is not None else []
        if scene.problem:
            lines.append(scene.problem)
        if lines == before:
            continue
        before = lines
        out.line(f"--- {datetime.now():%H:%M:%S}")
        for line in lines:
            out.line(line)
        if scene.tree is not None:
            out.object(tree_object(scene.tree) | {"problem": scene.problem or None})


async def _paint(scene: Scene, out: Output) -> None:
    from rich.live import Live

    with Live(get_renderable=lambda: _picture(scene), screen=True,
              refresh_per_second=_REFRESHES_PER_S):
        await asyncio.Event().wait()


def _picture(scene: Scene) -> RenderableType:
    from rich.layout import Layout
    from rich.panel import Panel
    from rich.text import Text

    layout = Layout()
    layout.split_column(Layout(name="tree"), Layout(name="events", size=_EVENTS_SHOWN + 2))
    title = f"fabric, {datetime.now():%H:%M:%S}"
    note = scene.problem or "Ctrl-C ends"
    layout["tree"].update(Panel(
        _branches(scene.tree) if scene.tree is not None else Text("asking..."),
        title=title, title_align="left", subtitle=note, border_style="red" if scene.problem
        else "blue",
    ))
    lines = Text("\n", no_wrap=True, overflow="ellipsis").join(
        Text.assemble((f"{clock_time(row.at)} ", "dim"), (f"{row.kind:<9}", _kind_style(row.kind)),
                      row.text)
        for row in scene.events
    )
    layout["events"].update(Panel(lines, title="events at this peer", title_align="left",
                                  border_style="blue"))
    return layout


def _kind_style(kind: str) -> str:
    return "bold red" if kind in ("death", "alarm", "freeze") else "cyan"


def clock_time(at: int) -> str:
    """A peer's time of an event (µs since the epoch), as people read it."""
    return f"{datetime.fromtimestamp(at // SECOND):%H:%M:%S}.{at % SECOND // 1000:03}"


def _branches(root: TreeCell) -> RenderableType:
    from rich.tree import Tree

    def grow(branch: Tree, cell: TreeCell) -> None:
        for child in cell.children:
            grow(branch.add(_label(child, "leaf" if is_leaf(child) else "inner")), child)
        if is_leaf(cell):
            for row in cell.rows:
                branch.add(_host_label(row, cell))

    tree = Tree(_label(root, "root"), guide_style="dim")
    grow(tree, root)
    return tree


def _label(cell: TreeCell, kind: str) -> RenderableType:
    from rich.text import Text

    if cell.error is not None:
        return Text(f"{kind} cell {cell.cell}  {cell.error.code}: {cell.error.message}", "red")
    return _one_line(
        (f"{kind} cell {cell.cell}", "bold"), "  owner ", (_owner(cell), "bold green"), "  ",
        (load_text(load_of(cell)), "cyan"),
    )


def _one_line(*parts: str | tuple[str, str]) -> RenderableType:
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _host_label(row: MemberRow, cell: TreeCell) -> RenderableType:
    state = state_of(row)
    owner = cell.owner is not None and row.contact.node_id == cell.owner.node_id
    return _one_line(
        (format_id(row.key), "bold" if owner else ""), "  ",
        (f"{'observer' if row.observer else state:<8}", "dim" if row.observer else _STYLES[state]),
        f"  {row.contact.address}  ", (load_text(row.summary) if row.summary else "", "cyan"),
    )


# --- the tree in lines and as JSON ----------------------------------------------------------------


def tree_lines(root: TreeCell) -> Iterator[str]:
    """Yield the tree as text, with its branches drawn."""
    yield from _lines(root, "root", "", "")


def _lines(cell: TreeCell, kind: str, first: str, rest: str) -> Iterator[str]:
    if cell.error is not None:
        yield f"{first}{kind} cell {cell.cell}  {cell.error.code}: {cell.error.message}"
        return
    yield f"{first}{kind} cell {cell.cell}  owner {_owner(cell)}  {load_text(load_of(cell))}"
    hosts = [row for row in cell.rows if not row.observer] if is_leaf(cell) else []
    branches: list[MemberRow | TreeCell] = [*hosts, *cell.children]
    for number, branch in enumerate(branches, 1):
        here, below = ("└─ ", "   ") if number == len(branches) else ("├─ ", "│  ")
        if isinstance(branch, TreeCell):
            kind = "leaf" if is_leaf(branch) else "inner"
            yield from _lines(branch, kind, rest + here, rest + below)
        else:
            load = load_text(branch.summary) if branch.summary else ""
            yield (f"{rest}{here}{format_id(branch.key)}  {state_of(branch):<7}  "
                   f"{branch.contact.address}  {load}")


def _owner(cell: TreeCell) -> str:
    return format_id(cell.owner.node_id) if cell.owner else "nobody"


def tree_object(root: TreeCell) -> dict[str, Any]:
    """The whole tree as JSON. ``silent`` are the cells that could not be read."""
    silent = [cell.cell for cell, _ in cells_of(root) if cell.error is not None]
    return {"depth": depth_of(root), "silent": silent, "root": _cell_object(root)}


def _cell_object(cell: TreeCell) -> dict[str, Any]:
    told: dict[str, Any] = {
        "cell": cell.cell, "owner": None if cell.owner is None else contact_object(cell.owner)
    }
    if cell.error is not None:
        return told | {"error": {"code": cell.error.code, "message": cell.error.message}}
    leaf = is_leaf(cell)
    assert cell.record is not None
    return told | {
        "leaf": leaf,
        "seats": [contact_object(seat) for seat in cell.record.seats],
        "summary": summary_object(load_of(cell)),
        "members": [row_object(row, leaf) for row in cell.rows],
        "cells": [_cell_object(child) for child in cell.children],
    }
