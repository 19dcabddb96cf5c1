"""Keys at work on one peer's sockets: who comes in, who is dialled, who is cut off.

* *In*: the ZAP handler is bound before the ROUTER; it lets in only keys whose certificates were
  shown (:mod:`fabric.transport.cards`).  Each frame's ``User-Id`` names the certificate; a frame
  without a good one is dropped and its connection cut, one that claims another sender is dropped.
* *Out*: a link knocks with our card until the other side shows a good certificate, of the very node
  that is meant where that is known; then the DEALER is opened with that key.  Where the connection
  does not form, or breaks for long, it knocks again: a restarted peer has forgotten whom it let in.
* *Revoked*: a newer list, from the key directory or from any peer, takes effect at once: frames are
  dropped, inbound TCP connections shut, links closed.  It is passed on along all links, and peers
  that meet compare versions.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import zmq

from fabric.counters import Counters
from fabric.errors import (
    FabricError,
    IncompatibleVersion,
    KeyFileError,
    Overloaded,
    Untrusted,
    error_from_code,
)
from fabric.ids import format_id
from fabric.limits import MAX_IDENTITIES, MAX_INT, SEND_QUEUE
from fabric.machine import Message
from fabric.transport.address import TcpAddress
from fabric.transport.cards import CardDesk
from fabric.transport.interface import OnTrouble
from fabric.transport.keys import NODE_FILE, REVOKED_FILE, NodeKeys
from fabric.transport.link import Curve, Link
from fabric.transport.trust import Trust
from fabric.transport.zap import DOMAIN, Zap
from fabric.wire.codec import WIRE_VERSION
from fabric.wire.trust import (
    CARD,
    HELLO,
    REFUSAL,
    Card,
    Certificate,
    Revocations,
    RevocationsHeld,
    Signed,
)

_LOG = logging.getLogger("fabric.transport")

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
#: Files are looked at, and what has expired is dropped, so often.
_SWEEP_S: Final = 1.0
#: Versions of the revocation list are compared with one neighbour each so many sweeps.
_COMPARE_SWEEPS: Final = 10


class Carrier(Protocol):
    """What the guard needs of the transport."""

    def send(self, address: str, message: Message, node_id: int = 0) -> bool: ...

    def all_links(self) -> Iterable[Link]: ...

    def send_on(self, link: Link, message: Message) -> bool: ...


@dataclass(slots=True, eq=False)
class _Knock:
    """A link that is not connected as it should be."""

    node_id: int
    next_s: float
    pause_s: float = _KNOCK_S
    handshake_s: float = _HANDSHAKE_S
    nonce: int = field(default_factory=lambda: secrets.randbelow(MAX_INT))


class Guard:
    """One per transport with keys."""

    def __init__(self, keys: NodeKeys, counters: Counters) -> None:
        """Raises :class:`Untrusted` if the certificate is void, ``KeyFileError``."""
        self.keys = keys
        self.trust = Trust(keys)
        self.port = 0  # the TCP port that goes with our key
        self.on_trouble: OnTrouble = _ignore
        self._counters = counters
        self._knocks: dict[Link, _Knock] = {}
        self._nonces: dict[int, Link] = {}
        self._reached: dict[Link, Certificate] = {}
        self._inbound: dict[bytes, tuple[str, int]] = {}  # routing id -> User-Id, descriptor
        self._timer: asyncio.TimerHandle | None = None
        self._sweeps = 0
        self._files = _file_times(keys.directory)
        self._desk: CardDesk | None = None

    # --- life -------------------------------------------------------------------------------------

    def prepare(
        self, context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]
    ) -> None:
        """Bind the ZAP handler and make ``router`` a CURVE server: before it is bound."""
        self._zap = Zap(context, self.trust.user_of, self._counters)
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, self.keys.transport_secret)
        router.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)

    async def open(self, address: TcpAddress, carrier: Carrier) -> None:
        """Answer cards at ``address``. Raises :class:`OSError` if its UDP port is taken."""
        self._loop = asyncio.get_running_loop()
        self._carrier = carrier
        self._desk = await CardDesk.open(address, self._receive, self._counters)
        self.port = address.port
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    def close(self) -> None:
        self._zap.close()
        if self._desk is not None:
            self._desk.close()
            self._sweeper.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._knocks.clear()

    # --- in ---------------------------------------------------------------------------------------

    def sender(self, routing_id: bytes, frame: zmq.Frame) -> int:
        """Return the node whose connection ``frame`` came on; 0: nobody's, it was cut."""
        try:
            user = frame.get("User-Id")
        except zmq.ZMQError:
            user = ""
        node_id = self.trust.nodes.get(user, 0)  # type: ignore[arg-type]
        if node_id == 0:
            self._counters.count("unauthenticated_frames")
            self._cut(int(frame.get(zmq.SRCFD)))
        elif routing_id not in self._inbound:
            if len(self._inbound) >= MAX_IDENTITIES:
                self._inbound.clear()  # those that live are noted again with their next frame
            self._inbound[routing_id] = str(user), int(frame.get(zmq.SRCFD))
        return node_id

    def _cut(self, descriptor: int) -> None:
        """Shut an inbound TCP connection. libzmq owns the descriptor, so ours is a copy."""
        try:
            connection = socket.socket(fileno=os.dup(descriptor))
        except OSError:
            return  # closed already
        with connection:
            try:
                if connection.getsockname()[1] == self.port:  # else the number was used again
                    connection.shutdown(socket.SHUT_RDWR)
                    self._counters.count("cut_connections")
            except OSError:
                return  # the other side was faster

    # --- messages of the transport ----------------------------------------------------------------

    def take(self, sender: int, message: Message) -> bool:
        """Handle what is meant for the transport; false for everything else."""
        if isinstance(message, Revocations):
            self._take_revocations(message.signed)
        elif isinstance(message, RevocationsHeld):
            self._compare(message.version, lambda m: self._send_to_node(sender, m))
        else:
            return False
        return True

    def _send_to_node(self, node_id: int, message: Message) -> None:
        for link, certificate in self._reached.items():
            if certificate.node_id == node_id:
                self._carrier.send_on(link, message)
                return

    def _compare(self, version: int, answer: Callable[[Message], object]) -> None:
        held = self.trust.revocations
        if held is not None and version < held[0].version:
            answer(Revocations(held[1]))
        elif version > self.trust.version:
            answer(RevocationsHeld(self.trust.version))

    # --- out --------------------------------------------------------------------------------------

    def introduce(self, link: Link, node_id: int) -> None:
        """Open ``link`` once the node at its address (``node_id``, 0: any) has shown its card."""
        link.on_stuck = lambda stuck: self._stuck(stuck, node_id)
        self._begin(link, _Knock(node_id, self._loop.time()))

    def forget(self, link: Link) -> None:
        """The link is closed."""
        self._reached.pop(link, None)
        self._end(link)

    def _stuck(self, link: Link, node_id: int) -> None:
        if link in self._knocks:
            return
        if link not in self._reached:
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
            if not link.stuck:
                self._end(link)  # it flows, or nothing is wanted any more
            elif knock.next_s <= now:
                self._knock(link, knock)
        if self._knocks:
            self._timer = self._loop.call_later(_TICK_S, self._tick)

    def _knock(self, link: Link, knock: _Knock) -> None:
        knock.next_s = self._loop.time() + knock.pause_s
        knock.pause_s = min(knock.pause_s * 2, _KNOCK_MAX_S)
        self._show(link.address, HELLO, knock.nonce)

    def _connect(self, link: Link, knock: _Knock, card: Card, certificate: Certificate) -> None:
        endpoint = str(TcpAddress(link.address.host, card.port))
        try:
            link.open(endpoint, self._curve(certificate))
        except zmq.ZMQError:
            self._counters.count("connect_failed")
            return
        self._reached[link] = certificate
        knock.next_s = self._loop.time() + knock.handshake_s
        knock.handshake_s = min(knock.handshake_s * 2, _HANDSHAKE_MAX_S)
        self._compare(card.revocations, lambda m: self._carrier.send_on(link, m))

    def _curve(self, certificate: Certificate) -> Curve:
        mine = self.keys
        return Curve(
            certificate.transport_key, mine.certificate.transport_key, mine.transport_secret
        )

    # --- cards ------------------------------------------------------------------------------------

    def _show(self, to: TcpAddress, kind: int, nonce: int, code: str = "") -> None:
        assert self._desk is not None
        shown = None if kind == REFUSAL else self.keys.signed
        self._desk.send(
            to, Card(kind, WIRE_VERSION, nonce, self.port, self.trust.version, shown, code)
        )

    def _receive(self, card: Card, at: TcpAddress) -> None:
        if card.kind == HELLO:
            self._on_hello(card, at)
        elif card.kind == CARD:
            self._on_card(card, at)
        elif card.kind == REFUSAL:
            link = self._nonces.get(card.nonce)
            if link is not None and link.address == at:
                self._knocks[link].pause_s = _KNOCK_MAX_S
                self._trouble(
                    error_from_code(card.code, f"the peer at {at} does not accept our certificate")
                )

    def _on_hello(self, card: Card, at: TcpAddress) -> None:
        try:
            self._admit(card)
        except Untrusted as error:
            self._counters.count("refused_cards")
            self._show(at, REFUSAL, card.nonce, error.code)
        except Overloaded:
            self._counters.count("dropped_cards")
        else:
            self._show(at, CARD, card.nonce)
            self._compare(card.revocations, lambda m: self._carrier.send(str(at), m))

    def _on_card(self, card: Card, at: TcpAddress) -> None:
        link = self._nonces.get(card.nonce)
        if link is None or link.address != at:
            return
        knock = self._knocks[link]
        try:
            certificate = self._admit(card)
            if knock.node_id not in (0, certificate.node_id):
                raise Untrusted(
                    f"node {format_id(certificate.node_id)} is at {at}, where "
                    f"{format_id(knock.node_id)} was"
                )
        except FabricError as error:
            self._counters.count("refused_cards")
            self._trouble(error)
        else:
            self._connect(link, knock, card, certificate)

    def _admit(self, card: Card) -> Certificate:
        if not WIRE_VERSION - 1 <= card.wire_version <= WIRE_VERSION + 1:
            raise IncompatibleVersion(
                f"the other peer speaks version {card.wire_version} of the wire, we speak "
                f"{WIRE_VERSION}"
            )
        if card.shown is None:
            raise Untrusted("a card without certificate")
        return self.trust.admit(card.shown)

    def _trouble(self, error: FabricError, fatal: bool = False) -> None:
        self._counters.count(f"trust.{error.code}")
        self.on_trouble(error, fatal)

    # --- revocations, files, expiry ---------------------------------------------------------------

    def _take_revocations(self, signed: Signed, from_file: bool = False) -> None:
        try:
            if not self.trust.take_revocations(signed):
                return
            if not from_file:
                self.keys.keep_revocations(signed)
                self._files = _file_times(self.keys.directory)
        except Untrusted:
            self._counters.count("forged_revocations")
            return
        except KeyFileError as error:
            _LOG.warning("the revocation list is in force, but not on file: %s", error.message)
        _LOG.info("revocation list %d is in force", self.trust.version)
        for link in tuple(self._carrier.all_links()):  # also to those who are on it: they stop
            self._carrier.send_on(link, Revocations(signed))
        self._drop_void()

    def _drop_void(self) -> None:
        self.trust.drop_void()
        nodes = self.trust.nodes
        for routing_id, (user, descriptor) in list(self._inbound.items()):
            if user not in nodes:
                del self._inbound[routing_id]
                self._cut(descriptor)
        for link, certificate in list(self._reached.items()):
            try:
                self.trust.refuse_void(certificate)
            except Untrusted:
                link.shut()
                del self._reached[link]
        try:
            self.trust.refuse_void(self.keys.certificate)
        except Untrusted as error:
            self._trouble(error, fatal=True)

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        self._sweeps += 1
        try:
            self._read_files()
        except KeyFileError as error:
            self._trouble(error)
        self._drop_void()
        links = list(self._reached)
        if links and self._sweeps % _COMPARE_SWEEPS == 0:
            link = links[self._sweeps // _COMPARE_SWEEPS % len(links)]
            self._carrier.send_on(link, RevocationsHeld(self.trust.version))

    def _read_files(self) -> None:
        seen = _file_times(self.keys.directory)
        if seen == self._files:
            return
        self._files = seen
        found = self.keys.revocations()
        if found is not None:
            self._take_revocations(found[1], from_file=True)


def _file_times(directory: Path | None) -> tuple[int, ...]:
    """When the key files were last replaced."""
    if directory is None:
        return ()
    times = []
    for name in (NODE_FILE, REVOKED_FILE):
        try:
            times.append(os.stat(directory / name).st_mtime_ns)
        except OSError:
            times.append(0)
    return tuple(times)


def _ignore(error: FabricError, fatal: bool) -> Any:
    """Nobody wants to know."""
