"""Commands that ask a running peer and change nothing: ``status``, ``members``, ``tree``.

Which peer: ``--peer``, else ``FABRIC_PEER``, else the one that recorded its address in the data
directory (``--data-dir``, else ``FABRIC_DATA_DIR``).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Final

import fabric
from fabric.errors import ConfigError, Unavailable
from fabric.ids import format_id
from fabric.machine import Contact
from fabric.survey import TreeCell
from fabric.tree.summary import Summary
from fabric.wire.peer import MemberRow, Members, Status
from fabric.wire.tree import HOST
from nodes.cli.keys import caller_keys
from nodes.cli.output import Exit, Output
from nodes.config import Config, check_address
from nodes.tree import cells_of, depth_of, is_leaf, load_of

#: In a data directory: the address of the peer that runs on it.
ADDRESS_FILE: Final = "address"
STATES: Final = ("alive", "suspect", "dead", "left")

def peer_address(config: Config) -> str:
    """Return the address of the peer to ask. Raises :class:`ConfigError`."""
    if config.text("peer"):
        return config.text("peer")
    directory = config.path("data_dir")
    if directory is None:
        raise ConfigError(
            "no peer to ask: give --peer ADDRESS or --data-dir DIR, or set FABRIC_PEER",
            {"field": "peer"},
        )
    path = directory / ADDRESS_FILE
    try:
        return check_address(path.read_text().strip())
    except (OSError, ValueError):
        raise ConfigError(
            f"no peer runs on {directory} ({path} names none); give --peer ADDRESS",
            {"field": "data_dir", "file": str(path)},
        ) from None


def with_peer(config: Config, work: Callable[[fabric.Client, float], Awaitable[int]]) -> int:
    """Run ``work`` with a client of the peer, and the time that it may take."""

    async def main() -> int:
        keys = caller_keys(config)
        async with fabric.connect(peer_address(config), keys=keys) as client:
            return await work(client, config.seconds("timeout_s"))

    return asyncio.run(main())


# --- reading --------------------------------------------------------------------------------------


def status(config: Config, out: Output) -> int:
    """Print how a peer sees itself."""

    async def work(client: fabric.Client, timeout_s: float) -> int:
        answer = await client.status(timeout_s)
        for name, value in _status_lines(answer):
            out.line(f"{name:<12} {value}")
        out.object(_status_object(answer))
        return Exit.OK

    return with_peer(config, work)


def _status_lines(status: Status) -> list[tuple[str, str]]:
    topo, owns = status.topo, ", ".join(map(str, status.owns))
    lines = [
        ("peer", f"{format_id(status.contact.node_id)} at {status.contact.address}"),
        ("role", ("host" if status.role == HOST else "observer")
         + (", candidate" if status.candidate else "")
         + (", chairman" if status.chairman else "")),
        ("cells", " > ".join(map(str, reversed(status.path))) or "none yet"),
        ("owns", owns or "-"),
    ]
    if topo is not None:
        lines.append(
            ("chairman", f"{format_id(topo.chairman.node_id)} at {topo.chairman.address}")
        )
    if status.summary is not None:
        lines.append(("this host", _load(status.summary)))
    if status.root_summary is not None:
        lines.append(("all hosts", _load(status.root_summary)))
    return lines


def _status_object(status: Status) -> dict[str, Any]:
    topo = status.topo
    return {
        "node_id": format_id(status.contact.node_id),
        "address": status.contact.address,
        "role": "host" if status.role == HOST else "observer",
        "candidate": status.candidate,
        "is_chairman": status.chairman,
        "path": list(status.path),
        "complete": status.complete,
        "owns": list(status.owns),
        "chairman": None if topo is None else contact_object(topo.chairman),
        "root": None if topo is None else topo.root,
        "summary": _summary(status.summary),
        "root_summary": _summary(status.root_summary),
    }


def members(config: Config, out: Output) -> int:
    """Print who is in each cell that the peer takes part in."""

    async def work(client: fabric.Client, timeout_s: float) -> int:
        status = await client.status(timeout_s)
        cells = []
        for cell in _gossips_in(status):
            answer = await client.cell(cell, timeout_s)
            cells.append(_members_object(answer))
            _print_members(answer, out)
        out.object({"cells": cells})
        return Exit.OK

    return with_peer(config, work)


def _gossips_in(status: Status) -> list[int]:
    """The cells a peer takes part in: its leaf, and the parent of each cell that it owns."""
    path = status.path
    if not path:
        raise Unavailable(f"the peer at {status.contact.address} has no place in a tree yet")
    return [path[0], *(up for cell, up in itertools.pairwise(path) if cell in status.owns)]


def _print_members(members: Members, out: Output) -> None:
    leaf = members.record.level == 0
    owner = members.owner.contact.node_id if members.owner else 0
    out.line(f"{'leaf' if leaf else 'inner'} cell {members.record.cell}")
    rows = []
    for row in members.rows:
        kind = "cell" if not leaf else "observer" if row.observer else "host"
        mark = "owner" if row.contact.node_id == owner and not row.observer else ""
        rows.append((
            format_id(row.key) if leaf else str(row.key), kind, STATES[row.state],
            row.contact.address or "-", mark, _load(row.summary) if row.summary else "",
        ))
    out.table(("id", "kind", "state", "address", "role", "load"), rows)


def _members_object(members: Members) -> dict[str, Any]:
    owner = members.owner
    return {
        "cell": members.record.cell,
        "level": members.record.level,
        "parent": members.record.parent,
        "owner": None if owner is None else contact_object(owner.contact),
        "term": None if owner is None else owner.term,
        "members": [_row_object(row, members.record.level == 0) for row in members.rows],
    }


def _row_object(row: MemberRow, leaf: bool) -> dict[str, Any]:
    return {
        "key": format_id(row.key) if leaf else row.key,
        **contact_object(row.contact),
        "state": STATES[row.state],
        "observer": row.observer,
        "summary": _summary(row.summary),
    }


def tree(config: Config, out: Output) -> int:
    """Print the whole tree of cells."""

    async def work(client: fabric.Client, timeout_s: float) -> int:
        root = await client.tree(timeout_s)
        _print_branch(root, "root", "", "", out)
        silent = [cell.cell for cell, _ in cells_of(root) if cell.error is not None]
        out.object({"depth": depth_of(root), "silent": silent, "root": _cell_object(root)})
        return Exit.UNAVAILABLE if silent else Exit.OK

    return with_peer(config, work)


def _print_branch(cell: TreeCell, kind: str, first: str, rest: str, out: Output) -> None:
    if cell.error is not None:
        out.line(f"{first}{kind} cell {cell.cell}  {cell.error.code}: {cell.error.message}")
        return
    owner = format_id(cell.owner.node_id) if cell.owner else "nobody"
    out.line(f"{first}{kind} cell {cell.cell}  owner {owner}  {_load(load_of(cell))}")
    hosts = [row for row in cell.rows if not row.observer] if is_leaf(cell) else []
    branches: list[MemberRow | TreeCell] = [*hosts, *cell.children]
    for number, branch in enumerate(branches, 1):
        here, below = ("└─ ", "   ") if number == len(branches) else ("├─ ", "│  ")
        if isinstance(branch, TreeCell):
            kind = "leaf" if is_leaf(branch) else "inner"
            _print_branch(branch, kind, rest + here, rest + below, out)
        else:
            load = _load(branch.summary) if branch.summary else ""
            out.line(f"{rest}{here}{format_id(branch.key)}  {STATES[branch.state]:<7}  "
                     f"{branch.contact.address}  {load}")


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
        "summary": _summary(load_of(cell)),
        "members": [_row_object(row, leaf) for row in cell.rows],
        "cells": [_cell_object(child) for child in cell.children],
    }


def contact_object(contact: Contact) -> dict[str, str]:
    """A contact as JSON."""
    return {"node_id": format_id(contact.node_id), "address": contact.address}


def _load(summary: Summary) -> str:
    hosts = "" if summary.expected <= 1 else (
        f"{summary.hosts} hosts, " if summary.hosts == summary.expected
        else f"{summary.hosts} of {summary.expected} hosts, "
    )
    return (f"{hosts}{summary.cpu - summary.cpu_free}/{summary.cpu} vCPU, "
            f"{(summary.memory_mb - summary.memory_free_mb) >> 10}/{summary.memory_mb >> 10} GB, "
            f"{summary.vms} VMs")


def _summary(summary: Summary | None) -> dict[str, int] | None:
    if summary is None:
        return None
    names = ("hosts", "expected", "cpu", "cpu_free", "memory_mb", "memory_free_mb", "vms")
    return {name: getattr(summary, name) for name in names}
