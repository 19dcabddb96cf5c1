"""The way out under keys: links knock, open, knock again, and move to new keys.

A link stands once the peer at its address has shown a good card, of the node that is meant where
that is known, and the DEALER with that key is connected.  Until then, and when a connection breaks
for long, it *knocks*: it sends our card again and again, with growing pauses, for as long as frames
wait.  libzmq never tries again after a refusal, so each answer opens a new socket.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import zmq

from fabric.errors import FabricError, Untrusted
from fabric.ids import format_id
from fabric.limits import MAX_INT, SEND_QUEUE
from fabric.transport.address import TcpAddress
from fabric.transport.link import Curve, Link
from fabric.transport.rotation import Mover
from fabric.wire.trust import ARRIVED, HELLO, Card, Certificate

if TYPE_CHECKING:
    from fabric.transport.guard import Guard

#: Unanswered knocks: the first pause, doubled up to the second.
_KNOCK_S: Final = 0.1
_KNOCK_MAX_S: Final = 2.0
#: A link that was connected mends itself in less, or not at all.
_PATIENCE_S: Final = 0.3
#: One whose pipe may just be full is left alone until heartbeats would have ended it.
_FULL_S: Final = 6.0
#: A handshake takes milliseconds, on a busy machine a second; doubled each time.
_HANDSHAKE_S: Final = 1.0
_HANDSHAKE_MAX_S: Final = 8.0
_TICK_S: Final = 0.05


@dataclass(slots=True, eq=False)
class _Knock:
    """A link that is not connected as it should be."""

    node_id: int
    next_s: float
    moved: asyncio.Future[bool] | None = None  # the link works, but is to go over to a new key
    pause_s: float = _KNOCK_S
    handshake_s: float = _HANDSHAKE_S
    nonce: int = field(default_factory=lambda: secrets.randbelow(MAX_INT))


class Knocker:
    """The links of one peer with keys."""

    def __init__(self, guard: Guard, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.reached: dict[Link, Certificate] = {}
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._mover = Mover(context)
        self._knocks: dict[Link, _Knock] = {}
        self._nonces: dict[int, Link] = {}
        self._moves: set[int] = set()  # nonces of moves under way
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._mover.close()
        self._knocks.clear()

    def introduce(self, link: Link, node_id: int) -> None:
        """Open ``link`` once the node at its address (``node_id``, 0: any) has shown its card."""
        link.on_stuck = lambda stuck: self._stuck(stuck, node_id)
        self._begin(link, _Knock(node_id, self._loop.time()))

    def forget(self, link: Link) -> None:
        """The link is closed."""
        self.reached.pop(link, None)
        self._end(link)

    def _stuck(self, link: Link, node_id: int) -> None:
        if link in self._knocks:
            return
        if link not in self.reached:
            pause_s = 0.0
        else:
            pause_s = _FULL_S if link.sent >= SEND_QUEUE else _PATIENCE_S
        self._begin(link, _Knock(node_id, self._loop.time() + pause_s))

    def _begin(self, link: Link, knock: _Knock) -> None:
        self._knocks[link] = knock
        self._nonces[knock.nonce] = link
        if knock.next_s <= self._loop.time():
            self._knock(link, knock)
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK_S, self._tick)

    def _end(self, link: Link) -> None:
        knock = self._knocks.pop(link, None)
        if knock is not None:
            del self._nonces[knock.nonce]

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        for link, knock in list(self._knocks.items()):
            if (knock.moved is None or knock.moved.done()) and not link.stuck:
                self._end(link)  # it flows, or nothing is wanted any more
            elif knock.next_s <= now:
                self._knock(link, knock)
        if self._knocks:
            self._timer = self._loop.call_later(_TICK_S, self._tick)

    def _knock(self, link: Link, knock: _Knock) -> None:
        knock.next_s = self._loop.time() + knock.pause_s
        knock.pause_s = min(knock.pause_s * 2, _KNOCK_MAX_S)
        self._guard.show(link.address, HELLO, knock.nonce)

    def _connect(self, link: Link, knock: _Knock, card: Card, certificate: Certificate) -> None:
        if knock.moved is not None and not knock.moved.done():
            self._move(link, card, certificate, knock.moved)
            self._end(link)
            return
        endpoint = str(TcpAddress(link.address.host, card.port))
        try:
            link.open(endpoint, self._curve(certificate))
        except zmq.ZMQError:
            self._guard.counters.count("connect_failed")
            return
        self.reached[link] = certificate
        del self._nonces[knock.nonce]  # answers to earlier knocks must not end this connection
        knock.nonce = secrets.randbelow(MAX_INT)
        self._nonces[knock.nonce] = link
        knock.next_s = self._loop.time() + knock.handshake_s
        knock.handshake_s = min(knock.handshake_s * 2, _HANDSHAKE_MAX_S)
        self._guard.meet(card.revocations, link)

    def _curve(self, certificate: Certificate) -> Curve:
        mine = self._guard.keys
        return Curve(
            certificate.transport_key, mine.certificate.transport_key, mine.transport_secret
        )

    def on_card(self, card: Card, at: TcpAddress) -> None:
        link = self._nonces.get(card.nonce)
        if link is None or link.address != at:
            return
        knock = self._knocks[link]
        try:
            certificate = self._guard.admit(card)
            if knock.node_id not in (0, certificate.node_id):
                raise Untrusted(
                    f"node {format_id(certificate.node_id)} is at {at}, where "
                    f"{format_id(knock.node_id)} was"
                )
        except FabricError as error:
            self._guard.counters.count("refused_cards")
            self._guard.trouble(error)
        else:
            self._connect(link, knock, card, certificate)

    def refused(self, nonce: int, at: TcpAddress) -> bool:
        """The peer at ``at`` does not accept our card; false if it was not asked."""
        link = self._nonces.get(nonce)
        if link is None or link.address != at:
            return False
        self._knocks[link].pause_s = _KNOCK_MAX_S
        return True

    def drop_void(self) -> None:
        """End the links to those whose certificates are void."""
        for link, certificate in list(self.reached.items()):
            try:
                self._guard.trust.refuse_void(certificate)
            except Untrusted:
                link.shut()
                del self.reached[link]

    # --- moving to new keys -----------------------------------------------------------------------

    def move_all(self) -> asyncio.Future[list[bool]]:
        """Bring all links that stand over to our present key; the future ends when all are."""
        moves = []
        for link in list(self.reached):
            knock = self._knocks.get(link)
            if knock is None:
                moved: asyncio.Future[bool] = self._loop.create_future()
                moves.append(moved)
                node_id = self.reached[link].node_id
                self._begin(link, _Knock(node_id, self._loop.time(), moved))
        return asyncio.gather(*moves)

    def _move(
        self, link: Link, card: Card, certificate: Certificate, moved: asyncio.Future[bool]
    ) -> None:
        def done(stands: bool) -> None:
            if stands:
                self.reached[link] = certificate
            if not moved.done():
                moved.set_result(stands)

        endpoint = str(TcpAddress(link.address.host, card.port))
        self._mover.move(link, endpoint, self._curve(certificate), done)

    def on_moved(self, card: Card, at: TcpAddress) -> None:
        """Somebody we may be connected to has a new key: go over, then say so."""
        try:
            certificate = self._guard.admit(card)
        except FabricError:
            self._guard.counters.count("refused_cards")
            return
        if card.nonce in self._moves:
            return  # told twice
        waiting = []
        for link, old in self.reached.items():
            if link.address == at and old.node_id == certificate.node_id:
                moved: asyncio.Future[bool] = self._loop.create_future()
                waiting.append(moved)
                self._move(link, card, certificate, moved)

        def all_moved(result: asyncio.Future[list[bool]]) -> None:
            self._moves.discard(card.nonce)
            if not result.cancelled() and all(result.result()):
                self._guard.show(at, ARRIVED, card.nonce)

        self._moves.add(card.nonce)
        asyncio.gather(*waiting).add_done_callback(all_moved)
