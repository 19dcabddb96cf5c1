"""Reading a ZeroMQ socket from an event loop without losing its one edge.

libzmq's file descriptor is edge-triggered: it becomes readable once when something changed, and
every ``send``, ``recv`` or look at ``EVENTS`` may eat that edge.  A reader that takes one message
per wakeup, or that stops when a handler raises, stalls for ever with messages waiting (seen within
some hundred messages).  So the pump drains until ``EAGAIN``; when its budget is used up first it
schedules itself again, whatever happened in between; and nothing that a handler raises stops it.

It feeds an ``aiozmq.ZmqProtocol``.  aiozmq's own transports are not used: they take one message per
wakeup, die with the first exception of a handler, and block all peers of a ROUTER behind one slow
one.  Its interface, which other code may already implement, is what we keep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq
from aiozmq.interface import ZmqProtocol

from fabric.limits import DRAIN_BUDGET

#: Told of what ``msg_received`` raised, and of messages with too many parts (``None``).
OnError = Callable[[Exception | None], None]


class Pump:
    """Drains ``socket`` into ``protocol.msg_received([routing id, frame])`` on the running loop.

    The frame is a ``zmq.Frame``, so that connection metadata (``User-Id``) stays within reach.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        protocol: ZmqProtocol,
        on_error: OnError,
    ) -> None:
        self._socket = socket
        self._receive = protocol.msg_received
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._scheduled: asyncio.Handle | None = None
        self._fd = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._drain)
        self.kick()

    def kick(self) -> None:
        """Drain soon: whatever touched the socket may have eaten its edge."""
        if self._scheduled is None:
            self._scheduled = self._loop.call_soon(self._drain)

    def close(self) -> None:
        """Stop reading. The socket is the caller's to close."""
        self._loop.remove_reader(self._fd)
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None

    def _drain(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        get = self._socket.recv
        receive = self._receive
        noblock = zmq.NOBLOCK
        for _ in range(DRAIN_BUDGET):
            if self._socket.closed:
                return
            try:
                routing_id = get(noblock)
            except zmq.Again:
                return
            # a ROUTER puts the routing id first; the rest of the message is there already
            frame = get(noblock, False)
            if frame.more:
                self._skip_rest()
                self._on_error(None)
                continue
            try:
                receive([routing_id, frame])
            except Exception as error:
                self._on_error(error)
        self.kick()

    def _skip_rest(self) -> None:
        """Read the surplus parts of a message without keeping them."""
        while self._socket.recv(zmq.NOBLOCK, False).more:
            pass
