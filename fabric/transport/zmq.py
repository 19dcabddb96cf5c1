"""Messages over ZeroMQ: a bound ROUTER for what comes in, a DEALER per contact for what goes out.

Nothing is ever sent on the ROUTER and no routing id is trusted: an answer goes to the asker's
address by a connection of our own.  (ROUTER to ROUTER would save a descriptor, and let a stranger
abort the process by taking the id that we dial.)

A DEALER connects in the background.  While it has no connection (``IMMEDIATE``: libzmq refuses to
queue for a dead address) a bounded number of frames wait here, and none for longer than
``STALE_SEND_S``: a probe that is seconds old answers a question nobody asks any more.  Beyond the
bounds frames are dropped and counted; bytes of frames handed over are counted as ``sent_bytes``.
Connections idle for long are closed; when there are too many, the longest idle one goes first.

Without keys a peer binds, and dials, loopback addresses only.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import zmq
from aiozmq.interface import ZmqProtocol

from fabric.counters import Counters
from fabric.errors import AddressInUse, BadFrame, BadInput, EdgeError
from fabric.limits import (
    IDLE_CONNECTION_S,
    MAX_CONNECTIONS,
    MAX_FRAME_BYTES,
    SEND_QUEUE,
    STALE_SEND_S,
)
from fabric.machine import Message
from fabric.transport.address import TcpAddress, parse_dialled, parse_loopback
from fabric.transport.interface import Deliver
from fabric.transport.pump import Pump
from fabric.wire.codec import decode_frame, encode_frame
from fabric.wire.common import Failure, Response

_LOG = logging.getLogger("fabric.transport")

#: libzmq's default of 1023 ends at about 1,020 peers and contacts in one context.
_MAX_SOCKETS = 16384
#: A stranger who connects and stays silent is closed after this.
_HANDSHAKE_MS = 5000
#: A link whose other end froze is found within the timeout; without heartbeats never.
_HEARTBEAT_MS = 2000
_HEARTBEAT_TIMEOUT_MS = 6000
_RECONNECT_MS = 100
_RECONNECT_MAX_MS = 2000
#: How long closing waits for sent frames to leave.
_LINGER_MS = 1000
#: Connections that the kernel completes while the loop is busy: a whole cell dials at once.
_BACKLOG = 512


class ZmqTransport:
    """A peer's sockets. Make it, ``start`` it on the running loop, ``close`` it."""

    def __init__(self, address: str, counters: Counters) -> None:
        self._wanted = parse_loopback(address)
        self._address = ""
        self._counters = counters
        self._node_id = 0
        self._links: dict[str, _Link] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def address(self) -> str:
        return self._address

    @property
    def connections(self) -> int:
        """Outgoing connections, formed or forming."""
        return len(self._links)

    async def start(self, node_id: int, deliver: Deliver) -> None:
        self._loop = asyncio.get_running_loop()
        self._node_id = node_id
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, _MAX_SOCKETS)
        self._router = self._context.socket(zmq.ROUTER)
        try:
            self._address = _bind(self._router, self._wanted)
        except BaseException:
            self._context.destroy(linger=0)
            self._closed = True
            raise
        self._pump = Pump(self._router, _Inbox(deliver, self._counters), self._on_error)
        self._sweep = self._loop.call_later(IDLE_CONNECTION_S / 4, self._close_idle)

    def send(self, address: str, message: Message) -> bool:
        if self._closed:
            return False
        link = self._links.get(address)
        if link is None:
            link = self._connect(address)
            if link is None:
                return False
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

    async def close(self) -> None:
        if self._closed or self._sweep is None:
            return
        self._closed = True
        self._sweep.cancel()
        self._pump.close()
        self._router.close(linger=0)
        for link in self._links.values():
            link.close()
        self._links.clear()
        # term() waits for lingering frames, at most _LINGER_MS; not on the loop
        await asyncio.to_thread(self._context.term)

    def _connect(self, address: str) -> _Link | None:
        try:
            tcp = parse_dialled(address)
            if len(self._links) >= MAX_CONNECTIONS:
                self._close_link(min(self._links, key=lambda a: self._links[a].used))
                self._counters.count("links_evicted")
            link = _Link(self._context, tcp, self._loop, self._counters)
        except BadInput:
            self._counters.count("bad_addresses")
            return None
        except zmq.ZMQError:
            self._counters.count("connect_failed")
            return None
        self._links[address] = link
        return link

    def _close_link(self, address: str) -> None:
        self._links.pop(address).close()

    def _close_idle(self) -> None:
        limit = self._loop.time() - IDLE_CONNECTION_S
        for address in [a for a, link in self._links.items() if link.used < limit]:
            self._close_link(address)
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


class _Link:
    """One outgoing connection and the frames that wait for it to form."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: TcpAddress,
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
    ) -> None:
        self.used = loop.time()
        self._loop = loop
        self._counters = counters
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._watching = False
        self._socket = context.socket(zmq.DEALER)
        try:
            _set_common(self._socket, address)
            self._socket.setsockopt(zmq.IMMEDIATE, 1)
            self._socket.setsockopt(zmq.RCVHWM, 1)  # nobody has anything to say here
            self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
            self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
            self._socket.connect(str(address))
        except zmq.ZMQError:
            self._socket.close(linger=0)
            raise
        self._fd = int(self._socket.getsockopt(zmq.FD))

    def send(self, frame: bytes, now_s: float) -> bool:
        self.used = now_s
        if not self._waiting:
            try:
                self._socket.send(frame, zmq.NOBLOCK)
                return True
            except zmq.Again:
                self._watch()
        elif len(self._waiting) >= SEND_QUEUE:
            self._drop_stale(now_s)
            if len(self._waiting) >= SEND_QUEUE:
                self._counters.count("dropped_full")
                return False
        self._waiting.append((now_s, frame))
        return True

    def close(self) -> None:
        self._unwatch()
        if self._waiting:
            self._counters.count("dropped_unsent", len(self._waiting))
            self._waiting.clear()
        self._socket.close(linger=_LINGER_MS)

    def _drop_stale(self, now_s: float) -> None:
        limit = now_s - STALE_SEND_S
        while self._waiting and self._waiting[0][0] < limit:
            self._waiting.popleft()
            self._counters.count("dropped_stale")

    def _watch(self) -> None:
        """Flush when the socket becomes writable; look once now, the edge may be gone."""
        if not self._watching:
            self._watching = True
            self._loop.add_reader(self._fd, self._flush)
            self._loop.call_soon(self._flush)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._fd)

    def _flush(self) -> None:
        if not self._watching:
            return
        self._drop_stale(self._loop.time())
        waiting = self._waiting
        try:
            while waiting:
                self._socket.send(waiting[0][1], zmq.NOBLOCK)
                waiting.popleft()
        except zmq.Again:
            return
        self._unwatch()


def _set_common(socket: zmq.Socket[bytes], address: TcpAddress) -> None:
    for option, value in (
        (zmq.LINGER, _LINGER_MS),
        (zmq.SNDHWM, SEND_QUEUE),
        (zmq.RCVHWM, SEND_QUEUE),
        (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
        (zmq.HANDSHAKE_IVL, _HANDSHAKE_MS),
        (zmq.HEARTBEAT_IVL, _HEARTBEAT_MS),
        (zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS),
        (zmq.HEARTBEAT_TTL, _HEARTBEAT_TIMEOUT_MS),
    ):
        socket.setsockopt(option, value)
    if ":" in address.host:
        socket.setsockopt(zmq.IPV6, 1)


def _bind(router: zmq.Socket[bytes], wanted: TcpAddress) -> str:
    """Bind and return the real address, its port resolved."""
    _set_common(router, wanted)
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
