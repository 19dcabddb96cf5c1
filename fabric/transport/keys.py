"""A node's own keys, and whom it trusts.

Theory of operation
-------------------
The *cluster key* (Ed25519) is the operator's (:mod:`fabric.transport.authority`).  It signs one
certificate per node: node id, transport key (CURVE), signing key, rights, expiry, serial.  A node
needs its own secrets, its certificate and the cluster's *public* key, nothing else: it trusts
whomever that key vouches for, so no node keeps a list of all nodes, and a new one needs no change
anywhere::

    NAME/               0700: what the node NAME needs
      node.key          0600: secrets, certificate, cluster's public key
      revoked           the list of void certificates, as far as this node knows it

Secrets appear in no message, no ``repr`` and no argument.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fabric.errors import BadFrame, OtherCluster
from fabric.transport.keyfiles import (
    bad_file,
    key_of,
    read_file,
    signed_object,
    signed_of,
    signing_public,
    text_of,
    transport_public,
    verifies,
    write_file,
)
from fabric.wire.codec import decode_record
from fabric.wire.trust import KEY_BYTES, Certificate, RevocationList, Signed

#: In the operator's directory, where a node's is expected: said so if the two are mixed up.
CLUSTER_FILE: Final = "cluster.key"
NODE_FILE: Final = "node.key"
REVOKED_FILE: Final = "revoked"
#: What is signed starts with its purpose, so that no signature can be used for another one.
CERTIFICATE: Final = b"fabric certificate 1\0"
REVOCATIONS: Final = b"fabric revocations 1\0"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Whom a node trusts: the cluster's name and public key."""

    name: str
    public: bytes

    def open_certificate(self, signed: Signed) -> Certificate:
        """Return the certificate, if our cluster's key signed it. Raises :class:`OtherCluster`.

        Expiry and revocation are not looked at here.
        """
        self._check(CERTIFICATE, signed, "certificate")
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
        self._check(REVOCATIONS, signed, "revocation list")
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
        return read_revocations(self.directory / REVOKED_FILE, self.cluster)

    def keep_revocations(self, signed: Signed) -> None:
        """Put a newer revocation list on file. Raises :class:`KeyFileError`."""
        if self.directory is not None:
            write_file(self.directory / REVOKED_FILE, signed_object(signed))


def load_node(directory: Path) -> NodeKeys:
    """Read a node's keys. Raises :class:`KeyFileError` that names the file and what is wrong."""
    path = directory / NODE_FILE
    if not path.exists() and (directory / CLUSTER_FILE).exists():
        raise bad_file(directory, "is the operator's, not a node's: name the directory of one node")
    found = read_file(path)
    try:
        cluster = Cluster(text_of(found["cluster"]), key_of(found["cluster_public"]))
        signed = signed_of(found["certificate"])
        transport, signing = key_of(found["transport_secret"]), key_of(found["signing_secret"])
        certificate = cluster.open_certificate(signed)
    except (KeyError, TypeError, ValueError, OtherCluster):
        raise bad_file(path, "is damaged, or no key file of a node") from None
    if (
        transport_public(transport) != certificate.transport_key
        or signing_public(signing) != certificate.signing_key
    ):
        raise bad_file(path, "holds secrets that do not belong to its certificate")
    return NodeKeys(cluster, certificate, signed, transport, signing, directory)


def opened(keys: NodeKeys | str | Path | None) -> NodeKeys | None:
    """Return ``keys``, read from the directory that they name, if so. See :func:`load_node`."""
    return load_node(Path(keys)) if isinstance(keys, str | Path) else keys


def read_revocations(path: Path, cluster: Cluster) -> tuple[RevocationList, Signed] | None:
    if not path.exists():
        return None
    try:
        signed = signed_of(read_file(path))
        return cluster.open_revocations(signed), signed
    except (KeyError, TypeError, ValueError, OtherCluster):
        raise bad_file(path, f"is damaged, or not of cluster {cluster.name!r}") from None


def _decode(cls: type[Any], body: bytes) -> Any:
    try:
        return decode_record(cls, body)
    except BadFrame:
        raise OtherCluster(f"no {cls.__name__} as this version knows it") from None
