"""A cheap signer: signatures that nobody forges because nobody tries, at the cost of a hash.

In a simulation the question is not whether Ed25519 holds, but whether the protocol proves all it
must and goes on when proofs are lost.  A forging node here may say anything in anybody's name; what
it cannot do is call :meth:`CheapSigner.sign` of another node.
"""

from __future__ import annotations

from collections.abc import Callable

from fabric.attestor import Identity
from fabric.stream import mix
from fabric.wire.trust import Signed

_BODY = 8


class CheapSigner:
    """Signs as ``node_id``. ``now_s`` gives the virtual time; ``rights`` those of each node."""

    def __init__(
        self, node_id: int, rights_of: Callable[[int], int], now_s: Callable[[], int]
    ) -> None:
        self._node_id = node_id
        self._rights_of = rights_of
        self._now_s = now_s

    @property
    def certificate(self) -> Signed:
        return Signed(self._node_id.to_bytes(_BODY, "big"), b"")

    @property
    def identity(self) -> Identity:
        return self._identity(self._node_id)

    def sign(self, message: bytes) -> bytes:
        return _mark(self._node_id, message)

    def verifies(self, who: Identity, message: bytes, signature: bytes) -> bool:
        return signature == _mark(who.node_id, message)

    def identify(self, certificate: Signed) -> Identity | None:
        if len(certificate.body) != _BODY:
            return None
        return self._identity(int.from_bytes(certificate.body, "big"))

    def rights_of(self, node_id: int) -> int:
        return self._rights_of(node_id)

    def now_s(self) -> int:
        return self._now_s()

    def _identity(self, node_id: int) -> Identity:
        return Identity(node_id, self._rights_of(node_id), b"")


def _mark(node_id: int, message: bytes) -> bytes:
    mark = node_id
    for start in range(0, len(message), _BODY):
        mark = mix(mark, int.from_bytes(message[start : start + _BODY], "big"))
    return mark.to_bytes(_BODY, "big")
