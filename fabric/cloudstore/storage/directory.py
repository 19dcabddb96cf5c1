"""A store's directory: its lock, its identity, its two environments.

``lock`` is held by ``flock`` (LMDB itself would let two processes in); ``log`` and ``documents``
are LMDB environments.  Both name the store that they belong to, its format and its number of
shards, so that halves of different stores are never put together.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import Final

from fabric.cloudstore.storage.environment import LmdbEnvironment
from fabric.errors import BadFrame, BadInput, CorruptData, DataDirectoryError
from fabric.limits import DEFAULT_SHARDS, MAX_SHARDS, STORE_MAP_BYTES
from fabric.machine import Write
from fabric.wire.codec import decode_value, encode_value

#: Raised when older code could not read what newer code writes.
FORMAT_VERSION: Final = 1
#: After all shards.
_IDENTITY_KEY: Final = b"\xff\xffidentity"


class StoreDirectory:
    """An open store directory."""

    def __init__(
        self, path: Path, shards: int | None = None, map_bytes: int = STORE_MAP_BYTES
    ) -> None:
        if shards is not None and not 0 < shards <= MAX_SHARDS:
            raise BadInput(f"shards must be between 1 and {MAX_SHARDS} (was {shards})")
        self.path = path
        self._lock = _lock(path)
        self.log: LmdbEnvironment | None = None
        self.documents: LmdbEnvironment | None = None
        try:
            self.log = LmdbEnvironment(path / "log", map_bytes)
            self.documents = LmdbEnvironment(path / "documents", map_bytes)
            self.store_id, self.shards = self._identify(self.log, self.documents, shards)
        except BaseException:
            self.close()
            raise

    def _identify(
        self, log: LmdbEnvironment, documents: LmdbEnvironment, wanted: int | None
    ) -> tuple[int, int]:
        """Check whose directory this is; make the identity of a new one."""
        of_documents, of_log = self._read_identity(documents), self._read_identity(log)
        if of_documents is None and of_log is None:
            identity = (secrets.randbits(61), wanted or DEFAULT_SHARDS)
            _write_identity(documents, identity)
            _write_identity(log, identity)
            for directory in (self.path / "log", self.path / "documents", self.path):
                _sync_directory(directory)  # LMDB does not: a power cut could take the files away
            return identity
        if of_documents is not None and of_log is None:
            # its making was cut short; if a log was lost, the shards will refuse to start
            _write_identity(log, of_documents)
            of_log = of_documents
        if of_documents is None or of_documents != of_log:
            raise self._unusable("holds the log of one store and the documents of another")
        store_id, shards = of_documents
        if wanted not in (None, shards):
            raise self._unusable(
                f"has {shards} shards, not {wanted}; their number is fixed at creation"
            )
        return store_id, shards

    def _read_identity(self, environment: LmdbEnvironment) -> tuple[int, int] | None:
        try:
            stored = environment.get(_IDENTITY_KEY)
            if stored is None:
                return None
            version, *identity = decode_value(stored)
        except (CorruptData, BadFrame, ValueError, TypeError):
            raise self._unusable("holds no store that this program can read") from None
        if version != FORMAT_VERSION:
            raise self._unusable(
                f"was written in format {version}, this program reads {FORMAT_VERSION};"
                " use the version that wrote it, or another directory"
            )
        store_id, shards = identity
        return store_id, shards

    def _unusable(self, why: str) -> DataDirectoryError:
        return _unusable(self.path, why)

    def free_bytes(self) -> int:
        """Return how much of the disk is free."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def close(self) -> None:
        for environment in (self.log, self.documents):
            if environment is not None:
                environment.close()
        os.close(self._lock)


def _unusable(path: Path, why: str) -> DataDirectoryError:
    return DataDirectoryError(f"store directory {path} {why}", {"directory": str(path)})


def _write_identity(environment: LmdbEnvironment, identity: tuple[int, int]) -> None:
    environment.commit([Write(_IDENTITY_KEY, encode_value([FORMAT_VERSION, *identity]))])


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    """Make the directory if need be and hold its lock. Returns the descriptor that holds it."""
    try:
        for part in (path, path / "log", path / "documents"):
            part.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, f"cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise _unusable(path, "is in use by another process; stop that one first") from None
    return descriptor
