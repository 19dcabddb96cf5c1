"""The chairman with a coordinator at hand: what it writes, and when it stops writing."""

from __future__ import annotations

from typing import Any

from fabric.coordination.interface import (
    Campaign,
    Commit,
    CoordinatorRequest,
    Load,
    Lost,
    Severed,
    Vacated,
)
from fabric.coordination.rules import carry_out, chair_of, create, end_chair
from fabric.errors import Conflict
from fabric.machine import Contact, ListSink
from fabric.peer import seeing
from fabric.peer.seeing import why
from fabric.settings import Settings
from fabric.tree.arrivals import JOIN_GRACE_US
from fabric.tree.chairman import HALTED, Chairman, ChairmanNotice
from fabric.units import MS, SECOND
from fabric.wire.adoption import AdoptAsk, Adopted
from fabric.wire.common import Done
from fabric.wire.gossip import ALIVE, DEAD
from fabric.wire.tree import (
    HOST,
    NO_ORDER,
    Here,
    Inquest,
    Join,
    Leave,
    Opinion,
    OpinionAsk,
    Order,
    Owner,
    Path,
    Report,
    TopoAsk,
)

SETTINGS = Settings(leaf_min=2, leaf_max=4)
CHAIR = Contact(1000, "c0")


def host(number: int) -> Contact:
    return Contact(number, f"h{number}")


class Rows(dict[bytes, bytes]):
    """A coordinator's table."""

    def put(self, key: bytes, value: bytes) -> None:
        self[key] = value

    def delete(self, key: bytes) -> None:
        self.pop(key, None)

    def scan(self, prefix: bytes) -> Any:
        return iter(sorted(row for row in self.items() if row[0].startswith(prefix)))


class Bench:
    """A candidate whose coordinator answers at once, unless a test keeps it silent."""

    def __init__(
        self,
        rows: Rows | None = None,
        create_topology: bool = True,
        settings: Settings = SETTINGS,
    ) -> None:
        self.rows = rows if rows is not None else Rows()
        create(self.rows, 77)
        self.now = 0
        self.out = ListSink()
        self.chairman = Chairman(CHAIR, settings, create_topology, 0)
        self.silent = False
        self.heard = True
        self.sent: list[tuple[int, Any]] = []
        self.notices: list[ChairmanNotice] = []
        self.asked: list[CoordinatorRequest] = []

    def pump(self) -> None:
        while True:
            outputs = self.out.take()
            if not outputs:
                return
            for output in outputs:
                if output.kind == "send":
                    self._sent(output.args[0].node_id, output.args[1])
                elif output.kind == "notify":
                    self.notices.append(output.args[0])
                elif output.kind == "coordinate":
                    request, token = output.args
                    self.asked.append(request)
                    if not self.silent:
                        answer = carry_out(self.rows, request, self.now, "boot")
                        self.chairman.coordinated(token, answer, self.now, self.out)

    def _sent(self, to: int, message: Any) -> None:
        if message == Inquest(0, 0) and self.heard:  # only to see whether anybody hears it
            self.chairman.on_here(to, Here(0, 0), self.now, self.out)
        else:
            self.sent.append((to, message))

    def run(self, us: int) -> None:
        end = self.now + us
        while self.chairman.due <= end:
            self.now = max(self.now, self.chairman.due)
            self.chairman.tick(self.now, self.out)
            self.pump()
        self.now = end

    def join(self, *numbers: int) -> None:
        for n in numbers:
            self.chairman.on_join(Join(host(n), 1, HOST, "", 0, 0), self.now, self.out)
        self.pump()

    def seats(self) -> list[int]:
        plan = self.chairman.plan
        return plan.cells[plan.root].seats


def test_joins_are_answered_after_the_commit_with_the_whole_path() -> None:
    bench = Bench()
    bench.run(SECOND)
    bench.join(1, 2, 3)
    assert bench.sent == [] or all(to == CHAIR.node_id for to, _ in bench.sent)
    bench.sent.clear()
    bench.run(SECOND)
    paths = {to: m for to, m in bench.sent if isinstance(m, Path) and m.records}
    assert set(paths) == {1, 2, 3}
    record = paths[1].records[0]
    assert [m.node_id for m in record.members] == [1, 2, 3]
    assert len(record.seats) == 3


def test_it_stops_at_its_own_deadline_when_the_coordinator_falls_silent() -> None:
    bench = Bench()
    bench.run(SECOND)
    bench.join(1)
    bench.run(SECOND)
    bench.silent = True
    bench.run(SETTINGS.chair_lease_us)
    assert not bench.chairman.presides(bench.now)
    bench.asked.clear()
    bench.join(2)
    bench.run(SECOND)
    assert not any(type(r).__name__ == "Commit" for r in bench.asked)


def test_news_of_a_doubt_stops_it_at_once_until_it_campaigned_again() -> None:
    bench = formed()
    asked = len(bench.asked)
    bench.chairman.coordinated(0, Severed("a cable"), bench.now, bench.out)
    bench.pump()
    assert not bench.chairman.presides(bench.now)
    assert bench.notices[-1].what == "lost"
    bench.run(SETTINGS.chair_lease_us)
    assert bench.chairman.presides(bench.now)
    kinds = [type(request) for request in bench.asked[asked:]]
    assert kinds[:2] == [Campaign, Load]  # what was read before the doubt may be old


def test_news_of_a_free_chair_are_not_waited_for_but_by_who_keeps_away() -> None:
    bench = formed()
    end_chair(bench.rows)
    other = Bench(bench.rows)
    other.chairman.lease.node_id = 1001
    other.now = other.chairman.lease.next_campaign = bench.now
    other.run(0)
    bench.run(SETTINGS.chair_lease_us // 3)
    assert not bench.chairman.presides(bench.now)
    assert bench.chairman.lease.next_campaign > bench.now
    end_chair(bench.rows)
    bench.chairman.coordinated(0, Vacated(), bench.now, bench.out)
    bench.run(0)
    assert bench.chairman.lease.holds(bench.now)
    bench.chairman._leave_the_chair(20 * SECOND, bench.now, bench.out)
    bench.pump()
    bench.chairman.coordinated(0, Vacated(), bench.now, bench.out)
    bench.run(10 * SECOND)
    assert not bench.chairman.presides(bench.now)


def test_a_coordinator_that_loses_every_question_is_asked_with_pauses_and_told_of_once() -> None:
    bench = formed()
    bench.silent = True
    bench.asked.clear()
    end = bench.now + 5 * SECOND
    answered = 0
    while bench.chairman.due <= end:
        bench.run(max(bench.chairman.due - bench.now, 0))
        while answered < len(bench.asked):
            answered += 1
            token = bench.chairman.token
            bench.chairman.coordinated(token, Lost("no answer"), bench.now, bench.out)
            bench.pump()
    assert 5 <= len(bench.asked) <= 25
    assert [n.detail for n in bench.notices if n.what == "unreachable"] == ["no answer"]


def test_without_leave_to_create_it_writes_nothing_into_an_empty_coordinator() -> None:
    bench = Bench(create_topology=False)
    bench.run(5 * SECOND)
    bench.join(1)
    bench.run(SECOND)
    assert not bench.chairman.presides(bench.now)
    assert [n.what for n in bench.notices] == ["halted"]
    assert not any(key.startswith(b"record/") for key in bench.rows)


def test_it_leaves_an_empty_coordinator_to_the_candidate_that_may_create() -> None:
    """Whoever starts first takes the chair; kept, there would never be a topology."""
    early = Bench(create_topology=False)
    early.run(SECOND)
    creator = Bench(early.rows)
    creator.chairman.me = Contact(1001, "c1")
    creator.chairman.lease.node_id = 1001
    creator.run(SECOND)
    assert creator.chairman.presides(creator.now)
    assert written(creator)


def test_a_new_chairman_takes_over_what_is_written_and_rewrites_only_the_head() -> None:
    bench = Bench()
    bench.run(SECOND)
    bench.join(*range(1, 20))
    bench.run(10 * SECOND)
    before = {k: v for k, v in bench.rows.items() if b"cell/" in k}
    bench.chairman.lease.resign(bench.chairman.next_token(), bench.out)
    bench.pump()
    heir = Bench(bench.rows, create_topology=False)
    heir.now = bench.now
    heir.chairman.lease.next_campaign = bench.now
    heir.run(SECOND)
    assert heir.chairman.presides(heir.now)
    assert {k: v for k, v in bench.rows.items() if b"cell/" in k} == before


def test_a_seat_that_said_goodbye_is_replaced_at_once_even_if_it_was_the_majority() -> None:
    bench = Bench()
    bench.run(SECOND)
    bench.join(1, 2)
    bench.run(SECOND)
    (seat,) = bench.seats()
    other = 3 - seat
    bench.chairman.on_leave(Leave(host(seat), 1), bench.now, bench.out)
    bench.run(SECOND)
    assert bench.seats() == [other]


def test_a_seat_that_fell_silent_keeps_its_vote_until_the_inquest() -> None:
    bench = Bench()
    bench.run(SECOND)
    bench.join(1, 2)
    bench.run(10 * SECOND)  # past the grace of a fresh join
    (seat,) = bench.seats()
    other = 3 - seat
    root = bench.chairman.plan.root
    owner = Owner(root, Order(1, 1, 1), 1, host(other))
    bench.chairman.on_report(other, Report(owner, (seat,), (), False), bench.now, bench.out)
    bench.run(5 * SECOND)
    assert bench.seats() == [seat]
    bench.sent.clear()
    bench.chairman.on_report(other, Report(owner, (), (), True), bench.now, bench.out)
    bench.pump()
    (asked,) = [m for to, m in bench.sent if isinstance(m, Inquest) and to == other]
    bench.chairman.on_here(other, Here(root, asked.number), bench.now, bench.out)
    bench.run(3 * SECOND)
    assert bench.seats() == [other]


def report_gone(bench: Bench, dead: list[int]) -> None:
    """Have the owners of all leaves report who of their members is dead, as they do each 2 s."""
    plan = bench.chairman.plan
    for leaf in plan.leaves():
        gone = tuple(n for n in leaf.members if n in dead)
        witness = next(n for n in plan.home if plan.home[n] == leaf.cell)
        owner = Owner(leaf.cell, Order(1, 1, 1), 1, host(witness))
        bench.chairman.on_report(witness, Report(owner, gone, (), False), bench.now, bench.out)


def freeze_with_dead(bench: Bench, dead: list[int]) -> None:
    """Let eight hosts join and ``dead`` die at once."""
    bench.run(SECOND)
    bench.join(*range(1, 5))
    bench.run(10 * SECOND)
    bench.join(5, 6, 7, 8)
    bench.run(10 * SECOND)
    report_gone(bench, dead)
    bench.run(5 * SECOND)
    assert [n.what for n in bench.notices if n.what == "frozen"] == ["frozen"]
    assert len(bench.chairman.plan.home) == 8


def test_many_deaths_at_once_freeze_removals_until_it_is_quiet() -> None:
    bench = Bench()
    dead = list(range(1, 8))
    freeze_with_dead(bench, dead)
    for _ in range(31):
        report_gone(bench, dead)
        bench.run(2 * SECOND)
    assert "thawed" in [n.what for n in bench.notices]
    assert len(bench.chairman.plan.home) == 1


def test_who_came_back_during_a_freeze_is_not_removed_at_its_end() -> None:
    bench = Bench()
    freeze_with_dead(bench, list(range(1, 8)))
    for _ in range(60):
        report_gone(bench, [1, 2])  # the others answer again
        bench.run(2 * SECOND)
    assert "thawed" in [n.what for n in bench.notices]
    assert sorted(bench.chairman.plan.home) == list(range(3, 9))


def test_a_report_under_an_older_term_is_answered_with_the_newer_owner() -> None:
    bench = Bench()
    bench.run(SECOND)
    bench.join(1, 2, 3)
    bench.run(10 * SECOND)
    root = bench.chairman.plan.root
    new, old = Owner(root, Order(1, 1, 1), 5, host(1)), Owner(root, Order(1, 1, 1), 4, host(2))
    bench.chairman.on_report(1, Report(new, (), (), False), bench.now, bench.out)
    bench.sent.clear()
    bench.chairman.on_report(2, Report(old, (3,), (), False), bench.now, bench.out)
    bench.pump()
    assert bench.sent == [(2, Path(None, (), (new,)))]
    bench.run(2 * SECOND)
    assert 3 in bench.chairman.plan.home


def test_candidates_of_another_coordinator_are_refused() -> None:
    bench = Bench()
    bench.run(SECOND)
    stranger = Join(Contact(5, "x"), 1, HOST, "", 78, 0)
    bench.chairman.on_join(stranger, bench.now, bench.out)
    bench.pump()
    (refusal,) = [m for to, m in bench.sent if to == 5]
    assert refusal.code == "WrongCoordinator"


# --- a coordinator that was emptied or restored -------------------------------------------------


def take_over(bench: Bench, seen: Order = NO_ORDER) -> Bench:
    """Have another candidate, whose own peer holds a topology of ``seen``, win the chair."""
    other = Bench(bench.rows, create_topology=False)
    end_chair(bench.rows)
    other.now = bench.now
    other.chairman.witness(seen, other.now, other.out, stored=seen == NO_ORDER)
    return other


def written(bench: Bench) -> dict[bytes, bytes]:
    return {k: v for k, v in bench.rows.items() if k.startswith(b"record/")}


def formed() -> Bench:
    bench = Bench()
    bench.run(SECOND)
    bench.join(*range(1, 7))
    bench.run(5 * SECOND)
    return bench


def test_a_creator_whose_own_peer_holds_a_topology_creates_no_second_one() -> None:
    bench = Bench()
    bench.chairman.witness(Order(1, 9, 30), 0, bench.out)
    bench.run(5 * SECOND)
    assert bench.chairman.state == HALTED
    assert [n.what for n in bench.notices] == ["halted"]
    assert not written(bench)


def test_an_old_copy_is_recognised_and_nothing_is_written_until_it_is_mended() -> None:
    bench = formed()
    old = Rows(bench.rows)
    bench.join(7)
    bench.run(5 * SECOND)
    assert bench.chairman.records.topo is not None
    newest, good = bench.chairman.records.topo.order, Rows(bench.rows)
    bench.rows.clear()
    bench.rows.update(old)
    other = take_over(bench, seen=newest)
    before = written(other)
    other.run(10 * SECOND)
    assert other.chairman.state == HALTED
    assert [n.what for n in other.notices] == ["halted"]
    assert written(other) == before
    other.rows.update({k: v for k, v in good.items() if k.startswith(b"record/")})
    other.run(2 * SECOND)
    assert other.chairman.presides(other.now)


def restored_under_the_same_lease() -> tuple[Bench, dict[bytes, bytes]]:
    """Return a second chairman whose coordinator fell back to before its election, and the copy."""
    bench = formed()
    old = Rows(bench.rows)
    assert bench.chairman.records.topo is not None
    second = take_over(bench, seen=bench.chairman.records.topo.order)
    second.run(2 * SECOND)
    second.join(7)
    second.run(5 * SECOND)
    epoch = second.chairman.lease.epoch
    second.rows.clear()
    second.rows.update(old)
    end_chair(second.rows)
    second.run(2 * SECOND)
    assert second.chairman.lease.epoch == epoch  # the copy counts to the same number again
    return second, written(second)


def test_an_old_copy_that_grants_the_same_lease_again_is_noticed_by_the_next_write() -> None:
    bench, copy = restored_under_the_same_lease()
    assert bench.chairman.presides(bench.now)
    bench.join(8)
    bench.run(5 * SECOND)
    assert bench.chairman.state == HALTED
    assert bench.notices[-1].what == "halted"
    assert written(bench) == copy


def test_an_old_copy_is_noticed_by_whoever_comes_after_the_one_that_did_not() -> None:
    bench, copy = restored_under_the_same_lease()
    assert bench.chairman.records.topo is not None
    third = take_over(bench, seen=bench.chairman.records.topo.order)
    third.run(5 * SECOND)
    assert third.chairman.state == HALTED
    assert written(third) == copy


def test_a_chairman_that_just_started_asks_the_roots_seats_before_it_writes() -> None:
    bench = formed()
    other = take_over(bench)
    other.run(SECOND // 4)
    assert sorted(to for to, m in other.sent if isinstance(m, TopoAsk)) == sorted(bench.seats())
    assert not other.chairman.presides(other.now)
    assert bench.chairman.records.topo is not None
    order = bench.chairman.records.topo.order
    other.chairman.witness(order._replace(version=order.version + 1), other.now, other.out)
    other.run(5 * SECOND)
    assert other.chairman.state == HALTED


def test_a_chairman_that_knows_only_what_it_had_stored_asks_as_well() -> None:
    """Swarm seed 515: it was down for long, and the coordinator fell back to just where it was."""
    bench = formed()
    other = take_over(bench)
    assert bench.chairman.records.topo is not None
    order = bench.chairman.records.topo.order
    other.chairman.witness(order, other.now, other.out, stored=True)
    other.run(SECOND // 4)
    assert sorted(to for to, m in other.sent if isinstance(m, TopoAsk)) == sorted(bench.seats())
    assert not other.chairman.presides(other.now)
    other.run(SECOND)
    assert other.chairman.presides(other.now)


def test_a_chairman_that_just_started_presides_when_nobody_knows_better() -> None:
    other = take_over(formed())
    other.run(2 * SECOND)
    assert other.chairman.presides(other.now)
    assert other.notices[-1].what == "elected"


def test_an_owner_of_a_newer_electorate_shows_that_the_coordinator_fell_back() -> None:
    bench = formed()
    cell = bench.chairman.plan.root
    newer = Owner(cell, Order(1, 99, 99), 5, host(1))
    bench.chairman.on_report(1, Report(newer, (), (), False), bench.now, bench.out)
    bench.pump()
    assert bench.chairman.state == HALTED


def test_a_stale_answer_of_the_coordinator_only_costs_a_second() -> None:
    bench = formed()
    stale = Rows(bench.rows)
    bench.join(7)
    bench.run(5 * SECOND)
    assert bench.chairman.records.topo is not None
    newest, good = bench.chairman.records.topo.order, Rows(bench.rows)
    other = take_over(bench, seen=newest)
    other.rows = stale
    end_chair(stale)
    other.run(SECOND // 2)
    assert other.chairman.state == HALTED
    other.rows = good
    end_chair(good)
    other.run(3 * SECOND)
    assert other.chairman.presides(other.now)


# --- whoever was gone must hear us ---------------------------------------------------------------


def report(bench: Bench, *gone: int) -> None:
    cell = bench.chairman.plan.cells[bench.chairman.plan.home.get(gone[0], 0)]
    owner = next(n for n in cell.members if n not in gone)
    stamp = Owner(cell.cell, cell.electorate, 1, host(owner))
    bench.chairman.on_report(owner, Report(stamp, gone, (), False), bench.now, bench.out)
    bench.pump()


def asked_again(bench: Bench, number: int) -> int:
    """Return the number of the newest question to a host that joins again."""
    return [m.number for to, m in bench.sent if to == number and isinstance(m, Inquest)][-1]


def members(bench: Bench) -> list[int]:
    return sorted(bench.chairman.plan.home)


def test_joins_of_a_deaf_host_do_not_keep_it_in_nor_bring_it_back() -> None:
    bench = formed()
    bench.run(60 * SECOND)
    for _ in range(10):
        bench.join(3)
        if 3 in members(bench):
            report(bench, 3)
        bench.run(2 * SECOND)
    assert members(bench) == [1, 2, 4, 5, 6]


def test_a_host_that_was_removed_is_let_in_when_it_answers() -> None:
    bench = formed()
    bench.run(60 * SECOND)
    report(bench, 3)
    bench.run(2 * SECOND)
    bench.join(3)
    bench.run(2 * SECOND)
    assert 3 not in members(bench)
    number = asked_again(bench, 3)
    bench.chairman.on_here(4, Here(0, number), bench.now, bench.out)  # another's word is not its
    bench.chairman.on_here(3, Here(0, number - 1), bench.now, bench.out)
    bench.run(2 * SECOND)
    assert 3 not in members(bench)
    bench.chairman.on_here(3, Here(0, number), bench.now, bench.out)
    bench.run(2 * SECOND)
    assert 3 in members(bench)


def test_nobody_hears_of_what_is_only_being_written() -> None:
    """Swarm seed 19: the write was refused, and a peer held the head of a topology of nobody."""
    bench = formed()
    bench.run(60 * SECOND)
    report(bench, 3)
    bench.run(4 * SECOND)
    assert 3 in bench.chairman.readmission.removed
    bench.silent = True
    bench.join(7)
    bench.run(SECOND // 2)
    assert bench.chairman.writing is not None
    bench.sent.clear()
    bench.join(3)
    (head,) = [m for to, m in bench.sent if to == 3 and isinstance(m, Path)]
    assert head.topo is None


def test_a_refused_write_is_read_about_again_but_not_at_once() -> None:
    """Swarm seed 19: a reading may be stale still, and chairman and coordinator went in circles."""
    bench = formed()
    key = b"record/topo"
    version = int.from_bytes(bench.rows[key][:8], "big")
    bench.rows[key] = (version + 1).to_bytes(8, "big") + bench.rows[key][8:]
    bench.asked.clear()
    bench.join(7)
    while not any(isinstance(request, Commit) for request in bench.asked):
        bench.run(SECOND // 100)
    bench.run(SETTINGS.batch_us // 2)
    assert not any(isinstance(request, Load) for request in bench.asked)
    bench.run(2 * SECOND)
    bench.join(7)  # who has no answer asks again
    bench.run(2 * SECOND)
    assert 7 in members(bench)
    assert bench.chairman.presides(bench.now)


def test_a_host_that_is_only_reported_stays_when_it_answers() -> None:
    bench = formed()
    bench.run(60 * SECOND)
    report(bench, 3)
    bench.run(1200 * MS)  # nobody contradicts
    bench.join(3)
    bench.chairman.on_here(3, Here(0, asked_again(bench, 3)), bench.now, bench.out)
    bench.run(5 * SECOND)
    assert 3 in members(bench)


def test_a_chairman_whom_nobody_hears_leaves_the_chair_to_others_for_a_while() -> None:
    bench = formed()
    bench.heard = False
    bench.run(13 * SECOND)
    assert not bench.chairman.presides(bench.now)
    assert chair_of(bench.rows, bench.now, "boot") == 0
    bench.heard = True
    bench.run(20 * SECOND)
    assert bench.chairman.presides(bench.now)


def test_a_chairman_without_hosts_misses_nobody() -> None:
    bench = Bench()
    bench.heard = False
    bench.run(60 * SECOND)
    assert bench.chairman.presides(bench.now)


def test_an_emptied_coordinator_is_noticed_though_its_lease_has_the_same_number() -> None:
    bench = formed()
    assert bench.chairman.records.topo is not None
    bench.chairman.witness(
        bench.chairman.records.topo.order, bench.now, bench.out
    )  # by its own peer
    bench.rows.clear()
    create(bench.rows, 78)
    bench.run(5 * SECOND)
    assert bench.chairman.state == HALTED


def gone_wave(bench: Bench, number: int) -> None:
    """So many hosts of one big leaf go at once: enough to freeze removals."""
    cell = bench.chairman.plan.root
    owner = Owner(cell, bench.chairman.plan.cells[cell].electorate, 1, host(1))
    gone = tuple(range(2, 2 + number))
    bench.chairman.on_report(1, Report(owner, gone, (), False), bench.now, bench.out)
    bench.pump()


def test_the_operator_ends_a_freeze_and_the_next_wave_freezes_again() -> None:
    bench = Bench(settings=Settings(leaf_min=2, leaf_max=32))
    bench.run(SECOND)
    bench.join(*range(1, 20))
    bench.run(JOIN_GRACE_US)
    gone_wave(bench, 6)
    bench.run(2 * SECOND)  # nobody contradicts
    departures = bench.chairman.departures
    assert departures.frozen and len(bench.chairman.plan.home) == 19
    gone_wave(bench, 6)  # reports are repeated
    assert bench.chairman.thaw(bench.now, bench.out) == 6
    bench.run(SECOND)
    assert not departures.frozen and len(bench.chairman.plan.home) == 13
    assert [n.what for n in bench.notices].count("removed") == 6
    assert bench.chairman.thaw(bench.now, bench.out) == 0
    cell = bench.chairman.plan.root
    owner = Owner(cell, bench.chairman.plan.cells[cell].electorate, 1, host(1))
    bench.chairman.on_report(1, Report(owner, (8, 9, 10), (), False), bench.now, bench.out)
    bench.run(2 * SECOND)
    assert departures.frozen and len(bench.chairman.plan.home) == 13


# --- nobody is removed at one peer's word --------------------------------------------------------


def opinions(bench: Bench, about: int, **states: int) -> None:
    """Answer the open question about a member: ``h4=DEAD`` for host 4."""
    asked = {to: m.number for to, m in bench.sent if isinstance(m, OpinionAsk) and m.key == about}
    assert about in asked  # it may speak for itself
    for name, state in states.items():
        number = int(name[1:])
        answer = Opinion(about, asked.get(number, 1), state)
        bench.chairman.on_opinion(number, answer, bench.now, bench.out)
    bench.pump()


def others_asked(bench: Bench, about: int) -> list[int]:
    return [t for t, m in bench.sent if isinstance(m, OpinionAsk) and m.key == about and t != about]


def reported(about: int) -> tuple[Bench, list[int]]:
    """Return a bench where the owner of a leaf of four reported a member, and whom that asked."""
    bench = Bench()
    bench.run(SECOND)
    bench.join(1, 2, 3, 4)
    bench.run(60 * SECOND)
    bench.sent.clear()
    report(bench, about)
    return bench, others_asked(bench, about)


def test_two_others_that_agree_with_the_owner_have_a_member_removed_at_once() -> None:
    bench, (one, other) = reported(3)
    opinions(bench, 3, **{f"h{one}": DEAD})
    bench.run(600 * MS)
    assert 3 in members(bench)
    opinions(bench, 3, **{f"h{other}": DEAD})
    bench.run(600 * MS)
    assert members(bench) == [1, 2, 4]


def test_an_owner_alone_cannot_have_a_healthy_member_removed() -> None:
    for answers in ({"h3": ALIVE}, {"h2": ALIVE}, {"h3": ALIVE, "h2": DEAD}):
        bench, asked = reported(3)
        assert len(asked) == 2
        for _ in range(5):
            opinions(bench, 3, **answers)
            bench.run(2 * SECOND)
            report(bench, 3)
        assert members(bench) == [1, 2, 3, 4]


def test_an_opinion_of_somebody_who_was_not_asked_does_not_count() -> None:
    bench, (one, _) = reported(3)
    opinions(bench, 3, **{f"h{one}": DEAD, "h77": DEAD, "h3": ALIVE})
    bench.run(2 * SECOND)
    assert members(bench) == [1, 2, 3, 4]


def test_a_member_that_only_the_chairman_reaches_is_removed_by_the_word_of_the_others() -> None:
    bench, asked = reported(3)
    opinions(bench, 3, h3=ALIVE, **{f"h{n}": DEAD for n in asked})
    bench.run(2 * SECOND)
    assert members(bench) == [1, 2, 4]


def test_a_halted_chairman_adopts_what_it_is_given_and_tells_of_every_state() -> None:
    bench = formed()
    plan, topo = bench.chairman.plan, bench.chairman.records.topo
    assert topo is not None
    records = tuple(plan.record(cell) for cell in plan.cells.values())
    refused = bench.chairman.adopt(AdoptAsk(1, 0, 1, topo, records), bench.now, bench.out)
    assert isinstance(refused, Conflict)
    for key in [key for key in bench.rows if key.startswith(b"record/")]:
        del bench.rows[key]
    bench.chairman.witness(topo.order, bench.now, bench.out)
    bench.chairman._load(bench.out)
    bench.pump()
    assert bench.chairman.state == HALTED
    half = bench.chairman.adopt(AdoptAsk(2, 0, 2, topo, records[:1]), bench.now, bench.out)
    assert half == Done()
    bench.silent = True
    last = AdoptAsk(2, 1, 2, topo, records[1:])
    assert bench.chairman.adopt(last, bench.now, bench.out) is None
    bench.pump()
    assert seeing.chairman_status(bench.chairman, bench.now).state == "adopting"
    bench.silent = False
    bench.chairman.coordinated(
        bench.chairman.token, carry_out(bench.rows, bench.asked[-1], bench.now, "boot"),
        bench.now, bench.out,
    )  # fmt: skip
    bench.pump()
    assert isinstance(bench.chairman.adoption.outcome, Adopted)
    bench.run(2 * SECOND)
    assert bench.chairman.presides(bench.now)
    assert bench.chairman.records.topo is not None
    assert bench.chairman.records.topo.order.generation == topo.order.generation + 1
    assert {c.cell for c in bench.chairman.plan.cells.values()} == {r.cell for r in records}


def test_the_chairman_says_why_a_host_is_where_it_is() -> None:
    bench = Bench()
    bench.run(SECOND)
    for number in (1, 2, 3):
        join = Join(host(number), 1, HOST, "z1", 0, 0)
        bench.chairman.on_join(join, bench.now, bench.out)
    bench.run(2 * SECOND)
    told = why(bench.chairman, 2, bench.now)
    assert (told.what, told.path[0].members, told.domain) == ("joined", 3, "z1")
    assert told.zone_hosts == 3 and told.ago_us > 0 and told.chairman == CHAIR
    assert why(bench.chairman, 99, bench.now).path == ()
    # another chairman only knows that it was there
    heir = Bench(bench.rows, create_topology=False)
    heir.now = bench.now + SETTINGS.chair_lease_us + SECOND
    heir.run(2 * SECOND)
    inherited = why(heir.chairman, 2, heir.now)
    assert (inherited.what, inherited.path) == ("", told.path)
