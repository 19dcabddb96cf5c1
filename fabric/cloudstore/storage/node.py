"""The asyncio node: all shards of a store on one machine, one replica each, no sockets.

The node is a driver like any other: it hands events to :class:`ShardMachine` and carries out what
they put out.  Machines are made when a shard is first used.

*Group commit*: transactions that arrive in one turn of the loop become one proposal per shard;
what all shards persist while a commit is under way becomes the next commit.  *Documents* are
applied in memory at once and flushed each 50 ms by a second thread; a restart replays the log
from where the documents are.

Killed at any moment, a node opened again on its directory goes on where it was: everything that
was acknowledged is there.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from fabric.cloudstore.client import StoreClient
from fabric.cloudstore.index import Kind
from fabric.cloudstore.storage.committer import Committer, LoopCommitter, ThreadCommitter
from fabric.cloudstore.storage.directory import StoreDirectory
from fabric.cloudstore.storage.environment import Environment, MemoryEnvironment
from fabric.cloudstore.storage.hosted import HostedShard
from fabric.cloudstore.storage.overlay import OverlaidDocuments
from fabric.cloudstore.view import View
from fabric.errors import (
    BadInput,
    CorruptData,
    FabricError,
    Overloaded,
    StorageError,
    StoreFull,
    Unavailable,
)
from fabric.limits import DEFAULT_SHARDS, MAX_OVERLAY_ROWS, STORE_MAP_BYTES, STORE_RESERVE_BYTES
from fabric.machine import Event, LocalCall, Persisted, PersistFailed, Write
from fabric.wire.store import Flushed, Outcome

_FLUSH_S: Final = 0.05


class StoreNode:
    """A running store. Make it with :meth:`open` or :meth:`in_memory`; it belongs to one loop."""

    def __init__(
        self,
        shards: int,
        log: Environment,
        documents: Environment,
        committers: tuple[Committer, Committer],
        directory: StoreDirectory | None,
    ) -> None:
        self.shards = shards
        self.documents = OverlaidDocuments(documents)
        self.failed: str | None = None
        self._log = log
        self._directory = directory
        self._log_committer, self._document_committer = committers
        self._loop = asyncio.get_running_loop()
        self._epoch_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000
        self._hosted: dict[int, HostedShard] = {}
        self._used = {shard for shard in range(shards) if self._holds(shard)}
        self._random: list[bytes] = []
        self._writes: list[Write] = []
        self._tokens: list[tuple[HostedShard, int]] = []
        self._committing = self._commit_planned = self._flushing = False
        self._flush_timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._closed = False

    @classmethod
    async def open(
        cls, data_dir: Path | str, shards: int | None = None, *, map_bytes: int = STORE_MAP_BYTES
    ) -> StoreNode:
        """Open the store in ``data_dir``, making it if there is none.

        The number of shards (default 128) is fixed when it is made.  Raises
        ``DataDirectoryError`` if the directory is in use, unwritable, of another version, or has
        another number of shards.
        """
        directory = StoreDirectory(Path(data_dir), shards, map_bytes)
        log, documents = directory.log, directory.documents
        assert log is not None and documents is not None
        committers = (
            ThreadCommitter(log, "store-log"),
            ThreadCommitter(documents, "store-documents"),
        )
        try:
            return cls(directory.shards, log, documents, committers, directory)
        except BaseException:
            for committer in committers:
                await committer.close()
            directory.close()
            raise

    @classmethod
    async def in_memory(cls, shards: int = DEFAULT_SHARDS) -> StoreNode:
        """Return a store that lasts as long as the process: same code, nothing on disk."""
        log, documents = MemoryEnvironment(), MemoryEnvironment()
        return cls(shards, log, documents, (LoopCommitter(log), LoopCommitter(documents)), None)

    def client(self, kinds: Iterable[Kind]) -> StoreClient:
        """Return a client for documents of ``kinds``."""
        return StoreClient(self, kinds)

    async def __aenter__(self) -> StoreNode:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Flush what is applied and let go of the directory. Waiting calls fail."""
        if self._closed:
            return
        self._closed = True
        for hosted in self._hosted.values():
            hosted.close()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        await self._quiet()
        self._flush()
        await self._quiet()
        await self._log_committer.close()
        await self._document_committer.close()
        if self._directory is not None:
            self._directory.close()

    async def _quiet(self) -> None:
        """Wait until no commit is planned or under way."""
        while self._committing or self._commit_planned or self._flushing:
            self._idle.clear()
            await self._idle.wait()

    # --- StoreBackend -----------------------------------------------------------------------------

    def used_shards(self) -> Sequence[int]:
        return sorted(self._used)

    def random128(self) -> int:
        """Return 128 bits from the system's generator, which is asked for many at a time."""
        if not self._random:
            pool = secrets.token_bytes(16 * 256)
            self._random = [pool[i : i + 16] for i in range(0, len(pool), 16)]
        return int.from_bytes(self._random.pop(), "big")

    async def propose(self, shard: int, command: bytes) -> Outcome:
        if self.documents.rows > MAX_OVERLAY_ROWS:
            raise Overloaded("documents wait for the disk; try again")
        return await self._shard(shard).propose(command)

    async def view(self, shard: int) -> View:
        await self._shard(shard).read()
        return self.documents

    def _shard(self, shard: int) -> HostedShard:
        if self._closed:
            raise Unavailable("the store is closed")
        if self.failed is not None:
            raise StorageError(f"the store has stopped: {self.failed}")
        hosted = self._hosted.get(shard)
        if hosted is None:
            if not 0 <= shard < self.shards:
                raise BadInput(f"shard must be below {self.shards} (was {shard})")
            stored, applied = self._stored(shard), self.documents.applied(shard)
            hosted = HostedShard(self, shard)
            hosted.start(stored, applied)
            self._hosted[shard] = hosted
            self._used.add(shard)
        return hosted

    def _stored(self, shard: int) -> list[tuple[bytes, bytes]]:
        with closing(self._log.iterate(shard.to_bytes(2, "big"), b"")) as rows:
            return list(rows)

    def _holds(self, shard: int) -> bool:
        try:
            with closing(self._log.iterate(shard.to_bytes(2, "big"), b"")) as rows:
                return next(rows, None) is not None
        except CorruptData:
            return True  # whoever uses the shard is told

    def now(self) -> int:
        """Epoch microseconds that never jump while the process lives."""
        return self._epoch_us + time.monotonic_ns() // 1000

    # --- the log's commits ------------------------------------------------------------------------

    def persist(self, writes: Sequence[Write], hosted: HostedShard, token: int) -> None:
        """Add to the next commit; it starts at the end of this turn or after the running one."""
        if self._closed:
            return  # nobody is left who could be told that it is durable
        self._writes += writes
        self._tokens.append((hosted, token))
        if not self._committing and not self._commit_planned:
            self._commit_planned = True
            self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        self._commit_planned = False
        if self.failed is not None or not self._tokens:
            self._idle.set()
            return
        writes, self._writes = self._writes, []
        tokens, self._tokens = self._tokens, []
        self._committing = True
        self._log_committer.submit(writes, partial(self._committed, tokens))

    def _committed(self, tokens: list[tuple[HostedShard, int]], reason: str | None) -> None:
        self._committing = False
        if reason is not None:
            self._fail(reason)
        for hosted, token in tokens:
            event: Event = Persisted(token) if reason is None else PersistFailed(token, reason)
            hosted.handle(event)
        if self._tokens:
            self._commit()
        if self.documents.dirty and self._flush_timer is None and not self._closed:
            self._flush_timer = self._loop.call_later(_FLUSH_S, self._flush)
        self._idle.set()

    def _fail(self, reason: str) -> None:
        """A commit failed: nothing that this process says about its disk can be trusted now."""
        if self.failed is None:
            self.failed = reason
            for hosted in self._hosted.values():
                hosted.handle(PersistFailed(0, reason))

    def refuse_writes(self) -> FabricError | None:
        """Return why the disk takes no new transactions, if so."""
        if self._directory is not None and self._directory.free_bytes() < STORE_RESERVE_BYTES:
            return StoreFull("the disk is full: writes are refused, reads go on")
        return None

    # --- the documents' flushes -------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_timer = None
        if self._flushing or not self.documents.dirty or self.failed is not None:
            return
        self._flushing = True
        writes, applied = self.documents.freeze()
        self._document_committer.submit(writes, partial(self._flushed, applied))

    def _flushed(self, applied: dict[int, int], reason: str | None) -> None:
        self._flushing = False
        if reason is not None:
            self._fail(reason)
        else:
            self.documents.thaw()
            for shard, index in applied.items():
                self._hosted[shard].handle(LocalCall(0, Flushed(shard, index)))
            if self.documents.dirty and self._flush_timer is None and not self._closed:
                self._flush_timer = self._loop.call_later(_FLUSH_S, self._flush)
        self._idle.set()
