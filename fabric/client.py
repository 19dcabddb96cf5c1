"""A caller from outside: asks a peer by its address, and is no member of anything.

    async with fabric.connect("tcp://127.0.0.1:7000") as client:
        status = await client.status()

Answers come to a port of the client's own, which lives as long as the client.
"""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from types import TracebackType

from fabric.counters import Counters
from fabric.errors import DeadlineExceeded, FabricError, Unavailable
from fabric.limits import MAX_INT
from fabric.machine import Contact, Message
from fabric.runtime.asking import Asker
from fabric.survey import READ_WITHIN_S, Calls
from fabric.transport.address import TcpAddress, parse_dialled
from fabric.transport.inproc import SCHEME
from fabric.transport.keys import NodeKeys, opened
from fabric.transport.zmq import ZmqTransport
from fabric.wire.common import Response
from fabric.wire.seeing import Through


def connect(
    address: str, *, listen: str | None = None, keys: NodeKeys | str | Path | None = None
) -> Client:
    """Return a client of the peer at ``address``. Use it with ``async with``.

    ``keys`` are keys of the fabric that the peer belongs to, or a directory with them; without any,
    only a peer without keys on this machine answers.  ``listen`` is where answers come to; by
    default a free port of the address that faces the peer.
    """
    own = opened(keys)
    to = parse_dialled(address, loopback=own is None)
    return Client(address, listen or f"tcp://{_facing(to)}:0", own)


def _facing(to: TcpAddress) -> str:
    """Return the address of this machine from which ``to`` is reached; nothing is sent."""
    family = socket.AF_INET6 if ":" in to.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((to.host, to.port))
        except OSError as error:
            raise Unavailable(f"{to} cannot be reached: {error.strerror}") from None
        host = str(probe.getsockname()[0])
    return f"[{host}]" if ":" in host else host


class Client(Calls):
    """See :func:`connect`."""

    def __init__(self, address: str, listen: str, keys: NodeKeys | None) -> None:
        self.peer = Contact(0, address)
        self._keys = keys
        self._refusal: FabricError | None = None
        self._transport = ZmqTransport(listen, Counters(), keys)

    async def __aenter__(self) -> Client:
        me = secrets.randbelow(MAX_INT) + 1 if self._keys is None else self._keys.node_id
        self._transport.on_trouble(self._untrusted)
        await self._transport.start(me, self._deliver)
        self._asker = Asker(self._send, Contact(me, self._transport.address))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._asker.close()
        await self._transport.close()

    async def call(self, to: Contact, body: Message, timeout_s: float = READ_WITHIN_S) -> Message:
        if to.address.startswith(SCHEME) and to != self.peer:
            # it lives inside our peer's process and has no address for us
            body, to = Through(to, body), self.peer
        try:
            return await self._asker.ask(to, body, timeout_s)
        except DeadlineExceeded as error:
            raise self._refusal or error from None

    async def _ask_peer(self, body: Message, timeout_s: float) -> Message:
        return await self.call(self.peer, body, timeout_s)

    def _send(self, to: Contact, message: Message) -> None:
        self._transport.send(to.address, message, to.node_id)

    def _untrusted(self, error: FabricError, fatal: bool) -> None:
        self._refusal = error

    def _deliver(self, sender: int, message: Message) -> None:
        if isinstance(message, Response):
            self._asker.take(sender, message)
