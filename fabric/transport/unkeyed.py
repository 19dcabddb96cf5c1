"""A peer without keys and one with keys: both find out at once, rather than wait in silence.

CURVE and plain ZMTP cannot even greet each other: libzmq drops the connection and tries again, and
nothing ever arrives.  So a transport without keys listens for cards too (:mod:`.cards`), as far as
its UDP port is free.  It answers every ``HELLO`` with a ``REFUSAL`` that says that it has no keys,
and where frames wait for a connection to form it asks with a ``HELLO`` without certificate, which a
peer with keys refuses likewise.  Nothing else depends on it.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from fabric.counters import Counters
from fabric.errors import FabricError, KeysMissing
from fabric.limits import MAX_INT
from fabric.transport.address import TcpAddress
from fabric.transport.cards import CardDesk
from fabric.transport.interface import OnTrouble
from fabric.transport.link import Link
from fabric.wire.codec import WIRE_VERSION
from fabric.wire.trust import HELLO, REFUSAL, Card

#: A connection on this machine forms in milliseconds; one that does not is asked about so often.
_ASK_S: Final = 0.5


class Unkeyed:
    """What a transport without keys does with cards."""

    def __init__(self, counters: Counters) -> None:
        self.on_trouble: OnTrouble = _ignore
        self._counters = counters
        self._desk: CardDesk | None = None
        #: Links that are stuck, and the nonce they ask with; 0: the answer has come.
        self._asked: dict[Link, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, address: TcpAddress) -> None:
        """Answer cards at ``address``, if that port is free."""
        self._loop = asyncio.get_running_loop()
        try:
            self._desk = await CardDesk.open(address, self._receive, self._counters)
        except OSError:
            self._counters.count("no_card_port")

    def watch(self, link: Link) -> None:
        """Ask about ``link`` whenever it is stuck."""
        if self._desk is not None:
            link.on_stuck = self._stuck

    def close(self) -> None:
        if self._desk is not None:
            self._desk.close()
        if self._timer is not None:
            self._timer.cancel()
        self._asked.clear()

    def _stuck(self, link: Link) -> None:
        self._asked.setdefault(link, secrets.randbelow(MAX_INT) + 1)
        if self._timer is None:
            self._timer = self._loop.call_later(_ASK_S, self._ask)

    def _ask(self) -> None:
        self._timer = None
        assert self._desk is not None
        for link in [link for link in self._asked if link.closed or not link.stuck]:
            del self._asked[link]
        for link, nonce in self._asked.items():
            if nonce:
                self._desk.send(link.address, _card(HELLO, nonce))
        if self._asked:
            self._timer = self._loop.call_later(_ASK_S, self._ask)

    def _receive(self, card: Card, at: TcpAddress) -> None:
        if card.kind == HELLO and self._desk is not None:
            # one without certificate asks what we ask: we have nothing against it
            if card.shown is not None:
                self._counters.count("refused_cards")
                self._desk.send(at, _card(REFUSAL, card.nonce, KeysMissing.code))
        elif card.kind == REFUSAL:
            for link, nonce in self._asked.items():
                if nonce and nonce == card.nonce and link.address == at:
                    self._asked[link] = 0
                    self._counters.count(f"trust.{KeysMissing.code}")
                    self.on_trouble(wants_keys(at), False)


def wants_keys(at: TcpAddress) -> KeysMissing:
    """The peer at ``at`` has keys, and we have none."""
    return KeysMissing(
        f"the peer at {at} wants keys, and this side has none (see: fabric keys, --keys)",
        {"address": str(at)},
    )


def has_no_keys(at: TcpAddress) -> KeysMissing:
    """We have keys, and the peer at ``at`` has none."""
    return KeysMissing(
        f"the peer at {at} has no keys, and this side has: start it with keys, or ask without",
        {"address": str(at)},
    )


def _card(kind: int, nonce: int, code: str = "") -> Card:
    return Card(kind, WIRE_VERSION, nonce, 0, 0, None, code)


def _ignore(error: FabricError, fatal: bool) -> None:
    """Nobody wants to know."""
