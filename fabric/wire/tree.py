"""Topology records and the messages of the tree: spreading, joining, leases. Type ids 20-39.

A *cell record* is written by the chairman alone.  ``(generation, lease, version)`` orders the
records of one cell; ``electorate`` is that order of the write that last changed the seats.  What a
peer holds of the topology is its *path*: the records of the cells from its leaf to the root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from fabric.limits import MAX_CELL_MEMBERS, MAX_DEPTH, MAX_OBSERVERS, MAX_SEATS
from fabric.machine import Contact
from fabric.wire.codec import Int, Signed, Small, Text, many, register


class Order(NamedTuple):
    """(E, v): the chairman's epoch and the version of a record's write. Compares as a tuple."""

    generation: Int
    lease: Int
    version: Int


#: Before anything was ever written.
NO_ORDER = Order(0, 0, 0)


class Owner(NamedTuple):
    """Who speaks for a cell, under which electorate and term. ``(electorate, term)`` orders it."""

    cell: Int
    electorate: Order
    term: Int
    contact: Contact


@dataclass(slots=True)
class CellRecord:
    """One cell, as the chairman wrote it.

    ``members`` are hosts in a leaf cell (level 0); in an inner cell they are child cells, as
    ``Contact(cell id, "")``.  ``parent`` is 0 for the root.  Terms of this electorate lie above
    ``term_floor``.  ``domains`` are the fault domains of a leaf cell's members, ``located`` which
    of them each member is in, in the order of ``members``; both empty where nobody told its domain.
    """

    cell: Int
    level: Small
    parent: Int
    order: Order
    electorate: Order
    term_floor: Int
    members: Annotated[tuple[Contact, ...], many(MAX_CELL_MEMBERS + 1)]
    observers: Annotated[tuple[Contact, ...], many(MAX_OBSERVERS)]
    seats: Annotated[tuple[Contact, ...], many(MAX_SEATS)]
    domains: Annotated[tuple[Text, ...], many(MAX_CELL_MEMBERS + 1)] = ()
    located: Annotated[tuple[Small, ...], many(MAX_CELL_MEMBERS + 1)] = ()


@dataclass(slots=True)
class Topo:
    """The head of the topology: who is chairman, which cell is the root, whose coordinator."""

    order: Order
    coordinator_id: Int
    chairman: Contact
    root: Int
    next_cell: Int


class Stamp(NamedTuple):
    """What a peer holds of one cell on its path. ``cell`` 0 stands for the :class:`Topo`."""

    cell: Int
    order: Order
    owner_electorate: Order
    owner_term: Int


@dataclass(slots=True)
class PathStamps:
    """What I hold of the cells from ``cell`` up. ``answer``: send me yours if you are behind."""

    cell: Int
    stamps: Annotated[tuple[Stamp, ...], many(MAX_DEPTH + 2)]
    answer: bool


@dataclass(slots=True)
class Path:
    """Newer pieces of the topology: pushed to whoever should hold them."""

    topo: Topo | None
    records: Annotated[tuple[CellRecord, ...], many(MAX_DEPTH + 2)]
    owners: Annotated[tuple[Owner, ...], many(MAX_DEPTH + 2)]


@dataclass(slots=True)
class TopoAsk:
    """A new chairman, before it writes: what is the newest topology you know? (Answer: Path.)"""

    asker: Contact


@dataclass(slots=True)
class NotMember:
    """The chairman to an owner that reports of a cell it is not in (any more): ask to be let in."""

    cell: Int


@dataclass(slots=True)
class Twin:
    """I live under this node id too, at another address (:mod:`fabric.peer.twins`).

    ``age_us`` is how long ago the sender started; ``echo`` returns the number of the other side's
    last word (0: this is the first); ``final``: the sender was to decide, and it stays.
    """

    contact: Contact
    boot_id: Int
    age_us: Int
    number: Int
    echo: Int
    final: bool


HOST = 0
OBSERVER = 1


@dataclass(slots=True)
class Join:
    """Let me in (or tell me where I am). Forwarded from any peer to the chairman.

    ``zone`` is the fault domain: a zone's name, or ``zone/rack``.
    """

    contact: Contact
    boot_id: Int
    role: Small
    zone: Text
    coordinator_id: Int
    hops: Small


@dataclass(slots=True)
class JoinRefused:
    code: Text
    message: Text


@dataclass(slots=True)
class Leave:
    """I go, on purpose."""

    contact: Contact
    boot_id: Int


@dataclass(slots=True)
class Report:
    """An owner (or, in a cell without one, any member) to the chairman, until the record agrees.

    ``gone`` are members or observers found dead or left; ``ownerless`` is set by members of a
    leaf cell that had no owner for long; ``silent`` are child cells without a speaker.
    """

    owner: Owner
    gone: Annotated[tuple[Int, ...], many(MAX_CELL_MEMBERS + MAX_OBSERVERS)]
    silent: Annotated[tuple[Int, ...], many(MAX_CELL_MEMBERS)]
    ownerless: bool


@dataclass(slots=True)
class Inquest:
    """The chairman to each host of a cell that is silent: are you there?"""

    cell: Int
    number: Int


@dataclass(slots=True)
class Here:
    """Answer to :class:`Inquest`."""

    cell: Int
    number: Int


@dataclass(slots=True)
class OpinionAsk:
    """The chairman to members of ``cell``, ``key`` included: is it gone, as far as you know?"""

    asker: Contact
    cell: Int
    key: Int
    number: Int


@dataclass(slots=True)
class Opinion:
    """Answer to :class:`OpinionAsk`: ``state`` as in :mod:`fabric.wire.gossip`."""

    key: Int
    number: Int
    state: Small


# --- leases ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class LeaseAsk:
    """Grant me the cell's lease under ``term``. ``pre``: only say whether you would.

    ``standbys`` are told by the seats when the lease lapses.
    """

    cell: Int
    electorate: Order
    term: Int
    number: Int
    pre: bool
    asker: Contact
    standbys: Annotated[tuple[Contact, ...], many(3)]


@dataclass(slots=True)
class LeaseGrant:
    cell: Int
    term: Int
    number: Int
    pre: bool


@dataclass(slots=True)
class LeaseDeny:
    """No. ``holder`` has an unexpired grant; or my term or electorate is higher than yours."""

    cell: Int
    term: Int
    number: Int
    electorate: Order
    holder: Contact | None
    wait_us: Signed


@dataclass(slots=True)
class LeaseRelease:
    """The owner gives its lease back: elect another at once."""

    cell: Int
    term: Int


@dataclass(slots=True)
class HandOver:
    """The owner, leaving or draining, to its seats and its heir: may the heir take over from me.

    The owner goes on until the heir has won, so a seat may grant to the heir beside.  A message of
    its own: as a field of :class:`LeaseRelease` it would make seats of an older version, which do
    not know the field, give the lease away while its owner holds it.
    """

    cell: Int
    electorate: Order
    term: Int
    heir: Contact


@dataclass(slots=True)
class Vacant:
    """A seat to the standbys: the grant that I gave has lapsed."""

    cell: Int
    electorate: Order
    term: Int


register(20, PathStamps)
register(21, Path)
register(22, NotMember)
register(23, Join)
register(24, JoinRefused)
register(25, Leave)
register(26, Report)
register(27, Inquest)
register(28, Here)
register(29, TopoAsk)
register(30, LeaseAsk)
register(31, LeaseGrant)
register(32, LeaseDeny)
register(33, LeaseRelease)
register(34, Vacant)
register(35, OpinionAsk)
register(36, Opinion)
register(37, HandOver)
register(38, Twin)
