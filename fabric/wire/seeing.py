"""Questions of people who want to see what goes on, and why. Type ids 140-159.

They travel in a ``Request`` like all others; events and metrics are answered by the edge of the
peer (:mod:`fabric.runtime.desk`), which is where they are kept, the rest by the peer itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from fabric.limits import MAX_CELL_MEMBERS, MAX_DEPTH, MAX_EVENT_PAGE, MAX_METRICS, MAX_SEATS
from fabric.machine import Contact
from fabric.wire.codec import Embedded, Int, LongText, Small, Text, many, register
from fabric.wire.tree import CellRecord, Order, Owner


@dataclass(slots=True)
class EventsAsk:
    """What happened after event number ``after``? Answered by :class:`Events`.

    Where there is nothing yet, the answer waits for the next event, at most ``wait_ms``.
    """

    after: Int = 0
    wait_ms: Int = 0


class EventRow(NamedTuple):
    """One thing that happened, as one peer saw it.

    ``number`` counts from 1 at each start of the peer; ``at`` is its clock (µs since the epoch).
    ``cell`` and ``node`` are 0 where the event is not about one.
    """

    number: Int
    at: Int
    kind: Text
    cell: Int
    node: Int
    text: LongText


@dataclass(slots=True)
class Events:
    """The oldest events after the number asked for, and whether there are more.

    ``missed``: so many are forgotten that were asked for.
    """

    boot_id: Int
    rows: Annotated[tuple[EventRow, ...], many(MAX_EVENT_PAGE)]
    more: bool
    missed: Int


@dataclass(slots=True)
class MetricsAsk:
    """What have you counted and measured? Answered by :class:`Metrics`."""


class Number(NamedTuple):
    """A named number. ``label`` tells kinds of the same apart, where there are such."""

    name: Text
    label: Text
    value: Int


class Times(NamedTuple):
    """A latency histogram: ``counts`` by the buckets of ``fabric.counters``, and their sum."""

    name: Text
    label: Text
    counts: Annotated[tuple[Int, ...], many(64)]
    sum_us: Int


@dataclass(slots=True)
class Metrics:
    """``counters`` only rise (since the peer started), ``gauges`` are as of now."""

    node_id: Int
    counters: Annotated[tuple[Number, ...], many(MAX_METRICS)]
    gauges: Annotated[tuple[Number, ...], many(MAX_METRICS)]
    times: Annotated[tuple[Times, ...], many(MAX_METRICS)]


@dataclass(slots=True)
class Through:
    """Ask ``body`` of ``to``, a peer in your process that I cannot reach, and tell me its answer.

    Peers of one process talk by ``inproc://``; one of them has a door for all others.
    """

    to: Contact
    body: Embedded


# --- the chairman ---------------------------------------------------------------------------------


@dataclass(slots=True)
class ChairmanAsk:
    """How is the chairman? Asked of a candidate; answered by :class:`ChairmanStatus`."""


@dataclass(slots=True)
class ChairmanStatus:
    """A candidate's own account of its chair. Durations are 0 where they do not apply.

    ``gone`` members are reported dead (or left) and not yet removed; with ``removed`` in the last
    ten seconds they are more than ``mark`` when removals freeze.  ``thaws_in_us`` is how long the
    freeze lasts at most, if nothing changes.
    """

    presides: bool
    state: Text
    reason: LongText
    coordinator_id: Int
    holder: Int
    order: Order
    elected_us: Int
    hosts: Int
    cells: Int
    frozen: bool
    frozen_us: Int
    thaws_in_us: Int
    gone: Int
    removed: Int
    mark: Int
    joins_waiting: Int
    seats_wrong: Int


@dataclass(slots=True)
class ThawAsk:
    """End the freeze: who is gone may be removed now. Answered by :class:`Thawed`."""


@dataclass(slots=True)
class Thawed:
    """``frozen``: whether removals were frozen; ``gone``: members that may be removed now."""

    frozen: bool
    gone: Int


@dataclass(slots=True)
class WhyAsk:
    """Why is host or observer ``node`` in its cell? Asked of the chairman; answered by `Why`."""

    node: Int


class Step(NamedTuple):
    """A cell on a path: its id, level, members, and their bounds."""

    cell: Int
    level: Small
    members: Int
    smallest: Int
    largest: Int


@dataclass(slots=True)
class Why:
    """``path`` is empty for a stranger. ``what`` is empty where an earlier chairman decided.

    ``what`` is joined, split, merged or moved (``fabric.tree.chronicle``), ``other`` the cell that
    it came from; ``order`` the write, ``ago_us`` how long ago.
    """

    contact: Contact
    observer: bool
    path: Annotated[tuple[Step, ...], many(MAX_DEPTH)]
    seats: Annotated[tuple[Int, ...], many(MAX_DEPTH)]
    what: Text
    other: Int
    order: Order
    ago_us: Int
    chairman: Contact
    elected_us: Int
    domain: Text = ""
    """Its fault domain: ``zone/rack``, as far as it told any."""
    zone_hosts: Int = 0
    """Hosts of its zone in the same leaf cell, itself included."""


# --- a cell ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class CellStoryAsk:
    """Why has the cell (0: your leaf) its owner? Answered by :class:`CellStory`."""

    cell: Int


class Ranked(NamedTuple):
    """A member at its place in the order in which members stand for election."""

    key: Int
    contact: Contact
    state: Small
    incarnation: Int


class Granted(NamedTuple):
    """A seat's grant to us, as we count it: it ends in ``left_us``."""

    seat: Int
    left_us: Int


class PassedOver(NamedTuple):
    """A member that ranked before the winner when it won, and its state then."""

    key: Int
    state: Small


@dataclass(slots=True)
class Won:
    """How this peer became the owner."""

    ago_us: Int
    before: Owner | None
    passed: Annotated[tuple[PassedOver, ...], many(MAX_CELL_MEMBERS)]


@dataclass(slots=True)
class SeatView:
    """This peer's seat: its unexpired grant (``grantee`` 0: none), or its cold start."""

    electorate: Order
    term: Int
    grantee: Int
    left_us: Int
    cold_us: Int


@dataclass(slots=True)
class CellStory:
    """A cell's ownership as one peer in it sees it. ``lease_us`` is 0 unless it owns the cell."""

    record: CellRecord
    owner: Owner | None
    ranks: Annotated[tuple[Ranked, ...], many(MAX_CELL_MEMBERS)]
    lease_us: Int
    grants: Annotated[tuple[Granted, ...], many(MAX_SEATS)]
    standbys: Annotated[tuple[Contact, ...], many(3)]
    won: Won | None
    seat: SeatView | None


register(140, EventsAsk)
register(141, Events)
register(142, Through)
register(143, ChairmanAsk)
register(144, ChairmanStatus)
register(145, ThawAsk)
register(146, Thawed)
register(147, WhyAsk)
register(148, Why)
register(149, CellStoryAsk)
register(150, CellStory)
register(151, MetricsAsk)
register(152, Metrics)
