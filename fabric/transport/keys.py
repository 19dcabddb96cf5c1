"""Key files: the cluster's key, which issues and revokes, and each node's own keys.

Theory of operation
-------------------
The operator's directory holds the *cluster key* (Ed25519).  It signs one certificate per node:
node id, transport key (CURVE), signing key, rights, expiry, serial.  A node needs its own secrets,
its certificate and the cluster's *public* key, nothing else: it trusts whomever that key vouches
for, so no node keeps a list of all nodes, and a new one needs no change anywhere.  Only who holds
the cluster key can add nodes; it is not needed while the fabric runs and may be kept off-line.

::

    keys/                 0700, the operator's
      cluster.key         0600: the cluster's name and secret
      revoked             signed list of void certificates
      issued/SERIAL       certificates as issued, for `fabric keys list`
      NAME/               0700: what the node NAME needs; copy it there, and nothing else
        node.key          0600: secrets, certificate, cluster's public key
        revoked           the list, as far as this node knows it

Files are replaced as a whole (written beside, synced, renamed), so a reader never sees half of one.
Secrets appear in no message, no ``repr`` and no argument.  PyNaCl (libsodium) signs and verifies;
it is imported when the first key is used.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fabric.errors import BadFrame, BadInput, KeyFileError, OtherCluster
from fabric.ids import format_id
from fabric.limits import MAX_INT, MAX_REVOKED, ROTATION_GRACE_S
from fabric.wire.codec import decode_record, encode_record
from fabric.wire.trust import (
    KEY_BYTES,
    OPERATOR,
    SIGNATURE_BYTES,
    Certificate,
    RevocationList,
    Revoked,
    Signed,
)

CLUSTER_FILE: Final = "cluster.key"
NODE_FILE: Final = "node.key"
REVOKED_FILE: Final = "revoked"
ISSUED: Final = "issued"
_MAX_FILE_BYTES: Final = 1 << 18
#: What is signed starts with its purpose, so that no signature can be used for another one.
_CERTIFICATE: Final = b"fabric certificate 1\0"
_REVOCATIONS: Final = b"fabric revocations 1\0"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Whom a node trusts: the cluster's name and public key."""

    name: str
    public: bytes

    def open_certificate(self, signed: Signed) -> Certificate:
        """Return the certificate, if our cluster's key signed it. Raises :class:`OtherCluster`.

        Expiry and revocation are not looked at here.
        """
        self._check(_CERTIFICATE, signed, "certificate")
        certificate: Certificate = _decode(Certificate, signed.body)
        if (
            certificate.cluster != self.name
            or len(certificate.transport_key) != KEY_BYTES
            or len(certificate.signing_key) != KEY_BYTES
            or certificate.node_id == 0
        ):
            raise OtherCluster(f"the certificate is not of cluster {self.name!r}")
        return certificate

    def open_revocations(self, signed: Signed) -> RevocationList:
        """Return the list, if our cluster's key signed it. Raises :class:`OtherCluster`."""
        self._check(_REVOCATIONS, signed, "revocation list")
        found: RevocationList = _decode(RevocationList, signed.body)
        if found.cluster != self.name:
            raise OtherCluster(f"the revocation list is not of cluster {self.name!r}")
        return found

    def _check(self, purpose: bytes, signed: Signed, what: str) -> None:
        if not verifies(self.public, purpose + signed.body, signed.signature):
            raise OtherCluster(f"the {what} was not signed by the key of cluster {self.name!r}")


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """One node's keys and certificate."""

    cluster: Cluster
    certificate: Certificate
    signed: Signed
    transport_secret: bytes = field(repr=False)
    signing_secret: bytes = field(repr=False)
    directory: Path | None = None
    held: tuple[RevocationList, Signed] | None = None

    @property
    def node_id(self) -> int:
        return self.certificate.node_id

    def revocations(self) -> tuple[RevocationList, Signed] | None:
        """Return the revocation list that is on file. Raises :class:`KeyFileError`."""
        if self.directory is None:
            return self.held
        return _read_revocations(self.directory / REVOKED_FILE, self.cluster)

    def keep_revocations(self, signed: Signed) -> None:
        """Put a newer revocation list on file. Raises :class:`KeyFileError`."""
        if self.directory is not None:
            _write(self.directory / REVOKED_FILE, _signed_object(signed))


def load_node(directory: Path) -> NodeKeys:
    """Read a node's keys. Raises :class:`KeyFileError` that names the file and what is wrong."""
    path = directory / NODE_FILE
    if not path.exists() and (directory / CLUSTER_FILE).exists():
        raise _bad(directory, "is the operator's, not a node's: name the directory of one node")
    found = _read(path)
    try:
        cluster = Cluster(_text(found["cluster"]), _key(found["cluster_public"]))
        signed = _signed_of(found["certificate"])
        transport, signing = _key(found["transport_secret"]), _key(found["signing_secret"])
        certificate = cluster.open_certificate(signed)
    except (KeyError, TypeError, ValueError, OtherCluster):
        raise _bad(path, "is damaged, or no key file of a node") from None
    if (
        _transport_public(transport) != certificate.transport_key
        or _signing_public(signing) != certificate.signing_key
    ):
        raise _bad(path, "holds secrets that do not belong to its certificate")
    return NodeKeys(cluster, certificate, signed, transport, signing, directory)


def opened(keys: NodeKeys | str | Path | None) -> NodeKeys | None:
    """Return ``keys``, read from the directory that they name, if so. See :func:`load_node`."""
    return load_node(Path(keys)) if isinstance(keys, str | Path) else keys


class ClusterKeys:
    """The operator's directory. Every change holds its lock."""

    def __init__(self, directory: Path, cluster: Cluster, secret: bytes) -> None:
        self.directory = directory
        self.cluster = cluster
        self._secret = secret
        self._opened: dict[str, Certificate] = {}  # by file name: certificates never change

    @classmethod
    def create(cls, directory: Path, name: str) -> ClusterKeys:
        """Make the directory and a new cluster key. Raises :class:`KeyFileError` if one exists."""
        check_name("cluster", name)
        _make_directory(directory)
        path = directory / CLUSTER_FILE
        if path.exists():
            raise _bad(path, "exists: a second key for the same cluster would void the first")
        secret = secrets.token_bytes(KEY_BYTES)
        _make_directory(directory / ISSUED)
        _write(path, {"cluster": name, "secret": secret.hex()})
        keys = cls(directory, Cluster(name, _signing_public(secret)), secret)
        keys._publish(RevocationList(name, 0, ()))
        return keys

    @classmethod
    def load(cls, directory: Path) -> ClusterKeys:
        """Read the operator's directory. Raises :class:`KeyFileError`."""
        path = directory / CLUSTER_FILE
        found = _read(path)
        try:
            name, secret = _text(found["cluster"]), _key(found["secret"])
        except (KeyError, TypeError, ValueError):
            raise _bad(path, "is damaged, or no key file of a cluster") from None
        return cls(directory, Cluster(name, _signing_public(secret)), secret)

    # --- issuing ----------------------------------------------------------------------------------

    def issue(
        self, name: str, *, rights: int, valid_s: int, node_id: int | None = None
    ) -> NodeKeys:
        """Make keys and a certificate for a new node, in a directory of its name."""
        check_name("name", name)
        with self._locked():
            for known in self.issued():
                if (known.name == name or known.node_id == node_id) and not self.is_void(known):
                    raise BadInput(
                        f"node {known.name} ({format_id(known.node_id)}) has a valid certificate: "
                        "rotate it, or revoke it first",
                        {"field": "name", "value": name},
                    )
            if node_id is None:
                node_id = secrets.randbelow(MAX_INT) + 1
            return self._issue(name, node_id, rights, valid_s)

    def rotate(self, name: str, valid_s: int) -> NodeKeys:
        """Give the node ``name`` new keys; its old certificate goes on for a grace period."""
        with self._locked():
            old = self.newest(name)
            keys = self._issue(name, old.node_id, old.rights, valid_s)
            self._revoke([old.serial], int(time.time()) + ROTATION_GRACE_S)
            return keys

    def guest(self, name: str, valid_s: int) -> NodeKeys:
        """Make keys that live in memory only: for one command of the operator."""
        return self._sign(name, secrets.randbelow(MAX_INT) + 1, OPERATOR, valid_s, None)

    def _issue(self, name: str, node_id: int, rights: int, valid_s: int) -> NodeKeys:
        directory = self.directory / name
        _make_directory(directory)
        keys = self._sign(name, node_id, rights, valid_s, directory)
        record = _signed_object(keys.signed)
        _write(self.directory / ISSUED / format_id(keys.certificate.serial), record)
        _write(directory / REVOKED_FILE, _read(self.directory / REVOKED_FILE))
        _write(
            directory / NODE_FILE,
            {
                "cluster": self.cluster.name,
                "cluster_public": self.cluster.public.hex(),
                "certificate": record,
                "transport_secret": keys.transport_secret.hex(),
                "signing_secret": keys.signing_secret.hex(),
            },
        )
        return keys

    def _sign(
        self, name: str, node_id: int, rights: int, valid_s: int, directory: Path | None
    ) -> NodeKeys:
        # X25519 takes any 32 bytes as a secret (RFC 7748, section 5)
        transport, signing = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
        now = time.time_ns()
        last = max((known.serial for known in self.issued()), default=0)
        certificate = Certificate(
            self.cluster.name, max(now // 1_000_000, last + 1), node_id, name, rights,
            _transport_public(transport), _signing_public(signing), now // 10**9 + valid_s,
        )  # fmt: skip
        signed = self._seal(_CERTIFICATE, encode_record(certificate))
        held = self.revocations() if directory is None else None
        return NodeKeys(self.cluster, certificate, signed, transport, signing, directory, held)

    def _seal(self, purpose: bytes, body: bytes) -> Signed:
        return Signed(body, sign(self._secret, purpose + body))

    # --- what was issued --------------------------------------------------------------------------

    def issued(self) -> list[Certificate]:
        """Return all certificates on record, in the order of their serials."""
        found = []
        for path in sorted((self.directory / ISSUED).iterdir()):
            if path.suffix:
                continue  # left over from a write that was interrupted
            certificate = self._opened.get(path.name)
            if certificate is None:
                try:
                    certificate = self.cluster.open_certificate(_signed_of(_read(path)))
                except (KeyError, TypeError, ValueError, OtherCluster):
                    raise _bad(path, "is damaged, or of another cluster") from None
                self._opened[path.name] = certificate
            found.append(certificate)
        return sorted(found, key=lambda certificate: certificate.serial)

    def newest(self, name: str) -> Certificate:
        """Return the newest valid certificate of ``name``. Raises :class:`BadInput`."""
        known = [c for c in self.issued() if c.name == name and not self.is_void(c)]
        if not known:
            raise BadInput(
                f"no node named {name!r:.80} has a valid certificate (see: fabric keys list)",
                {"field": "name", "value": name},
            )
        return known[-1]

    def is_void(self, certificate: Certificate) -> bool:
        """Whether a certificate is revoked (or about to be, after a rotation) or has expired."""
        void = {revoked.serial for revoked in self.revocations()[0].revoked}
        return certificate.serial in void or certificate.expires_s <= time.time()

    # --- revoking ---------------------------------------------------------------------------------

    def revocations(self) -> tuple[RevocationList, Signed]:
        """Return the present list and its signed form."""
        path = self.directory / REVOKED_FILE
        found = _read_revocations(path, self.cluster)
        if found is None:
            raise _bad(path, "is missing: without it old revocations would come to life again")
        return found

    def revoke(self, name: str) -> list[Certificate]:
        """Void all certificates of ``name``, at once; return them. Raises :class:`BadInput`."""
        with self._locked():
            now = int(time.time())
            void = {r.serial for r in self.revocations()[0].revoked if r.from_s <= now}
            own = [c for c in self.issued() if c.name == name]
            live = [c for c in own if c.serial not in void and c.expires_s > now]
            if not own:
                self.newest(name)  # raises
            self._revoke([c.serial for c in live], now)
            return live

    def _revoke(self, serials: list[int], from_s: int) -> None:
        old, _ = self.revocations()
        now = int(time.time())
        expired = {c.serial for c in self.issued() if c.expires_s <= now}
        void = {r.serial: r.from_s for r in old.revoked if r.serial not in expired}
        for serial in serials:
            void[serial] = min(from_s, void.get(serial, from_s))
        if len(void) > MAX_REVOKED:
            raise BadInput(
                f"{MAX_REVOKED} void certificates are on the list: make a new cluster key",
                {"field": "name"},
            )
        listed = tuple(Revoked(*item) for item in sorted(void.items()))
        self._publish(RevocationList(self.cluster.name, old.version + 1, listed))

    def _publish(self, revocations: RevocationList) -> None:
        """Put the list on file, also for those nodes whose directories still lie here."""
        record = _signed_object(self._seal(_REVOCATIONS, encode_record(revocations)))
        _write(self.directory / REVOKED_FILE, record)
        for node in self.directory.iterdir():
            if (node / NODE_FILE).exists():
                _write(node / REVOKED_FILE, record)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.directory / CLUSTER_FILE, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


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


def _signing_public(secret: bytes) -> bytes:
    from nacl.bindings import crypto_sign_seed_keypair

    return crypto_sign_seed_keypair(secret)[0]


def _transport_public(secret: bytes) -> bytes:
    from nacl.bindings import crypto_scalarmult_base

    return crypto_scalarmult_base(secret)


# --- files ----------------------------------------------------------------------------------------


def check_name(what: str, name: str) -> None:
    """Refuse names that could not be directories. Raises :class:`BadInput`."""
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not (plain.isascii() and plain.isalnum() and len(name) <= 64) or name[0] in ".-":
        raise BadInput(
            f"{what} {name!r:.80} must be 1 to 64 letters, digits, '-', '_' or '.'",
            {"field": what, "value": name[:80]},
        )
    if name in (ISSUED, CLUSTER_FILE, REVOKED_FILE):
        raise BadInput(f"{what} {name!r} is taken by a file of the key directory", {"field": what})


def _bad(path: Path, why: str) -> KeyFileError:
    return KeyFileError(f"{path} {why}", {"file": str(path)})


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            raise _bad(path, "is open to others: chmod 700 it, or take another directory")
    except OSError as error:
        raise _bad(path, f"cannot be made: {error.strerror}") from None


def _write(path: Path, value: dict[str, Any]) -> None:
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
        raise _bad(path, f"cannot be written: {error.strerror}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise _bad(path, "can be read or written by others: chmod 600 it")
            value = json.loads(file.read(_MAX_FILE_BYTES))
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise _bad(path, "is damaged: no JSON") from None
    if not isinstance(value, dict):
        raise _bad(path, "is damaged: no JSON object")
    return value


def _read_revocations(path: Path, cluster: Cluster) -> tuple[RevocationList, Signed] | None:
    if not path.exists():
        return None
    try:
        signed = _signed_of(_read(path))
        return cluster.open_revocations(signed), signed
    except (KeyError, TypeError, ValueError, OtherCluster):
        raise _bad(path, f"is damaged, or not of cluster {cluster.name!r}") from None


def _decode(cls: type[Any], body: bytes) -> Any:
    try:
        return decode_record(cls, body)
    except BadFrame:
        raise OtherCluster(f"no {cls.__name__} as this version knows it") from None


def _signed_object(signed: Signed) -> dict[str, str]:
    return {"body": signed.body.hex(), "signature": signed.signature.hex()}


def _signed_of(value: dict[str, Any]) -> Signed:
    return Signed(bytes.fromhex(value["body"]), bytes.fromhex(value["signature"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _key(value: str) -> bytes:
    key = bytes.fromhex(value)
    if len(key) != KEY_BYTES:
        raise ValueError
    return key
