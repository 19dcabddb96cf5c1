"""A peer's data directory: one LMDB environment, a lock, and who the directory belongs to.

The directory holds ``lock`` (held by ``flock`` while a peer uses it: LMDB itself would let two
peers of one identity run side by side) and ``peer.lmdb``.  Inside, the database ``meta`` keeps the
format version, the node id (made once) and the number of starts; ``records`` keeps what the
machines persist.

Everything that can be wrong with a directory is told as :class:`DataDirectoryError` with what to do
about it: unwritable, in use, of another node, of a newer version, or no database at all.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import lmdb

from fabric.errors import DataDirectoryError, StorageError
from fabric.ids import format_id
from fabric.limits import MAP_BYTES, MAX_INT, MAX_MAP_BYTES
from fabric.machine import Write

#: Raised when older code could not read what newer code writes.
FORMAT_VERSION: Final = 1
#: The LMDB engine: 0.9 and 1.0 cannot read each other, and an environment variable could choose.
_ENGINE: Final = 0


class Environment:
    """An open data directory. Not thread safe, but for :meth:`commit` in one other thread."""

    def __init__(
        self, directory: Path, *, node_id: int | None = None, map_bytes: int = MAP_BYTES
    ) -> None:
        self.directory = directory
        self._lock = _lock(directory)
        self._map_bytes = map_bytes
        try:
            self._env = _open(directory, map_bytes)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self._meta = self._env.open_db(b"meta")
            self._records = self._env.open_db(b"records")
            self.node_id, self.boot_id = self._claim(node_id)
        except (lmdb.Error, ValueError) as error:
            self.close()
            raise _unusable(directory, f"is not usable: {error}") from None
        except BaseException:
            self.close()
            raise

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all records in key order, from one snapshot."""
        with self._env.begin(db=self._records) as txn:
            yield from txn.cursor()

    def commit(self, writes: Sequence[Write]) -> None:
        """Make ``writes`` durable in one transaction.

        Only a full map is tried again, in a new transaction after doubling it: LMDB has thrown the
        old one away.  After any other error nothing may be promised on this directory any more.
        """
        while True:
            try:
                with self._env.begin(db=self._records, write=True) as txn:
                    for key, value in writes:
                        if value is None:
                            txn.delete(key)
                        elif not txn.put(key, value):
                            raise StorageError(f"LMDB did not take a write in {self.directory}")
                return
            except lmdb.MapFullError:
                self._grow()
            except lmdb.Error as error:
                raise StorageError(f"cannot write in {self.directory}: {error}") from None

    def close(self) -> None:
        self._env.close()
        os.close(self._lock)

    def _grow(self) -> None:
        if self._map_bytes * 2 > MAX_MAP_BYTES:
            raise StorageError(f"database in {self.directory} has reached {MAX_MAP_BYTES} bytes")
        self._map_bytes *= 2
        try:
            self._env.set_mapsize(self._map_bytes)
        except lmdb.Error as error:
            raise StorageError(f"cannot grow the database in {self.directory}: {error}") from None

    def _claim(self, wanted: int | None) -> tuple[int, int]:
        """Check whose directory this is, count the start durably, and return both."""
        with self._env.begin(db=self._meta, write=True) as txn:
            version = _read_int(txn.get(b"format"))
            if version is not None and version > FORMAT_VERSION:
                raise _unusable(
                    self.directory,
                    f"was written by a newer version of Fabric (format {version}, this program "
                    f"reads up to {FORMAT_VERSION}); use that version, or another directory",
                )
            node_id = _read_int(txn.get(b"node_id"))
            if node_id is None:
                node_id = wanted if wanted is not None else secrets.randbelow(MAX_INT) + 1
            elif wanted is not None and wanted != node_id:
                raise _unusable(
                    self.directory,
                    f"belongs to node {format_id(node_id)}, not {format_id(wanted)}",
                )
            boot_id = (_read_int(txn.get(b"boots")) or 0) + 1
            for key, number in (
                (b"format", FORMAT_VERSION),
                (b"node_id", node_id),
                (b"boots", boot_id),
            ):
                txn.put(key, str(number).encode())
        return node_id, boot_id


def _unusable(directory: Path, why: str) -> DataDirectoryError:
    return DataDirectoryError(f"data directory {directory} {why}", {"directory": str(directory)})


def _read_int(value: bytes | None) -> int | None:
    return None if value is None else int(value)


def _lock(directory: Path) -> int:
    """Make the directory if need be and hold its lock. Returns the descriptor that holds it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(directory, f"cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise _unusable(directory, "is in use by another peer; stop that one first") from None
    return descriptor


def _open(directory: Path, map_bytes: int) -> lmdb.Environment:
    try:
        return lmdb.open(
            str(directory / "peer.lmdb"),
            map_size=map_bytes,
            max_dbs=4,
            mode=0o600,
            lib_version=_ENGINE,
        )
    except lmdb.Error as error:
        raise _unusable(directory, f"holds no database that can be opened: {error}") from None
