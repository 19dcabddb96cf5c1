"""The operator's side of keys: the cluster's key, which issues, rotates and revokes.

Only who holds it can add nodes; it is not needed while the fabric runs and may be kept off-line.

::

    keys/                 0700, the operator's
      cluster.key         0600: the cluster's name and secret
      revoked             signed list of void certificates
      issued/SERIAL       certificates as issued, for `fabric keys list`
      NAME/               what the node NAME needs (:mod:`fabric.transport.keys`): copy it there,
                          and nothing else

Every change holds the directory's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fabric.errors import BadInput, OtherCluster
from fabric.ids import format_id
from fabric.limits import MAX_INT, MAX_REVOKED, ROTATION_GRACE_S
from fabric.transport.keyfiles import (
    bad_file,
    key_of,
    make_directory,
    read_file,
    sign,
    signed_object,
    signed_of,
    signing_public,
    text_of,
    transport_public,
    write_file,
)
from fabric.transport.keys import (
    CERTIFICATE,
    CLUSTER_FILE,
    NODE_FILE,
    REVOCATIONS,
    REVOKED_FILE,
    Cluster,
    NodeKeys,
    read_revocations,
)
from fabric.wire.codec import encode_record
from fabric.wire.trust import (
    KEY_BYTES,
    OPERATOR,
    Certificate,
    RevocationList,
    Revoked,
    Signed,
)

ISSUED: Final = "issued"


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
        make_directory(directory)
        path = directory / CLUSTER_FILE
        if path.exists():
            raise bad_file(path, "exists: a second key for the same cluster would void the first")
        secret = secrets.token_bytes(KEY_BYTES)
        make_directory(directory / ISSUED)
        write_file(path, {"cluster": name, "secret": secret.hex()})
        keys = cls(directory, Cluster(name, signing_public(secret)), secret)
        keys._publish(RevocationList(name, 0, ()))
        return keys

    @classmethod
    def load(cls, directory: Path) -> ClusterKeys:
        """Read the operator's directory. Raises :class:`KeyFileError`."""
        path = directory / CLUSTER_FILE
        found = read_file(path)
        try:
            name, secret = text_of(found["cluster"]), key_of(found["secret"])
        except (KeyError, TypeError, ValueError):
            raise bad_file(path, "is damaged, or no key file of a cluster") from None
        return cls(directory, Cluster(name, signing_public(secret)), secret)

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
        make_directory(directory)
        keys = self._sign(name, node_id, rights, valid_s, directory)
        record = signed_object(keys.signed)
        write_file(self.directory / ISSUED / format_id(keys.certificate.serial), record)
        write_file(directory / REVOKED_FILE, read_file(self.directory / REVOKED_FILE))
        write_file(
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
            transport_public(transport), signing_public(signing), now // 10**9 + valid_s,
        )  # fmt: skip
        signed = self._seal(CERTIFICATE, encode_record(certificate))
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
                    certificate = self.cluster.open_certificate(signed_of(read_file(path)))
                except (KeyError, TypeError, ValueError, OtherCluster):
                    raise bad_file(path, "is damaged, or of another cluster") from None
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
        found = read_revocations(path, self.cluster)
        if found is None:
            raise bad_file(path, "is missing: without it old revocations would come to life again")
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
        record = signed_object(self._seal(REVOCATIONS, encode_record(revocations)))
        write_file(self.directory / REVOKED_FILE, record)
        for node in self.directory.iterdir():
            if (node / NODE_FILE).exists():
                write_file(node / REVOKED_FILE, record)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.directory / CLUSTER_FILE, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


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
