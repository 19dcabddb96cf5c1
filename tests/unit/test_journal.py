"""The journal: notices in words, a bounded ring, and readers that wait or come too late."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fabric.counters import Counters
from fabric.errors import BadInput, Overloaded
from fabric.limits import MAX_EVENT_PAGE, MAX_EVENT_TEXT, MAX_EVENTS
from fabric.machine import Contact
from fabric.peer import notices
from fabric.runtime.desk import Desk
from fabric.runtime.journal import _DESCRIBERS, ALARM_AGAIN_US, KINDS, Journal
from fabric.runtime.measures import metrics
from fabric.tree import chronicle
from fabric.tree.chair import ChairmanNotice
from fabric.tree.chronicle import TopologyNotice
from fabric.wire.codec import decode_frame, encode_frame
from fabric.wire.common import Done, Request, Response
from fabric.wire.gossip import ALIVE, DEAD, LEFT
from fabric.wire.seeing import Events, EventsAsk, Through
from fabric.wire.tree import Order, Owner, Topo

ORDER = Order(1, 7, 42)
HOST = Contact(0xA, "inproc://a")


class Pen:
    """A journal with a clock of its own."""

    def __init__(self) -> None:
        self.now = 0
        self.counters = Counters()
        self.journal = Journal(self._clock, self.counters, 3)

    def _clock(self) -> int:
        self.now += 1
        return self.now

    def told(self, notice: Any) -> list[tuple[str, str]]:
        """What this notice alone adds."""
        after = self.journal._last
        self.journal.take(notice)
        return [(row.kind, row.text) for row in self.journal.page(after).rows]


def member(state: int, incarnation: int, accusers: tuple[int, ...] = ()) -> notices.MemberNotice:
    return notices.MemberNotice(4, HOST.node_id, state, HOST, incarnation, accusers)


def test_the_life_of_a_member_in_words() -> None:
    pen, name = Pen(), "host 000000000000000a"
    boot = 2 << 16
    assert pen.told(member(ALIVE, boot)) == [("join", f"{name} is in cell 4, boot 2")]
    suspicion = notices.SuspicionNotice(4, 0xA, HOST, boot, 0xB)
    assert pen.told(suspicion) == [
        ("suspect", "000000000000000a does not answer 000000000000000b")
    ]
    assert pen.told(member(ALIVE, boot + 1)) == [("refute", f"{name} was suspected, and lives")]
    assert pen.told(member(DEAD, boot + 1, (0xB, 0xC))) == [
        ("death", f"{name} is held for dead, on the word of 000000000000000b, 000000000000000c")
    ]
    assert pen.told(member(ALIVE, 3 << 16)) == [("restart", f"{name} is back, boot 3")]
    assert pen.told(member(LEFT, 3 << 16)) == [("leave", f"{name} said goodbye")]


def test_the_speakers_of_a_cell_in_words() -> None:
    pen = Pen()
    first = notices.MemberNotice(2, 5, ALIVE, HOST, 1 << 16, ())
    assert pen.told(first) == [
        ("join", "cell 5 through 000000000000000a is in cell 2, term 1")
    ]
    other = first._replace(contact=Contact(0xB, "b"), incarnation=2 << 16)
    assert pen.told(other) == [
        ("takeover", "cell 5 through 000000000000000b speaks under term 2")
    ]
    dead = other._replace(state=DEAD, accusers=(6, 7))
    assert pen.told(dead) == [
        ("death", "cell 5 through 000000000000000b is held for dead, "
         "on the word of cell 6, cell 7")
    ]


@pytest.mark.parametrize(
    ("notice", "kind"),
    [
        (notices.RefutedNotice(4, 0xA, 5), "refute"),
        (notices.OwnerNotice(4, ORDER, 2, True), "owner"),
        (notices.OwnerNotice(4, ORDER, 0, False), "lost"),
        (notices.PlaceNotice((4, 1)), "place"),
        (notices.JoinRefusedNotice("WrongCoordinator", "no"), "alarm"),
        (notices.ConflictNotice(4, 9), "alarm"),
        (notices.TwinNotice(Contact(1, "a"), 1, Contact(1, "b"), 2, True), "alarm"),
        (notices.LeftNotice(), "leave"),
        (notices.DiskNotice("no space"), "alarm"),
        (ChairmanNotice("elected", "epoch 1.7"), "chairman"),
        (ChairmanNotice("halted", "emptied"), "alarm"),
        (ChairmanNotice("frozen", "4 gone"), "freeze"),
        (ChairmanNotice("thawed"), "thaw"),
        (TopologyNotice(chronicle.JOINED, 4, 0, 0xA, 1, ORDER), "join"),
        (TopologyNotice(chronicle.REMOVED, 4, 0, 0xA, 1, ORDER), "remove"),
        (TopologyNotice(chronicle.MOVED, 4, 5, 0xA, 1, ORDER), "move"),
        (TopologyNotice(chronicle.SPLIT, 4, 5, 0, 3, ORDER), "split"),
        (TopologyNotice(chronicle.MERGED, 4, 5, 0, 0, ORDER), "merge"),
        (TopologyNotice(chronicle.GREW, 4, 5, 0, 0, ORDER), "root"),
        (TopologyNotice(chronicle.SHRANK, 4, 5, 0, 0, ORDER), "root"),
        (TopologyNotice(chronicle.SEATS, 4, 0, 0, 3, ORDER), "seats"),
    ],
)
def test_every_notice_has_words(notice: Any, kind: str) -> None:
    [(told, text)] = Pen().told(notice)
    assert told == kind and kind in KINDS
    assert text


def test_other_owners_and_chairmen_are_told_when_they_change() -> None:
    pen = Pen()
    topo = Topo(ORDER, 1, HOST, 4, 9)
    owner = Owner(4, ORDER, 2, HOST)

    def told(topo: Topo, *owners: Owner) -> list[tuple[str, str]]:
        after = pen.journal._last
        pen.journal.look(0xB, topo, owners)
        return [(row.kind, row.text) for row in pen.journal.page(after).rows]

    assert told(topo, owner) == [
        ("chairman", "000000000000000a is chairman, epoch 1.7"),
        ("takeover", "000000000000000a owns cell 4, term 2 under E 1.7 v 42"),
    ]
    assert told(replace(topo, order=Order(1, 7, 43)), owner) == []
    assert told(replace(topo, order=Order(1, 8, 44)), owner._replace(term=3)) == [
        ("chairman", "000000000000000a is chairman, epoch 1.8"),
        ("owner", "000000000000000a goes on owning cell 4, term 3 under E 1.7 v 42"),
    ]
    ours = owner._replace(term=4, contact=Contact(0xB, "b"))
    assert told(replace(topo, order=Order(1, 8, 45)), ours) == []


def test_no_notice_is_left_out() -> None:
    classes = {it for it in vars(notices).values() if getattr(it, "__module__", "").endswith(
        "peer.notices")}
    assert classes <= set(_DESCRIBERS)
    assert Pen().told("a stranger") == []


def test_the_ring_forgets_the_oldest_and_says_how_many() -> None:
    pen = Pen()
    for number in range(MAX_EVENTS + 10):
        pen.journal.add("move", f"{number}")
    page = pen.journal.page(3)
    assert page.missed == 7
    assert [row.number for row in page.rows] == list(range(11, 11 + MAX_EVENT_PAGE))
    assert page.more
    assert pen.counters["forgotten_events"] == 10
    assert pen.journal.page(MAX_EVENTS + 9).rows[-1].text == f"{MAX_EVENTS + 9}"
    assert pen.journal.page(MAX_EVENTS + 10).rows == ()


def test_the_same_alarm_is_told_once_a_minute_and_drowns_no_other() -> None:
    pen = Pen()
    for _ in range(1000):
        pen.journal.take(notices.JoinRefusedNotice("WrongKey", "a stranger knocks"))
    pen.journal.take(notices.DiskNotice("no space"))
    assert [row.kind for row in pen.journal.page(0).rows] == ["alarm", "alarm"]
    assert pen.counters["repeated_alarms"] == 999
    pen.now += ALARM_AGAIN_US
    pen.journal.take(notices.JoinRefusedNotice("WrongKey", "a stranger knocks"))
    assert len(pen.journal.page(0).rows) == 3


def test_the_longest_page_fits_into_a_frame() -> None:
    pen = Pen()
    for _ in range(MAX_EVENT_PAGE):
        pen.journal.add("move", "€" * 1000, 1 << 61, 1 << 61)
    page = pen.journal.page(0)
    assert all(len(row.text) == MAX_EVENT_TEXT for row in page.rows)
    assert 40 < len(page.rows) < MAX_EVENT_PAGE and page.more
    answer = Response(1, page)
    assert decode_frame(encode_frame(1, answer)).message == answer
    assert pen.journal.page(len(page.rows)).rows[0].number == len(page.rows) + 1


class Post:
    """Where a desk sends its answers."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[Contact, Any]] = asyncio.Queue()
        self.pen = Pen()
        self.desk = Desk(
            self.pen.journal,
            lambda: metrics(1, self.pen.counters, {}),
            lambda to, body: self.sent.put_nowait((to, body)),
            self._ask,
        )

    async def _ask(self, to: Contact, body: Any, timeout_s: float) -> Any:
        return Done()


async def test_a_question_waits_for_the_next_event() -> None:
    post = Post()
    post.desk.serve(9, Request(1, Contact(9, "x"), 1000, EventsAsk(0, 20_000)))
    await asyncio.sleep(0)
    assert post.sent.empty()
    post.pen.journal.add("alarm", "now")
    async with asyncio.timeout(10):
        to, response = await post.sent.get()
    assert to == Contact(9, "x")
    assert response.request_id == 1
    assert [row.text for row in response.body.rows] == ["now"]


async def test_without_waiting_the_answer_is_empty() -> None:
    post = Post()
    assert await post.desk.answer(EventsAsk(), 1.0) == Events(3, (), False, 0)


async def test_answers_go_to_those_who_ask() -> None:
    post = Post()
    post.desk.serve(9, Request(1, Contact(8, "victim"), 1000, EventsAsk()))
    await asyncio.sleep(0)
    assert post.sent.empty()


async def test_too_many_questions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.runtime.desk.MAX_CALLS", 2)
    post = Post()
    for number in range(3):
        post.desk.serve(9, Request(number, Contact(9, "x"), 1000, EventsAsk(0, 20_000)))
    async with asyncio.timeout(10):
        _, response = await post.sent.get()
    assert response.body.code == Overloaded.code
    post.desk.close()


async def test_only_peers_of_the_process_are_asked_for_others() -> None:
    desk = Post().desk
    inside = Contact(5, "inproc://five")
    assert await desk.answer(Through(inside, EventsAsk()), 1.0) == Done()
    for to, body in ((Contact(5, "tcp://127.0.0.1:1"), EventsAsk()),
                     (inside, Through(inside, EventsAsk()))):
        with pytest.raises(BadInput, match="same process"):
            await desk.answer(Through(to, body), 1.0)
