"""Every checker bites: a healthy fabric is spoiled by hand, and the right violation is noted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from agent.records import Reservation
from fabric.errors import UnknownReservation
from fabric.limits import RESERVATION_LIFETIME_US
from fabric.peer.notices import MemberNotice
from fabric.units import SECOND
from fabric.wire.gossip import DEAD
from fabric.wire.tree import Owner
from sim.inspect import books_of, cells_of, paths_of
from sim.run import Run
from sim.scenario import Scenario
from sim.workload import CONFIRMED


@pytest.fixture
def healthy() -> Run:
    """Return ten hosts that have formed, hold VMs, and violate nothing."""
    it = Run(Scenario(hosts=10, duration_s=100, place_rate=5, leaf_min=3, leaf_max=6))
    world = it.world
    world.begin()
    it.checkers.start()
    it.workload.start()
    world.engine.run(20 * SECOND)
    it.workload.stopped = True
    world.engine.run(21 * SECOND)
    it.checkers.finish()
    assert world.violations == []
    return it


def found(it: Run) -> list[str]:
    return [violation.invariant for violation in it.world.violations]


def reservation(it: Run, host: int, **changes: object) -> Reservation:
    """Slip a reservation into a host's rows, past its books' own arithmetic."""
    row = Reservation(7, "forged", 0, "vm", 1, 64, 0, "", 0)
    row = dataclasses.replace(row, **changes)  # type: ignore[arg-type]
    books = books_of(it.world.hosts[host])
    books.reservations[row.reservation_id] = row
    books.cpu_used += row.cpu
    books.memory_used_mb += row.memory_mb
    return row


def test_an_overcommitted_host(healthy: Run) -> None:
    reservation(healthy, 3, cpu=1000, key="p0")
    healthy.checkers.audit()
    assert "overcommitted-host" in found(healthy)
    assert healthy.world.violations[0].nodes == ("host-3",)
    assert healthy.world.violations[0].at_s == 21


def test_books_that_do_not_add_up(healthy: Run) -> None:
    books_of(healthy.world.hosts[2]).cpu_used -= 1
    healthy.checkers.audit()
    assert found(healthy) == ["books-do-not-add-up"]


def test_a_reservation_that_should_have_expired(healthy: Run) -> None:
    node = healthy.world.hosts[1]
    reservation(healthy, 1, expires_at=node.now - 6 * SECOND)
    healthy.checkers.audit()
    assert found(healthy) == ["leaked-reservation"]


def test_a_confirmed_reservation_of_nobody(healthy: Run) -> None:
    reservation(healthy, 1)
    healthy.checkers.audit()
    assert found(healthy) == ["leaked-reservation"]


def confirmed_key(it: Run) -> tuple[str, int]:
    """Return a placement that is confirmed, and the number of its host."""
    placing = next(p for p in it.workload.open.values() if p.state == CONFIRMED)
    assert placing.placed is not None
    node = it.world.engine.by_id[placing.placed.host.node_id]
    return placing.key, node.role.host


def test_one_key_confirmed_twice(healthy: Run) -> None:
    key, host = confirmed_key(healthy)
    reservation(healthy, (host + 1) % 10, key=key)
    healthy.checkers.audit()
    assert found(healthy) == ["doubly-confirmed"]
    assert set(healthy.world.violations[0].nodes) == {f"host-{host}", f"host-{(host + 1) % 10}"}


def test_a_confirmed_reservation_that_is_lost(healthy: Run) -> None:
    key, host = confirmed_key(healthy)
    books = books_of(healthy.world.hosts[host])
    (row,) = [r for r in books.reservations.values() if r.key == key]
    del books.reservations[row.reservation_id]
    books.cpu_used -= row.cpu
    books.memory_used_mb -= row.memory_mb
    healthy.checkers.audit()
    assert found(healthy) == ["lost-reservation"]


def look_soon(it: Run, spoil: Callable[[], None]) -> None:
    it.world.engine.at(int(21.1 * SECOND), spoil)
    it.world.engine.run(23 * SECOND)


def test_two_owners_of_one_cell_and_term(healthy: Run) -> None:
    def spoil() -> None:
        paths = paths_of(healthy.world.hosts[4])
        cell, owner = next(iter(paths.owners.items()))
        other = next(n for n in healthy.world.hosts if n.node_id != owner.contact.node_id)
        paths.owners[cell] = Owner(cell, owner.electorate, owner.term, other.contact)
        paths.changes += 1

    look_soon(healthy, spoil)
    assert "two-owners" in found(healthy)


def test_a_peer_that_goes_back_to_an_older_record(healthy: Run) -> None:
    def spoil() -> None:
        paths = paths_of(healthy.world.hosts[4])
        record = paths.records[paths.leaf]
        order = record.order._replace(version=record.order.version - 1)
        paths.records[paths.leaf] = dataclasses.replace(record, order=order)
        paths.changes += 1

    look_soon(healthy, spoil)
    assert found(healthy) == ["order-fell"]


def test_a_record_that_nobody_wrote(healthy: Run) -> None:
    def spoil() -> None:
        paths = paths_of(healthy.world.hosts[4])
        record = paths.records[paths.leaf]
        order = record.order._replace(version=record.order.version + 1000)
        paths.records[paths.leaf] = dataclasses.replace(record, order=order)
        paths.changes += 1

    look_soon(healthy, spoil)
    assert "unwritten-record" in found(healthy)


def test_old_news_of_a_member(healthy: Run) -> None:
    def spoil() -> None:
        gossip = cells_of(healthy.world.hosts[4]).leaf_gossip
        assert gossip is not None
        member = next(m for m in gossip.members.values() if m.sworn)
        member.news = dataclasses.replace(member.news, incarnation=1)

    look_soon(healthy, spoil)
    assert found(healthy) == ["status-fell"]


def test_a_verdict_on_one_word_about_a_healthy_member(healthy: Run) -> None:
    def spoil() -> None:
        judge = healthy.world.hosts[4]
        gossip = cells_of(judge).leaf_gossip
        assert gossip is not None
        member = next(m for m in gossip.members.values() if not m.observer)
        news = member.news
        notice = MemberNotice(
            gossip.cell, member.key, DEAD, news.contact, news.incarnation, (judge.node_id,)
        )
        healthy.checkers.verdicts.notice(judge, notice)

    look_soon(healthy, spoil)
    assert found(healthy) == ["cheap-verdict", "healthy-failed"]


def test_a_promise_that_its_host_forgot(healthy: Run) -> None:
    placing = next(p for p in healthy.workload.open.values() if p.state == CONFIRMED)
    placing.changed_us = healthy.world.engine.now
    healthy.checkers.placement.unconfirmed(placing, UnknownReservation("no such reservation"))
    assert found(healthy) == ["lost-promise"]


def test_room_that_a_second_host_keeps(healthy: Run) -> None:
    placing = next(p for p in healthy.workload.open.values() if p.state == CONFIRMED)
    placing.changed_us = 0
    assert placing.placed is not None
    other = next(n for n in healthy.world.hosts if n.node_id != placing.placed.host.node_id)
    soon = other.now + RESERVATION_LIFETIME_US - 16 * SECOND
    reservation(healthy, other.role.host, key=placing.key, expires_at=soon)
    healthy.checkers.audit()
    assert found(healthy) == ["stray-reservation"]


def test_a_written_tree_that_is_none(healthy: Run) -> None:
    convergence = healthy.checkers.convergence
    assert convergence.tree_problems() == []
    leaf = next(r for r in convergence.records.values() if r.level == 0)
    convergence.records[99] = dataclasses.replace(leaf, cell=99, seats=())
    problems = " | ".join(convergence.tree_problems())
    for words in ("is in cells", "does not list its child 99", "cell 99 has no seats"):
        assert words in problems


def test_peers_that_never_agree() -> None:
    it = Run(Scenario(hosts=6, duration_s=90))
    it.world.begin()
    it.checkers.start()
    it.world.engine.run(20 * SECOND)
    deaf = it.world.hosts[0]
    it.world.engine.by_address[deaf.address] = it.world.engine.world  # nothing reaches it
    it.world.engine.run(90 * SECOND)
    it.checkers.finish()
    assert "not-converged" in found(it)
