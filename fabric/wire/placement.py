"""Messages of placement: down the tree, to the host, and straight back. Type ids 40-59.

One placement in a tree of depth three, asked at a peer E::

    caller  --PlaceAsk-->  E  --Place-->  root owner  --Place-->  inner owner
    inner owner  --Place-->  leaf owner  --Reserve-->  host  --Reserved-->  E  --Placed-->  caller
    caller  --ConfirmAsk-->  E  --HostCall-->  host  --HostAnswer-->  E

Success goes straight from the host to the entry.  Only refusals climb: :class:`HostRefused`,
:class:`CellRefused` and :class:`CellUnavailable` go to whoever asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fabric.limits import MAX_REASONS
from fabric.machine import Contact
from fabric.placement.request import Placed, PlacementRequest
from fabric.tree.summary import Summary
from fabric.wire.codec import Embedded, Int, LongText, Text, many, register

# --- what callers ask of any peer -----------------------------------------------------------------


@dataclass(slots=True)
class PlaceAsk:
    """Place this within ``timeout_ms``. Answered by ``Placed``, ``Refusal`` or ``Failure``.

    ``attempt`` is the caller's own count, when it has given up an earlier one under this key.
    """

    request: PlacementRequest
    timeout_ms: Int
    attempt: Int = 0


@dataclass(slots=True)
class ConfirmAsk:
    """Make the reservation permanent (until a VM consumes it). Answered by ``Done``."""

    placed: Placed
    timeout_ms: Int


@dataclass(slots=True)
class ReleaseAsk:
    """Give the reserved room back. Answered by ``Done``, also when it is gone already."""

    placed: Placed
    timeout_ms: Int


@dataclass(slots=True)
class Explanation:
    """Why hosts did not take a request: condition -> hosts that failed it first.

    The counts add up to ``hosts``, all hosts that the refusing cell knows of.
    """

    hosts: Int
    counts: Annotated[tuple[tuple[Text, Int], ...], many(MAX_REASONS)]
    asked: Int
    """Hosts that were asked themselves; the others were counted from their cells' summaries."""


@dataclass(slots=True)
class Refusal:
    """No host can take the request, and that is proven."""

    key: Text
    explanation: Explanation


# --- down the tree --------------------------------------------------------------------------------


@dataclass(slots=True)
class Place:
    """Find a host in ``cell``, which the receiver is thought to own.

    ``asker`` and ``job`` are where a refusal goes; ``entry`` and ``entry_job`` where success goes.
    """

    request: PlacementRequest
    attempt: Int
    entry: Contact
    entry_job: Int
    asker: Contact
    job: Int
    cell: Int
    deadline_ms: Int


@dataclass(slots=True)
class Reserve:
    """Re-check everything and hold the room: asked of one host at a time."""

    request: PlacementRequest
    attempt: Int
    entry: Contact
    entry_job: Int
    asker: Contact
    job: Int


# --- back up --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reserved:
    """The host holds the room. Sent only when that is durable."""

    key: Text
    attempt: Int
    entry_job: Int
    reservation_id: Int
    host: Contact
    lifetime_us: Int
    datastore: Text


@dataclass(slots=True)
class HostRefused:
    """The host cannot, because of ``reason``, and this is its true state."""

    job: Int
    reason: Text
    summary: Summary


@dataclass(slots=True)
class CellRefused:
    """No host of the cell can, proven; with the cell's summary as it is now.

    ``whole``: the cell is the root, so nothing lies outside it.
    """

    job: Int
    cell: Int
    whole: bool
    explanation: Explanation
    summary: Summary


@dataclass(slots=True)
class CellUnavailable:
    """The cell could not find out: not its owner (any more), too busy, or hosts did not answer."""

    job: Int
    cell: Int
    code: Text
    message: LongText


# --- an entry and the host it placed on -----------------------------------------------------------


@dataclass(slots=True)
class HostCall:
    """Carry out ``body`` (a message of ``fabric.wire.host``) and answer; ``job`` 0: do not."""

    job: Int
    entry: Contact
    body: Embedded
    trace: Text = ""


@dataclass(slots=True)
class HostAnswer:
    """What became of a :class:`HostCall`."""

    job: Int
    body: Embedded


register(40, PlaceAsk)
register(41, ConfirmAsk)
register(42, ReleaseAsk)
register(43, Placed)
register(44, Refusal)
register(45, Place)
register(46, Reserve)
register(47, Reserved)
register(48, HostRefused)
register(49, CellRefused)
register(50, CellUnavailable)
register(51, HostCall)
register(52, HostAnswer)
