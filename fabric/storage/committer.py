"""Durable storage behind one thread: all writes that wait become one commit.

A commit waits for the disk, so it happens in a thread of its own.  While it runs, further writes
queue up and become the next commit together (group commit): under load the number of disk flushes
stays the same and each carries more.  The thread holds no logic: it gets decided batches and says
which are durable, in order.

The first error ends it.  After a failed flush the kernel may have dropped the pages and call them
clean, so nothing is tried again: this and every later batch is answered with the error.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from fabric.errors import StorageError
from fabric.limits import COMMIT_BATCH
from fabric.machine import Write
from fabric.storage.environment import Environment
from fabric.storage.interface import Durable


class CommittedStorage:
    """A data directory with its committer thread. Opens at once, raising ``DataDirectoryError``."""

    def __init__(self, directory: Path, *, node_id: int | None = None) -> None:
        self._environment = Environment(directory, node_id=node_id)
        self._queue: deque[tuple[Sequence[Write], Durable]] = deque()
        self._work = threading.Condition()
        self._closing = False
        self._failed: StorageError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="fabric-committer", daemon=True)

    @property
    def node_id(self) -> int:
        return self._environment.node_id

    @property
    def boot_id(self) -> int:
        return self._environment.boot_id

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def stored(self) -> Iterable[tuple[bytes, bytes]]:
        return self._environment.records()

    def submit(self, writes: Sequence[Write], done: Durable) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread.start()
        with self._work:
            self._queue.append((writes, done))
            self._work.notify()

    async def close(self) -> None:
        with self._work:
            self._closing = True
            self._work.notify()
        if self._loop is not None:
            await asyncio.to_thread(self._thread.join)
        self._environment.close()

    # --- in the committer thread ------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._work:
                while not self._queue and not self._closing:
                    self._work.wait()
                if not self._queue:
                    return
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), COMMIT_BATCH))]
            self._commit([write for writes, _ in batch for write in writes])
            self._report([done for _, done in batch])

    def _commit(self, writes: Sequence[Write]) -> None:
        if self._failed is None:
            try:
                self._environment.commit(writes)
            except StorageError as error:
                self._failed = error
            except Exception as error:
                self._failed = StorageError(f"{type(error).__name__}: {error}")

    def _report(self, done: Sequence[Durable]) -> None:
        failed = self._failed

        def on_loop() -> None:
            for callback in done:
                callback(failed)

        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(on_loop)
        except RuntimeError:
            self._failed = StorageError("the event loop was closed while writes were waiting")
