"""Key files and signatures: what both sides of :mod:`fabric.transport.keys` are made of.

Files are JSON, the owner's alone, and replaced as a whole (written beside, synced, renamed), so a
reader never sees half of one.  Whatever is wrong with one is a ``KeyFileError`` that names it;
secrets appear in no message.  PyNaCl (libsodium) signs and verifies; it is imported when the first
key is used.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, Final

from fabric.errors import KeyFileError
from fabric.wire.trust import KEY_BYTES, SIGNATURE_BYTES, Signed

_MAX_FILE_BYTES: Final = 1 << 18

# --- signatures -----------------------------------------------------------------------------------


def sign(secret: bytes, message: bytes) -> bytes:
    """Return the Ed25519 signature (RFC 8032) of ``message``."""
    from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

    _, expanded = crypto_sign_seed_keypair(secret)
    return crypto_sign(message, expanded)[:SIGNATURE_BYTES]


def verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` is that of ``public`` over ``message``."""
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import CryptoError

    if len(signature) != SIGNATURE_BYTES or len(public) != KEY_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except (CryptoError, ValueError):
        return False
    return True


def signing_public(secret: bytes) -> bytes:
    """Return the public key (Ed25519) of a signing secret."""
    from nacl.bindings import crypto_sign_seed_keypair

    return crypto_sign_seed_keypair(secret)[0]


def transport_public(secret: bytes) -> bytes:
    """Return the public key (X25519) of a transport secret."""
    from nacl.bindings import crypto_scalarmult_base

    return crypto_scalarmult_base(secret)


# --- files ----------------------------------------------------------------------------------------


def bad_file(path: Path, why: str) -> KeyFileError:
    """Return the error that says what is wrong with ``path``."""
    return KeyFileError(f"{path} {why}", {"file": str(path)})


def make_directory(path: Path) -> None:
    """Make a directory of the owner's alone. Raises ``KeyFileError``, also if it is open."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            raise bad_file(path, "is open to others: chmod 700 it, or take another directory")
    except OSError as error:
        raise bad_file(path, f"cannot be made: {error.strerror}") from None


def write_file(path: Path, value: dict[str, Any]) -> None:
    """Put ``value`` on file, durably, in place of what was there. Raises ``KeyFileError``."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(descriptor)
        beside.rename(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise bad_file(path, f"cannot be written: {error.strerror}") from None


def read_file(path: Path) -> dict[str, Any]:
    """Return what ``path`` holds. Raises ``KeyFileError``, also if others can read it."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise bad_file(path, "can be read or written by others: chmod 600 it")
            value = json.loads(file.read(_MAX_FILE_BYTES))
    except OSError as error:
        raise bad_file(path, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise bad_file(path, "is damaged: no JSON") from None
    if not isinstance(value, dict):
        raise bad_file(path, "is damaged: no JSON object")
    return value


# --- what files hold ------------------------------------------------------------------------------


def signed_object(signed: Signed) -> dict[str, str]:
    """Return ``signed`` as JSON."""
    return {"body": signed.body.hex(), "signature": signed.signature.hex()}


def signed_of(value: dict[str, Any]) -> Signed:
    """Return the signed record in ``value``. Raises ``KeyError``, ``TypeError``, ``ValueError``."""
    return Signed(bytes.fromhex(value["body"]), bytes.fromhex(value["signature"]))


def text_of(value: object) -> str:
    """Return ``value`` if it is text. Raises ``TypeError``."""
    if not isinstance(value, str):
        raise TypeError
    return value


def key_of(value: str) -> bytes:
    """Return the key that ``value`` writes in hex. Raises ``TypeError``, ``ValueError``."""
    key = bytes.fromhex(value)
    if len(key) != KEY_BYTES:
        raise ValueError
    return key
