"""A small gossip machine for tests of the simulator itself: probes, acks, disk, rumours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fabric.machine import (
    Contact,
    Event,
    LocalCall,
    Machine,
    Persisted,
    Received,
    Sink,
    Woken,
    Write,
)
from fabric.stream import Stream
from fabric.wire.codec import Int, Text, many, register

SECOND = 1_000_000


@dataclass(slots=True)
class ToyPing:
    round: Int
    back: Contact
    news: Annotated[tuple[Int, ...], many(32)]


@dataclass(slots=True)
class ToyAck:
    round: Int
    note: Text
    news: Annotated[tuple[Int, ...], many(32)]


register(9001, ToyPing)
register(9002, ToyAck)


class ToyPeer(Machine):
    """Pings one other each second and spreads numbers; each new number is made durable."""

    def __init__(
        self,
        me: Contact,
        others: list[Contact],
        stream: Stream,
        stored: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self.me = me
        self.others = others
        self.stream = stream
        self.known: dict[int, int] = {}
        self.durable: list[int] = []
        for key, _ in stored:
            self.known[int(key)] = 0
        self.acks = 0
        self.round = 0
        self.next = 0

    def start(self, now: int, out: Sink) -> None:
        self.next = now + self.stream.below(SECOND)
        out.wake(self.next)

    def handle(self, event: Event, now: int, out: Sink) -> None:
        if isinstance(event, Received):
            message = event.message
            for number in message.news:
                self.learn(number, out)
            if isinstance(message, ToyPing):
                out.send(message.back, ToyAck(message.round, "ok", tuple(self.known)))
            else:
                self.acks += 1
        elif isinstance(event, Woken):
            if now >= self.next:
                self.next += SECOND
                self.round += 1
                target = self.others[self.stream.below(len(self.others))]
                out.send(target, ToyPing(self.round, self.me, tuple(self.known)))
            out.wake(self.next)
        elif isinstance(event, Persisted):
            self.durable.append(event.token)
        elif isinstance(event, LocalCall):
            self.learn(event.request.round, out)
            out.reply(event.call_id, ToyAck(event.request.round, "told", ()))

    def learn(self, number: int, out: Sink) -> None:
        if number not in self.known:
            self.known[number] = self.round
            out.persist((Write(b"%d" % number, b"1"),), number)
