"""A peer's data directory: one LMDB environment, a lock, and who the directory belongs to.

The directory holds ``lock`` (held by ``flock`` while a peer uses it: LMDB itself would let two
peers of one identity run side by side) and ``peer.lmdb``.  Inside, the database ``meta`` keeps the
format version, the node id (made once) and the number of starts; ``records`` keeps what the
machines persist.

Disks rot, and LMDB notices few flipped bits.  So each value carries a checksum of its key and
itself, and ``meta`` the *tally* of all records, which tells when one has vanished.  Both are looked
at when the directory is opened, before the peer says a word.  What the fabric tells a peer again
anyway (:data:`~fabric.storage.interface.RELEARNED`) is dropped where it is damaged; all else was
promised to others, so a directory that lost some of it is refused.

Everything that can be wrong with a directory is told as :class:`DataDirectoryError` with what to do
about it: unwritable, in use, of another node, of another version, damaged, or no database at all.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import lmdb
from xxhash import xxh3_64_digest

from fabric.errors import DataDirectoryError, StorageError
from fabric.ids import format_id
from fabric.limits import MAP_BYTES, MAX_INT, MAX_MAP_BYTES
from fabric.machine import Write
from fabric.storage.interface import RELEARNED

#: Raised when older code could not read what newer code writes, or the other way round.
FORMAT_VERSION: Final = 2
#: Length of a checksum.
_SUM: Final = 8
_TALLY: Final = b"tally"
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
            self._tally = self._verify()
        except (lmdb.Error, ValueError) as error:
            self.close()
            raise _unusable(directory, f"is not usable: {error}") from None
        except BaseException:
            self.close()
            raise

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all records in key order, from one snapshot."""
        with self._env.begin(db=self._records) as txn:
            for key, stored in txn.cursor():
                yield key, stored[_SUM:]

    def commit(self, writes: Sequence[Write]) -> None:
        """Make ``writes`` durable in one transaction.

        Only a full map is tried again, in a new transaction after doubling it: LMDB has thrown the
        old one away.  After any other error nothing may be promised on this directory any more.
        """
        while True:
            try:
                with self._env.begin(db=self._records, write=True) as txn:
                    tally = self._tally
                    for key, value in writes:
                        tally -= _sum_of(txn.get(key))
                        if value is None:
                            txn.delete(key)
                            continue
                        stored = _sealed(key, value)
                        tally += _sum_of(stored)
                        if not txn.put(key, stored):
                            raise StorageError(f"LMDB did not take a write in {self.directory}")
                    self._put_number(txn, _TALLY, tally % _MODULUS)
                self._tally = tally % _MODULUS
                return
            except lmdb.MapFullError:
                self._grow()
            except lmdb.Error as error:
                raise StorageError(f"cannot write in {self.directory}: {error}") from None

    def _verify(self) -> int:
        """Check all records; drop what others tell again. Returns their tally."""
        tally = 0
        damaged: list[bytes] = []
        with self._env.begin(db=self._records, write=True) as txn:
            for key, stored in txn.cursor():
                tally += _sum_of(stored)
                if stored != _sealed(key, stored[_SUM:]):
                    damaged.append(bytes(key))
            expected = self._number(txn, _TALLY) or 0
            lasting = [key for key in damaged if not key.startswith(RELEARNED)]
            if lasting or (not damaged and expected != tally % _MODULUS):
                raise self._damaged(lasting)
            for key in damaged:
                tally -= _sum_of(txn.get(key))
                txn.delete(key)
            self._put_number(txn, _TALLY, tally % _MODULUS)
        return tally % _MODULUS

    def _damaged(self, keys: Sequence[bytes]) -> DataDirectoryError:
        what = f"{len(keys)} damaged" if keys else "lost"
        return _unusable(
            self.directory,
            f"has {what} records (its disk may be failing); what it had promised is not known any "
            "more: start with an empty directory, as another node",
            {"keys": ", ".join(repr(key)[2:-1] for key in keys[:8])},
        )

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
            if version is not None and version != FORMAT_VERSION:
                age = "a newer" if version > FORMAT_VERSION else "an older"
                raise _unusable(
                    self.directory,
                    f"was written by {age} version of Fabric (format {version}, this program "
                    f"reads {FORMAT_VERSION}); use that version, or another directory",
                )
            node_id = self._number(txn, b"node_id")
            if node_id is None:
                node_id = wanted if wanted is not None else secrets.randbelow(MAX_INT) + 1
            elif wanted is not None and wanted != node_id:
                raise _unusable(
                    self.directory,
                    f"belongs to node {format_id(node_id)}, not {format_id(wanted)}",
                )
            boot_id = (self._number(txn, b"boots") or 0) + 1
            txn.put(b"format", str(FORMAT_VERSION).encode())
            self._put_number(txn, b"node_id", node_id)
            self._put_number(txn, b"boots", boot_id)
        return node_id, boot_id

    def _number(self, txn: lmdb.Transaction, key: bytes) -> int | None:
        """Return a number of ``meta``. Raises ``DataDirectoryError`` where it is damaged."""
        found = txn.get(key, db=self._meta)
        if found is None:
            return None
        stored = bytes(found)
        if stored != _sealed(key, stored[_SUM:]):
            raise self._damaged([key])
        return int(stored[_SUM:])

    def _put_number(self, txn: lmdb.Transaction, key: bytes, number: int) -> None:
        txn.put(key, _sealed(key, b"%d" % number), db=self._meta)


#: Tallies are sums of checksums within 64 bits.
_MODULUS: Final = 1 << 64


def _sealed(key: bytes, value: bytes) -> bytes:
    return xxh3_64_digest(key + value) + value


def _sum_of(stored: bytes | None) -> int:
    return 0 if stored is None else int.from_bytes(stored[:_SUM], "big")


def _unusable(directory: Path, why: str, data: dict[str, str] | None = None) -> DataDirectoryError:
    return DataDirectoryError(
        f"data directory {directory} {why}", {"directory": str(directory), **(data or {})}
    )


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
