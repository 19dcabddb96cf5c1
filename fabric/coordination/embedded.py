"""The embedded coordinator: one LMDB directory shared by the processes of one machine.

There is no server, so any of the processes may die at any moment.  Each request is one LMDB
transaction, serialized between processes by LMDB's robust lock (the kernel frees it when its
holder is killed).  The chair lease is a row with a deadline on ``CLOCK_MONOTONIC``, which all
processes of a machine share, and the machine's boot id, since that clock starts anew with it.

LMDB calls block (a commit waits for the disk), so each client has one thread.  A question that is
not answered in time is answered ``Lost``, as by a coordinator across a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import lmdb

from fabric.coordination.interface import (
    CoordinatorAnswer,
    CoordinatorNews,
    CoordinatorRequest,
    Lost,
)
from fabric.coordination.rules import Table, carry_out, create, only_reads
from fabric.errors import DataDirectoryError, Overloaded
from fabric.limits import MAX_COORDINATOR_WAITING, MAX_INT

#: Raised when older code could not read what newer code writes.
FORMAT_VERSION: Final = 1
#: Address space only. Fixed for good: a process that grows it would surprise the others.
_MAP_BYTES: Final = 1024 * 1024 * 1024
#: Processes of one machine that read at the same moment.
_MAX_READERS: Final = 1024
_ENGINE: Final = 0
_ANSWER_WITHIN_S: Final = 5.0
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class _Rows:
    """One transaction as a table."""

    def __init__(self, txn: lmdb.Transaction) -> None:
        self._txn = txn

    def get(self, key: bytes) -> bytes | None:
        value = self._txn.get(key)
        return None if value is None else bytes(value)

    def put(self, key: bytes, value: bytes) -> None:
        self._txn.put(key, value)

    def delete(self, key: bytes) -> None:
        self._txn.delete(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._txn.cursor() as cursor:
            if not cursor.set_range(prefix):
                return
            for row in cursor:
                key, value = bytes(row[0]), bytes(row[1])
                if not key.startswith(prefix):
                    return
                yield key, value


class SharedDirectory:
    """The open environment. LMDB allows one per directory and process, so users share it."""

    _open: dict[Path, SharedDirectory] = {}  # noqa: RUF012
    _guard = threading.Lock()

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._users = 0
        self._boot = _boot_id()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(
                str(directory / "coordinator.lmdb"),
                map_size=_MAP_BYTES,
                max_readers=_MAX_READERS,
                mode=0o600,
                lib_version=_ENGINE,
            )
        except OSError as error:
            raise _unusable(directory, f"cannot be written: {error.strerror}") from None
        except lmdb.Error as error:
            raise _unusable(directory, f"cannot be opened: {error}") from None
        try:
            self._claim()
        except BaseException:
            self._env.close()
            raise

    @classmethod
    def acquire(cls, directory: Path) -> SharedDirectory:
        """Open ``directory``, or share it when this process has it open. Release it after use."""
        directory = directory.absolute()
        with cls._guard:
            shared = cls._open.get(directory)
            if shared is None:
                shared = cls._open[directory] = cls(directory)
            shared._users += 1
            return shared

    def release(self) -> None:
        with self._guard:
            self._users -= 1
            if self._users == 0:
                del self._open[self.directory]
                self._env.close()

    def carry_out(self, request: CoordinatorRequest) -> CoordinatorAnswer:
        """Do what ``request`` says in one transaction."""
        try:
            with self._env.begin() as txn:
                rows = _Rows(txn)
                now = time.monotonic_ns() // 1000
                if only_reads(rows, request, now, self._boot):
                    return carry_out(rows, request, now, self._boot)
        except lmdb.ReadersFullError:
            self._env.reader_check()  # processes that were killed while they read
        with self._env.begin(write=True) as txn:
            # the clock is read after the lock is held: it may have taken long to get
            return carry_out(_Rows(txn), request, time.monotonic_ns() // 1000, self._boot)

    def within(self, work: Callable[[Table, int, str], object], writes: bool) -> object:
        """Do ``work`` in one transaction, and return what it returns."""
        with self._env.begin(write=writes) as txn:
            return work(_Rows(txn), time.monotonic_ns() // 1000, self._boot)

    def _claim(self) -> None:
        self._env.reader_check()
        with self._env.begin(write=True) as txn:
            version = txn.get(b"format")
            if version is not None and int(version) > FORMAT_VERSION:
                raise _unusable(
                    self.directory,
                    f"was written by a newer version of Fabric (format {int(version)}, this "
                    f"program reads up to {FORMAT_VERSION})",
                )
            txn.put(b"format", b"%d" % FORMAT_VERSION)
            create(_Rows(txn), secrets.randbelow(MAX_INT) + 1)


class EmbeddedCoordinator:
    """One peer's client. Answers come in the order of the questions."""

    def __init__(self, directory: Path) -> None:
        self._shared = SharedDirectory.acquire(directory)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fabric-coordinator")
        self._waiting = 0
        self._closed = False

    def listen(self, tell: Callable[[CoordinatorNews], None]) -> None:
        """Nothing happens to a directory that the next question would not show."""

    async def ask(self, request: CoordinatorRequest) -> CoordinatorAnswer:
        if self._closed:
            return Lost("the coordinator client is closed")
        if self._waiting >= MAX_COORDINATOR_WAITING:
            raise Overloaded(f"{MAX_COORDINATOR_WAITING} requests wait for the coordinator already")
        self._waiting += 1
        job = self._thread.submit(self._carry_out, request)
        job.add_done_callback(self._answered)
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return await asyncio.wrap_future(job)
        except TimeoutError:
            return Lost(f"no answer within {_ANSWER_WITHIN_S:g} s")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        last = self._thread.submit(self._shared.release)
        self._thread.shutdown(wait=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                await asyncio.wrap_future(last)

    def _carry_out(self, request: CoordinatorRequest) -> CoordinatorAnswer:
        try:
            return self._shared.carry_out(request)
        except lmdb.Error as error:
            return Lost(f"coordinator directory {self._shared.directory}: {error}")

    def _answered(self, _job: object) -> None:
        self._waiting -= 1


def _unusable(directory: Path, why: str) -> DataDirectoryError:
    return DataDirectoryError(
        f"coordinator directory {directory} {why}", {"directory": str(directory)}
    )


def _boot_id() -> str:
    """Name this boot of the machine; where that is not known, the rules have a second check."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return os.uname().nodename
