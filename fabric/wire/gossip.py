"""Messages inside one cell. Type ids 1-19.

``cell`` says which cell is meant: a peer that owns cells gossips in up to as many cells as the
tree is deep.  A member's *key* is its node id in a leaf cell and its cell id in an inner cell,
where it is spoken for by that cell's owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fabric.limits import MAX_CELL_MEMBERS, MAX_NEWS, MAX_OBSERVERS
from fabric.machine import Contact
from fabric.tree.summary import Summary
from fabric.wire.codec import Int, Small, many, register

#: States of a member, in the order in which they override each other within one incarnation.
ALIVE: Final = 0
SUSPECT: Final = 1
DEAD: Final = 2
LEFT: Final = 3


@dataclass(slots=True)
class News:
    """All that is known of one member.

    ``incarnation`` is raised by the member alone: (boot id or owner's term) << 16 | refutations.
    Status (incarnation, state) and load (incarnation >> 16, ``seq``, ``summary``) age apart.
    """

    key: Int
    incarnation: Int
    state: Small
    contact: Contact
    seq: Int
    summary: Summary | None


NewsList = Annotated[tuple[News, ...], many(MAX_NEWS)]


@dataclass(slots=True)
class Ping:
    """Are you there? ``round`` keeps the rotation in step; ``path`` is a digest of the topology."""

    cell: Int
    key: Int
    number: Int
    round: Int
    path: Int
    news: NewsList


@dataclass(slots=True)
class Ack:
    cell: Int
    key: Int
    number: Int
    path: Int
    news: NewsList


@dataclass(slots=True)
class ProbeFor:
    """Please probe ``key`` for me; it did not answer me."""

    cell: Int
    number: Int
    key: Int


@dataclass(slots=True)
class ProbeAnswer:
    """The member that you asked about (``number``) answered me."""

    cell: Int
    number: Int


@dataclass(slots=True)
class Suspect:
    """I am a witness: ``key`` answered neither me nor those that I asked.

    Sent straight to every member, so that each receiver counts witnesses by their authenticated
    senders: no single member can have another one removed. ``dead``: and I hold it for dead.
    """

    cell: Int
    key: Int
    incarnation: Int
    dead: bool


@dataclass(slots=True)
class SyncAsk:
    """Anti-entropy: here is the hash of my table."""

    cell: Int
    digest: Int


@dataclass(slots=True)
class Sync:
    """My whole table. ``answer``: send me yours."""

    cell: Int
    table: Annotated[tuple[News, ...], many(MAX_CELL_MEMBERS + MAX_OBSERVERS + 1)]
    answer: bool


register(1, Ping)
register(2, Ack)
register(3, ProbeFor)
register(4, ProbeAnswer)
register(5, Suspect)
register(6, SyncAsk)
register(7, Sync)
