"""Threads that commit: they get decided batches and say when each is durable. No logic in them.

A commit waits for the disk, so it must not happen on the event loop.  LMDB lets the interpreter go
on meanwhile.  Batches of one committer become durable in the order in which they were handed over.
The first error ends it: what a failed flush left on disk is unknown, so nothing is tried again.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from fabric.cloudstore.storage.environment import Environment
from fabric.errors import StorageError
from fabric.machine import Write

#: Called on the loop: ``None`` when the batch is durable, else why it never will be.
Done: TypeAlias = Callable[[str | None], None]


class Committer(Protocol):
    def submit(self, writes: Sequence[Write], done: Done) -> None:
        """Make ``writes`` durable as one unit, then call ``done`` on the loop."""

    async def close(self) -> None:
        """Finish what was submitted."""


class ThreadCommitter:
    """Commits in a thread of its own."""

    def __init__(self, environment: Environment, name: str) -> None:
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[tuple[Sequence[Write], Done] | None] = queue.SimpleQueue()
        self._failed: str | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        self._jobs.put((writes, done))

    async def close(self) -> None:
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            writes, done = job
            if self._failed is None:
                self._commit(writes)
            try:
                self._loop.call_soon_threadsafe(done, self._failed)
            except RuntimeError:
                return  # the loop is gone, and with it everyone who could be told

    def _commit(self, writes: Sequence[Write]) -> None:
        try:
            self._environment.commit(writes)
        except StorageError as error:
            self._failed = error.message
        except Exception as error:
            self._failed = f"{type(error).__name__}: {error}"


class LoopCommitter:
    """Commits at once, and says so in the loop's next turn: for environments in memory."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def submit(self, writes: Sequence[Write], done: Done) -> None:
        self._environment.commit(writes)
        asyncio.get_running_loop().call_soon(done, None)

    async def close(self) -> None:
        """Nothing is under way longer than one turn."""
        await asyncio.sleep(0)
