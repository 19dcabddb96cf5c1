"""The asyncio node of a store: so far, in memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence

from fabric.cloudstore.client import Kind, StoreClient
from fabric.cloudstore.documents import apply_entry
from fabric.cloudstore.view import MemoryDocuments, View
from fabric.limits import DEFAULT_SHARDS
from fabric.wire.store import Entry, Outcome


class StoreNode:
    """All shards of one node."""

    def __init__(self, shards: int = DEFAULT_SHARDS) -> None:
        self.shards = shards
        self._documents = MemoryDocuments()
        self._index: dict[int, int] = {}

    @classmethod
    async def in_memory(cls, shards: int = DEFAULT_SHARDS) -> StoreNode:
        """Return a store that lasts as long as the process."""
        return cls(shards)

    async def __aenter__(self) -> StoreNode:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop."""

    def client(self, kinds: Iterable[Kind]) -> StoreClient:
        """Return a client for documents of ``kinds``."""
        return StoreClient(self, kinds)

    def used_shards(self) -> Sequence[int]:
        return sorted(self._index)

    def random128(self) -> int:
        return secrets.randbits(128)

    async def propose(self, shard: int, command: bytes) -> Outcome:
        self._index[shard] = index = self._index.get(shard, 0) + 1
        entry = Entry(1, time.time_ns() // 1000, command)
        return apply_entry(self._documents, shard, index, entry)

    async def view(self, shard: int) -> View:
        return self._documents
