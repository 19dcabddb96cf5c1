"""Cards: how two peers learn each other's keys before they connect. One UDP datagram each way.

CURVE wants the server's key from whoever dials, and ZAP decides on a bare key; neither carries a
certificate.  So a peer listens on the UDP port of the same number as its TCP port, and who is about
to dial sends its certificate there (``HELLO``).  If the certificate is good the peer lets that key
in and answers with its own (``CARD``), else it says why not (``REFUSAL``).  Cards hold nothing
secret.  Whom to trust is decided by the signature of the cluster's key alone, and who really speaks
by CURVE, which proves possession of the secret; a forged, replayed or lost card can delay a
connection, never redirect one.  An answer is no longer than its question, so nobody is flooded
through us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from fabric.counters import Counters
from fabric.errors import BadFrame
from fabric.transport.address import TcpAddress
from fabric.wire.codec import decode_record, encode_record
from fabric.wire.trust import Card

#: A card with the longest names; longer datagrams are not ours.
MAX_CARD_BYTES: Final = 1200

Receive: TypeAlias = Callable[[Card, TcpAddress], None]


class CardDesk(asyncio.DatagramProtocol):
    """Sends and receives cards on one UDP port."""

    def __init__(self, receive: Receive, counters: Counters) -> None:
        self._receive = receive
        self._counters = counters
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(cls, address: TcpAddress, receive: Receive, counters: Counters) -> CardDesk:
        """Bind. Raises :class:`OSError`."""
        desk = cls(receive, counters)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: desk, (address.host, address.port))
        return desk

    def send(self, to: TcpAddress, card: Card) -> None:
        """Send a card; it may be lost."""
        if self._transport is not None:
            self._transport.sendto(encode_record(card), (to.host, to.port))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    # --- asyncio ----------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        try:
            if len(data) > MAX_CARD_BYTES:
                raise BadFrame("card too long")
            card = decode_record(Card, data)
        except BadFrame:
            self._counters.count("bad_cards")
            return
        self._receive(card, TcpAddress(str(addr[0]), int(addr[1])))

    def error_received(self, exc: Exception) -> None:
        self._counters.count("cards_unreachable")  # nobody listens there: the knocks go on
