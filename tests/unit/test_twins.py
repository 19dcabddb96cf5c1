"""Two processes under one node id: exactly one yields, and only to a twin that is proven."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from fabric.machine import Contact, ListSink
from fabric.peer.twins import ASK_AGAIN_US, Twins
from fabric.stream import Stream
from fabric.units import SECOND
from fabric.wire.tree import Twin

NODE = 7
A, B = Contact(NODE, "tcp://127.0.0.1:1"), Contact(NODE, "tcp://127.0.0.1:2")


class Pair:
    """Two processes under one node id, whose clocks have nothing to do with each other."""

    def __init__(self, boots: tuple[int, int], ages_s: tuple[int, int]) -> None:
        self.sides: dict[str, tuple[Twins, ListSink]] = {}
        self.now: dict[str, int] = {}
        self.yielding: list[str] = []
        self.mail: deque[tuple[Contact, Any]] = deque()
        for number, me in enumerate((A, B)):
            twins = Twins(me, boots[number], Stream(number))
            twins.started_at = 1_000 * SECOND * (number + 1)
            self.now[me.address] = twins.started_at + ages_s[number] * SECOND
            self.sides[me.address] = twins, ListSink()

    def see(self, who: Contact, contact: Contact) -> None:
        twins, sink = self.sides[who.address]
        twins.seen(contact, self.now[who.address], sink)
        self._post(sink)

    def run(self) -> None:
        while self.mail:
            to, message = self.mail.popleft()
            if to.address in self.yielding:
                continue  # it is gone
            twins, sink = self.sides[to.address]
            twins.on_twin(NODE, message, self.now[to.address], sink)
            self._post(sink)

    def _post(self, sink: ListSink) -> None:
        for kind, args in sink.take():
            if kind == "send":
                self.mail.append((args[0], args[1]))
            elif args[0].yields:
                self.yielding.append(args[0].me.address)


@pytest.mark.parametrize("first", [A, B])
@pytest.mark.parametrize(
    ("boots", "ages_s", "loser"),
    [
        ((1, 2), (50, 1), A),  # the later life is the true one, however short it lasts
        ((3, 2), (1, 50), B),
        ((2, 2), (50, 1), B),  # of one life, who started later
        ((2, 2), (1, 50), A),
        ((2, 2), (5, 5), B),  # at the same moment: one of them nevertheless
    ],
)
def test_exactly_one_yields(
    boots: tuple[int, int], ages_s: tuple[int, int], loser: Contact, first: Contact
) -> None:
    pair = Pair(boots, ages_s)
    pair.see(first, B if first == A else A)
    pair.run()
    assert pair.yielding == [loser.address]
    pair = Pair(boots, ages_s)
    pair.see(A, B)
    pair.see(B, A)  # both at once
    pair.run()
    assert pair.yielding == [loser.address]


def test_nobody_yields_to_what_is_not_proven() -> None:
    twins, sink = Twins(A, 1, Stream(1)), ListSink()
    claim = Twin(B, 9, 0, 5, 0, True)
    for sender, message in (
        (8, claim),  # not under our node id
        (NODE, Twin(A, 9, 0, 5, 0, True)),  # from our own address
        (NODE, claim),  # answers nothing
        (NODE, Twin(B, 9, 0, 5, 12345, True)),  # answers what we did not ask
    ):
        assert not twins.on_twin(sender, message, 0, sink)
    assert all(kind == "send" for kind, _ in sink.take())


def test_the_same_address_is_asked_once_a_second_and_ours_never() -> None:
    twins, sink = Twins(A, 1, Stream(1)), ListSink()
    for at in (0, ASK_AGAIN_US - 1, ASK_AGAIN_US):
        twins.seen(B, at, sink)
        twins.seen(A, at, sink)
        twins.seen(Contact(8, B.address), at, sink)
    assert [args[0] for _, args in sink.take()] == [B, B]


def test_addresses_that_others_invent_are_forgotten() -> None:
    twins, sink = Twins(A, 1, Stream(1)), ListSink()
    for number in range(100):
        twins.seen(Contact(NODE, f"tcp://127.0.0.1:{number + 10}"), 0, sink)
    assert len(twins.asked) == len(twins.asked_at) <= 8
