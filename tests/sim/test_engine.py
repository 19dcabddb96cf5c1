"""The engine by itself: order, timers, crashes, disk, network, coordinator."""

from __future__ import annotations

from typing import Any

import pytest
from toy_machine import ToyAck, ToyPeer, ToyPing

from fabric.coordination.interface import (
    Campaign,
    Chair,
    Commit,
    CommitRefused,
    Committed,
    Load,
    Loaded,
    Lost,
    Put,
    Resign,
)
from fabric.machine import (
    Contact,
    Coordinated,
    Event,
    Machine,
    Persisted,
    Received,
    Sink,
    Woken,
    Write,
)
from sim.coordinator import VirtualCoordinator
from sim.engine import EPOCH_US, TICK_US, Engine, Node
from sim.network import Network, Partition, latency_table


class Recorder(Machine):
    """A machine that notes what it is given and does what the test says."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Event]] = []
        self.then: Any = lambda event, now, out: None

    def start(self, now: int, out: Sink) -> None:
        self.then(None, now, out)

    def handle(self, event: Event, now: int, out: Sink) -> None:
        self.seen.append((now - EPOCH_US, event))
        self.then(event, now, out)

    def times(self, kind: type) -> list[int]:
        return [at for at, event in self.seen if isinstance(event, kind)]


def pair(**network: int) -> tuple[Engine, Node, Node, Recorder, Recorder]:
    engine = Engine(1, Network(**network))
    nodes, machines = [], []
    for i in (1, 2):
        node = engine.add_node(Contact(i, f"sim://{i}"))
        machine = Recorder()
        node.start(lambda machine=machine: machine)
        nodes.append(node)
        machines.append(machine)
    return engine, nodes[0], nodes[1], machines[0], machines[1]


def test_what_a_machine_sends_to_itself_knows_no_network() -> None:
    engine = Engine(1, Network(loss_ppm=1_000_000), fidelity=True)
    node = engine.add_node(Contact(1, "sim://1"))
    machine = Recorder()
    node.start(lambda: machine)
    message = ToyAck(1, "", ())
    engine.at(1_000, lambda: node.send(node.contact, message))
    engine.run(10_000)
    [(at, event)] = machine.seen
    assert at == 1_000 + TICK_US
    assert isinstance(event, Received)
    assert event.message == message
    assert engine.fidelity is not None
    assert engine.fidelity.sent[ToyAck] == 1
    assert engine.fidelity.bytes == 0


def test_actions_run_in_time_order_and_ties_in_the_order_put_in() -> None:
    engine = Engine(1)
    order: list[str] = []
    engine.at(5_000, lambda: order.append("b1"))
    engine.at(1_000, lambda: order.append("a"))
    engine.at(5_000, lambda: order.append("b2"))
    engine.at(5_000 - TICK_US + 1, lambda: order.append("b3"))
    engine.run(4_999)
    assert order == ["a"]
    engine.run(5_000)
    assert order == ["a", "b1", "b2", "b3"]
    assert engine.now == 5_000


def test_what_is_put_in_for_the_past_or_present_comes_one_tick_later() -> None:
    engine = Engine(1)
    at: list[int] = []
    engine.at(1_000, lambda: engine.at(0, lambda: at.append(engine.now)))
    engine.run(10_000)
    assert at == [1_000 + TICK_US]


def test_the_earliest_wish_is_the_one_that_fires() -> None:
    engine, a, _, machine, _ = pair()
    now = a.now
    a.wake(now + 9_000)
    a.wake(now + 5_000)
    a.wake(now + 7_000)
    engine.run(20_000)
    assert machine.times(Woken) == [5_000]


def test_a_machine_that_rearms_is_woken_again_and_once() -> None:
    engine, a, _, machine, _ = pair()
    machine.then = lambda event, now, out: out.wake(EPOCH_US + 9_000)
    a.wake(a.now + 9_000)
    a.wake(a.now + 5_000)
    engine.run(9_000)
    assert machine.times(Woken) == [5_000, 9_000]


def test_wake_is_never_early_and_less_than_a_tick_late() -> None:
    engine = Engine(1)
    node = engine.add_node(Contact(1, "sim://1"), skew_us=123)
    machine = Recorder()
    node.start(lambda: machine)
    wish = node.now + 10_007
    node.wake(wish)
    engine.run(20_000)
    (woken,) = machine.times(Woken)
    assert wish <= woken + EPOCH_US < wish + TICK_US


def test_messages_take_between_one_tick_and_the_tail() -> None:
    engine, a, b, _, machine = pair()
    for i in range(2_000):
        a.send(b.contact, ToyPing(i, a.contact, ()))
    engine.run(1_000_000)
    times = machine.times(Received)
    assert len(times) == 2_000
    assert min(times) >= TICK_US
    assert 2_000 < max(times) <= 20_000  # the tail was met, and is bounded
    assert sorted(times)[1_000] <= 1_500


def test_a_crash_loses_what_is_in_flight_and_a_restart_begins_anew() -> None:
    engine, a, b, _, machine = pair()
    a.send(b.contact, ToyPing(1, a.contact, ()))
    b.wake(b.now + 3_000)
    b.crash()
    again = Recorder()
    b.start(lambda: again)
    a.send(b.contact, ToyPing(2, a.contact, ()))
    engine.run(100_000)
    assert machine.seen == []
    assert [event.message.round for _, event in again.seen if isinstance(event, Received)] == [2]
    assert again.times(Woken) == []


def test_messages_to_the_dead_are_counted() -> None:
    engine, a, b, _, _ = pair()
    b.crash()
    a.send(b.contact, ToyPing(1, a.contact, ()))
    a.send(Contact(0, "sim://nobody"), ToyPing(1, a.contact, ()))
    assert engine.undeliverable == 2


def test_only_addresses_count_when_sending() -> None:
    engine, a, b, _, machine = pair()
    a.send(Contact(0, b.address), ToyPing(1, a.contact, ()))
    engine.run(100_000)
    assert len(machine.times(Received)) == 1


def test_partitions_cut_both_ways_or_one() -> None:
    engine, a, b, at_a, at_b = pair()
    heal = engine.network.cut(Partition(frozenset([a.index]), one_way=True))
    a.send(b.contact, ToyAck(1, "", ()))
    b.send(a.contact, ToyAck(2, "", ()))
    engine.run(100_000)
    assert (len(at_a.seen), len(at_b.seen)) == (1, 0)
    heal()
    cut = engine.network.cut(Partition(frozenset([b.index])))
    a.send(b.contact, ToyAck(3, "", ()))
    b.send(a.contact, ToyAck(4, "", ()))
    engine.run(200_000)
    assert (len(at_a.seen), len(at_b.seen)) == (1, 0)
    cut()
    a.send(b.contact, ToyAck(5, "", ()))
    engine.run(300_000)
    assert len(at_b.seen) == 1
    assert not engine.network.rough


def test_loss_and_duplicates_come_at_their_rate() -> None:
    engine, a, b, _, machine = pair(loss_ppm=100_000, duplicate_ppm=200_000)
    for i in range(10_000):
        a.send(b.contact, ToyAck(i, "", ()))
    engine.run(1_000_000)
    assert 800 < engine.lost < 1_200
    assert 1_600 < engine.network.duplicated < 2_000
    assert len(machine.seen) == 10_000 - engine.lost + engine.network.duplicated


def test_latency_table_is_ordered_and_bounded() -> None:
    table = latency_table(200, 2_000, 20_000, 250)
    assert table == sorted(table)
    assert table[0] == 1
    assert table[-1] == 80


# --- disk -----------------------------------------------------------------------------------------


def test_a_promise_is_sent_only_when_it_is_durable() -> None:
    engine, a, b, _, machine = pair()
    a.promise((Write(b"k", b"v"),), b.contact, ToyAck(1, "", ()))
    assert a.disk.records == {}
    while not machine.seen:
        engine.run(engine.now + TICK_US)
        assert not machine.seen or a.disk.records == {b"k": b"v"}
    assert machine.times(Received)[0] >= 500 + TICK_US


def test_writes_keep_their_order_and_share_commits() -> None:
    engine, a, _, machine, _ = pair()
    for i in range(10):
        a.persist((Write(b"k", b"%d" % i),), i)
    engine.run(100_000)
    tokens = [event.token for _, event in machine.seen if isinstance(event, Persisted)]
    assert tokens == list(range(10))
    assert a.disk.commits == 2  # the first alone, the nine that came meanwhile together
    assert a.disk.stored() == [(b"k", b"9")]


def test_deleting_a_record() -> None:
    engine, a, _, _, _ = pair()
    a.persist((Write(b"k", b"v"), Write(b"l", b"v"), Write(b"k", None)), 1)
    engine.run(100_000)
    assert a.disk.stored() == [(b"l", b"v")]


def test_a_crash_loses_what_waits_and_its_promises() -> None:
    kept = 0
    for seed in range(40):
        engine = Engine(seed)
        a = engine.add_node(Contact(1, "sim://1"))
        b = engine.add_node(Contact(2, "sim://2"))
        machine = Recorder()
        a.start(Recorder)
        b.start(lambda machine=machine: machine)
        a.promise((Write(b"first", b"1"), Write(b"both", b"1")), b.contact, ToyAck(1, "", ()))
        a.promise((Write(b"second", b"1"),), b.contact, ToyAck(2, "", ()))
        a.crash()
        engine.run(100_000)
        assert machine.seen == []
        assert b"second" not in a.disk.records
        assert (b"first" in a.disk.records) == (b"both" in a.disk.records)
        kept += b"first" in a.disk.records
    assert 8 < kept < 32  # the commit under way survives sometimes


# --- machines that raise --------------------------------------------------------------------------


def test_a_machine_that_raises_is_reported_and_the_others_go_on() -> None:
    engine, a, b, at_a, at_b = pair()
    found: list[tuple[str, str, str]] = []
    engine.on_violation = lambda name, nodes, detail: found.append((name, nodes[0].address, detail))

    def fail(event: Event, now: int, out: Sink) -> None:
        raise KeyError("gone")

    at_a.then = fail
    a.wake(a.now + 1_000)
    b.wake(b.now + 1_000)
    engine.run(10_000)
    assert found[0][:2] == ("machine-raised", "sim://1")
    assert "KeyError on Woken" in found[0][2]
    assert a.alive
    assert len(at_b.seen) == 1


def test_replies_reach_the_caller_in_a_later_tick() -> None:
    engine = Engine(1)
    contact = Contact(1, "sim://1")
    node = engine.add_node(contact)
    node.start(lambda: ToyPeer(contact, [contact], engine.streams.stream("toy")))
    replies: list[Any] = []
    engine.call(node, ToyPing(7, contact, ()), replies.append)
    assert replies == []
    engine.run(10_000)
    assert replies == [ToyAck(7, "told", ())]
    assert node.disk.stored() == [(b"7", b"1")]


# --- coordinator ----------------------------------------------------------------------------------


def coordinator() -> tuple[Engine, VirtualCoordinator]:
    engine = Engine(1)
    return engine, VirtualCoordinator(engine)


def chair(held: VirtualCoordinator, node: int, lease_us: int = 1_000_000) -> Chair:
    answer = held.carry_out(Campaign(node, lease_us))
    assert isinstance(answer, Chair)
    return answer


def test_the_chair_has_one_holder_and_each_holder_a_higher_epoch() -> None:
    engine, it = coordinator()
    first = chair(it, 7)
    assert first.held
    assert chair(it, 8) == first._replace(held=False)
    engine.run(900_000)
    assert chair(it, 7).epoch == first.epoch  # renewed, not taken anew
    engine.run(1_800_000)
    assert not chair(it, 8).held
    engine.run(2_000_000)
    second = chair(it, 8)
    assert second.held
    assert second.epoch > first.epoch
    assert it.chairman == 8
    it.carry_out(Resign(first.epoch))  # not its chair any more
    assert it.chairman == 8
    it.carry_out(Resign(second.epoch))
    assert it.chairman == 0


def test_commits_check_the_lease_and_all_versions() -> None:
    engine, it = coordinator()
    epoch = chair(it, 7).epoch
    assert it.carry_out(Commit(epoch, (Put("a", 0, b"1"), Put("b", 0, b"1")))) == Committed((1, 1))
    refused = it.carry_out(Commit(epoch, (Put("a", 1, b"2"), Put("b", 0, b"2"))))
    assert refused == CommitRefused("version")
    loaded = it.carry_out(Load())
    assert isinstance(loaded, Loaded)
    assert [(r.path, r.version, r.value) for r in loaded.records] == [
        ("a", 1, b"1"),
        ("b", 1, b"1"),
    ]
    assert it.carry_out(Commit(epoch, (Put("a", 1, b"2"), Put("b", 1, None)))) == Committed((2, 0))
    engine.run(1_000_000)
    assert it.carry_out(Commit(epoch, (Put("a", 2, b"3"),))) == CommitRefused("lease")
    chair(it, 8)
    assert it.carry_out(Commit(epoch, (Put("a", 2, b"3"),))) == CommitRefused("lease")


def test_an_outage_answers_lost_and_does_nothing_a_lost_answer_does_it() -> None:
    engine, it = coordinator()
    engine.coordinator = it
    node = engine.add_node(Contact(7, "sim://7"))
    machine = Recorder()
    node.start(lambda: machine)
    it.outages = 1
    node.coordinate(Campaign(7, 1_000_000), 1)
    engine.run(3_000_000)
    assert it.chairman == 0
    it.outages = 0
    it.lose_answers = 1
    node.coordinate(Campaign(7, 10_000_000), 2)
    node.coordinate(Load(), 3)
    engine.run(6_000_000)
    assert it.chairman == 7
    answers = {
        event.token: type(event.answer)
        for _, event in machine.seen
        if isinstance(event, Coordinated)
    }
    assert answers == {1: Lost, 2: Lost, 3: Loaded} or answers == {1: Lost, 2: Chair, 3: Lost}


@pytest.mark.parametrize("skew", [-50_000, 0, 50_000])
def test_clocks_differ_by_a_constant(skew: int) -> None:
    engine = Engine(1)
    node = engine.add_node(Contact(1, "sim://1"), skew_us=skew)
    machine = Recorder()
    node.start(lambda: machine)
    node.wake(node.now + 100_000)
    engine.run(1_000_000)
    assert machine.times(Woken) == [100_000 + skew]
    assert engine.now == 1_000_000
