"""A small client: asks peers over ZeroMQ without being one. For the command line.

It binds a loopback port for the answers, which come by connections of the peers' own.
"""

from __future__ import annotations

import secrets

from fabric.counters import Counters
from fabric.limits import MAX_INT
from fabric.machine import Contact, Message
from fabric.runtime.asking import Asker
from fabric.transport.zmq import ZmqTransport
from fabric.wire.common import Response


class Client:
    """Use as an async context manager."""

    def __init__(self) -> None:
        self._transport = ZmqTransport("tcp://127.0.0.1:0", Counters())

    async def __aenter__(self) -> Client:
        node_id = secrets.randbelow(MAX_INT) + 1
        await self._transport.start(node_id, self._deliver)
        self._asker = Asker(self._send, Contact(node_id, self._transport.address))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._asker.close()
        await self._transport.close()

    async def ask(self, to: Contact, body: Message, timeout_s: float = 10.0) -> Message:
        """Return the answer of the peer at ``to``; raises what a failure says."""
        return await self._asker.ask(to, body, timeout_s)

    def _send(self, to: Contact, message: Message) -> None:
        self._transport.send(to.address, message)

    def _deliver(self, sender: int, message: Message) -> None:
        if isinstance(message, Response):
            self._asker.take(sender, message)
