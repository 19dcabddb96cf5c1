"""An ordered map that lasts: LMDB, with a checksum on every row. And one in memory, for tests.

LMDB never tears (copy on write, the meta page after the data), but it does not notice bits that
rot: a flipped value comes back as if it were right.  So each value carries an XXH3 of its key and
content, checked at every read; what fails is reported, never served.

Only a full map is tried again, in a new transaction after doubling it: LMDB has thrown the old one
away.  After any other error the kernel may have dropped dirty pages and call them clean: nothing
may be promised on this environment any more.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final, Protocol

import lmdb
from xxhash import xxh3_64_digest

from fabric.errors import CorruptData, DataDirectoryError, StorageError
from fabric.limits import STORE_MAP_BYTES
from fabric.machine import Write

#: The LMDB engine: 0.9 and 1.0 cannot read each other, and an environment variable could choose.
_ENGINE: Final = 0
_SUM: Final = 8


class Environment(Protocol):
    """Rows in key order. One thread commits; reads come from the loop's thread."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under ``key``."""

    def iterate(self, prefix: bytes, after: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield the rows whose key begins with ``prefix`` and is above ``after``; close it soon."""

    def commit(self, writes: Sequence[Write]) -> None:
        """Make ``writes`` durable as one unit. Raises ``StorageError``."""

    def close(self) -> None:
        """Let go of it."""


class LmdbEnvironment:
    """One LMDB environment in a directory of its own."""

    def __init__(self, path: Path, map_bytes: int = STORE_MAP_BYTES) -> None:
        self._path = path
        self._map_bytes = map_bytes
        self._mapping = threading.Lock()  # a map must not be moved under an open reader
        try:
            self._env = lmdb.open(
                str(path), map_size=map_bytes, mode=0o600, lib_version=_ENGINE, max_spare_txns=4
            )
        except lmdb.Error as error:
            raise DataDirectoryError(f"{path} holds no database that can be opened: {error}") from (
                None
            )

    def get(self, key: bytes) -> bytes | None:
        try:
            with self._mapping, self._env.begin() as txn:
                value: bytes | None = txn.get(key)
        except lmdb.Error as error:
            raise StorageError(f"cannot read in {self._path}: {error}") from None
        return None if value is None else self._checked(key, value)

    def iterate(self, prefix: bytes, after: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        try:
            with self._mapping, self._env.begin() as txn, txn.cursor() as cursor:
                found = cursor.set_range(max(prefix, after))
                if found and cursor.key() == after:
                    found = cursor.next()
                while found:
                    key, value = cursor.item()
                    if not key.startswith(prefix):
                        return
                    yield key, self._checked(key, value)
                    found = cursor.next()
        except lmdb.Error as error:
            raise StorageError(f"cannot read in {self._path}: {error}") from None

    def commit(self, writes: Sequence[Write]) -> None:
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    for key, value in writes:
                        if value is None:
                            txn.delete(key)
                        elif not txn.put(key, xxh3_64_digest(key + value) + value):
                            raise StorageError(f"LMDB did not take a row in {self._path}")
                return
            except lmdb.MapFullError:
                self._map_bytes *= 2
                self._grow()
            except lmdb.Error as error:
                raise StorageError(f"cannot write in {self._path}: {error}") from None

    def _grow(self) -> None:
        try:
            with self._mapping:
                self._env.set_mapsize(self._map_bytes)
        except lmdb.Error as error:
            raise StorageError(f"cannot grow the database in {self._path}: {error}") from None

    def _checked(self, key: bytes, stored: bytes) -> bytes:
        value = stored[_SUM:]
        if xxh3_64_digest(key + value) != stored[:_SUM]:
            raise CorruptData(
                f"a row in {self._path} does not match its checksum", {"key": key.hex()}
            )
        return value

    def close(self) -> None:
        self._env.close()


class MemoryEnvironment:
    """Rows in a dictionary: lasts as long as the process."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def iterate(self, prefix: bytes, after: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        keys = self._keys
        place = bisect_right(keys, after) if after >= prefix else bisect_left(keys, prefix)
        while place < len(keys) and keys[place].startswith(prefix):
            yield keys[place], self._rows[keys[place]]
            place += 1

    def commit(self, writes: Sequence[Write]) -> None:
        for key, value in writes:
            if value is not None:
                if key not in self._rows:
                    insort(self._keys, key)
                self._rows[key] = value
            elif key in self._rows:
                del self._rows[key]
                del self._keys[bisect_left(self._keys, key)]

    def close(self) -> None:
        """Nothing to let go of."""
