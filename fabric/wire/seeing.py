"""Questions of people who want to see what goes on: events, metrics. Type ids 120-139.

They travel in a ``Request`` like all others; events and metrics are answered by the edge of the
peer (:mod:`fabric.runtime.desk`), which is where they are kept, the rest by the peer itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from fabric.limits import MAX_EVENT_PAGE
from fabric.wire.codec import Int, LongText, Text, many, register


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


register(120, EventsAsk)
register(121, Events)
