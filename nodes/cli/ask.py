"""Commands that ask one running peer and change nothing: ``status``, ``members``.

Which peer: ``--peer``, else ``FABRIC_PEER``, else the one that recorded its address in the data
directory (``--data-dir``, else ``FABRIC_DATA_DIR``).
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

import fabric
from fabric.errors import ConfigError, Unavailable
from fabric.gossip.members import REFUTATION_BITS
from fabric.ids import format_id
from fabric.machine import Contact
from fabric.runtime.tracing import TRACE
from fabric.tree.summary import Summary
from fabric.units import SECOND
from fabric.wire.peer import MemberRow, Members, Status
from fabric.wire.tree import HOST
from nodes.cli.keys import caller_keys
from nodes.cli.output import Exit, Output
from nodes.config import Config, check_address

#: In a data directory: the address of the peer that runs on it.
ADDRESS_FILE: Final = "address"
#: The low bits of an incarnation count refutations.
REFUTATIONS: Final = (1 << REFUTATION_BITS) - 1
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
        TRACE.set(secrets.token_hex(8))  # the peers' logs tell of this command under it
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
        lines.append(("this host", load_text(status.summary)))
    if status.root_summary is not None:
        lines.append(("all hosts", load_text(status.root_summary)))
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
        "summary": summary_object(status.summary),
        "root_summary": summary_object(status.root_summary),
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
            _name(row.key, leaf), kind, state_of(row), row.incarnation >> REFUTATION_BITS,
            row.incarnation & REFUTATIONS, row.contact.address or "-", mark,
            load_text(row.summary) if row.summary else "", _age(row),
            ", ".join(_name(key, leaf) for key in row.accusers),
        ))
    life = "boot" if leaf else "term"
    header = ("id", "kind", "state", life, "refuted", "address", "role", "load", "told", "says who")
    out.table(header, rows)


def state_of(row: MemberRow) -> str:
    """The state of a member in one word; a member of which nothing was heard yet is expected."""
    return STATES[row.state] if row.incarnation else "expected"


def _name(key: int, leaf: bool) -> str:
    return format_id(key) if leaf else str(key)


def _age(row: MemberRow) -> str:
    """How long ago the load was told, and since when the member is suspected."""
    told = duration(row.told_us) if row.told_us else ""
    return f"{told}, suspect for {duration(row.suspect_us)}" if row.suspect_us else told


def duration(us: int) -> str:
    """A duration as people read it: 0.8 s, 42 s, 7 min, 3 h, 2 d."""
    seconds = us / SECOND
    for limit, unit, size in ((10, "s", 1), (120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds:.1f} s" if limit == 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _members_object(members: Members) -> dict[str, Any]:
    owner = members.owner
    return {
        "cell": members.record.cell,
        "level": members.record.level,
        "parent": members.record.parent,
        "owner": None if owner is None else contact_object(owner.contact),
        "term": None if owner is None else owner.term,
        "members": [row_object(row, members.record.level == 0) for row in members.rows],
    }


def row_object(row: MemberRow, leaf: bool) -> dict[str, Any]:
    """A member as JSON."""
    return {
        "key": format_id(row.key) if leaf else row.key,
        **contact_object(row.contact),
        "state": state_of(row),
        "observer": row.observer,
        "boot" if leaf else "term": row.incarnation >> REFUTATION_BITS,
        "refutations": row.incarnation & REFUTATIONS,
        "load_age_us": row.told_us or None,
        "suspect_us": row.suspect_us or None,
        "accusers": [format_id(key) if leaf else key for key in row.accusers],
        "summary": summary_object(row.summary),
    }


def contact_object(contact: Contact) -> dict[str, str]:
    """A contact as JSON."""
    return {"node_id": format_id(contact.node_id), "address": contact.address}


def load_text(summary: Summary) -> str:
    """A load as people read it: 3 hosts, 2/48 vCPU, 4/192 GB, 1 VMs."""
    hosts = "" if summary.expected <= 1 else (
        f"{summary.hosts} hosts, " if summary.hosts == summary.expected
        else f"{summary.hosts} of {summary.expected} hosts, "
    )
    return (f"{hosts}{summary.cpu - summary.cpu_free}/{summary.cpu} vCPU, "
            f"{(summary.memory_mb - summary.memory_free_mb) >> 10}/{summary.memory_mb >> 10} GB, "
            f"{summary.vms} VMs")


def summary_object(summary: Summary | None) -> dict[str, int] | None:
    """A load as JSON."""
    if summary is None:
        return None
    names = ("hosts", "expected", "cpu", "cpu_free", "memory_mb", "memory_free_mb", "vms")
    return {name: getattr(summary, name) for name in names}
