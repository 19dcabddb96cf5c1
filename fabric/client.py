"""A caller from outside: asks a peer by its address, and is no member of anything.

    async with fabric.connect("tcp://127.0.0.1:7000") as client:
        status = await client.status()

Answers come to a port of the client's own, which lives as long as the client.
"""

from __future__ import annotations

import secrets
from types import TracebackType

from fabric.counters import Counters
from fabric.limits import MAX_INT
from fabric.machine import Contact, Message
from fabric.runtime.asking import Asker
from fabric.survey import READ_WITHIN_S, Calls
from fabric.transport.address import parse_dialled
from fabric.transport.inproc import SCHEME
from fabric.transport.zmq import ZmqTransport
from fabric.wire.common import Response
from fabric.wire.peer import MembersAsk


def connect(address: str, *, listen: str = "tcp://127.0.0.1:0") -> Client:
    """Return a client of the peer at ``address``. Use it with ``async with``."""
    return Client(address, listen)


class Client(Calls):
    """See :func:`connect`."""

    def __init__(self, address: str, listen: str) -> None:
        parse_dialled(address)
        self.peer = Contact(0, address)
        self._transport = ZmqTransport(listen, Counters())

    async def __aenter__(self) -> Client:
        me = secrets.randbelow(MAX_INT) + 1
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
        return await self._asker.ask(to, body, timeout_s)

    async def _ask_peer(self, body: Message, timeout_s: float) -> Message:
        return await self._asker.ask(self.peer, body, timeout_s)

    async def _ask_owner(self, owner: Contact, cell: int, timeout_s: float) -> Message:
        # an owner inside our peer's process has no address for us; our peer may be in its cell
        inside = owner.address.startswith(SCHEME)
        return await self.call(self.peer if inside else owner, MembersAsk(cell), timeout_s)

    def _send(self, to: Contact, message: Message) -> None:
        self._transport.send(to.address, message)

    def _deliver(self, sender: int, message: Message) -> None:
        if isinstance(message, Response):
            self._asker.take(sender, message)
