"""What happened at one peer, in words: a bounded ring made of the machine's notices.

Every peer keeps its own; what one host saw of a death and what the chairman did about it are two
events of two peers.  The ring forgets the oldest; a reader that comes too late is told how many
events it missed.  Nothing is written to disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from fabric.counters import Counters
from fabric.gossip.members import REFUTATION_BITS
from fabric.ids import format_id
from fabric.limits import MAX_EVENT_PAGE, MAX_EVENT_PAGE_BYTES, MAX_EVENT_TEXT, MAX_EVENTS
from fabric.peer import notices
from fabric.tree import chronicle
from fabric.tree.chair import ChairmanNotice
from fabric.units import SECOND
from fabric.wire.gossip import ALIVE, DEAD, LEFT
from fabric.wire.seeing import EventRow, Events
from fabric.wire.tree import Order, Owner, Topo

#: Kinds of events, in no order; ``alarm`` is the one that somebody should look at.
KINDS: Final = (
    *("join", "suspect", "refute", "death", "leave", "restart"),
    *("place", "owner", "lost", "takeover", "chairman"),
    *("split", "merge", "move", "remove", "root", "seats"),
    *("freeze", "thaw", "alarm"),
)

ALARM: Final = "alarm"
#: The same alarm is told again after so long.
ALARM_AGAIN_US: Final = 60 * SECOND
#: Different alarms that are remembered for that.
MAX_ALARMS: Final = 64
#: An event beside its text, encoded: five numbers at their longest and a short word.
_ROW_BYTES: Final = 64


class _Told(NamedTuple):
    """What an event says, before it has a number and a time."""

    kind: str
    text: str
    cell: int = 0
    node: int = 0


class Journal:
    """The events of one peer since it started."""

    def __init__(self, clock: Callable[[], int], counters: Counters, boot_id: int) -> None:
        self._clock = clock
        self._counters = counters
        self._boot_id = boot_id
        self._rows: deque[EventRow] = deque(maxlen=MAX_EVENTS)
        self._last = 0
        self._known: dict[tuple[int, int], tuple[int, int]] = {}  # (cell, key) -> see `heard`
        self._chairman: tuple[Sequence[int], int] | None = None  # epoch and node
        self._owners: dict[int, tuple[tuple[Order, int] | None, int]] = {}  # cell -> stamp, node
        self._alarms: dict[str, int] = {}  # text -> when it was told last
        self._news: asyncio.Event | None = None

    def __len__(self) -> int:
        """Events that are remembered."""
        return len(self._rows)

    @property
    def forgotten(self) -> int:
        """Events that the ring has dropped."""
        return self._last - len(self._rows)

    def take(self, notice: Any) -> None:
        """Turn a notice into events. Called by the runtime for each."""
        describe = _DESCRIBERS.get(notice.__class__)
        if describe is None:
            return
        for told in describe(self, notice):
            self.add(told.kind, told.text, told.cell, told.node)

    def add(self, kind: str, text: str, cell: int = 0, node: int = 0) -> None:
        """Note an event of the edge itself."""
        if len(text) > MAX_EVENT_TEXT:
            text = text[: MAX_EVENT_TEXT - 3] + "..."
        if kind == ALARM and self._just_told(text):
            self._counters.count("repeated_alarms")
            return
        self._last += 1
        if len(self._rows) == MAX_EVENTS:
            self._counters.count("forgotten_events")
        self._rows.append(EventRow(self._last, self._clock(), kind, cell, node, text))
        if self._news is not None:
            self._news.set()
            self._news = None

    def _just_told(self, text: str) -> bool:
        """Whether this alarm was told a moment ago: who repeats it must not drown others."""
        now, told = self._clock(), self._alarms
        if now - told.get(text, -ALARM_AGAIN_US) < ALARM_AGAIN_US:
            return True
        told.pop(text, None)
        told[text] = now
        if len(told) > MAX_ALARMS:
            del told[next(iter(told))]
        return False

    def look(self, me: int, topo: Topo | None, owners: Iterable[Owner]) -> None:
        """Note who is chairman and who owns the cells above us, where that has changed.

        The machine's tables say it; it puts no notice out for what each of thousands adopts.
        """
        if topo is not None and self._chairman != (topo.order[:2], topo.chairman.node_id):
            node = topo.chairman.node_id
            self._chairman = (topo.order[:2], node)
            epoch = f"{topo.order.generation}.{topo.order.lease}"
            self.add("chairman", f"{format_id(node)} is chairman, epoch {epoch}", 0, node)
        for cell, electorate, term, contact in owners:
            node = contact.node_id
            stamp, before = self._owners.get(cell, (None, 0))
            if stamp == (electorate, term):
                continue
            self._owners[cell] = ((electorate, term), node)
            if node == me:
                continue  # we know that by ourselves
            goes_on = before == node  # re-elected, by another electorate mostly
            owns = "goes on owning" if goes_on else "owns"
            text = f"{format_id(node)} {owns} cell {cell}, term {term} under {_order(electorate)}"
            self.add("owner" if goes_on else "takeover", text, cell, node)
        if len(self._owners) > MAX_EVENTS:
            self._owners.clear()

    def page(self, after: int) -> Events:
        """Return the oldest events after number ``after``; all, if that is ahead of us."""
        if after > self._last:
            after = 0  # a number of an earlier life
        missed = max(self.forgotten - after, 0)
        start = after + missed - self.forgotten
        rows: list[EventRow] = []
        room = MAX_EVENT_PAGE_BYTES
        for row in islice(self._rows, start, start + MAX_EVENT_PAGE):
            room -= len(row.text.encode()) + _ROW_BYTES
            if room < 0:
                break
            rows.append(row)
        more = start + len(rows) < len(self._rows)
        return Events(self._boot_id, tuple(rows), more, missed)

    def news(self) -> asyncio.Event:
        """Return what is set when the next event comes."""
        if self._news is None:
            self._news = asyncio.Event()
        return self._news

    def heard(self, cell: int, key: int, incarnation: int, node: int) -> tuple[int, int]:
        """Remember a member's incarnation and speaker; return those known before (0: none)."""
        known = self._known
        before = known.pop((cell, key), (0, 0))
        known[cell, key] = (incarnation, node)
        if len(known) > MAX_EVENTS:
            del known[next(iter(known))]
        return before


# --- in words -------------------------------------------------------------------------------------


def _member(journal: Journal, notice: notices.MemberNotice) -> Iterator[_Told]:
    cell, key, node = notice.cell, notice.key, notice.contact.node_id
    leaf = key == node
    before, spoke = journal.heard(cell, key, notice.incarnation, node)
    life, old_life = notice.incarnation >> REFUTATION_BITS, before >> REFUTATION_BITS
    who = f"host {format_id(key)}" if leaf else f"cell {key} through {format_id(node)}"
    if notice.state == DEAD:
        accusers = ", ".join(_name(it, leaf) for it in notice.accusers)
        by = f", on the word of {accusers}" if accusers else ""
        yield _Told("death", f"{who} is held for dead{by}", cell, node)
    elif notice.state == LEFT:
        yield _Told("leave", f"{who} said goodbye", cell, node)
    elif notice.state == ALIVE and not before:
        number = f"boot {life}" if leaf else f"term {life}"
        yield _Told("join", f"{who} is in cell {cell}, {number}", cell, node)
    elif notice.state == ALIVE and life > old_life:
        text = f"is back, boot {life}" if leaf else f"speaks under term {life}"
        kind = "restart" if leaf else "owner" if spoke == node else "takeover"
        yield _Told(kind, f"{who} {text}", cell, node)
    elif notice.state == ALIVE and notice.incarnation > before:
        yield _Told("refute", f"{who} was suspected, and lives", cell, node)


def _suspicion(journal: Journal, notice: notices.SuspicionNotice) -> Iterator[_Told]:
    leaf = notice.key == notice.contact.node_id
    who = _name(notice.key, leaf)
    text = f"{who} does not answer {_name(notice.witness, leaf)}"
    yield _Told("suspect", text, notice.cell, notice.contact.node_id)


def _refuted(journal: Journal, notice: notices.RefutedNotice) -> Iterator[_Told]:
    yield _Told("refute", "this peer was suspected, and said that it lives", notice.cell)


def _owner(journal: Journal, notice: notices.OwnerNotice) -> Iterator[_Told]:
    if notice.owns:
        under = _order(notice.electorate)
        text = f"this peer owns cell {notice.cell}, term {notice.term} under {under}"
        yield _Told("owner", text, notice.cell)
    else:
        yield _Told("lost", f"this peer owns cell {notice.cell} no more", notice.cell)


def _place(journal: Journal, notice: notices.PlaceNotice) -> Iterator[_Told]:
    path = " in ".join(map(str, notice.path))
    yield _Told("place", f"this peer's place in the tree: cell {path}", notice.path[0])


def _refused(journal: Journal, notice: notices.JoinRefusedNotice) -> Iterator[_Told]:
    yield _Told("alarm", f"this peer is not let in: {notice.message}")


def _conflict(journal: Journal, notice: notices.ConflictNotice) -> Iterator[_Told]:
    text = "another process lives under this peer's node id: a copied data directory?"
    yield _Told("alarm", text, notice.cell)


def _twin(journal: Journal, notice: notices.TwinNotice) -> Iterator[_Told]:
    stays = "this peer stops" if notice.yields else "the other one is to stop"
    yield _Told("alarm", f"{notice.error().message}; {stays}")


def _left(journal: Journal, notice: notices.LeftNotice) -> Iterator[_Told]:
    yield _Told("leave", "this peer said goodbye")


def _disk(journal: Journal, notice: notices.DiskNotice) -> Iterator[_Told]:
    yield _Told("alarm", f"a write failed: {notice.reason}")


#: What a chairman says of itself: kind and words.
_CHAIR: Final = {
    "elected": ("chairman", "this peer is chairman"),
    "lost": ("chairman", "this peer is chairman no more"),
    "unreachable": ("alarm", "the coordinator cannot be asked"),
    "halted": ("alarm", "this chairman writes nothing"),
    "frozen": ("freeze", "removals and merges are frozen"),
    "thawed": ("thaw", "removals and merges go on"),
}


def _chair(journal: Journal, notice: ChairmanNotice) -> Iterator[_Told]:
    kind, text = _CHAIR.get(notice.what, ("chairman", f"chairman: {notice.what}"))
    yield _Told(kind, f"{text}: {notice.detail}" if notice.detail else text)


def _topology(journal: Journal, notice: chronicle.TopologyNotice) -> Iterator[_Told]:
    what, cell, other, node, members, order = notice
    kind, text = {
        chronicle.JOINED: ("join", f"{format_id(node)} joined cell {cell}"),
        chronicle.REMOVED: ("remove", f"{format_id(node)} was removed from cell {cell}"),
        chronicle.MOVED: ("move", f"{format_id(node)} moved from cell {other} to {cell}"),
        chronicle.SPLIT: ("split", f"cell {cell} split off cell {other}, {members} members moved"),
        chronicle.MERGED: ("merge", f"cell {cell} was merged into cell {other}"),
        chronicle.GREW: ("root", f"the tree grew: cell {cell} is root above cell {other}"),
        chronicle.SHRANK: ("root", f"the tree shrank: cell {cell} is root, cell {other} is gone"),
        chronicle.SEATS: ("seats", f"cell {cell} has another electorate, {members} seats"),
    }[what]
    yield _Told(kind, f"{text} ({_order(order)})", cell, node)


def _order(order: Order) -> str:
    """(E, v) as people read it."""
    return f"E {order.generation}.{order.lease} v {order.version}"


def _name(key: int, leaf: bool) -> str:
    return format_id(key) if leaf else f"cell {key}"


_DESCRIBERS: Final[dict[type[Any], Callable[[Journal, Any], Iterator[_Told]]]] = {
    notices.MemberNotice: _member,
    notices.SuspicionNotice: _suspicion,
    notices.RefutedNotice: _refuted,
    notices.OwnerNotice: _owner,
    notices.PlaceNotice: _place,
    notices.JoinRefusedNotice: _refused,
    notices.ConflictNotice: _conflict,
    notices.TwinNotice: _twin,
    notices.LeftNotice: _left,
    notices.DiskNotice: _disk,
    ChairmanNotice: _chair,
    chronicle.TopologyNotice: _topology,
}
