"""A peer reachable in two ways: within its process and, for everybody else, over ZeroMQ.

``fabric up`` uses it so that the command line can talk to peers that live in one process.  Which
one carries a message is decided by the scheme of the address it goes to.
"""

from __future__ import annotations

from fabric.machine import Message
from fabric.transport.inproc import SCHEME, InprocTransport
from fabric.transport.interface import Deliver, OnTrouble, RecordOf, Transport


class BothTransport:
    """``inner`` gives the peer its address; ``outer`` is the door for other processes."""

    def __init__(self, inner: InprocTransport, outer: Transport) -> None:
        self._inner = inner
        self._outer = outer

    @property
    def address(self) -> str:
        return self._inner.address

    @property
    def outer_address(self) -> str:
        """Where other processes reach this peer."""
        return self._outer.address

    def on_trouble(self, tell: OnTrouble) -> None:
        self._outer.on_trouble(tell)

    @property
    def connections(self) -> int:
        return self._outer.connections

    @property
    def waiting(self) -> int:
        return self._inner.waiting + self._outer.waiting

    def vouch(self, boot_id: int, record_of: RecordOf) -> None:
        self._outer.vouch(boot_id, record_of)

    async def start(self, node_id: int, deliver: Deliver) -> None:
        await self._inner.start(node_id, deliver)
        try:
            await self._outer.start(node_id, deliver)
        except BaseException:
            await self._inner.close()
            raise

    def send(self, address: str, message: Message, node_id: int = 0) -> bool:
        carrier: Transport = self._inner if address.startswith(SCHEME) else self._outer
        return carrier.send(address, message, node_id)

    async def close(self) -> None:
        await self._inner.close()
        await self._outer.close()
