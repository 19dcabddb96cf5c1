"""What is passed on counts only as far as it is proven: forged, replayed, re-ordered claims."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from fabric.attestor import JOIN_VALID_S, MAX_VERSION_STEP, Attestor
from fabric.counters import Counters
from fabric.machine import Contact
from fabric.wire.claims import Attested, join_claim, record_claim, topo_claim
from fabric.wire.codec import decode_frame, encode_frame
from fabric.wire.tree import (
    HOST,
    CellRecord,
    Join,
    LeaseAsk,
    LeaseGrant,
    Order,
    Owner,
    Path,
    Topo,
)
from fabric.wire.trust import CANDIDATE
from sim.signer import CheapSigner

CHAIRMAN, OTHER, SEATS, INSIDER = 1, 2, (11, 12, 13), 66
E1 = Order(1, 1, 5)


def contact(node_id: int) -> Contact:
    return Contact(node_id, f"tcp://127.0.0.1:{node_id}")


def record(version: int = 5, **changes: object) -> CellRecord:
    members = tuple(map(contact, (*SEATS, INSIDER)))
    whole = CellRecord(
        7, 0, 0, Order(1, 1, version), E1, 0, members, (), tuple(map(contact, SEATS))
    )
    return dataclasses.replace(whole, **changes)


def topo(version: int = 5, chairman: int = CHAIRMAN) -> Topo:
    return Topo(Order(1, 1, version), 9, contact(chairman), 7, 8)


class Node:
    """An attestor, the records that its peer holds, and its clock."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.now_s = 1000
        self.records: dict[int, CellRecord] = {}
        self.counters = Counters()
        signer = CheapSigner(
            node_id, lambda n: CANDIDATE if n == CHAIRMAN else 0, lambda: self.now_s
        )
        self.attestor = Attestor(signer, self.counters)
        self.attestor.boot_id = 3
        self.attestor.record_of = self.records.get

    def out(self, message: object, to: int = OTHER) -> object:
        """Send, over the wire."""
        sealed = self.attestor.outgoing(to, message)
        return decode_frame(encode_frame(self.node_id, sealed)).message

    def takes(self, sender: int, message: object) -> object:
        believed = self.attestor.incoming(sender, message)
        if isinstance(believed, Path):
            for held in believed.records:
                self.records[held.cell] = held
        return believed

    @property
    def unproven(self) -> int:
        return self.counters["unproven_claims"]


@pytest.fixture
def chairman() -> Node:
    return Node(CHAIRMAN)


@pytest.fixture
def other() -> Node:
    return Node(OTHER)


@pytest.fixture
def insider() -> Node:
    return Node(INSIDER)


PATH = Path(topo(), (record(),), ())


def test_topology_is_believed_from_whoever_passes_it_on(chairman: Node, other: Node) -> None:
    third = Node(3)
    assert other.takes(CHAIRMAN, chairman.out(PATH)) == PATH
    assert third.takes(OTHER, other.out(PATH)) == PATH
    assert other.takes(3, third.out(PATH)) == PATH  # word for word the same: nothing to check
    assert third.unproven == other.unproven == 0


@pytest.mark.parametrize(
    "forged",
    [
        Path(topo(6, INSIDER), (), ()),
        Path(None, (record(6, seats=(contact(INSIDER),)),), ()),
        Path(None, (record(6, members=()),), ()),
    ],
)
def test_an_insider_cannot_write_topology(forged: Path, insider: Node, other: Node) -> None:
    assert other.takes(INSIDER, insider.out(forged)) is None
    assert other.unproven == 1


def test_seals_are_good_for_what_they_were_made_for_alone(
    chairman: Node, insider: Node, other: Node
) -> None:
    sealed = chairman.out(PATH)
    assert isinstance(sealed, Attested)
    for forged in (
        dataclasses.replace(sealed, body=Path(topo(6, INSIDER), (record(6),), ())),
        dataclasses.replace(sealed, signers=(insider.attestor.signer.certificate,)),
        dataclasses.replace(sealed, proofs=sealed.proofs[::-1], body=Path(topo(6), (), ())),
    ):
        assert other.takes(INSIDER, forged) is None
    crossed = tuple(dataclasses.replace(p, key=0, kind=5 - p.kind) for p in sealed.proofs)
    assert other.takes(INSIDER, dataclasses.replace(sealed, proofs=crossed)) is None


def test_only_what_is_proven_is_let_through(chairman: Node, insider: Node, other: Node) -> None:
    good = chairman.out(Path(None, (record(),), ()))
    assert isinstance(good, Attested)
    mixed = dataclasses.replace(good, body=Path(topo(9, INSIDER), (record(),), ()))
    assert other.takes(INSIDER, mixed) == Path(None, (record(),), ())
    assert other.unproven == 1


def test_a_message_that_names_a_signer_it_does_not_show_is_a_bad_frame(
    chairman: Node, other: Node
) -> None:
    sealed = chairman.out(PATH)
    assert isinstance(sealed, Attested)
    assert other.takes(CHAIRMAN, dataclasses.replace(sealed, signers=())) is None
    assert other.counters["bad_frames"] == 1


@pytest.mark.parametrize(
    ("claim", "example"),
    [(join_claim, Join), (topo_claim, Topo), (record_claim, CellRecord)],
)
def test_every_field_is_part_of_the_claim(claim: Any, example: Any) -> None:
    """A field that is added and not signed could be changed by whoever passes it on."""
    names = [field.name for field in dataclasses.fields(example) if field.name != "hops"]
    values = {name: f"value of {name}" for name in names}
    assert claim(SimpleNamespace(**values))[1:] == list(values.values())


def test_versions_jump_by_a_bound(chairman: Node, other: Node) -> None:
    other.takes(CHAIRMAN, chairman.out(PATH))
    far = Path(None, (record(5 + MAX_VERSION_STEP + 1),), ())
    assert other.takes(CHAIRMAN, chairman.out(far)) is None
    near = Path(None, (record(5 + MAX_VERSION_STEP),), ())
    assert other.takes(CHAIRMAN, chairman.out(near)) == near


# --- joins ----------------------------------------------------------------------------------------

JOIN = Join(contact(20), 4, HOST, "z1", 0, 0)


def test_a_join_is_its_nodes_own_word(other: Node, chairman: Node) -> None:
    joiner = Node(20)
    assert other.takes(20, joiner.out(JOIN)) == JOIN
    forwarded = dataclasses.replace(JOIN, hops=1)
    assert chairman.takes(OTHER, other.out(forwarded)) == forwarded


@pytest.mark.parametrize(
    "changed", [{"contact": Contact(20, "tcp://127.0.0.1:66")}, {"boot_id": 99}, {"zone": "z2"}]
)
def test_nobody_joins_in_anothers_name(
    changed: dict[str, object], insider: Node, chairman: Node
) -> None:
    forged = dataclasses.replace(JOIN, hops=1, **changed)
    assert chairman.takes(INSIDER, insider.out(forged)) is None
    sealed = Node(20).out(JOIN)
    assert isinstance(sealed, Attested)
    assert chairman.takes(INSIDER, dataclasses.replace(sealed, body=forged)) is None
    assert chairman.unproven == 2


def test_a_join_is_not_good_for_ever(chairman: Node) -> None:
    sealed = Node(20).out(JOIN)
    assert chairman.takes(INSIDER, sealed) == JOIN
    chairman.now_s += JOIN_VALID_S
    assert chairman.takes(INSIDER, sealed) is None


# --- owners ---------------------------------------------------------------------------------------


def owned(term: int = 3, by: int = 11) -> Owner:
    return Owner(7, E1, term, contact(by))


def elect(owner: Node, seats: list[Node], term: int = 3) -> None:
    """``owner`` asks ``seats`` for their grants, and gets them."""
    owner.records[7] = record()
    for seat in seats:
        ask = LeaseAsk(7, E1, term, 1, False, contact(owner.node_id), ())
        assert seat.takes(owner.node_id, owner.out(ask)) == ask
        grant = LeaseGrant(7, term, 1, False)
        assert owner.takes(seat.node_id, seat.out(grant, owner.node_id)) == grant


def test_an_owner_shows_the_grants_of_its_seats(other: Node) -> None:
    """It has a seat itself, and so a vote of its own; one more makes a majority of three."""
    owner, third = Node(11), Node(3)
    claim = Path(None, (), (owned(),))
    for node in (other, third):
        node.records[7] = record()
    elect(owner, [])
    assert other.takes(11, owner.out(claim)) is None
    elect(owner, [Node(12)])
    assert other.takes(11, owner.out(claim)) == claim
    assert third.takes(OTHER, other.out(claim)) == claim


def test_who_has_no_seat_needs_a_majority_of_others(other: Node, insider: Node) -> None:
    other.records[7] = record()
    claim = Path(None, (), (owned(by=INSIDER),))
    elect(insider, [Node(12)])
    assert other.takes(INSIDER, insider.out(claim)) is None
    elect(insider, [Node(12), Node(13)])
    assert other.takes(INSIDER, insider.out(claim)) == claim


def test_grants_are_good_for_their_term_and_grantee_alone(other: Node, insider: Node) -> None:
    other.records[7] = record()
    owner = Node(11)
    elect(owner, [Node(12), Node(13)])
    sealed = owner.out(Path(None, (), (owned(),)))
    assert isinstance(sealed, Attested)
    for forged in (owned(by=INSIDER), owned(term=4), owned()._replace(electorate=Order(1, 1, 6))):
        body = Path(None, (), (forged,))
        assert other.takes(INSIDER, dataclasses.replace(sealed, body=body)) is None
    assert other.unproven == 3


def test_strangers_votes_do_not_count(other: Node, insider: Node) -> None:
    other.records[7] = record()
    elect(insider, [Node(90), Node(91), Node(92)])
    assert other.takes(INSIDER, insider.out(Path(None, (), (owned(by=INSIDER),)))) is None


def test_owners_of_cells_that_do_not_concern_us_are_left_out(other: Node, insider: Node) -> None:
    assert other.takes(INSIDER, insider.out(Path(None, (), (owned(),)))) is None
    assert other.unproven == 0
