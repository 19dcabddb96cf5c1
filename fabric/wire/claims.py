"""Claims: what a message says in another's name, and the seals that prove it. Type id 122.

CURVE authenticates the hop: what a peer says of itself needs no more.  What is *passed on* does:

==========  =====================================================  ============================
claim       what is said                                           who must have sealed it
==========  =====================================================  ============================
``JOIN``    this node wants in, at this address, in this life      the node itself
``TOPO``    who is chairman, which cell is the root                one with the right CANDIDATE
``RECORD``  a cell's members and seats                             one with the right CANDIDATE
``OWNER``   who owns a cell, under which electorate and term       a majority of its seats
==========  =====================================================  ============================

A *seal* is a signature over the claim together with its signer's node id, boot id, a sequence
number and an expiry, so that it is good for nothing else and not for ever.  Claims are signed as
lists written here, field by field: what a later version adds to a record does not void old seals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fabric.limits import MAX_DEPTH, MAX_SEATS
from fabric.machine import Contact
from fabric.wire.codec import Blob, Embedded, Int, Small, encode_value, many, register
from fabric.wire.tree import CellRecord, Join, Order, Owner, Topo
from fabric.wire.trust import Signed

JOIN: Final = 1
TOPO: Final = 2
RECORD: Final = 3
OWNER: Final = 4

#: Claims of one message: a whole path, twice.
MAX_CLAIMS: Final = 2 * MAX_DEPTH + 8
#: Signers of one message: each owner's seats, and chairmen.
MAX_SIGNERS: Final = 64
#: What is signed starts with its purpose, so that no signature can be used for another one.
_PURPOSE: Final = b"fabric claim 1\0"


@dataclass(slots=True)
class Seal:
    """One signature; ``signer`` is an index into the message's certificates."""

    signer: Small
    boot_id: Int
    sequence: Int
    expires_s: Int
    signature: Blob


@dataclass(slots=True)
class Proof:
    """The seals of one claim: that of ``kind`` about the cell (or, of a join, the node) ``key``."""

    kind: Small
    key: Int
    seals: Annotated[tuple[Seal, ...], many(MAX_SEATS)]


@dataclass(slots=True)
class Attested:
    """A message together with proofs of what it says in others' names."""

    body: Embedded
    signers: Annotated[tuple[Signed, ...], many(MAX_SIGNERS)]
    proofs: Annotated[tuple[Proof, ...], many(MAX_CLAIMS)]


def join_claim(join: Join) -> list[Any]:
    """``hops`` is counted on the way, so it is nobody's claim."""
    return [JOIN, join.contact, join.boot_id, join.role, join.zone, join.coordinator_id]


def topo_claim(topo: Topo) -> list[Any]:
    return [TOPO, topo.order, topo.coordinator_id, topo.chairman, topo.root, topo.next_cell]


def record_claim(record: CellRecord) -> list[Any]:
    return [
        RECORD, record.cell, record.level, record.parent, record.order, record.electorate,
        record.term_floor, record.members, record.observers, record.seats, record.domains,
        record.located,
    ]  # fmt: skip


def owner_claim(cell: int, electorate: Order, term: int, contact: Contact) -> list[Any]:
    return [OWNER, cell, electorate, term, contact]


def claim_of(owner: Owner) -> list[Any]:
    return owner_claim(owner.cell, owner.electorate, owner.term, owner.contact)


def encoded(claim: list[Any]) -> bytes:
    """Return a claim as bytes; equal bytes mean that the same is said."""
    return encode_value(claim)


def statement(claim: bytes, node_id: int, seal: Seal) -> bytes:
    """Return what the signature of ``seal`` is over."""
    about = [node_id, seal.boot_id, seal.sequence, seal.expires_s, claim]
    return _PURPOSE + encode_value(about)


register(122, Attested)
