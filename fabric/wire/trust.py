"""What peers show each other before and while they trust: certificates, cards, revocations.

A *certificate* ties a node id to the two public keys of its node: one for the transport (CURVE,
X25519), one for signatures (Ed25519).  The cluster's key signs it; whoever holds the cluster's
public key can check it, so nobody needs a list of all nodes.  A *card* is what travels in one UDP
datagram between two peers that are about to connect (:mod:`fabric.transport.cards`).  Type ids
120-124 are messages of the transport itself; no machine sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from fabric.limits import MAX_REVOKED
from fabric.wire.codec import Blob, Int, Small, Text, many, register

#: Rights in a certificate, as bits: may stand for chairman, and so sign topology; may give orders
#: (:data:`fabric.transport.orders.ORDERS`): who holds the cluster's key has it, for one command.
CANDIDATE: Final = 1
OPERATOR: Final = 2

#: Raw keys (X25519 and Ed25519 alike), and signatures.
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


@dataclass(slots=True)
class Certificate:
    """What the cluster's key vouches for. Times are seconds since 1970.

    Of two certificates of one node the higher ``serial`` is the newer one.
    """

    cluster: Text
    serial: Int
    node_id: Int
    name: Text
    rights: Small
    transport_key: Blob
    signing_key: Blob
    expires_s: Int


@dataclass(slots=True)
class Signed:
    """An encoded record and the signature of the cluster's key over it."""

    body: Blob
    signature: Blob


class Revoked(NamedTuple):
    """The certificate ``serial`` is void from ``from_s`` on: after a rotation that is later."""

    serial: Int
    from_s: Int


@dataclass(slots=True)
class RevocationList:
    """All void certificates that have not expired. The higher ``version`` replaces the lower."""

    cluster: Text
    version: Int
    revoked: Annotated[tuple[Revoked, ...], many(MAX_REVOKED)]


# --- cards: one UDP datagram each -----------------------------------------------------------------

#: Kinds of a card: here is my certificate, show me yours; the answer; no, and why; I listen
#: elsewhere now (rotation); I have come over.
HELLO: Final = 1
CARD: Final = 2
REFUSAL: Final = 3
MOVED: Final = 4
ARRIVED: Final = 5


@dataclass(slots=True)
class Card:
    """``nonce`` comes back in the answer; ``port`` is the TCP port that belongs to the key.

    ``revocations`` is the version of the revocation list that the sender holds.
    """

    kind: Small
    wire_version: Small
    nonce: Int
    port: Int
    revocations: Int
    shown: Signed | None
    code: Text = ""


# --- messages of the transport ------------------------------------------------------------------


@dataclass(slots=True)
class RevocationsHeld:
    """I hold this version of the revocation list: send me yours if it is newer."""

    version: Int


@dataclass(slots=True)
class Revocations:
    """A newer revocation list, as the cluster's key signed it."""

    signed: Signed


register(120, RevocationsHeld)
register(121, Revocations)
