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
* *Rotated*: new keys in the key directory are taken over while the peer runs
  (:mod:`fabric.transport.rotation`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

import zmq

from fabric.attestor import Attestor
from fabric.counters import Counters
from fabric.errors import (
    FabricError,
    IncompatibleVersion,
    KeyFileError,
    KeysMissing,
    Overloaded,
    Untrusted,
    error_from_code,
)
from fabric.limits import MAX_IDENTITIES
from fabric.machine import Message
from fabric.transport.address import TcpAddress
from fabric.transport.cards import CardDesk
from fabric.transport.interface import OnTrouble
from fabric.transport.keys import NODE_FILE, REVOKED_FILE, NodeKeys, load_node
from fabric.transport.knocking import Knocker
from fabric.transport.link import Link
from fabric.transport.orders import refusal
from fabric.transport.rotation import Rotation, check_successor
from fabric.transport.signer import NodeSigner
from fabric.transport.trust import Trust, user_id
from fabric.transport.unkeyed import has_no_keys
from fabric.transport.zap import DOMAIN, Zap
from fabric.wire.codec import WIRE_VERSION
from fabric.wire.common import Failure, Request, Response
from fabric.wire.trust import (
    ARRIVED,
    CARD,
    HELLO,
    MOVED,
    REFUSAL,
    Card,
    Certificate,
    Revocations,
    RevocationsHeld,
    Signed,
)

_LOG = logging.getLogger("fabric.transport")

#: Files are looked at, and what has expired is dropped, so often.
_SWEEP_S: Final = 1.0
#: Versions of the revocation list are compared with one neighbour each so many sweeps.
_COMPARE_SWEEPS: Final = 10


class Carrier(Protocol):
    """What the guard needs of the transport."""

    def send(self, address: str, message: Message, node_id: int = 0) -> bool: ...

    def all_links(self) -> Iterable[Link]: ...

    def send_on(self, link: Link, message: Message) -> bool: ...


class Guard:
    """One per transport with keys."""

    def __init__(self, keys: NodeKeys, counters: Counters) -> None:
        """Raises :class:`Untrusted` if the certificate is void, ``KeyFileError``."""
        self.keys = keys
        self.trust = Trust(keys)
        self.attestor = Attestor(NodeSigner(self), counters)
        self.port = 0  # the TCP port that goes with our key
        self.ports: set[int] = set()  # those bound; two while keys rotate
        self.on_trouble: OnTrouble = _ignore
        self.counters = counters
        self._inbound: dict[bytes, tuple[str, int]] = {}  # routing id -> User-Id, descriptor
        self._callers: dict[TcpAddress, Certificate] = {}  # whom we showed our card
        self._sweeps = 0
        self._files = _file_times(keys.directory)
        self._desk: CardDesk | None = None
        self._rotation: Rotation | None = None
        self._rotating: asyncio.Task[None] | None = None

    # --- life -------------------------------------------------------------------------------------

    def prepare(
        self, context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]
    ) -> None:
        """Bind the ZAP handler and make ``router`` a CURVE server: before it is bound."""
        self.router = router
        self.links = Knocker(self, context)
        self._zap = Zap(context, self.trust.user_of, self.counters)
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, self.keys.transport_secret)
        router.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)

    async def open(self, address: TcpAddress, carrier: Carrier) -> None:
        """Answer cards at ``address``. Raises :class:`OSError` if its UDP port is taken."""
        self._loop = asyncio.get_running_loop()
        self._carrier = carrier
        self._desk = await CardDesk.open(address, self._receive, self.counters)
        self._home = address
        self.port = address.port
        self.ports = {address.port}
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    def close(self) -> None:
        self._zap.close()
        if self._desk is not None:
            self._desk.close()
            self._sweeper.cancel()
        if self._rotating is not None:
            self._rotating.cancel()
        self.links.close()

    # --- in ---------------------------------------------------------------------------------------

    def sender(self, routing_id: bytes, frame: zmq.Frame) -> int:
        """Return the node whose connection ``frame`` came on; 0: nobody's, it was cut."""
        try:
            user = frame.get("User-Id")
        except zmq.ZMQError:
            user = ""
        node_id = self.trust.nodes.get(user, 0)  # type: ignore[arg-type]
        if node_id == 0:
            self.counters.count("unauthenticated_frames")
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
                if connection.getsockname()[1] in self.ports:  # else the number was used again
                    connection.shutdown(socket.SHUT_RDWR)
                    self.counters.count("cut_connections")
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

    def permits(self, sender: int, message: Message) -> bool:
        """Whether ``sender`` may have us do this; if not it is told so."""
        error = refusal(sender, self.trust.rights.get(sender, 0), message)
        if error is None:
            return True
        self.counters.count("refused_orders")
        assert isinstance(message, Request)
        asker = message.reply_to
        if asker.node_id == sender:  # answers go to those who ask, nobody else
            failure = Failure(error.code, error.message, tuple(sorted(error.data.items())))
            self._carrier.send(asker.address, Response(message.request_id, failure), sender)
        return False

    def _send_to_node(self, node_id: int, message: Message) -> None:
        for link, certificate in self.links.reached.items():
            if certificate.node_id == node_id:
                self._carrier.send_on(link, message)
                return

    def meet(self, version: int, link: Link) -> None:
        """A peer that holds this version of the revocation list is at the end of ``link``."""
        self._compare(version, lambda message: self._carrier.send_on(link, message))

    def _compare(self, version: int, answer: Callable[[Message], object]) -> None:
        held = self.trust.revocations
        if held is not None and version < held[0].version:
            answer(Revocations(held[1]))
        elif version > self.trust.version:
            answer(RevocationsHeld(self.trust.version))

    # --- cards ------------------------------------------------------------------------------------

    def show(self, to: TcpAddress, kind: int, nonce: int, code: str = "") -> None:
        assert self._desk is not None
        shown = None if kind == REFUSAL else self.keys.signed
        self._desk.send(
            to, Card(kind, WIRE_VERSION, nonce, self.port, self.trust.version, shown, code)
        )

    def _receive(self, card: Card, at: TcpAddress) -> None:
        if card.kind == HELLO:
            self._on_hello(card, at)
        elif card.kind == CARD:
            self.links.on_card(card, at)
        elif card.kind == MOVED:
            self.links.on_moved(card, at)
        elif card.kind == ARRIVED:
            if self._rotation is not None:
                self._rotation.arrived(card.nonce)
        elif card.kind == REFUSAL and self.links.refused(card.nonce, at):
            self.trouble(_refused(card.code, at))

    def _on_hello(self, card: Card, at: TcpAddress) -> None:
        try:
            self._note_caller(at, self.admit(card))
        except Untrusted as error:
            self.counters.count("refused_cards")
            self.show(at, REFUSAL, card.nonce, error.code)
        except Overloaded:
            self.counters.count("dropped_cards")
        else:
            self.show(at, CARD, card.nonce)
            self._compare(card.revocations, lambda m: self._carrier.send(str(at), m))

    def admit(self, card: Card) -> Certificate:
        if not WIRE_VERSION - 1 <= card.wire_version <= WIRE_VERSION + 1:
            raise IncompatibleVersion(
                f"the other peer speaks version {card.wire_version} of the wire, we speak "
                f"{WIRE_VERSION}"
            )
        if card.shown is None:
            raise KeysMissing("a card without certificate")
        return self.trust.admit(card.shown)

    def trouble(self, error: FabricError, fatal: bool = False) -> None:
        self.counters.count(f"trust.{error.code}")
        self.on_trouble(error, fatal)

    # --- rotation ---------------------------------------------------------------------------------

    def use(self, keys: NodeKeys, port: int) -> None:
        """From now on show the certificate of ``keys``, and ``port`` as that of its key."""
        self.keys = keys
        self.port = port

    def callers(self) -> list[TcpAddress]:
        """Return where those may be found that have connections to us."""
        return list(self._callers)

    def tell_moved(self, to: TcpAddress, nonce: int) -> None:
        self.show(to, MOVED, nonce)

    def _note_caller(self, at: TcpAddress, certificate: Certificate) -> None:
        self._callers.pop(at, None)
        self._callers[at] = certificate
        if len(self._callers) > MAX_IDENTITIES:
            del self._callers[next(iter(self._callers))]

    # --- revocations, files, expiry ---------------------------------------------------------------

    def _take_revocations(self, signed: Signed, from_file: bool = False) -> None:
        try:
            if not self.trust.take_revocations(signed):
                return
            if not from_file:
                self.keys.keep_revocations(signed)
        except Untrusted:
            self.counters.count("forged_revocations")
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
        self.links.drop_void()
        try:
            self.trust.refuse_void(self.keys.certificate)
        except Untrusted as error:
            self.trouble(error, fatal=True)

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        self._sweeps += 1
        try:
            self._read_files()
        except KeyFileError as error:
            self.trouble(error)
        self._drop_void()
        links = list(self.links.reached)
        if links and self._sweeps % _COMPARE_SWEEPS == 0:
            link = links[self._sweeps // _COMPARE_SWEEPS % len(links)]
            self._carrier.send_on(link, RevocationsHeld(self.trust.version))

    def _read_files(self) -> None:
        seen = _file_times(self.keys.directory)
        if seen == self._files or (self._rotating is not None and not self._rotating.done()):
            return
        self._files = seen
        self._read_keys()
        found = self.keys.revocations()
        if found is not None:
            self._take_revocations(found[1], from_file=True)


    def _read_keys(self) -> None:
        """Take over newer keys, if that is what has changed."""
        if self.keys.directory is None:
            return
        keys = load_node(self.keys.directory)
        if keys.certificate == self.keys.certificate:
            return
        try:
            check_successor(self.keys, keys)
            self.trust.refuse_void(keys.certificate)
        except FabricError as error:
            self.trouble(error)
            return
        self._rotation = Rotation(self, keys, self._home)
        self._rotating = self._loop.create_task(self._rotate(self._rotation))

    async def _rotate(self, rotation: Rotation) -> None:
        try:
            await rotation.run()
        except FabricError as error:
            self.trouble(error)
        else:
            self.counters.count("rotations")
            _LOG.info("new keys are in use, serial %s", user_id(self.keys.certificate))
        finally:
            self._rotation = None


def _refused(code: str, at: TcpAddress) -> FabricError:
    if code == KeysMissing.code:
        return has_no_keys(at)
    return error_from_code(code, f"the peer at {at} does not accept our certificate")


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
