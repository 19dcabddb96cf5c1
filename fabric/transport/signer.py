"""Ed25519 signatures of a running peer: the attestor's :class:`~fabric.attestor.Signer`.

Keys and certificates are those that the guard has in use at the moment, so a rotation and a
revocation take effect here too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fabric.attestor import Identity
from fabric.errors import FabricError
from fabric.transport.keyfiles import sign, verifies
from fabric.wire.trust import Certificate, Signed

if TYPE_CHECKING:
    from fabric.transport.guard import Guard


class NodeSigner:
    """Signs as the node whose keys ``guard`` uses."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    @property
    def certificate(self) -> Signed:
        return self._guard.keys.signed

    @property
    def identity(self) -> Identity:
        return _identity(self._guard.keys.certificate)

    def sign(self, message: bytes) -> bytes:
        return sign(self._guard.keys.signing_secret, message)

    def verifies(self, who: Identity, message: bytes, signature: bytes) -> bool:
        return verifies(who.signing_key, message, signature)

    def identify(self, certificate: Signed) -> Identity | None:
        try:
            return _identity(self._guard.trust.look_at(certificate))
        except FabricError:
            return None

    def rights_of(self, node_id: int) -> int:
        return self._guard.trust.rights.get(node_id, 0)

    def now_s(self) -> int:
        return int(time.time())


def _identity(certificate: Certificate) -> Identity:
    return Identity(certificate.node_id, certificate.rights, certificate.signing_key)
