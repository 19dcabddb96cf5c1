"""Messages over ZeroMQ: a bound ROUTER for what comes in, a DEALER per contact for what goes out.

Nothing is ever sent on the ROUTER and no routing id is trusted: an answer goes to the asker's
address by a connection of our own (:mod:`fabric.transport.link`).  (ROUTER to ROUTER would save a
descriptor, and let a stranger abort the process by taking the id that we dial.)

Beyond the bounds frames are dropped and counted; bytes of frames handed over are counted as
``sent_bytes``.  Connections idle for long are closed; when there are too many, the longest idle one
goes first.

Without keys a peer binds, and dials, loopback addresses only, and is told when it meets one that
has keys (:mod:`fabric.transport.unkeyed`).  With keys every connection is CurveZMQ, and every
frame's sender is whom the connection's key belongs to (:mod:`fabric.transport.guard`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import zmq
from aiozmq.interface import ZmqProtocol

from fabric.counters import Counters
from fabric.errors import AddressInUse, BadFrame, BadInput, EdgeError
from fabric.limits import IDLE_CONNECTION_S, MAX_CONNECTIONS
from fabric.machine import Message
from fabric.transport.address import TcpAddress, parse_bound, parse_dialled, parse_tcp
from fabric.transport.guard import Guard
from fabric.transport.interface import Deliver, OnTrouble, RecordOf
from fabric.transport.keys import NodeKeys
from fabric.transport.link import Link, set_common
from fabric.transport.pump import Pump
from fabric.transport.unkeyed import Unkeyed
from fabric.wire.codec import decode_frame, encode_frame
from fabric.wire.common import Failure, Response
from fabric.wire.trust import Signed

_LOG = logging.getLogger("fabric.transport")

#: libzmq's default of 1023 ends at about 1,020 peers and contacts in one context.
_MAX_SOCKETS = 16384
#: Connections that the kernel completes while the loop is busy: a whole cell dials at once.
_BACKLOG = 512
#: Free TCP ports tried until one is free for UDP too (cards).
_PORT_TRIES = 20


class ZmqTransport:
    """A peer's sockets. Make it, ``start`` it on the running loop, ``close`` it."""

    def __init__(self, address: str, counters: Counters, keys: NodeKeys | None = None) -> None:
        self._wanted = parse_bound(address, loopback=keys is None)
        self._address = ""
        self._counters = counters
        self._node_id = 0
        #: With keys a link is good for one node only; without, whoever is at the address gets it.
        self._links: dict[tuple[str, int], Link] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._guard = None if keys is None else Guard(keys, counters)
        self._unkeyed = Unkeyed(counters) if keys is None else None

    @property
    def address(self) -> str:
        return self._address

    @property
    def connections(self) -> int:
        """Outgoing connections, formed or forming."""
        return len(self._links)

    @property
    def waiting(self) -> int:
        return sum([link.waiting for link in self._links.values()])

    def on_trouble(self, tell: OnTrouble) -> None:
        """Tell ``tell`` why others do not trust us, or we them."""
        if self._guard is not None:
            self._guard.on_trouble = tell
        elif self._unkeyed is not None:
            self._unkeyed.on_trouble = tell

    def vouch(self, boot_id: int, record_of: RecordOf) -> None:
        """Say in which life we sign, and where to look up the seats of a cell."""
        if self._guard is not None:
            self._guard.attestor.boot_id = boot_id
            self._guard.attestor.record_of = record_of

    def trust(self, signed: Signed) -> None:
        """Let in whom a certificate names, as if it had been shown. Raises :class:`Untrusted`."""
        if self._guard is not None:
            self._guard.trust.admit(signed)

    async def start(self, node_id: int, deliver: Deliver) -> None:
        self._loop = asyncio.get_running_loop()
        self._node_id = node_id
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
        self._router = self._context.socket(zmq.ROUTER)
        try:
            await self._bind()
        except BaseException:
            if self._guard is not None:
                self._guard.close()
            self._context.destroy(linger=0)
            self._closed = True
            raise
        inbox: ZmqProtocol = _Inbox(deliver, self._counters)
        if self._guard is not None:
            inbox = _GuardedInbox(deliver, self._counters, self._guard)
        self._pump = Pump(self._router, inbox, self._on_error)
        self._sweep = self._loop.call_later(IDLE_CONNECTION_S / 4, self._close_idle)

    async def _bind(self) -> None:
        if self._guard is None:
            assert self._unkeyed is not None
            self._address = _bind(self._router, self._wanted)
            await self._unkeyed.open(parse_tcp(self._address))
            return
        self._guard.prepare(self._context, self._router)
        for left in reversed(range(_PORT_TRIES)):
            self._address = _bind(self._router, self._wanted)
            try:
                await self._guard.open(parse_tcp(self._address), self)
                return
            except OSError as error:
                if self._wanted.port != 0 or left == 0:
                    raise AddressInUse(
                        f"the UDP port of {self._address}, which keys need, cannot be had: "
                        f"{error.strerror}",
                        {"field": "address", "value": self._address},
                    ) from None
                self._router.unbind(self._address)

    def send(self, address: str, message: Message, node_id: int = 0) -> bool:
        if self._closed:
            return False
        key = address, 0 if self._guard is None else node_id
        link = self._links.get(key)
        if link is None:
            link = self._connect(key)
            if link is None:
                return False
        if self._guard is not None:
            message = self._guard.attestor.outgoing(node_id, message)
        return self.send_on(link, message)

    def send_on(self, link: Link, message: Message) -> bool:
        """Send on one link, whoever it leads to."""
        try:
            frame = encode_frame(self._node_id, message)
        except BadFrame as error:
            self._counters.count("oversize_frames")
            if not isinstance(message, Response):
                return False
            # whoever asked learns why there is no answer, rather than wait for one
            failure = Failure(EdgeError.code, f"the answer is too long: {error.message}")
            frame = encode_frame(self._node_id, Response(message.request_id, failure))
        self._counters.counts["sent_bytes"] += len(frame)
        return link.send(frame, self._loop.time())

    def all_links(self) -> Iterable[Link]:
        """All outgoing connections, formed or forming."""
        return self._links.values()

    async def close(self) -> None:
        if self._closed or self._sweep is None:
            return
        self._closed = True
        self._sweep.cancel()
        self._pump.close()
        self._router.close(linger=0)
        for key in tuple(self._links):
            self._close_link(key)
        if self._guard is not None:
            self._guard.close()
        if self._unkeyed is not None:
            self._unkeyed.close()
        # term() waits for lingering frames, at most _LINGER_MS; not on the loop
        await asyncio.to_thread(self._context.term)

    def _connect(self, key: tuple[str, int]) -> Link | None:
        address, node_id = key
        try:
            tcp = parse_dialled(address, loopback=self._guard is None)
            if len(self._links) >= MAX_CONNECTIONS:
                self._close_link(min(self._links, key=lambda a: self._links[a].used))
                self._counters.count("links_evicted")
            link = Link(self._context, tcp, self._loop, self._counters)
            if self._guard is None:
                link.open(str(tcp))
        except BadInput:
            self._counters.count("bad_addresses")
            return None
        except zmq.ZMQError:
            self._counters.count("connect_failed")
            return None
        self._links[key] = link
        if self._guard is not None:
            self._guard.links.introduce(link, node_id)
        elif self._unkeyed is not None:
            self._unkeyed.watch(link)
        return link

    def _close_link(self, key: tuple[str, int]) -> None:
        link = self._links.pop(key)
        if self._guard is not None:
            self._guard.links.forget(link)
        link.close()

    def _close_idle(self) -> None:
        limit = self._loop.time() - IDLE_CONNECTION_S
        for key in [key for key, link in self._links.items() if link.used < limit]:
            self._close_link(key)
            self._counters.count("links_idle_closed")
        self._sweep = self._loop.call_later(IDLE_CONNECTION_S / 4, self._close_idle)

    def _on_error(self, error: Exception | None) -> None:
        if error is None:
            self._counters.count("bad_multiparts")
            return
        # the runtime catches what machines raise: this is a defect of the driver itself
        self._counters.count("receive_errors")
        _LOG.error("receiving a frame failed", exc_info=error)


class _Inbox(ZmqProtocol):  # type: ignore[misc]
    """Decodes what the pump reads, counts what is no message, delivers the rest."""

    def __init__(self, deliver: Deliver, counters: Counters) -> None:
        self._deliver = deliver
        self._counters = counters

    def msg_received(self, data: list[bytes | zmq.Frame]) -> None:
        try:
            sender, message = decode_frame(data[1].bytes)  # type: ignore[union-attr]
        except BadFrame:
            self._counters.count("bad_frames")
            return
        if message is None:
            self._counters.count("unknown_types")
            return
        self._deliver(sender, message)


class _GuardedInbox(_Inbox):
    """Drops, before it decodes, what did not come on an authenticated connection."""

    def __init__(self, deliver: Deliver, counters: Counters, guard: Guard) -> None:
        super().__init__(deliver, counters)
        self._guard = guard

    def msg_received(self, data: list[bytes | zmq.Frame]) -> None:
        node_id = self._guard.sender(data[0], data[1])  # type: ignore[arg-type]
        if node_id == 0:
            return
        try:
            sender, message = decode_frame(data[1].bytes)  # type: ignore[union-attr]
        except BadFrame:
            self._counters.count("bad_frames")
            return
        if sender != node_id:
            self._counters.count("forged_senders")
        elif message is None:
            self._counters.count("unknown_types")
        elif not self._guard.take(node_id, message):
            believed = self._guard.attestor.incoming(node_id, message)
            if believed is not None and self._guard.permits(node_id, believed):
                self._deliver(node_id, believed)


def _bind(router: zmq.Socket[bytes], wanted: TcpAddress) -> str:
    """Bind and return the real address, its port resolved."""
    set_common(router, str(wanted))
    router.setsockopt(zmq.BACKLOG, _BACKLOG)
    try:
        router.bind(str(wanted))
    except zmq.ZMQError as error:
        data = {"field": "address", "value": str(wanted)}
        if error.errno == zmq.EADDRINUSE:
            raise AddressInUse(f"address {wanted} is in use by another program", data) from None
        raise EdgeError(f"cannot listen on {wanted}: {error.strerror}", data) from None
    endpoint = router.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\0").decode()
