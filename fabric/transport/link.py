"""One outgoing connection and the frames that wait for it to form.

A DEALER connects in the background.  While it has no connection (``IMMEDIATE``: libzmq refuses to
queue for a dead address) a bounded number of frames wait here, and none for longer than
``STALE_SEND_S``: a probe that is seconds old answers a question nobody asks any more.

With keys the socket is opened only when the other side's key is known, and opened anew when the
connection does not form or breaks for long: libzmq never tries again once it was refused.  Who sees
to that is told through ``on_stuck``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import zmq

from fabric.counters import Counters
from fabric.limits import MAX_FRAME_BYTES, SEND_QUEUE, STALE_SEND_S
from fabric.transport.address import TcpAddress

#: A stranger who connects and stays silent is closed after this.
_HANDSHAKE_MS: Final = 5000
#: A link whose other end froze is found within the timeout; without heartbeats never.
_HEARTBEAT_MS: Final = 2000
_HEARTBEAT_TIMEOUT_MS: Final = 6000
_RECONNECT_MS: Final = 100
_RECONNECT_MAX_MS: Final = 2000
#: How long closing waits for sent frames to leave.
LINGER_MS: Final = 1000


class Curve(NamedTuple):
    """Raw keys of one connection: the server's, ours."""

    server: bytes
    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return "Curve(...)"


class Link:
    """Frames to one address, in order."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: TcpAddress,
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
        on_stuck: Callable[[Link], None] | None = None,
    ) -> None:
        self.address = address
        self.used = loop.time()
        self.sent = 0  # frames that this socket took
        self.on_stuck = on_stuck
        self.closed = False
        self._context = context
        self._loop = loop
        self._counters = counters
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._watching = False
        self._socket: zmq.Socket[bytes] | None = None
        self._fd = -1

    @property
    def stuck(self) -> bool:
        """Whether frames wait (that are not stale)."""
        self._drop_stale(self._loop.time())
        return bool(self._waiting)

    def open(self, endpoint: str, curve: Curve | None = None) -> None:
        """Connect, in place of an earlier connection. Raises :class:`zmq.ZMQError`."""
        self.shut()
        self._socket = dealer(self._context, endpoint, curve)
        self._use()

    def take_over(self, socket: zmq.Socket[bytes]) -> None:
        """Go on with a socket that is connected already; what the old one holds still leaves."""
        self.shut()
        self._socket = socket
        self._use()

    def _use(self) -> None:
        assert self._socket is not None
        self.sent = 0
        self._fd = int(self._socket.getsockopt(zmq.FD))
        if self._waiting:
            self._watch()

    @property
    def waiting(self) -> int:
        """Frames that wait for the connection to form."""
        return len(self._waiting)

    def send(self, frame: bytes, now_s: float) -> bool:
        """Send, or queue; false when it was dropped."""
        self.used = now_s
        if not self._waiting:
            if self._socket is not None:
                try:
                    self._socket.send(frame, zmq.NOBLOCK)
                    self.sent += 1
                    return True
                except zmq.Again:
                    self._watch()
        elif len(self._waiting) >= SEND_QUEUE:
            self._drop_stale(now_s)
            if len(self._waiting) >= SEND_QUEUE:
                self._counters.count("dropped_full")
                return False
        self._waiting.append((now_s, frame))
        if self.on_stuck is not None and len(self._waiting) == 1:
            self.on_stuck(self)
        return True

    def shut(self) -> None:
        """End the connection; frames that wait stay."""
        self._unwatch()
        if self._socket is not None:
            self._socket.close(linger=LINGER_MS)
            self._socket = None

    def close(self) -> None:
        """End the connection and drop what waits."""
        self.closed = True
        self.shut()
        self.on_stuck = None
        if self._waiting:
            self._counters.count("dropped_unsent", len(self._waiting))
            self._waiting.clear()

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
        if not self._watching or self._socket is None:
            return
        self._drop_stale(self._loop.time())
        waiting = self._waiting
        try:
            while waiting:
                self._socket.send(waiting[0][1], zmq.NOBLOCK)
                self.sent += 1
                waiting.popleft()
        except zmq.Again:
            return
        self._unwatch()


def dealer(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, curve: Curve | None
) -> zmq.Socket[bytes]:
    """Return a connecting DEALER. Raises :class:`zmq.ZMQError`."""
    socket = context.socket(zmq.DEALER)
    try:
        set_common(socket, endpoint)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.RCVHWM, 1)  # nobody has anything to say here
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        if curve is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, curve.server)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, curve.secret)
        socket.connect(endpoint)
    except zmq.ZMQError:
        socket.close(linger=0)
        raise
    return socket


def set_common(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Set what every socket of ours has."""
    for option, value in (
        (zmq.LINGER, LINGER_MS),
        (zmq.SNDHWM, SEND_QUEUE),
        (zmq.RCVHWM, SEND_QUEUE),
        (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
        (zmq.HANDSHAKE_IVL, _HANDSHAKE_MS),
        (zmq.HEARTBEAT_IVL, _HEARTBEAT_MS),
        (zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS),
        (zmq.HEARTBEAT_TTL, _HEARTBEAT_TIMEOUT_MS),
    ):
        socket.setsockopt(option, value)
    if "[" in endpoint:
        socket.setsockopt(zmq.IPV6, 1)
