"""Seals what a peer claims, keeps the seals of what it passes on, and lets nothing unproven in.

Theory of operation
-------------------
It sits between a machine and its transport and knows the few messages that carry claims
(:mod:`fabric.wire.claims`); all others pass untouched, and the machines know nothing of it.

* *Out*: a message with claims goes out as an ``Attested`` one, with the seals that we hold for each
  claim.  We seal ourselves what is ours to say: our join, our grant of a lease, and, with the right
  to stand for chairman, the topology that we hold.
* *In*: a claim counts if its sender may say it in person, if it is word for word what was proven
  before, or if its seals prove it.  What is not proven is taken out of the message; a message of
  which nothing is left is dropped.  Both are counted as ``unproven_claims``.

An owner's claim is proven by its seats: each seals the grants that it gives it.  Which nodes they
are says the cell's record, which a candidate sealed.  So an insider with a valid key can invent
neither a member nor a cell, an owner or a chairman.

No I/O: signatures, certificates and the time come from the :class:`Signer`; that of a simulation
is cheap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from fabric.counters import Counters
from fabric.limits import MAX_IDENTITIES
from fabric.machine import Message
from fabric.wire.claims import (
    JOIN,
    OWNER,
    RECORD,
    TOPO,
    Attested,
    Proof,
    Seal,
    claim_of,
    encoded,
    join_claim,
    owner_claim,
    record_claim,
    statement,
    topo_claim,
)
from fabric.wire.tree import (
    NO_ORDER,
    CellRecord,
    Join,
    LeaseAsk,
    LeaseGrant,
    Order,
    Owner,
    Path,
)
from fabric.wire.trust import CANDIDATE, Signed

#: A join is good for so long: clocks of hosts may differ by minutes.
JOIN_VALID_S: Final = 600
#: Topology and grants are replaced, not renewed: they are good as long as their signer's key.
LONG_VALID_S: Final = 400 * 86_400
#: Grants of one term that a seat seals: the owner needs one of them, and messages get lost.
SEALED_GRANTS: Final = 8
#: A topology's counter of writes may be ahead of what we hold by so much: years of writes, and
#: still far from the end, so that nobody can use the counter up.
MAX_VERSION_STEP: Final = 1 << 40


class Identity(NamedTuple):
    """Somebody whose certificate is good."""

    node_id: int
    rights: int
    signing_key: bytes


class Signer(Protocol):
    """Signatures of one node, and what it makes of others'."""

    @property
    def certificate(self) -> Signed: ...

    @property
    def identity(self) -> Identity: ...

    def sign(self, message: bytes) -> bytes: ...

    def verifies(self, who: Identity, message: bytes, signature: bytes) -> bool: ...

    def identify(self, certificate: Signed) -> Identity | None:
        """Whose certificate this is; ``None`` if it is not good (any more)."""

    def rights_of(self, node_id: int) -> int:
        """The rights of somebody who has a connection to us."""

    def now_s(self) -> int: ...


class _Held(NamedTuple):
    """A seal together with its signer's certificate."""

    signer: Signed
    seal: Seal


Seals: TypeAlias = tuple[_Held, ...]
#: (kind, cell or node)
Key: TypeAlias = tuple[int, int]


class Attestor:
    """One per peer with keys."""

    def __init__(self, signer: Signer, counters: Counters) -> None:
        self.signer = signer
        self.boot_id = 0
        #: The record that the peer holds of a cell, if any: it says who the seats are.
        self.record_of: Callable[[int], CellRecord | None] = _no_record
        self._counters = counters
        self._sequence = 0
        self._proven: dict[Key, tuple[bytes, Seals]] = {}
        self._asks: dict[Key, LeaseAsk] = {}  # (cell, asker): who wants our grant
        self._asked: dict[int, LeaseAsk] = {}  # by cell: what we ask others for
        self._granted: dict[int, tuple[int, int, int]] = {}  # by cell: term, grantee, how often
        self._grants: dict[int, tuple[bytes, dict[int, _Held]]] = {}  # by cell: claim, its seals

    # --- out --------------------------------------------------------------------------------------

    def outgoing(self, to: int, message: Message) -> Message:
        """Return what is to be sent to the node ``to`` (0: unknown) in place of ``message``."""
        cls = message.__class__
        if cls is Path:
            return self._out_path(message)
        if cls is Join:
            return self._out_join(message)
        if cls is LeaseGrant and not message.pre:
            return self._out_grant(to, message)
        if cls is LeaseAsk and not message.pre:
            self._asked[message.cell] = message
        return message

    def _out_path(self, path: Path) -> Message:
        claims: list[tuple[Key, Seals]] = []
        if path.topo is not None:
            claims.append(((TOPO, 0), self._topology((TOPO, 0), topo_claim(path.topo))))
        for record in path.records:
            key = RECORD, record.cell
            claims.append((key, self._topology(key, record_claim(record))))
        for owner in path.owners:
            claims.append(((OWNER, owner.cell), self._owner(owner)))
        return _attested(path, claims)

    def _topology(self, key: Key, content: list[Any]) -> Seals:
        claim = encoded(content)
        held = self._proven.get(key)
        if held is not None and held[0] == claim and held[1]:
            return held[1]
        if not self.signer.identity.rights & CANDIDATE:
            return ()
        return self._keep(key, claim, (self._seal(claim, LONG_VALID_S),))

    def _owner(self, owner: Owner) -> Seals:
        claim = encoded(claim_of(owner))
        held = self._proven.get((OWNER, owner.cell))
        if held is not None and held[0] == claim and held[1]:
            return held[1]
        if owner.contact.node_id != self.signer.identity.node_id:
            return ()
        told, grants = self._grants.get(owner.cell, (b"", {}))
        seals = list(grants.values()) if told == claim else []
        record = self.record_of(owner.cell)
        me = self.signer.identity.node_id
        if record is not None and any(seat.node_id == me for seat in record.seats):
            seals.append(self._seal(claim, LONG_VALID_S))  # our own seat's vote
        if record is None or 2 * len(seals) <= len(record.seats):
            return tuple(seals)
        return self._keep((OWNER, owner.cell), claim, tuple(seals))

    def _out_join(self, join: Join) -> Message:
        key = JOIN, join.contact.node_id
        claim = encoded(join_claim(join))
        if join.contact.node_id == self.signer.identity.node_id:
            return _attested(join, [(key, (self._seal(claim, JOIN_VALID_S),))])
        held = self._proven.get(key)
        return _attested(join, [(key, held[1] if held is not None and held[0] == claim else ())])

    def _out_grant(self, to: int, grant: LeaseGrant) -> Message:
        ask = self._asks.get((grant.cell, to))
        if ask is None or (ask.term, ask.number) != (grant.term, grant.number):
            return grant
        term, grantee, times = self._granted.get(grant.cell, (0, 0, 0))
        times = times + 1 if (term, grantee) == (grant.term, to) else 1
        self._granted[grant.cell] = grant.term, to, times
        if times > SEALED_GRANTS:
            return grant
        claim = encoded(owner_claim(grant.cell, ask.electorate, grant.term, ask.asker))
        return _attested(grant, [((OWNER, grant.cell), (self._seal(claim, LONG_VALID_S),))])

    def _seal(self, claim: bytes, valid_s: int) -> _Held:
        signer = self.signer
        self._sequence += 1
        seal = Seal(0, self.boot_id, self._sequence, signer.now_s() + valid_s, b"")
        seal.signature = signer.sign(statement(claim, signer.identity.node_id, seal))
        return _Held(signer.certificate, seal)

    # --- in ---------------------------------------------------------------------------------------

    def incoming(self, sender: int, message: Message) -> Message | None:
        """Return what of ``message`` may be believed; ``None``: nothing."""
        given: dict[Key, Seals] = {}
        if message.__class__ is Attested:
            try:
                given = {(p.kind, p.key): _with_signers(message, p) for p in message.proofs}
            except IndexError:
                self._counters.count("bad_frames")
                return None
            message = message.body
        cls = message.__class__
        if cls is Path:
            return self._in_path(sender, message, given)
        if cls is Join:
            return self._in_join(sender, message, given)
        if cls is LeaseGrant:
            self._in_grant(sender, message, given)
        elif cls is LeaseAsk:
            if len(self._asks) >= MAX_IDENTITIES:
                self._asks.clear()
            self._asks[message.cell, sender] = message
        return message

    def _in_join(self, sender: int, join: Join, given: dict[Key, Seals]) -> Join | None:
        node_id = join.contact.node_id
        key = JOIN, node_id
        claim = encoded(join_claim(join))
        seals = self._good(claim, given.get(key, ()))
        if any(who.node_id == node_id for who, _ in seals):
            self._keep(key, claim, tuple([held for who, held in seals if who.node_id == node_id]))
            return join
        if sender == node_id:
            return join
        self._unproven()
        return None

    def _in_path(self, sender: int, path: Path, given: dict[Key, Seals]) -> Path | None:
        in_person = bool(self.signer.rights_of(sender) & CANDIDATE)
        topo = path.topo
        if topo is not None:
            claim = topo_claim(topo)
            topo = topo if self._is_topology((TOPO, 0), claim, given, in_person) else None
        records = tuple([r for r in path.records if self._is_record(r, given, in_person)])
        seats = {r.cell: (r.electorate, [s.node_id for s in r.seats]) for r in records}
        # owners of cells of which no record is held are of no use, and nobody can check them
        useful = [o for o in path.owners if o.cell in seats or self.record_of(o.cell) is not None]
        owners = tuple([o for o in useful if self._is_owner(o, given, seats)])
        whole = (topo is None) == (path.topo is None) and len(records) == len(path.records)
        if whole and len(owners) == len(path.owners):
            return path
        if not whole or len(owners) < len(useful):
            self._unproven()
        if topo is None and not records and not owners:
            return None
        return Path(topo, records, owners)

    def _is_record(self, record: CellRecord, given: dict[Key, Seals], in_person: bool) -> bool:
        held = self.record_of(record.cell)
        if held is not None and record.order[:2] == held.order[:2]:
            step = record.order.version - held.order.version
            if step > MAX_VERSION_STEP:
                return False
        return self._is_topology((RECORD, record.cell), record_claim(record), given, in_person)

    def _is_topology(
        self, key: Key, content: list[Any], given: dict[Key, Seals], in_person: bool
    ) -> bool:
        claim = encoded(content)
        held = self._proven.get(key)
        if held is not None and held[0] == claim:
            return True
        seals = self._good(claim, given.get(key, ()))
        proving = tuple([held for who, held in seals if who.rights & CANDIDATE])
        if not proving and not in_person:
            return False
        self._keep(key, claim, proving)
        return True

    def _is_owner(
        self, owner: Owner, given: dict[Key, Seals], seats: dict[int, tuple[Order, list[int]]]
    ) -> bool:
        key = OWNER, owner.cell
        claim = encoded(claim_of(owner))
        held = self._proven.get(key)
        if held is not None and held[0] == claim:
            return True
        electorate, voters = seats.get(owner.cell) or self._seats_of(owner.cell)
        if electorate != owner.electorate:
            return False
        votes = {
            who.node_id: held
            for who, held in self._good(claim, given.get(key, ()))
            if who.node_id in voters
        }
        if 2 * len(votes) <= len(voters):
            return False
        self._keep(key, claim, tuple(votes.values()))
        return True

    def _seats_of(self, cell: int) -> tuple[Order, list[int]]:
        record = self.record_of(cell)
        if record is None:
            return NO_ORDER, []
        return record.electorate, [seat.node_id for seat in record.seats]

    def _in_grant(self, sender: int, grant: LeaseGrant, given: dict[Key, Seals]) -> None:
        """Keep a seat's seal: with those of a majority we can show that the cell is ours."""
        ask = self._asked.get(grant.cell)
        if ask is None or ask.number != grant.number:
            return
        claim = encoded(owner_claim(grant.cell, ask.electorate, grant.term, ask.asker))
        for who, held in self._good(claim, given.get((OWNER, grant.cell), ())):
            if who.node_id == sender:
                told, grants = self._grants.get(grant.cell, (b"", {}))
                if told != claim:
                    self._grants[grant.cell] = claim, {sender: held}
                else:
                    grants[sender] = held

    # --- seals ------------------------------------------------------------------------------------

    def _good(self, claim: bytes, seals: Sequence[_Held]) -> list[tuple[Identity, _Held]]:
        """Return the seals that hold, with their signers."""
        found = []
        now_s = self.signer.now_s()
        for held in seals:
            who = self.signer.identify(held.signer)
            if (
                who is not None
                and held.seal.expires_s > now_s
                and self.signer.verifies(
                    who, statement(claim, who.node_id, held.seal), held.seal.signature
                )
            ):
                found.append((who, held))
        return found

    def _keep(self, key: Key, claim: bytes, seals: Seals) -> Seals:
        self._proven.pop(key, None)
        if len(self._proven) >= MAX_IDENTITIES:
            del self._proven[next(iter(self._proven))]
        self._proven[key] = claim, seals
        return seals

    def _unproven(self) -> None:
        self._counters.count("unproven_claims")



def _attested(body: Message, claims: Sequence[tuple[Key, Seals]]) -> Message:
    """Put a message together with its proofs; each signer's certificate goes once."""
    signers: dict[bytes, int] = {}
    certificates: list[Signed] = []
    proofs = []
    for (kind, key), seals in claims:
        placed = []
        for signer, seal in seals:
            index = signers.setdefault(signer.body, len(certificates))
            if index == len(certificates):
                certificates.append(signer)
            placed.append(dataclasses.replace(seal, signer=index))
        if placed:
            proofs.append(Proof(kind, key, tuple(placed)))
    return Attested(body, tuple(certificates), tuple(proofs)) if proofs else body


def _with_signers(message: Attested, proof: Proof) -> Seals:
    return tuple([_Held(message.signers[seal.signer], seal) for seal in proof.seals])


def _no_record(cell: int) -> CellRecord | None:
    return None
