"""Seats and owners: who may own a cell, and for how long. Reads as a transcript of the protocol."""

from fabric.machine import Contact, ListSink
from fabric.settings import Settings
from fabric.tree.owner import ASKING, IDLE, OWNING, PRE, WAITING, Ownership
from fabric.tree.seats import MAX_TERM_STEP, Seat, seat_key
from fabric.wire.tree import CellRecord, LeaseAsk, LeaseDeny, LeaseGrant, Order, Vacant

SETTINGS = Settings()
SEATS = tuple(Contact(n, f"tcp://127.0.0.1:{n}") for n in (1, 2, 3))
A, B, C = SEATS
STRANGER = Contact(9, "tcp://127.0.0.1:9")


def record(version: int = 1, electorate: int = 1, floor: int = 0) -> CellRecord:
    order = Order(1, 1, version)
    return CellRecord(7, 0, 0, order, Order(1, 1, electorate), floor, SEATS, (), SEATS)


def ask(asker: Contact, term: int, number: int = 1, pre: bool = False, electorate: int = 1):
    return LeaseAsk(7, Order(1, 1, electorate), term, number, pre, asker, (B, C))


def test_a_new_term_is_durable_before_it_is_granted_and_renewals_cost_no_disk() -> None:
    seat = Seat(record(), SETTINGS, None, 0)
    grant, writes = seat.ask(ask(A, 1), 0)
    assert grant == LeaseGrant(7, 1, 1, False)
    assert [w.key for w in writes] == [seat_key(7)]
    grant, writes = seat.ask(ask(A, 1, number=2), 600_000)
    assert grant == LeaseGrant(7, 1, 2, False)
    assert writes == ()


def test_one_unexpired_grant_whoever_asks_and_under_whatever_term() -> None:
    seat = Seat(record(), SETTINGS, None, 0)
    seat.ask(ask(A, 1), 0)
    deny, writes = seat.ask(ask(B, 2), 1_999_999)
    assert isinstance(deny, LeaseDeny)
    assert deny.holder == A
    assert deny.wait_us == 1
    assert writes == ()
    grant, _ = seat.ask(ask(B, 2), 2_000_000)
    assert isinstance(grant, LeaseGrant)


def test_an_equal_term_of_another_asker_is_refused_even_after_it_lapsed() -> None:
    seat = Seat(record(), SETTINGS, None, 0)
    seat.ask(ask(A, 5), 0)
    deny, _ = seat.ask(ask(B, 5), 5_000_000)
    assert isinstance(deny, LeaseDeny)
    assert deny.term == 5


def test_nobody_uses_the_terms_up() -> None:
    seat = Seat(record(floor=1 << 20), SETTINGS, None, 0)
    for far in ((1 << 20) + MAX_TERM_STEP + 1, 1 << 61):
        deny, writes = seat.ask(ask(A, far), 0)
        assert isinstance(deny, LeaseDeny) and writes == ()
    grant, _ = seat.ask(ask(A, (1 << 20) + MAX_TERM_STEP), 0)
    assert isinstance(grant, LeaseGrant)


def test_after_a_restart_a_seat_grants_nothing_for_one_lease() -> None:
    seat = Seat(record(), SETTINGS, None, 0)
    _, writes = seat.ask(ask(A, 3), 0)
    again = Seat(record(), SETTINGS, writes[0].value, 10_000_000)
    deny, _ = again.ask(ask(B, 4), 11_999_999)
    assert isinstance(deny, LeaseDeny)
    assert again.term == 3
    deny, _ = again.ask(ask(B, 3), 12_000_000)
    assert isinstance(deny, LeaseDeny)  # the vote of term 3 was given to somebody
    grant, _ = again.ask(ask(B, 4), 12_000_000)
    assert isinstance(grant, LeaseGrant)


def test_unreadable_state_counts_as_a_grant_that_may_still_run() -> None:
    seat = Seat(record(), SETTINGS, b"\xff\x00", 1_000_000)
    assert isinstance(seat.ask(ask(A, 1), 2_999_999)[0], LeaseDeny)
    assert isinstance(seat.ask(ask(A, 1), 3_000_000)[0], LeaseGrant)


def test_lower_electorates_are_refused_and_a_running_grant_outlives_a_change() -> None:
    seat = Seat(record(), SETTINGS, None, 0)
    seat.ask(ask(A, 1), 0)
    seat.update(record(version=2, electorate=2, floor=1000))
    assert isinstance(seat.ask(ask(A, 1), 100)[0], LeaseDeny)
    deny, _ = seat.ask(ask(B, 1001, electorate=2), 200)
    assert isinstance(deny, LeaseDeny)
    assert deny.holder == A
    assert isinstance(seat.ask(ask(A, 1001, electorate=2), 300)[0], LeaseGrant)


def test_a_lapsed_grant_is_told_to_the_standbys_once() -> None:
    seat, out = Seat(record(), SETTINGS, None, 0), ListSink()
    seat.ask(ask(A, 1), 0)
    seat.tick(1_999_999, out)
    assert out.take() == []
    seat.tick(2_000_000, out)
    assert [(o.kind, o.args) for o in out.take()] == [
        ("send", (B, Vacant(7, Order(1, 1, 1), 1))),
        ("send", (C, Vacant(7, Order(1, 1, 1), 1))),
    ]
    seat.tick(3_000_000, out)
    assert out.take() == []


def sent(out: ListSink) -> list[tuple[int, object]]:
    return [(o.args[0].node_id, o.args[1]) for o in out.take() if o.kind == "send"]


def elect(owner: Ownership, out: ListSink, now: int) -> int:
    """Drive ``owner`` to OWNING with grants of seats 1 and 2; returns the number asked under."""
    owner.stand(0, now, out)
    owner.tick(now, out)
    for seat in (1, 2):
        owner.on_grant(seat, LeaseGrant(7, owner.term + 1, owner.number, True), now, out)
    out.take()
    for seat in (1, 2):
        owner.on_grant(seat, LeaseGrant(7, owner.term, owner.number, False), now, out)
    assert owner.state == OWNING
    out.take()
    return owner.number


def test_an_election_waits_for_its_rank_asks_first_and_then_asks_for_real() -> None:
    owner, out = Ownership(record(), A, SETTINGS), ListSink()
    owner.stand(2, 0, out)
    assert owner.state == WAITING
    owner.tick(299_999, out)
    assert sent(out) == []
    owner.tick(300_000, out)
    assert owner.state == PRE
    assert [(to, m.pre, m.term) for to, m in sent(out)] == [(s, True, 1) for s in (1, 2, 3)]
    assert not owner.on_grant(1, LeaseGrant(7, 1, 1, True), 301_000, out)
    assert not owner.on_grant(1, LeaseGrant(7, 1, 1, True), 301_000, out)  # doubled: counts once
    assert owner.state == PRE
    assert not owner.on_grant(2, LeaseGrant(7, 1, 1, True), 302_000, out)
    assert owner.state == ASKING
    assert [(to, m.pre, m.term) for to, m in sent(out)] == [(s, False, 1) for s in (1, 2, 3)]
    assert not owner.on_grant(9, LeaseGrant(7, 1, 2, False), 303_000, out)  # no seat of ours
    assert not owner.on_grant(3, LeaseGrant(7, 1, 2, False), 303_000, out)
    assert owner.on_grant(1, LeaseGrant(7, 1, 2, False), 304_000, out)
    assert owner.owns(304_000)


def test_the_owner_stops_before_its_seats_do() -> None:
    owner, out = Ownership(record(), A, SETTINGS), ListSink()
    elect(owner, out, 0)
    assert owner.lease_until < SETTINGS.lease_us
    assert owner.owns(owner.lease_until - 1)
    assert not owner.owns(owner.lease_until)
    assert owner.tick(owner.lease_until, out)
    assert owner.state == IDLE


def test_renewal_asks_a_bare_majority_and_the_others_only_when_late() -> None:
    owner, out = Ownership(record(), A, SETTINGS), ListSink()
    elect(owner, out, 0)
    owner.tick(600_000, out)
    assert [to for to, _ in sent(out)] == [1, 2]
    owner.tick(600_000 + SETTINGS.late_answer_us, out)
    assert [to for to, _ in sent(out)] == [1, 2, 3]
    owner.on_grant(1, LeaseGrant(7, 1, owner.number, False), 760_000, out)
    owner.on_grant(3, LeaseGrant(7, 1, owner.number, False), 760_000, out)
    assert owner.lease_until == 600_000 + SETTINGS.lease_us - 20_000


def test_an_owner_that_is_a_seat_renews_with_itself_first() -> None:
    owner, out = Ownership(record(), C, SETTINGS), ListSink()
    elect(owner, out, 0)
    owner.on_grant(3, LeaseGrant(7, owner.term, owner.number, False), 1_000, out)
    owner.tick(600_000, out)
    assert [to for to, _ in sent(out)] == [3, 1]  # its own vote costs no message


def test_a_new_electorate_is_won_under_a_new_term_without_a_gap() -> None:
    owner, out = Ownership(record(), A, SETTINGS), ListSink()
    elect(owner, out, 0)
    owner.update(record(version=2, electorate=2, floor=1 << 20), 500_000, out)
    asks = [m for _, m in sent(out)]
    assert {m.term for m in asks} == {(1 << 20) + 1}
    assert owner.owns(600_000)  # under the old grants
    assert owner.stamp is not None and owner.stamp.term == 1
    owner.on_grant(1, LeaseGrant(7, (1 << 20) + 1, owner.number, False), 600_000, out)
    assert owner.on_grant(2, LeaseGrant(7, (1 << 20) + 1, owner.number, False), 600_000, out)
    assert owner.stamp.term == (1 << 20) + 1


def test_a_higher_term_at_a_seat_deposes_the_owner() -> None:
    owner, out = Ownership(record(), A, SETTINGS), ListSink()
    elect(owner, out, 0)
    deny = LeaseDeny(7, 9, owner.number, Order(1, 1, 1), B, 1_000_000)
    assert not owner.on_deny(3, deny, 100_000, out)
    assert owner.state == IDLE
    assert not owner.owns(100_000)


def test_a_seat_that_is_behind_is_sent_our_record() -> None:
    owner, out = Ownership(record(version=2, electorate=2), A, SETTINGS), ListSink()
    owner.stand(0, 0, out)
    owner.tick(0, out)
    assert owner.on_deny(1, LeaseDeny(7, 0, owner.number, Order(1, 1, 1), None, 0), 10, out)


def test_a_grant_that_is_about_to_lapse_is_asked_for_once_more() -> None:
    owner, out = Ownership(record(), A, SETTINGS), ListSink()
    owner.stand(0, 0, out)
    owner.tick(0, out)
    for seat in (1, 2):
        owner.on_deny(
            seat, LeaseDeny(7, 0, owner.number, Order(1, 1, 1), STRANGER, 50_000), 1_000, out
        )
    assert owner.state == WAITING
    assert owner.due == 52_000
