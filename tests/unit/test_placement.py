"""Placement through a whole tree of routers: its conversations, retries, refusals and bounds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from agent import simulated_host
from fabric.errors import (
    BadInput,
    Conflict,
    DeadlineExceeded,
    OwnerUnknown,
    Unavailable,
    UnknownReservation,
)
from fabric.ids import format_id
from fabric.limits import ASSUMED_US, RESERVATION_LIFETIME_US
from fabric.machine import Contact, ListSink
from fabric.peer.calls import Caller
from fabric.placement import policy, request
from fabric.placement.explain import describe, refused_error
from fabric.placement.request import Constraint, Placed, PlacementRequest
from fabric.placement.router import Router
from fabric.stream import Stream
from fabric.units import MS, SECOND
from fabric.wire.common import Done, Failure, Response
from fabric.wire.host import CreateVm, Drain, ListVms, VmInfo, VmPage
from fabric.wire.placement import (
    CellRefused,
    ConfirmAsk,
    HostCall,
    HostRefused,
    Place,
    PlaceAsk,
    Refusal,
    ReleaseAsk,
    Reserve,
    Reserved,
)
from tests.unit.village import MEMBERS, Village, contact


def on_host(node: int) -> tuple[Constraint, ...]:
    return (Constraint("host", (format_id(node),)),)


# --- conversations --------------------------------------------------------------------------------


def test_one_placement_from_ask_to_confirm() -> None:
    village = Village(h131=simulated_host(cpu=8, memory_mb=8192, zone="far"))
    placed = village.place(102, "k", constraints=(Constraint("zone", ("far",)),))
    assert placed.host == contact(131)
    assert village.transcript == [
        "102 -> 100: Place",  # the entry asks the owner of the root
        "100 -> 120: Place",  # which asks the owner of inner cell 3
        "120 -> 130: Place",  # which asks the owner of leaf cell 7
        "130 -> 131: Reserve",
        "131 -> 102: Reserved",  # success goes straight back
    ]
    village.transcript.clear()
    assert village.do(102, ConfirmAsk(placed, 1000)) == Done()
    assert village.transcript == ["102 -> 131: HostCall", "131 -> 102: HostAnswer"]


def test_a_refused_reserve_goes_to_the_next_with_the_true_state() -> None:
    village = Village()
    village.freeze()  # the tables go on saying that all hosts are empty
    for node in MEMBERS[4]:
        assert village.place(100, f"fill{node}", cpu=8, constraints=on_host(node))
    for cell in (5, 6, 7):
        for node in MEMBERS[cell][:2]:
            assert village.place(100, f"fill{node}", cpu=8, constraints=on_host(node))
    full = sorted(node for nodes in village.held().values() for node in nodes)
    assert full == [100, 101, 102, 110, 111, 120, 121, 130, 131]
    for i in range(3):
        assert isinstance(village.place(101, f"k{i}", cpu=8), Placed)
    refusal = village.place(101, "k3", cpu=8)
    assert refusal == Refusal("k3", refusal.explanation)
    assert dict(refusal.explanation.counts) == {"cpu": 12}
    assert refusal.explanation.hosts == 12


def test_the_vm_is_made_where_the_room_was_reserved() -> None:
    village = Village()
    placed = village.place(111, "k", disk_mb=10)
    create = CreateVm("vm-k", "k", placed.attempt, placed.reservation_id)
    made = village.do(placed.host.node_id, create)
    assert isinstance(made, VmInfo)
    assert (made.state, made.datastore) == ("stopped", "local")
    assert village.do(placed.host.node_id, ListVms()) == VmPage((made,), False)
    again = village.place(111, "k", disk_mb=10)
    assert again == placed


def test_a_remote_caller_is_answered_by_response() -> None:
    village = Village()
    caller = Caller(77, Contact(9, "inproc://client"))
    router, sink = village.routers[112], village.sinks[112]
    router.ask(caller, Drain(True), village.now, sink)
    (output,) = sink.take()
    assert output.kind == "promise"
    writes, to, response = output.args
    assert (len(writes), to, response) == (1, caller.reply_to, Response(77, Done()))


def test_a_lone_peer_is_entry_owner_and_host() -> None:
    class Alone:
        me = contact(1)

        def path(self) -> tuple[int, ...]:
            return (5,)

        def owner_of(self, cell: int) -> Contact:
            return self.me

        def owns(self, cell: int, now: int) -> bool:
            return cell == 5

        def children(self, cell: int) -> list[Any]:
            from fabric.placement.tables import Child

            return [Child(1, self.me, True, True, None, 0)]

    from agent.books import Books

    router = Router(Alone(), Books(simulated_host(), contact(1)), Stream(1))
    sink = ListSink()
    router.ask(Caller(3), PlaceAsk(PlacementRequest("k", "vm", 1, 1), 1000), 1_000_000, sink)
    replies = []
    while outputs := [o for o in sink.take() if o.kind != "wake"]:
        for kind, args in outputs:
            if kind == "reply":
                replies.append(args)
            else:
                router.handle_message(1, args[-1], 1_000_000, sink)
    assert replies[0][0] == 3
    assert replies[0][1].host == contact(1)


# --- one key, one placement -----------------------------------------------------------------------


def test_the_same_key_asked_again_gets_the_same_answer() -> None:
    village = Village()
    ask = PlaceAsk(PlacementRequest("k", "vm", 1, 1024), 10_000)
    first, second = village.ask(102, ask), village.ask(102, ask)
    village.run()
    assert village.replies[first] == village.replies[second]
    assert village.place(102, "k") is not None
    other = village.ask(102, PlaceAsk(PlacementRequest("k", "other", 1, 1024), 10_000))
    assert isinstance(village.replies[other], Conflict)
    assert list(village.held()) == ["k"]
    assert len(village.held()["k"]) == 1


def test_an_expired_or_released_placement_is_made_anew() -> None:
    village = Village()
    first = village.place(102, "k")
    assert village.do(102, ReleaseAsk(first, 1000)) == Done()
    second = village.place(102, "k")
    assert second.attempt > first.attempt
    village.pass_time(RESERVATION_LIFETIME_US)
    assert isinstance(village.do(102, ConfirmAsk(second, 1000)), UnknownReservation)
    third = village.place(102, "k")
    assert isinstance(third, Placed)
    assert village.held() == {"k": [third.host.node_id]}


def test_a_lost_answer_is_answered_again_and_nothing_is_held_twice() -> None:
    village = Village()
    lost: list[Any] = []

    def drop(sender: int, to: Contact, message: Any) -> bool:
        if isinstance(message, Reserved) and not lost:
            lost.append(message)
            return True
        return False

    village.drop = drop
    call = village.ask(102, PlaceAsk(PlacementRequest("k", "vm", 1, 1024), 10_000))
    village.run()
    assert call not in village.replies
    village.pass_time(1 * SECOND)
    placed = village.replies[call]
    assert (placed.host, placed.reservation_id) == (lost[0].host, lost[0].reservation_id)
    assert village.held() == {"k": [placed.host.node_id]}


def test_a_slow_success_is_given_back_when_another_host_won() -> None:
    village = Village()
    slow: list[Any] = []

    def drop(sender: int, to: Contact, message: Any) -> bool:
        if isinstance(message, Reserved) and (not slow or sender == slow[0].host.node_id):
            slow.append(message)
            return True
        return False

    village.drop = drop
    call = village.ask(102, PlaceAsk(PlacementRequest("k", "vm", 1, 1024), 10_000))
    village.run()
    village.pass_time(2 * SECOND)
    placed = village.replies[call]
    assert placed.host != slow[0].host
    assert len(village.held()["k"]) == 2
    village.mail.append((slow[0].host.node_id, contact(102), slow[0]))
    village.drop = lambda sender, to, message: False
    village.run()
    assert village.held() == {"k": [placed.host.node_id]}


def test_the_last_room_held_for_a_key_is_found_again_for_it() -> None:
    village = Village(simulated_host(cpu=4), h131=simulated_host(cpu=99))
    lost: list[Any] = []

    def drop(sender: int, to: Contact, message: Any) -> bool:
        if isinstance(message, Reserved) and len(lost) < 2:
            lost.append(message)
            return True
        return False

    village.drop = drop
    call = village.ask(102, PlaceAsk(PlacementRequest("k", "vm", 99, 1), 10_000))
    village.run()
    # from now on all summaries say, rightly, that nobody has room for 99 CPUs
    village.pass_time(9 * SECOND)
    assert village.replies[call].reservation_id == lost[0].reservation_id
    assert len(lost) == 2


def test_a_refusal_after_a_retry_waits_for_a_success_under_way() -> None:
    village = Village(simulated_host(cpu=4), h131=simulated_host(cpu=99))
    slow: list[Any] = []
    village.drop = lambda s, t, message: bool(
        isinstance(message, Reserved) and not slow and not slow.append(message)
    )
    call = village.ask(102, PlaceAsk(PlacementRequest("k", "vm", 99, 1), 10_000))
    village.run()
    for owner in (100, 120, 130):  # killed: they know nothing of the job any more
        village.start(owner)
    village.pass_time(1500 * MS)
    assert village.transcript[-1] == "100 -> 102: CellRefused"
    assert call not in village.replies
    village.mail.append((131, contact(102), slow[0]))
    village.run()
    assert village.replies[call].host == contact(131)


def test_a_doubled_success_never_releases_what_was_confirmed() -> None:
    village = Village()
    seen: list[Any] = []
    village.drop = lambda s, t, m: bool(isinstance(m, Reserved) and seen.append(m))
    placed = village.place(102, "k")
    village.do(102, ConfirmAsk(placed, 1000))
    village.start(102)  # the entry restarts and knows nothing
    village.mail.append((seen[0].host.node_id, contact(102), seen[0]))
    village.run()
    assert village.held()["k"] == [placed.host.node_id]


@pytest.mark.parametrize("lost_class", [Place, Reserve, Reserved, HostRefused, CellRefused])
def test_every_kind_of_message_may_be_lost(lost_class: type[Any]) -> None:
    village = Village(simulated_host(cpu=4, memory_mb=8192))
    luck = Stream(8)
    village.drop = lambda sender, to, message: (
        isinstance(message, lost_class) and luck.chance(300_000)
    )
    calls = []
    for i in range(9):  # of twelve that fit: a lost answer may hold a second host for a while
        ask = PlaceAsk(PlacementRequest(f"k{i}", f"vm{i}", 3, 1024), 20_000)
        calls.append(village.ask(MEMBERS[7][i % 3], ask))
        village.run()
        village.pass_time(300 * MS)
    village.pass_time(20 * SECOND)
    placed = [village.replies[c] for c in calls]
    assert [p for p in placed if not isinstance(p, Placed)] == []
    for node, p in zip(MEMBERS[7] * 3, placed, strict=True):
        assert village.do(node, ConfirmAsk(p, 1000)) == Done()
    village.pass_time(RESERVATION_LIFETIME_US)
    assert village.held() == {p.key: [p.host.node_id] for p in placed}
    assert not any(len(router.entry) for router in village.routers.values())


# --- refusals and what is none --------------------------------------------------------------------


def test_a_refusal_is_explained_and_adds_up_to_all_hosts() -> None:
    village = Village(
        simulated_host(cpu=8, memory_mb=8192, zone="a"),
        h100=simulated_host(cpu=8, memory_mb=65536, zone="b"),
        h110=simulated_host(cpu=64, memory_mb=8192, zone="a"),
        h112=simulated_host(cpu=64, memory_mb=65536, zone="a", datastores={"tiny": 5}),
    )
    assert village.do(130, Drain(True)) == Done()
    refusal = village.place(
        102, "k", cpu=16, memory_mb=10_000, disk_mb=50, constraints=(Constraint("zone", ("a",)),)
    )
    assert dict(refusal.explanation.counts) == {
        "zone=a": 1,
        "draining": 1,
        "memory": 1,
        "disk": 1,
        "cpu": 8,
    }
    assert refusal.explanation.hosts == 12
    error = refused_error(refusal)
    assert error.message == describe(refusal.explanation)
    assert "8 by cpu" in error.message


def test_constraints_hold_jointly_though_each_could_be_met_somewhere() -> None:
    village = Village(
        simulated_host(datastores={"d1": 100}, networks=("n1",)),
        **{f"h{n}": simulated_host(datastores={"d2": 100}, networks=("n2",)) for n in MEMBERS[5]},
    )
    both = (Constraint("datastore", ("d2",)), Constraint("network", ("n1",)))
    refusal = village.place(100, "k", constraints=both)
    assert dict(refusal.explanation.counts) == {"network=n1": 3, "datastore=d2": 9}
    one = (Constraint("datastore", ("d2",)), Constraint("network", ("n1",), True))
    assert village.place(100, "k2", constraints=one).host.node_id in MEMBERS[5]


def test_nothing_known_means_that_everybody_is_asked() -> None:
    village = Village(h122=simulated_host(cpu=99))
    village.age_us = None
    assert village.place(102, "k", cpu=99).host == contact(122)
    ignorant = Village()
    ignorant.age_us = None
    refusal = ignorant.place(102, "k", cpu=99)
    assert (refusal.explanation.hosts, refusal.explanation.asked) == (12, 12)
    # what the refusals told is known now, and proves the next one
    ignorant.transcript.clear()
    assert ignorant.place(102, "k2", cpu=99).explanation.hosts == 12
    assert ignorant.transcript == ["102 -> 100: Place", "100 -> 102: CellRefused"]


def test_old_summaries_prove_nothing() -> None:
    village = Village()
    village.freeze()
    village.books[131] = type(village.books[131])(simulated_host(cpu=99), contact(131))
    village.routers[131].hosting._books = village.books[131]
    assert isinstance(village.place(102, "young", cpu=99), Refusal)
    village.pass_time(10 * SECOND)
    assert village.place(102, "old", cpu=99).host == contact(131)


def test_silence_is_unavailable_never_refused() -> None:
    village = Village(simulated_host(cpu=4), h131=simulated_host(cpu=99))
    village.drop = lambda sender, to, message: to.node_id == 131
    call = village.ask(102, PlaceAsk(PlacementRequest("k", "vm", 99, 1), 5_000))
    village.run()
    village.pass_time(5 * SECOND)
    assert isinstance(village.replies[call], DeadlineExceeded)
    # once it is known to be dead, it is no host any more
    village.drop = lambda sender, to, message: False
    village.dead.add(131)
    refusal = village.place(102, "k2", cpu=99)
    assert dict(refusal.explanation.counts) == {"cpu": 11}


def test_a_cell_without_owner_makes_the_answer_unavailable() -> None:
    village = Village(simulated_host(cpu=4), h131=simulated_host(cpu=99))
    del village.owners[7]
    call = village.ask(102, PlaceAsk(PlacementRequest("k", "vm", 99, 1), 3_000))
    village.run()
    village.pass_time(2 * SECOND)
    assert call not in village.replies
    village.owners[7] = 132
    village.pass_time(1 * SECOND)
    assert village.replies[call].host == contact(131)


def test_no_owner_at_all_is_said_after_three_seconds() -> None:
    village = Village()
    village.owners.clear()
    call = village.ask(102, PlaceAsk(PlacementRequest("k", "vm", 1, 1), 10_000))
    village.pass_time(2900 * MS)
    assert call not in village.replies
    village.pass_time(200 * MS)
    assert isinstance(village.replies[call], OwnerUnknown)
    assert not len(village.routers[102].entry)


def test_while_the_roots_owner_is_gone_lower_owners_place() -> None:
    village = Village()
    village.dead.add(100)
    call = village.ask(131, PlaceAsk(PlacementRequest("k", "vm", 1, 1), 10_000))
    village.run()
    village.pass_time(2100 * MS)
    assert village.replies[call].host.node_id in (*MEMBERS[6], *MEMBERS[7])
    # but they cannot refuse for the whole tree
    call = village.ask(131, PlaceAsk(PlacementRequest("k2", "vm2", 99, 1), 4_000))
    village.run()
    village.pass_time(4 * SECOND)
    assert isinstance(village.replies[call], Unavailable)


def test_who_is_not_owner_any_more_says_so() -> None:
    village = Village()
    place = Place(PlacementRequest("k", "vm", 1, 1), 1, contact(102), 9, contact(102), 9, 4, 1000)
    village.routers[111].handle_message(102, place, village.now, village.sinks[111])
    ((kind, (to, answer)),) = village.sinks[111].take()
    assert (kind, to, answer.code, answer.job) == ("send", contact(102), "NotOwner", 9)


# --- choosing -------------------------------------------------------------------------------------


def test_a_burst_spreads_though_summaries_stand_still() -> None:
    village = Village()
    village.freeze()
    for i in range(24):
        village.place(102, f"k{i}", cpu=2, memory_mb=2048)
    per_host = Counter(node for hosts in village.held().values() for node in hosts)
    assert len(per_host) == 12
    assert max(per_host.values()) <= 3


def test_pack_fills_one_host_before_the_next() -> None:
    village = Village()
    for i in range(16):
        village.place(102, f"k{i}", policy="pack", memory_mb=512)
        village.pass_time(ASSUMED_US)
    per_host = Counter(node for hosts in village.held().values() for node in hosts)
    assert len(per_host) <= 7  # spread would use all twelve


def test_policy_names_are_those_that_exist() -> None:
    assert set(policy.POLICIES) == set(request.POLICIES)


def test_the_draw_prefers_better_ones_and_never_leaves_the_best_few() -> None:
    stream = Stream(5)
    drawn = Counter(policy.draw([10, 900, 880, 500, 890, 0], [1] * 6, stream) for _ in range(2000))
    assert drawn[1] > drawn[4] > drawn[2] > drawn[3] > 0
    assert set(drawn) == {1, 2, 3, 4}
    equal = Counter(policy.draw([7] * 10, [1] * 10, stream) for _ in range(2000))
    assert len(equal) == 10


def test_cells_are_drawn_by_their_size_and_full_ones_only_when_nothing_else_is_left() -> None:
    stream = Stream(6)
    drawn = Counter(policy.draw([500, 500], [3, 1], stream) for _ in range(4000))
    assert 2.5 < drawn[0] / drawn[1] < 3.5
    some_full = Counter(policy.draw([policy.FULL, 10, 900], [1] * 3, stream) for _ in range(2000))
    assert set(some_full) == {1, 2}
    assert some_full[2] > 100 * some_full[1]
    assert policy.draw([policy.FULL, policy.UNKNOWN], [1, 1], stream) in (0, 1)


# --- bad input and bounds -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("cpu", {"cpu": 0}),
        ("memory_mb", {"memory_mb": 1 << 50}),
        ("policy", {"policy": "best"}),
        ("constraints.kind", {"constraints": (Constraint("planet", ("x",)),)}),
        ("constraints.values", {"constraints": (Constraint("zone", ()),)}),
        ("id", {"constraints": (Constraint("host", ("nonsense",)),)}),
    ],
)
def test_impossible_requests_are_said_at_once(field: str, bad: dict[str, Any]) -> None:
    village = Village()
    answer = village.place(102, "k", **bad)
    assert isinstance(answer, BadInput)
    assert answer.data["field"] == field
    assert not village.transcript


def test_owners_forget_what_succeeded() -> None:
    village = Village()
    for i in range(10):
        village.place(131, f"k{i}")
    assert len(village.routers[100].routing)
    village.pass_time(6 * SECOND)
    assert not any(len(router.routing) for router in village.routers.values())
    assert not any(len(router.entry) for router in village.routers.values())


def test_peers_without_agent_say_so() -> None:
    village = Village()
    router = Router(village.routers[102].tables, None, Stream(1))
    sink = ListSink()
    call = HostCall(3, contact(101), ListVms())
    router.handle_message(101, call, village.now, sink)
    ((_, (to, answer)),) = sink.take()
    assert (to, answer.job) == (contact(101), 3)
    assert isinstance(answer.body, Failure)


def test_forged_answers_are_ignored() -> None:
    village = Village()
    call = village.ask(102, PlaceAsk(PlacementRequest("k", "vm", 1, 1), 1_000))
    place = village.mail[0][2]
    forged = Reserved("k", 1, place.entry_job, 5, contact(101), 60_000_000, "")
    village.routers[102].handle_message(130, forged, village.now, village.sinks[102])
    assert call not in village.replies
    village.run()
    assert isinstance(village.replies[call], Placed)
