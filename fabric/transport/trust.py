"""Whom a running peer trusts: certificates it was shown, revocations, and User-Ids by key.

A certificate is checked once, when its owner shows it before connecting.  From then on the ZAP
handler finds its transport key here and gives the connection a *User-Id*, the certificate's
serial; each frame's User-Id leads to the node id that may speak on that connection.  What is
revoked or expired leaves these tables at once, so neither new connections nor frames of old ones
get through.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fabric.errors import CertificateExpired, CertificateRevoked, Overloaded, Untrusted
from fabric.ids import format_id
from fabric.limits import MAX_CHECKS_PER_S, MAX_IDENTITIES
from fabric.transport.keys import NodeKeys
from fabric.wire.trust import Certificate, RevocationList, Signed


class Trust:
    """The tables of one peer."""

    def __init__(self, keys: NodeKeys, clock: Callable[[], float] = time.time) -> None:
        """Raises :class:`Untrusted` if our own certificate is void, ``KeyFileError``."""
        self.cluster = keys.cluster
        self.nodes: dict[str, int] = {}  # User-Id -> node id; the hot path of every frame
        self.revocations: tuple[RevocationList, Signed] | None = keys.revocations()
        self.rights: dict[int, int] = {}  # node id -> those of its newest certificate
        self._clock = clock
        self._void: dict[int, int] = {}
        self._shown: dict[bytes, Certificate] = {}  # by transport key, the longest unseen first
        self._checked: dict[tuple[bytes, bytes], Certificate] = {}
        self._window = 0
        self._checks = 0
        self._note_void()
        self.refuse_void(keys.certificate)

    @property
    def version(self) -> int:
        """The version of the revocation list that we hold."""
        return self.revocations[0].version if self.revocations is not None else 0

    def admit(self, signed: Signed) -> Certificate:
        """Check a certificate that was shown; its owner may connect from now on.

        Raises :class:`Untrusted`, or :class:`Overloaded` when too many were shown at once.
        """
        certificate = self.look_at(signed)
        key = certificate.transport_key
        self._shown.pop(key, None)
        self._shown[key] = certificate
        self.nodes[user_id(certificate)] = certificate.node_id
        self.rights[certificate.node_id] = certificate.rights
        if len(self._shown) > MAX_IDENTITIES:
            self._forget(next(iter(self._shown.values())))
        return certificate

    def look_at(self, signed: Signed) -> Certificate:
        """Check a certificate that somebody else shows, and let nobody in for it.

        Raises :class:`Untrusted`, or :class:`Overloaded`.
        """
        certificate = self._open(signed)
        self.refuse_void(certificate)
        return certificate

    def user_of(self, transport_key: bytes) -> str | None:
        """Return the User-Id for a connection under ``transport_key``; ``None`` refuses it."""
        certificate = self._shown.get(transport_key)
        if certificate is None:
            return None
        try:
            self.refuse_void(certificate)
        except Untrusted:
            self._forget(certificate)
            return None
        return user_id(certificate)

    def take_revocations(self, signed: Signed) -> bool:
        """Take a list if it is newer than ours. Raises :class:`OtherCluster`."""
        found = self.cluster.open_revocations(signed)
        if found.version <= self.version:
            return False
        self.revocations = found, signed
        self._note_void()
        return True

    def drop_void(self) -> list[Certificate]:
        """Forget what has been revoked or has expired; return it."""
        void = []
        for certificate in list(self._shown.values()):
            try:
                self.refuse_void(certificate)
            except Untrusted:
                self._forget(certificate)
                void.append(certificate)
        return void

    def refuse_void(self, certificate: Certificate) -> None:
        """Raise :class:`Untrusted` if ``certificate`` is revoked or has expired."""
        now = self._clock()
        whose = f"the certificate of node {format_id(certificate.node_id)}"
        if self._void.get(certificate.serial, now + 1) <= now:
            raise CertificateRevoked(f"{whose} was revoked")
        if certificate.expires_s <= now:
            raise CertificateExpired(f"{whose} has expired")

    def _open(self, signed: Signed) -> Certificate:
        known = (signed.body, signed.signature)
        certificate = self._checked.get(known)
        if certificate is not None:
            return certificate
        second = int(self._clock())
        if second != self._window:
            self._window, self._checks = second, 0
        if self._checks >= MAX_CHECKS_PER_S:
            raise Overloaded("too many certificates to check")
        self._checks += 1
        certificate = self.cluster.open_certificate(signed)
        if len(self._checked) >= MAX_IDENTITIES:
            self._checked.clear()
        self._checked[known] = certificate
        return certificate

    def _forget(self, certificate: Certificate) -> None:
        self._shown.pop(certificate.transport_key, None)
        self.nodes.pop(user_id(certificate), None)
        if certificate.node_id not in self.nodes.values():
            self.rights.pop(certificate.node_id, None)

    def _note_void(self) -> None:
        if self.revocations is not None:
            self._void = dict(self.revocations[0].revoked)


def user_id(certificate: Certificate) -> str:
    """Return the User-Id of connections under ``certificate``."""
    return format_id(certificate.serial)
