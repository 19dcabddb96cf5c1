"""``fabric topology``: the tree as it is written, why it is so, and the end of a freeze.

What is written comes from the owners of all cells, from the root down; what is being decided from
the chairman.  ``explain`` puts both together for one host or one cell.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import fabric
from fabric.errors import BadInput, ConfigError, FabricError, NotFound, OwnerUnknown
from fabric.ids import format_id, parse_id
from fabric.machine import Contact
from fabric.survey import TreeCell
from fabric.tree import chronicle
from fabric.wire.seeing import CellStory, ChairmanStatus, SeatView, Why
from fabric.wire.tree import Order, Owner
from nodes.cli.ask import STATES, contact_object, duration, with_peer
from nodes.cli.output import Exit, Output
from nodes.config import Config
from nodes.tree import cells_of, is_leaf

_NODE_DIGITS: Final = 16


# --- show -----------------------------------------------------------------------------------------


def show(config: Config, out: Output) -> int:
    """Print all cells as they are written, and how the chairman is."""

    async def work(client: fabric.Client, timeout_s: float) -> int:
        root = await client.tree(timeout_s)
        chairman = await _chairman(client, timeout_s)
        told = chairman_object(*chairman)
        for line in _chairman_lines(*chairman):
            out.line(line)
        cells = [cell for cell, _ in cells_of(root)]
        _print_cells(cells, out)
        silent = [cell.cell for cell in cells if cell.error is not None]
        out.object({"chairman": told, "cells": [_cell_object(cell) for cell in cells],
                    "root": root.cell, "silent": silent})
        return Exit.UNAVAILABLE if silent else Exit.OK

    return with_peer(config, work)


async def _chairman(
    client: fabric.Client, timeout_s: float
) -> tuple[Contact, ChairmanStatus | FabricError]:
    """Return who is chairman, and its account or why there is none."""
    status = await client.status(timeout_s)
    if status.topo is None:
        raise OwnerUnknown("this peer does not know the topology yet; try again")
    try:
        return await client.chairman(timeout_s)
    except FabricError as error:
        return status.topo.chairman, error


def _chairman_lines(contact: Contact, status: ChairmanStatus | FabricError) -> list[str]:
    who = f"chairman    {format_id(contact.node_id)} at {contact.address}"
    if isinstance(status, FabricError):
        return [who, f"            {status.code}: {status.message}"]
    lines = [
        who,
        f"epoch       {status.order.generation}.{status.order.lease}, written up to "
        f"v {status.order.version}, coordinator {status.coordinator_id:016x}",
    ]
    if not status.presides:
        reason = f": {status.reason}" if status.reason else ""
        return [*lines, f"state       {status.state}{reason}; the chair is held by "
                        f"{format_id(status.holder)}"]
    lines.append(f"in office   for {duration(status.elected_us)}; {status.hosts} hosts and "
                 f"observers in {status.cells} cells; {status.joins_waiting} joins wait, seats of "
                 f"{status.seats_wrong} cells are to be mended")
    gone = f"{status.gone} gone and {status.removed} removed just now, mark {status.mark}"
    if status.frozen:
        lines.append(f"freeze      FROZEN for {duration(status.frozen_us)}: {gone}; thaws in "
                     f"{duration(status.thaws_in_us)} if nothing changes, or by "
                     "`fabric topology thaw`")
    else:
        lines.append(f"freeze      none: {gone}")
    return lines


def chairman_object(contact: Contact, status: ChairmanStatus | FabricError) -> dict[str, Any]:
    """The chairman as JSON."""
    told: dict[str, Any] = contact_object(contact)
    if isinstance(status, FabricError):
        return told | {"error": {"code": status.code, "message": status.message}}
    return told | {
        "presides": status.presides, "state": status.state, "reason": status.reason or None,
        "coordinator_id": f"{status.coordinator_id:016x}", "order": order_object(status.order),
        "elected_us": status.elected_us, "hosts": status.hosts, "cells": status.cells,
        "frozen": status.frozen, "frozen_us": status.frozen_us,
        "thaws_in_us": status.thaws_in_us, "gone": status.gone, "removed": status.removed,
        "mark": status.mark, "joins_waiting": status.joins_waiting,
        "seats_wrong": status.seats_wrong,
    }


def _print_cells(cells: list[TreeCell], out: Output) -> None:
    rows = []
    for cell in cells:
        record = cell.record
        if record is None:
            assert cell.error is not None
            rows.append((str(cell.cell), "-", "-", "-", "-", "-", "-", "-",
                         f"{cell.error.code}: {cell.error.message}"))
            continue
        owner, term = "nobody", "-"
        if cell.stamp is not None:
            owner, term = format_id(cell.stamp.contact.node_id), str(cell.stamp.term)
        seats = " ".join(format_id(seat.node_id) for seat in record.seats)
        rows.append((
            str(cell.cell), str(record.level), str(record.parent or "-"),
            str(len(record.members)), order_text(record.order), order_text(record.electorate),
            term, owner, seats or "-",
        ))
    out.table(("cell", "level", "in", "members", "record", "electorate", "term", "owner", "seats"),
              rows)


def _cell_object(cell: TreeCell) -> dict[str, Any]:
    record = cell.record
    if record is None:
        assert cell.error is not None
        return {"cell": cell.cell,
                "error": {"code": cell.error.code, "message": cell.error.message}}
    leaf = is_leaf(cell)
    return {
        "cell": cell.cell, "level": record.level, "parent": record.parent or None,
        "order": order_object(record.order), "electorate": order_object(record.electorate),
        "term_floor": record.term_floor, "owner": owner_object(cell.stamp),
        "seats": [contact_object(seat) for seat in record.seats],
        "members": [contact_object(m) if leaf else m.node_id for m in record.members],
        "observers": [contact_object(observer) for observer in record.observers],
    }


def order_text(order: Order) -> str:
    """(E, v) as people read it."""
    return f"{order.generation}.{order.lease} v {order.version}"


def order_object(order: Order) -> dict[str, int]:
    """(E, v) as JSON."""
    return {"generation": order.generation, "lease": order.lease, "version": order.version}


def owner_object(owner: Owner | None) -> dict[str, Any] | None:
    """An owner with its stamp as JSON."""
    if owner is None:
        return None
    return {**contact_object(owner.contact), "term": owner.term,
            "electorate": order_object(owner.electorate)}


# --- thaw -----------------------------------------------------------------------------------------


def thaw(config: Config, out: Output) -> int:
    """End a freeze."""

    async def work(client: fabric.Client, timeout_s: float) -> int:
        thawed = await client.thaw(timeout_s)
        out.line(f"thawed: {thawed.gone} members that are gone are removed now" if thawed.frozen
                 else "nothing was frozen")
        out.object({"was_frozen": thawed.frozen, "gone": thawed.gone})
        return Exit.OK

    return with_peer(config, work)


# --- explain --------------------------------------------------------------------------------------


def explain(config: Config, out: Output) -> int:
    """Say why a host is in its cell, or why a cell has its owner."""
    node_id, cell = parse_subject(config.text("subject"))

    async def work(client: fabric.Client, timeout_s: float) -> int:
        why = await client.why(node_id, timeout_s) if node_id else None
        account = await _account(client, cell if why is None else why.path[0].cell, timeout_s)
        if why is not None:
            for line in why_lines(why):
                out.line(line)
            out.line()
        for line in account_lines(account):
            out.line(line)
        out.object({"why": None if why is None else why_object(why),
                    "cell": account_object(account)})
        return Exit.OK

    return with_peer(config, work)


def parse_subject(text: str) -> tuple[int, int]:
    """Return (node id, 0) for 16 hexadecimal digits, (0, cell) for a number."""
    if len(text) == _NODE_DIGITS:
        try:
            return parse_id(text), 0
        except BadInput:
            pass
    if text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 62:
        return 0, int(text)
    raise ConfigError(
        "NODE|CELL must be a node id (16 hexadecimal digits) or the number of a cell "
        f"(was {text!r:.80})", {"field": "subject", "value": text[:80]},
    )


@dataclass(frozen=True, slots=True)
class Account:
    """A cell as its owner tells it (without one: the chairman), and what each seat says."""

    owner: Contact | None
    story: CellStory
    votes: tuple[tuple[Contact, SeatView | FabricError], ...]


async def _account(client: fabric.Client, cell: int, timeout_s: float) -> Account:
    owner = await _owner_of(client, cell, timeout_s)
    teller = owner or (await client.chairman(timeout_s))[0]
    story = await client.cell_story(cell, teller, timeout_s)
    votes = await asyncio.gather(
        *(_vote(client, cell, seat, timeout_s) for seat in story.record.seats)
    )
    return Account(owner, story, tuple(zip(story.record.seats, votes, strict=True)))


async def _vote(
    client: fabric.Client, cell: int, seat: Contact, timeout_s: float
) -> SeatView | FabricError:
    try:
        view = (await client.cell_story(cell, seat, timeout_s)).seat
    except FabricError as error:
        return error
    return view or NotFound("it does not know of its seat yet")


async def _owner_of(client: fabric.Client, cell: int, timeout_s: float) -> Contact | None:
    """Return the owner of ``cell``, ``None`` if there is none; raises ``NotFound``."""
    root = await client.tree(timeout_s)
    for found, _ in cells_of(root):
        if found.cell == cell:
            known = found.stamp.contact if found.stamp is not None else found.owner
            return known if found.error is None else None
    raise NotFound(f"there is no cell {cell} in the tree", {"cell": str(cell)})


_WHY: Final = {
    chronicle.JOINED: "joined it, as the cell of its zone with most room then",
    chronicle.SPLIT: "came to it when it split off cell {other}",
    chronicle.MERGED: "came to it when cell {other} was merged into it",
    chronicle.MOVED: "moved to it from cell {other}: to even out the cells, or to its own zone",
}


def why_lines(why: Why) -> list[str]:
    """Say in words why a host or observer is where it is."""
    leaf = why.path[0]
    kind = "observer" if why.observer else "host"
    chairman = format_id(why.chairman.node_id)
    lines = [
        f"{kind} {format_id(why.contact.node_id)} at {why.contact.address} is in cell "
        + " in ".join(str(step.cell) for step in why.path)
    ]
    if why.what:
        text = _WHY.get(why.what, why.what).format(other=why.other)
        lines.append(f"  it {text}, {duration(why.ago_us)} ago: "
                     f"write {order_text(why.order)} of chairman {chairman}")
    else:
        lines.append(f"  it was there when the present chairman, {chairman}, took office "
                     f"{duration(why.elected_us)} ago")
    lines.append(f"  cell {leaf.cell} has {leaf.members} hosts; it splits above {leaf.largest} "
                 f"and merges below {leaf.smallest}")
    if why.domain:
        zone, _, rack = why.domain.partition("/")
        lines.append(f"  it is of zone {zone or '-'}, rack {rack or '-'}; {why.zone_hosts} of the "
                     "cell's hosts are of that zone")
    seats = ", ".join(map(str, why.seats))
    lines.append(f"  it votes on the owner of cell {seats}" if seats
                 else "  it has no seat in any cell")
    return lines


def why_object(why: Why) -> dict[str, Any]:
    """The same as JSON."""
    return {
        **contact_object(why.contact), "observer": why.observer,
        "path": [{"cell": s.cell, "level": s.level, "members": s.members, "min": s.smallest,
                  "max": s.largest} for s in why.path],
        "domain": why.domain or None, "zone_hosts": why.zone_hosts,
        "seats": list(why.seats), "reason": why.what or None, "from_cell": why.other or None,
        "order": order_object(why.order) if why.what else None,
        "ago_us": why.ago_us if why.what else None,
        "chairman": contact_object(why.chairman), "chairman_elected_us": why.elected_us,
    }


def account_lines(account: Account) -> list[str]:
    """Say in words who owns a cell, what rank and seats say, and how the owner won."""
    story = account.story
    record, leaf = story.record, story.record.level == 0
    name = format_id if leaf else str
    lines = [
        f"{'leaf' if leaf else 'inner'} cell {record.cell}"
        + (f" in cell {record.parent}" if record.parent else ", the root")
        + f": {len(record.members)} {'hosts' if leaf else 'cells'}; "
        f"record E {order_text(record.order)}; electorate E {order_text(record.electorate)}, "
        f"terms above {record.term_floor}"
    ]
    lines += _owner_lines(account)
    if story.ranks:
        lines.append("rank (who stands first when the lease is free):")
    for number, row in enumerate(story.ranks, 1):
        key = name(row.key)
        owns = account.owner is not None and row.contact.node_id == account.owner.node_id
        state = STATES[row.state] if row.incarnation else "expected"
        lines.append(f"  {number}. {key}  {state}{'  owner' if owns else ''}")
    lines.append(f"seats ({len(record.seats) // 2 + 1} of {len(record.seats)} decide):")
    lines += [f"  {format_id(seat.node_id)}  {_vote_text(vote)}" for seat, vote in account.votes]
    return lines


def _owner_lines(account: Account) -> list[str]:
    story, won = account.story, account.story.won
    if account.owner is None or story.owner is None:
        return ["owner: nobody speaks for it"]
    leaf = story.record.level == 0
    lease = f", lease for another {duration(story.lease_us)}" if story.lease_us else ""
    lines = [f"owner {format_id(account.owner.node_id)}, term {story.owner.term} under "
             f"E {order_text(story.owner.electorate)}{lease}"]
    if won is None:
        return lines
    before = "nobody before it" if won.before is None else (
        "before, under another electorate, it owned too"
        if won.before.contact.node_id == account.owner.node_id
        else f"before it {format_id(won.before.contact.node_id)}, term {won.before.term}"
    )
    passed = ", ".join(
        f"{format_id(it.key) if leaf else f'cell {it.key}'} ({STATES[it.state]})"
        for it in won.passed
    )
    ranked = f"ranking before it then: {passed}" if passed else "none ranked before it"
    return [*lines, f"  elected {duration(won.ago_us)} ago; {before}; {ranked}"]


def _vote_text(vote: SeatView | FabricError) -> str:
    if isinstance(vote, FabricError):
        return f"{vote.code}: {vote.message}"
    term = f"term {vote.term} under E {order_text(vote.electorate)}"
    if vote.cold_us:
        return f"grants nothing for {duration(vote.cold_us)}: it has just started; {term}"
    if vote.grantee:
        return f"granted to {format_id(vote.grantee)} for {duration(vote.left_us)}; {term}"
    return f"granted to nobody; last {term}"


def account_object(account: Account) -> dict[str, Any]:
    """The same as JSON."""
    story, record, won = account.story, account.story.record, account.story.won
    leaf = record.level == 0

    def name(key: int) -> str | int:
        return format_id(key) if leaf else key

    return {
        "cell": record.cell, "level": record.level, "parent": record.parent or None,
        "order": order_object(record.order), "electorate": order_object(record.electorate),
        "term_floor": record.term_floor,
        "owner": None if account.owner is None else owner_object(story.owner),
        "lease_us": story.lease_us or None,
        "ranks": [{"key": name(r.key), **contact_object(r.contact), "state": STATES[r.state]}
                  for r in story.ranks],
        "grants": [{"node_id": format_id(g.seat), "left_us": g.left_us} for g in story.grants],
        "standbys": [contact_object(standby) for standby in story.standbys],
        "won": None if won is None else {
            "ago_us": won.ago_us, "before": owner_object(won.before),
            "passed_over": [{"key": name(p.key), "state": STATES[p.state]} for p in won.passed],
        },
        "seats": [contact_object(seat) | _vote_object(vote) for seat, vote in account.votes],
    }


def _vote_object(vote: SeatView | FabricError) -> dict[str, Any]:
    if isinstance(vote, FabricError):
        return {"error": {"code": vote.code, "message": vote.message}}
    return {
        "electorate": order_object(vote.electorate), "term": vote.term,
        "grantee": format_id(vote.grantee) if vote.grantee else None,
        "left_us": vote.left_us, "cold_us": vote.cold_us,
    }
