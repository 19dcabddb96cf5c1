"""What anybody may ask a peer about itself and its surroundings. Type ids 110-119.

Travels in a ``Request`` (from the command line, from other peers) or as a ``LocalCall``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fabric.limits import MAX_CELL_MEMBERS, MAX_DEPTH, MAX_OBSERVERS
from fabric.machine import Contact
from fabric.tree.summary import Summary
from fabric.wire.codec import Int, Small, Text, many, register
from fabric.wire.tree import CellRecord, Owner, Topo


@dataclass(slots=True)
class StatusAsk:
    """How are you? Answered by :class:`Status`."""


@dataclass(slots=True)
class Status:
    """A peer's own account. ``root_summary`` is known to owners of the root only."""

    contact: Contact
    boot_id: Int
    role: Small
    topo: Topo | None
    path: Annotated[tuple[Int, ...], many(MAX_DEPTH)]
    complete: bool
    owners: Annotated[tuple[Owner, ...], many(MAX_DEPTH)]
    owns: Annotated[tuple[Int, ...], many(MAX_DEPTH)]
    chairman: bool
    candidate: bool
    summary: Summary | None
    root_summary: Summary | None


@dataclass(slots=True)
class MembersAsk:
    """Who is in the cell ``cell`` (0: your leaf)? Answered by :class:`Members`."""

    cell: Int


@dataclass(slots=True)
class MemberRow:
    """One member: a host or observer, or a child cell with its speaker.

    ``told_us`` is how long ago its load was last heard to change (0: never); ``accusers`` are the
    members on whose word it is suspected (since ``suspect_us``) or held for dead.
    """

    key: Int
    contact: Contact
    state: Small
    observer: bool
    incarnation: Int
    summary: Summary | None
    told_us: Int = 0
    suspect_us: Int = 0
    accusers: Annotated[tuple[Int, ...], many(MAX_CELL_MEMBERS)] = ()


@dataclass(slots=True)
class Members:
    """A cell as one of those who gossip in it sees it, itself included."""

    record: CellRecord
    owner: Owner | None
    rows: Annotated[tuple[MemberRow, ...], many(MAX_CELL_MEMBERS + MAX_OBSERVERS + 1)]


@dataclass(slots=True)
class LeaveAsk:
    """Leave gracefully. Answered by ``Done`` once goodbye is said. From this process only."""

    reason: Text


register(110, StatusAsk)
register(111, Status)
register(112, MembersAsk)
register(113, MemberRow)
register(114, Members)
register(115, LeaveAsk)
