"""``fabric events``: what happened at a peer, and with ``--follow`` what happens.

Each peer remembers its own events, a bounded number of them: a host tells what it saw of its cell,
the chairman also what became of the tree.
"""

from __future__ import annotations

from typing import Any, Final

import fabric
from fabric.errors import ConfigError
from fabric.ids import format_id
from fabric.runtime.journal import KINDS
from fabric.wire.seeing import EventRow
from nodes.cli.ask import with_peer
from nodes.cli.output import Exit, Output
from nodes.cli.tree import clock_time
from nodes.config import Config

_ALWAYS: Final = "missed"


def run(config: Config, out: Output) -> int:
    """Print the last events of a peer; follow them if asked to."""
    wanted = _wanted(config)
    last, follow = config.number("last"), config.flag("follow")

    async def work(client: fabric.Client, timeout_s: float) -> int:
        rows, missed = await _history(client, timeout_s)
        shown = [row for row in rows if row.kind in wanted][-last:]
        for row in shown:
            _show(row, out)
        if not follow:
            out.object({"events": [event_object(row) for row in shown], "missed": missed})
            return Exit.OK
        for row in shown:
            out.object(event_object(row))
        async for row in client.events(rows[-1].number if rows else 0):
            if row.kind in wanted or row.kind == _ALWAYS:
                _show(row, out)
                out.object(event_object(row))
        return Exit.OK

    return with_peer(config, work)


def _wanted(config: Config) -> frozenset[str]:
    kinds = config.names("kind") or KINDS
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(
                f"--kind must be of: {', '.join(sorted(KINDS))} (was {kind!r:.80})",
                {"field": "kind", "value": kind[:80]},
            )
    return frozenset(kinds)


async def _history(client: fabric.Client, timeout_s: float) -> tuple[list[EventRow], int]:
    """Return all that the peer remembers, and how much it has forgotten."""
    rows: list[EventRow] = []
    after = missed = 0
    while True:
        page = await client.history(after, timeout_s=timeout_s)
        missed += page.missed
        rows += page.rows
        if not page.more:
            return rows, missed
        after = page.rows[-1].number


def _show(row: EventRow, out: Output) -> None:
    out.line(f"{clock_time(row.at)}  {row.kind:<8}  {row.text}")


def event_object(row: EventRow) -> dict[str, Any]:
    """An event as JSON. ``at`` is in microseconds since the epoch, by the peer's clock."""
    return {
        "event": row.kind,
        "number": row.number,
        "at": row.at,
        "cell": row.cell or None,
        "node_id": format_id(row.node) if row.node else None,
        "text": row.text,
    }
