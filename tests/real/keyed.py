"""Keys for tests, and peers that have them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fabric.counters import Counters
from fabric.errors import FabricError
from fabric.machine import Message
from fabric.transport.authority import ClusterKeys
from fabric.transport.keys import NodeKeys
from fabric.transport.zmq import ZmqTransport
from fabric.wire.trust import CANDIDATE

HOUR_S = 3600
PATIENCE_S = 20


def cluster(directory: Path, name: str = "test") -> ClusterKeys:
    return ClusterKeys.create(directory, name)


def issue(keys: ClusterKeys, name: str, **more: Any) -> NodeKeys:
    return keys.issue(name, **({"rights": CANDIDATE, "valid_s": HOUR_S} | more))


async def until(reached: Callable[[], Any]) -> None:
    """Wait for what sockets and timers will bring about."""
    async with asyncio.timeout(PATIENCE_S):
        while not reached():
            await asyncio.sleep(0.01)


class KeyedPeer:
    """A transport with keys, what it delivered, and whom it did not trust."""

    def __init__(self, keys: NodeKeys, address: str = "tcp://127.0.0.1:0") -> None:
        self.keys = keys
        self.node_id = keys.node_id
        self.counters = Counters()
        self.transport = ZmqTransport(address, self.counters, keys)
        self.troubles: list[tuple[FabricError, bool]] = []
        self.transport.on_trouble(lambda error, fatal: self.troubles.append((error, fatal)))
        self.got: asyncio.Queue[tuple[int, Message]] = asyncio.Queue()

    async def __aenter__(self) -> KeyedPeer:
        await self.transport.start(self.node_id, lambda s, m: self.got.put_nowait((s, m)))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.close()

    @property
    def address(self) -> str:
        return self.transport.address

    def send(self, to: KeyedPeer, message: Message) -> bool:
        return self.transport.send(to.address, message, to.node_id)

    async def next(self) -> tuple[int, Message]:
        async with asyncio.timeout(PATIENCE_S):
            return await self.got.get()

    def codes(self) -> set[str]:
        return {error.code for error, _ in self.troubles}
