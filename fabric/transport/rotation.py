"""Rotation: a running peer goes over to new keys, and no message is lost on the way.

A bound port keeps the key that it was bound with, and ending it cuts its connections.  So:

1. A second port is bound with the new key, and cards name that port and the new certificate.
2. Everybody who is connected to us is told (``MOVED``) where we showed them our card; each opens a
   new connection, takes it once it stands, lets what the old one holds leave, and says so
   (``ARRIVED``).  Our own links move in the same way, under the new key.
3. When all have arrived, or after a bound (whoever is frozen that long loses what was on its way),
   the first port is ended and bound anew with the new key.
4. All move back to it, and the second port is ended: the address stays what everybody knows.

Should the first port be taken by a stranger in that moment, the second one stays: cards tell.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import zmq

from fabric.errors import AddressInUse, FabricError
from fabric.limits import MAX_INT
from fabric.transport.address import TcpAddress, parse_tcp
from fabric.transport.keys import NodeKeys
from fabric.transport.link import LINGER_MS, Curve, Link, dealer

if TYPE_CHECKING:
    from fabric.transport.guard import Guard

_LOG = logging.getLogger("fabric.transport")

#: How long others may take to come over.
_ARRIVE_S: Final = 5.0
#: They are told again so often: a datagram may be lost.
_TELL_AGAIN_S: Final = 0.3
#: What left with a closing connection has come by then.
_FLUSHED_S: Final = LINGER_MS / 1000 + 0.5
#: libzmq ends a port in its own thread: binding it again takes a few tries.
_REBIND_TRIES: Final = 40
_REBIND_S: Final = 0.05
_LOOK_S: Final = 0.02


class Rotation:
    """One rotation of one peer's keys. Make it, then ``await run()``."""

    def __init__(self, guard: Guard, keys: NodeKeys, home: TcpAddress) -> None:
        self._guard = guard
        self._keys = keys
        self._home = home
        self._awaited: dict[int, TcpAddress] = {}  # nonce -> who was told

    async def run(self) -> None:
        """Go over to the new keys. Raises :class:`AddressInUse` if no second port can be had."""
        guard = self._guard
        router = guard.router
        router.setsockopt(zmq.CURVE_SECRETKEY, self._keys.transport_secret)
        second = self._bind(TcpAddress(self._home.host, 0))
        guard.use(self._keys, second.port)
        await self._gather()
        router.unbind(str(self._home))
        for _ in range(_REBIND_TRIES):
            await asyncio.sleep(_REBIND_S)
            try:
                self._bind(self._home)
                break
            except AddressInUse:
                continue
        else:
            _LOG.warning("port %d was taken during a rotation: %s stays in use", self._home.port,
                         second)
            return
        guard.use(self._keys, self._home.port)
        await self._gather()
        router.unbind(str(second))
        guard.ports = {self._home.port}

    def arrived(self, nonce: int) -> None:
        """Somebody who was told has come over."""
        self._awaited.pop(nonce, None)

    def _bind(self, address: TcpAddress) -> TcpAddress:
        router = self._guard.router
        try:
            router.bind(str(address))
        except zmq.ZMQError as error:
            raise AddressInUse(f"cannot listen on {address}: {error.strerror}") from None
        endpoint = router.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        bound = parse_tcp(endpoint.rstrip(b"\0").decode())
        self._guard.ports.add(bound.port)
        return bound

    async def _gather(self) -> None:
        """Have everybody come over to where we listen now, and our own links with them."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ARRIVE_S
        self._awaited = {secrets.randbelow(MAX_INT): at for at in self._guard.callers()}
        moving = self._guard.links.move_all()
        while (self._awaited or not moving.done()) and loop.time() < deadline:
            for nonce, at in self._awaited.items():
                self._guard.tell_moved(at, nonce)
            await asyncio.sleep(_TELL_AGAIN_S)
        moving.cancel()
        if self._awaited:
            _LOG.warning("%d of those connected did not come over to the new key in %g s",
                         len(self._awaited), _ARRIVE_S)
        await asyncio.sleep(_FLUSHED_S)


class Mover:
    """Replaces a link's connection by a new one as soon as that one stands."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    def move(
        self, link: Link, endpoint: str, curve: Curve, done: Callable[[bool], None]
    ) -> None:
        """``done`` hears whether the link has moved."""
        task = asyncio.get_running_loop().create_task(self._move(link, endpoint, curve, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _move(
        self, link: Link, endpoint: str, curve: Curve, done: Callable[[bool], None]
    ) -> None:
        try:
            socket = dealer(self._context, endpoint, curve)
        except zmq.ZMQError:
            done(False)
            return
        moved = False
        try:
            for _ in range(round(_ARRIVE_S / _LOOK_S)):
                events = socket.getsockopt(zmq.EVENTS)
                assert isinstance(events, int)
                if events & zmq.POLLOUT:
                    moved = not link.closed
                    break
                await asyncio.sleep(_LOOK_S)
            if moved:
                link.take_over(socket)
        finally:
            if not moved:
                socket.close(linger=0)
        done(moved)


def check_successor(old: NodeKeys, new: NodeKeys) -> None:
    """Raise :class:`FabricError` unless ``new`` are newer keys of the same node."""
    if (new.node_id, new.cluster) != (old.node_id, old.cluster):
        raise FabricError("the new key file is another node's, or of another cluster: ignored")
    if new.certificate.serial < old.certificate.serial:
        raise FabricError("the new key file is older than the one in use: ignored")
