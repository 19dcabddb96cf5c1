"""Commands that ask a running peer and change nothing: ``status``, ``members``, ``tree``.

Which peer: ``--peer``, else ``FABRIC_PEER``, else the one whose address the local data directory
recorded (``--data-dir``, else where ``fabric up`` keeps its data).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from fabric.errors import ConfigError, Unavailable
from fabric.ids import format_id
from fabric.machine import Contact, Message
from fabric.tree.summary import Summary
from fabric.wire.peer import Members, MembersAsk, Status, StatusAsk
from fabric.wire.tree import HOST
from nodes.cli.output import Exit, Output
from nodes.client import Client
from nodes.config import Config, check_address, default_data_dir
from nodes.tree import Tree, TreeCell, Walker

#: In a data directory: the address of the peer that runs on it.
ADDRESS_FILE: Final = "address"
STATES: Final = ("alive", "suspect", "dead", "left")

Asking: TypeAlias = Callable[[Message], Awaitable[Message]]


def peer_address(config: Config) -> str:
    """Return the address of the peer to ask. Raises :class:`ConfigError`."""
    if config.text("peer"):
        return config.text("peer")
    directory = config.path("data_dir") or Path(default_data_dir())
    path = directory / ADDRESS_FILE
    try:
        return check_address(path.read_text().strip())
    except (OSError, ValueError):
        raise ConfigError(
            f"no peer to ask: give --peer ADDRESS or set FABRIC_PEER ({path} names none)",
            {"field": "peer", "file": str(path)},
        ) from None


def with_peer(config: Config, work: Callable[[Asking], Awaitable[int]]) -> int:
    """Run ``work`` with a function that asks the peer."""
    peer = Contact(0, peer_address(config))
    timeout_s = config.seconds("timeout_s")

    async def main() -> int:
        async with Client() as client:
            return await work(lambda body: client.ask(peer, body, timeout_s))

    return asyncio.run(main())


# --- reading --------------------------------------------------------------------------------------


def status(config: Config, out: Output) -> int:
    """Print how a peer sees itself."""

    async def work(ask: Asking) -> int:
        answer = await ask(StatusAsk())
        assert isinstance(answer, Status)
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

    async def work(ask: Asking) -> int:
        status = await ask(StatusAsk())
        assert isinstance(status, Status)
        cells = []
        for cell in _gossips_in(status):
            answer = await ask(MembersAsk(cell))
            assert isinstance(answer, Members)
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
    out.table(("id", "kind", "state", "address", "", "load"), rows)


def _members_object(members: Members) -> dict[str, Any]:
    leaf = members.record.level == 0
    return {
        "cell": members.record.cell,
        "level": members.record.level,
        "parent": members.record.parent,
        "owner": None if members.owner is None else contact_object(members.owner.contact),
        "term": None if members.owner is None else members.owner.term,
        "members": [
            {
                "key": format_id(row.key) if leaf else row.key,
                **contact_object(row.contact),
                "state": STATES[row.state],
                "observer": row.observer,
                "summary": _summary(row.summary),
            }
            for row in members.rows
        ],
    }


def tree(config: Config, out: Output) -> int:
    """Print the whole tree of cells."""
    peer = Contact(0, peer_address(config))
    timeout_s = config.seconds("timeout_s")

    async def read() -> Tree:
        async with Client() as client:
            return await Walker(lambda to, body: client.ask(to, body, timeout_s), [peer]).walk()

    found = asyncio.run(read())
    chairman = found.topo.chairman
    out.line(f"chairman {format_id(chairman.node_id)} at {chairman.address}")
    if found.root is not None:
        _print_branch(found, found.root, "", "", out)
    for cell in found.silent:
        out.line(f"cell {cell}: nobody answers for it")
    out.object({
        "chairman": contact_object(chairman), "root": found.topo.root, "depth": found.depth,
        "silent": found.silent,
        "cells": [
            _members_object(Members(cell.record, cell.owner, cell.rows))
            for _, cell in sorted(found.cells.items())
        ],
    })
    return Exit.OK if not found.silent else Exit.UNAVAILABLE


def _print_branch(found: Tree, cell: TreeCell, first: str, rest: str, out: Output) -> None:
    kind = "root" if cell.depth == 0 else "leaf" if cell.is_leaf else "inner"
    owner = cell.owner
    who = f"owner {format_id(owner.contact.node_id)} (term {owner.term})" if owner else "no owner"
    out.line(f"{first}{kind} cell {cell.record.cell}  {who}  {_load(cell.summary())}")
    branches = found.children(cell)
    if cell.is_leaf:
        hosts = [row for row in cell.rows if not row.observer]
        for number, row in enumerate(hosts):
            last = number == len(hosts) - 1
            load = _load(row.summary) if row.summary else ""
            out.line(f"{rest}{'└─ ' if last else '├─ '}{format_id(row.key)}  "
                     f"{STATES[row.state]:<7}  {row.contact.address}  {load}")
    for number, child in enumerate(branches):
        last = number == len(branches) - 1
        _print_branch(found, child, rest + ("└─ " if last else "├─ "),
                      rest + ("   " if last else "│  "), out)


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
