"""Probing inside one cell: rounds keep step without racing, and only the probed member answers."""

from __future__ import annotations

from fabric.gossip.cell import CellGossip
from fabric.gossip.members import Member
from fabric.machine import Contact, ListSink, Sink
from fabric.settings import Settings
from fabric.stream import Stream
from fabric.wire.gossip import Ack, News, Ping, ProbeAnswer, ProbeFor

CONTACTS = [Contact(i, f"tcp://127.0.0.1:{7000 + i}") for i in range(1, 6)]


class NoHooks:
    def member_changed(self, cell: CellGossip, member: Member, now: int, out: Sink) -> None: ...

    def suspected(self, cell: CellGossip, member: Member, witness: int, out: Sink) -> None: ...

    def refuted(self, cell: CellGossip, out: Sink) -> None: ...

    def path_differs(self, cell: CellGossip, contact: Contact, now: int, out: Sink) -> None: ...

    def superseded(self, cell: CellGossip, news: News, now: int, out: Sink) -> None: ...

    def isolated(self, cell: CellGossip, now: int, out: Sink) -> None: ...

    def awoke(self, cell: CellGossip, now: int, out: Sink) -> None: ...

    def stranger(self, cell: CellGossip, contact: Contact, now: int, out: Sink) -> None: ...

    def in_touch(self, cell: CellGossip, suspect: Member, now: int, out: Sink) -> bool:
        return True


def member(index: int) -> tuple[CellGossip, ListSink]:
    """Return the gossip of the ``index``-th of five members."""
    me = CONTACTS[index]
    out = ListSink()
    cell = CellGossip(9, 0, me.node_id, me, 1 << 16, Settings(), Stream(index), NoHooks(), 0)
    cell.set_members(CONTACTS, (), 0, out)
    out.take()
    return cell, out


def pings(out: ListSink) -> list[tuple[int, Ping]]:
    sent = [o.args for o in out.take() if o.kind == "send"]
    return [(to.node_id, message) for to, message in sent if isinstance(message, Ping)]


def test_members_that_hear_each_other_in_every_round_still_probe_everybody() -> None:
    cells = [member(i) for i in range(5)]
    probed: dict[int, set[int]] = {i: set() for i in range(5)}
    now = 0
    for _ in range(8):
        for i, (cell, out) in enumerate(cells):
            now += 200_000
            cell.next_round = now
            cell.tick(now, out)
            for target, ping in pings(out):
                probed[i].add(target)
                other, answer = cells[target - 1]
                other.on_ping(CONTACTS[i].node_id, ping, now, answer)
                for sent in answer.take():
                    if sent.kind == "send":
                        cell.on_ack(target, sent.args[1], now, out)
            out.take()
    everybody = {c.node_id for c in CONTACTS}
    assert [len(probed[i]) for i in range(5)] == [4] * 5
    assert all(probed[i] == everybody - {i + 1} for i in range(5))
    rounds = [cell.round for cell, _ in cells]
    assert max(rounds) <= 9  # a round a second, not two


def test_a_member_far_behind_catches_up() -> None:
    cell, out = member(0)
    cell.on_ping(2, Ping(9, 2, 1, 50, 0, ()), 0, out)
    cell.tick(cell.next_round, out)
    assert [ping.round for _, ping in pings(out) if ping.number] == [50]


def test_another_member_at_the_dead_ones_address_does_not_answer_for_it() -> None:
    cell, out = member(0)
    cell.tick(cell.next_round, out)
    ((target, ping),) = pings(out)
    other = next(c.node_id for c in CONTACTS[1:] if c.node_id != target)
    cell.on_ack(other, Ack(9, other, ping.number, 0, ()), 0, out)
    assert cell.probe_number == ping.number
    cell.on_ack(target, Ack(9, target, ping.number, 0, ()), 0, out)
    assert cell.probe_number == 0


def test_nor_in_a_probe_on_behalf_of_others() -> None:
    cell, out = member(0)
    cell.on_probe_for(2, ProbeFor(9, 77, 3), 0, out)
    ((target, ping),) = pings(out)
    assert target == 3
    cell.on_ack(4, Ack(9, 4, ping.number, 0, ()), 0, out)
    assert not any(o.kind == "send" for o in out.take())
    cell.on_ack(3, Ack(9, 3, ping.number, 0, ()), 0, out)
    answers = [o.args for o in out.take() if o.kind == "send"]
    assert answers == [(CONTACTS[1], ProbeAnswer(9, 77))]
