"""The books of a host, call by call, and under random sequences with crashes at any point."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from agent import simulated_host
from agent.books import Books
from agent.drivers.simulated import SimulatedHypervisor
from fabric.errors import BadInput
from fabric.ids import format_id
from fabric.limits import RESERVATION_LIFETIME_US
from fabric.machine import Contact, ListSink
from fabric.placement.host import Answer
from fabric.placement.request import Constraint, PlacementRequest
from fabric.units import SECOND
from fabric.wire.codec import decode_frame, encode_frame
from fabric.wire.common import Done, Failure
from fabric.wire.host import (
    Audit,
    AuditAsk,
    Confirm,
    CreateVm,
    DeleteVm,
    Drain,
    ListVms,
    PowerVm,
    Release,
    VmInfo,
)
from fabric.wire.placement import HostRefused, Reserve, Reserved

ME = Contact(7, "inproc://host")
ENTRY = Contact(1, "inproc://entry")
SPEC = simulated_host(
    cpu=8, memory_mb=16_384, datastores={"a": 1000, "b": 2000}, networks=("n1",), zone="z1"
)


def ask(
    key: str, cpu: int = 2, memory_mb: int = 1024, disk_mb: int = 0, attempt: int = 1, **more: Any
) -> Reserve:
    request = PlacementRequest(key, f"vm-{key}", cpu, memory_mb, disk_mb, **more)
    return Reserve(request, attempt, ENTRY, 11, ENTRY, 22)


class Bench:
    """Books with a disk, a hypervisor that answers at once, and a power switch."""

    def __init__(self, **fail: int) -> None:
        self.disk: dict[bytes, bytes] = {}
        self.hypervisor = SimulatedHypervisor(fail=fail)
        self.out = ListSink()
        self.now = 1_000 * SECOND
        self.answers: dict[int, Any] = {}
        self.books = Books(SPEC, ME)

    def store(self, answer: Answer) -> Any:
        for write in answer.writes:
            if write.value is None:
                self.disk.pop(write.key, None)
            else:
                self.disk[write.key] = write.value
        return answer.body

    def reserve(self, reserve: Reserve) -> Any:
        return self.store(self.books.reserve(reserve, self.now))

    def call(self, body: Any, token: int = 1) -> Any:
        """Call, and let the hypervisor finish what that started."""
        self.answers.pop(token, None)
        answer = self.store(self.books.call(body, token, self.now, self.out))
        if answer is not None:
            return answer
        self.drive()
        return self.answers.pop(token, None)

    def drive(self, steps: int = 100) -> None:
        for _ in range(steps):
            pending = [o.args for o in self.out.outputs if o.kind == "drive"]
            if not pending:
                return
            call, op = pending[0]
            self.out.outputs.pop(0)
            result, error = self.hypervisor.execute(call)
            for token, answer in self.books.driven(op, result, error, self.now, self.out):
                body = self.store(answer)
                if token:
                    self.answers[token] = body

    def crash(self) -> None:
        """SIGKILL: only the disk and the hypervisor remain."""
        self.out = ListSink()
        self.answers.clear()
        self.books = Books(SPEC, ME)
        self.books.restore(self.disk.items(), self.now, self.out)

    def audit(self) -> Audit:
        audit = self.books.audit(AuditAsk())
        assert not audit.more
        rows = [*audit.vms, *audit.reservations]
        assert audit.cpu_used == sum(row.cpu for row in rows) <= audit.cpu
        assert audit.memory_used_mb == sum(row.memory_mb for row in rows) <= audit.memory_mb
        for name, size, used in audit.datastores:
            assert used == sum(row.disk_mb for row in rows if row.datastore == name) <= size
        return audit


def created(bench: Bench, key: str = "k") -> tuple[Reserved, VmInfo]:
    reserved = bench.reserve(ask(key, disk_mb=100))
    info = bench.call(CreateVm(f"vm-{key}", key, reserved.attempt, reserved.reservation_id))
    assert isinstance(info, VmInfo)
    return reserved, info


# --- reservations ---------------------------------------------------------------------------------


def test_one_key_holds_room_once_and_a_lower_attempt_is_refused() -> None:
    bench = Bench()
    first = bench.reserve(ask("k", attempt=2))
    again = bench.reserve(ask("k", attempt=3))
    assert (again.reservation_id, again.attempt) == (first.reservation_id, 2)
    late = bench.reserve(ask("k", attempt=1))
    assert isinstance(late, HostRefused)
    assert late.reason == "stale attempt"
    assert bench.audit().cpu_used == 2


def test_never_over_capacity_and_the_refusal_tells_the_true_state() -> None:
    bench = Bench()
    for i in range(4):
        assert isinstance(bench.reserve(ask(f"k{i}")), Reserved)
    refused = bench.reserve(ask("k4"))
    assert isinstance(refused, HostRefused)
    assert (refused.reason, refused.summary.cpu_free, refused.job) == ("cpu", 0, 22)


def test_all_constraints_hold_together_and_the_disk_goes_where_it_may() -> None:
    bench = Bench()
    assert bench.reserve(ask("k", disk_mb=900)).datastore == "b"
    not_b = (Constraint("datastore", ("b",), True),)
    assert bench.reserve(ask("k1", disk_mb=900, constraints=not_b)).datastore == "a"
    assert bench.reserve(ask("k2", disk_mb=900, constraints=not_b)).reason == "disk"
    elsewhere = (Constraint("zone", ("z2", "z3")),)
    assert bench.reserve(ask("k3", constraints=elsewhere)).reason == "zone=z2|z3"
    not_here = (Constraint("host", (format_id(ME.node_id),), True),)
    assert bench.reserve(ask("k4", constraints=not_here)).reason.startswith("host!=")


def test_an_unconfirmed_reservation_expires_and_a_confirmed_one_does_not() -> None:
    bench = Bench()
    kept, lost = bench.reserve(ask("kept")), bench.reserve(ask("lost"))
    assert bench.call(Confirm("kept", 1, kept.reservation_id)) == Done()
    assert bench.call(Confirm("kept", 1, kept.reservation_id)) == Done()
    assert bench.books.due == bench.now + RESERVATION_LIFETIME_US
    bench.now += RESERVATION_LIFETIME_US
    assert bench.call(Confirm("lost", 1, lost.reservation_id)).code == "UnknownReservation"
    assert [r.key for r in bench.audit().reservations] == ["kept"]
    assert len(bench.disk) == 1


def test_a_released_attempt_does_not_come_back() -> None:
    bench = Bench()
    reserved = bench.reserve(ask("k"))
    release = Release("k", 1, reserved.reservation_id)
    assert bench.call(release) == Done()
    assert bench.reserve(ask("k")).reason == "stale attempt"
    assert bench.call(release) == Done()
    assert isinstance(bench.reserve(ask("k", attempt=2)), Reserved)
    # a release that overtakes its reserve
    assert bench.call(Release("early", 1, 5)) == Done()
    assert bench.reserve(ask("early")).reason == "stale attempt"


def test_a_draining_host_takes_nothing_new() -> None:
    bench = Bench()
    assert bench.call(Drain(True)) == Done()
    bench.crash()
    assert bench.reserve(ask("k")).reason == "draining"
    assert bench.call(Drain(False)) == Done()
    assert isinstance(bench.reserve(ask("k")), Reserved)


def test_the_summary_is_kept_until_something_changes() -> None:
    bench = Bench()
    before = bench.books.summary()
    assert bench.books.summary() is before
    bench.reserve(ask("k"))
    assert bench.books.summary().cpu_free == before.cpu_free - 2


# --- VMs ------------------------------------------------------------------------------------------


def test_create_consumes_the_reservation_and_delete_frees_the_room() -> None:
    bench = Bench()
    reserved, info = created(bench)
    assert info.state == "stopped"
    assert not bench.books.reservations
    again = bench.call(CreateVm("vm-k", "k", 1, reserved.reservation_id))
    assert again == info
    assert bench.call(Release("k", 1, reserved.reservation_id)).code == "Conflict"
    assert bench.reserve(ask("k")).reservation_id == reserved.reservation_id
    assert bench.call(PowerVm("vm-k", True)).state == "started"
    assert [vm.state for vm in bench.call(ListVms()).vms] == ["started"]
    for _ in range(2):
        assert bench.call(DeleteVm("vm-k")) == Done()
    assert bench.audit().cpu_used == 0
    assert not bench.disk
    assert not bench.hypervisor.machines


def test_create_without_a_live_reservation_is_refused() -> None:
    bench = Bench()
    reserved = bench.reserve(ask("k"))
    wrong_vm = bench.call(CreateVm("vm-x", "k", 1, reserved.reservation_id))
    assert wrong_vm.code == "Conflict"
    bench.now += RESERVATION_LIFETIME_US
    late = bench.call(CreateVm("vm-k", "k", 1, reserved.reservation_id))
    assert late.code == "UnknownReservation"
    assert not bench.hypervisor.machines


def test_a_failed_create_is_undone_before_it_is_told() -> None:
    bench = Bench(CreateMachine=1_000_000)
    reserved = bench.reserve(ask("k"))
    failure = bench.call(CreateVm("vm-k", "k", 1, reserved.reservation_id))
    assert failure.code == "HypervisorError"
    assert not bench.disk
    assert bench.audit().cpu_used == 0


def test_what_cannot_be_destroyed_keeps_its_room_and_is_tried_again() -> None:
    bench = Bench()
    created(bench)
    bench.hypervisor._fail["DestroyMachine"] = 1_000_000
    assert bench.call(DeleteVm("vm-k")).code == "HypervisorError"
    assert bench.audit().cpu_used == 2
    bench.hypervisor._fail.clear()
    bench.now = bench.books.due
    bench.books.tick(bench.now, bench.out)
    bench.drive()
    assert bench.audit().cpu_used == 0


def test_delete_during_create_undoes_it_and_answers_both() -> None:
    bench = Bench()
    reserved = bench.reserve(ask("k"))
    create = CreateVm("vm-k", "k", 1, reserved.reservation_id)
    for token in (1, 2):  # the same create asked twice: one hypervisor call, two answers
        assert bench.store(bench.books.call(create, token, bench.now, bench.out)) is None
    assert bench.store(bench.books.call(DeleteVm("vm-k"), 3, bench.now, bench.out)) is None
    assert [o.kind for o in bench.out.outputs] == ["drive"]
    bench.drive()
    assert bench.answers[3] == Done()
    assert bench.answers[1].code == bench.answers[2].code == "Conflict"
    assert bench.audit().cpu_used == 0
    assert not bench.hypervisor.machines


@pytest.mark.parametrize("steps", [0, 1])
def test_a_create_interrupted_by_a_crash_is_finished_after_restart(steps: int) -> None:
    bench = Bench()
    reserved = bench.reserve(ask("k"))
    create = CreateVm("vm-k", "k", 1, reserved.reservation_id)
    bench.store(bench.books.call(create, 1, bench.now, bench.out))
    if steps:  # the machine was made, but nobody heard of it
        bench.hypervisor.execute(bench.out.outputs[0].args[0])
    bench.crash()
    bench.drive()
    assert bench.call(create).state == "stopped"
    assert list(bench.hypervisor.machines) == ["vm-k"]


def test_a_machine_whose_record_a_crash_took_is_removed() -> None:
    bench = Bench()
    created(bench, "other")
    reserved = bench.reserve(ask("k"))
    answer = bench.books.call(
        CreateVm("vm-k", "k", 1, reserved.reservation_id), 1, bench.now, bench.out
    )
    assert answer.writes  # never stored
    bench.drive()
    assert "vm-k" in bench.hypervisor.machines
    before = dict(bench.disk)
    bench.disk.clear()
    bench.disk.update({k: v for k, v in before.items() if b"vm-k" not in k})
    bench.crash()
    bench.drive()
    assert list(bench.hypervisor.machines) == ["vm-other"]


def test_a_vm_that_the_hypervisor_lost_is_said_to_be_lost() -> None:
    bench = Bench()
    created(bench)
    bench.hypervisor.machines.clear()
    bench.crash()
    bench.drive()
    assert bench.audit().vms[0].state == "lost"
    assert bench.call(PowerVm("vm-k", True)).code == "Conflict"
    assert bench.call(DeleteVm("vm-k")) == Done()


def test_audit_pages_of_longest_names_fit_in_a_frame_and_cover_everything() -> None:
    spec = simulated_host(cpu=1000, memory_mb=1000, datastores={"d" * 63: 10_000})
    books, out = Books(spec, ME), ListSink()
    for i in range(100):
        key, vm_id = f"{i:03}" + "k" * 253, f"{i:03}" + "v" * 253
        request = PlacementRequest(key, vm_id, 1, 1, 1)
        held = books.reserve(Reserve(request, 1, ENTRY, 1, ENTRY, 1), 5 * SECOND).body
        assert isinstance(held, Reserved)
        if i % 2:
            books.call(CreateVm(vm_id, key, 1, held.reservation_id, "i" * 256), i, 0, out)
    rows, page_ask, more = 0, AuditAsk(), True
    while more:
        page = books.audit(page_ask)
        assert decode_frame(encode_frame(1, page)).message == page
        rows += len(page.vms) + len(page.reservations)
        more = page.more
        page_ask = AuditAsk(
            page.vms[-1].vm_id if page.vms else page_ask.vm_after,
            page.reservations[-1].reservation_id
            if page.reservations
            else page_ask.reservation_after,
        )
    assert rows == 100


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("cpu", {"cpu": 0}),
        ("cpu", {"cpu": True}),
        ("memory_mb", {"memory_mb": 1 << 60}),
        ("networks", {"networks": "net1"}),
        ("tags", {"tags": ("",)}),
        ("zone", {"zone": "z" * 64}),
        ("datastores", {"datastores": ["a"]}),
        ("datastores['a']", {"datastores": {"a": -1}}),
    ],
)
def test_an_impossible_host_names_field_value_and_reason(field: str, bad: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        simulated_host(**bad)
    assert caught.value.data["field"] == field


# --- random sequences -----------------------------------------------------------------------------


class BooksUnderFire(RuleBasedStateMachine):
    """Random calls, lost answers, failing hypervisor, crashes at any point."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(CreateMachine=200_000, DestroyMachine=200_000, SetPower=200_000)
        self.held: dict[str, Reserved] = {}
        self.confirmed: set[str] = set()

    @rule(
        target=keys,
        key=st.sampled_from("abcdefgh"),
        cpu=st.integers(1, 5),
        memory_mb=st.integers(1, 9000),
        disk_mb=st.integers(0, 1200),
        attempt=st.integers(1, 3),
    )
    def reserve(self, key: str, cpu: int, memory_mb: int, disk_mb: int, attempt: int) -> Any:
        before = self.bench.books.summary()
        body = self.bench.reserve(ask(key, cpu, memory_mb, disk_mb, attempt))
        if isinstance(body, HostRefused):
            if body.reason == "cpu":
                assert cpu > before.cpu_free or body.summary.cpu_free < cpu
            return multiple()
        self.held[key] = body
        return key

    @rule(key=keys)
    def confirm(self, key: str) -> None:
        held = self.held[key]
        body = self.bench.call(Confirm(key, held.attempt, held.reservation_id))
        if body == Done() and f"vm-{key}" not in self.bench.books.vms:
            self.confirmed.add(key)

    @rule(key=keys)
    def release(self, key: str) -> None:
        held = self.held[key]
        if self.bench.call(Release(key, held.attempt, held.reservation_id)) == Done():
            self.confirmed.discard(key)

    @rule(key=keys, finish=st.booleans())
    def create(self, key: str, finish: bool) -> None:
        held, bench = self.held[key], self.bench
        body = CreateVm(f"vm-{key}", key, held.attempt, held.reservation_id)
        bench.store(bench.books.call(body, 5, bench.now, bench.out))
        if finish:
            bench.drive()
        self.confirmed.discard(key)

    @rule(key=keys, finish=st.booleans())
    def delete(self, key: str, finish: bool) -> None:
        bench = self.bench
        bench.store(bench.books.call(DeleteVm(f"vm-{key}"), 6, bench.now, bench.out))
        if finish:
            bench.drive()

    @rule(key=keys, on=st.booleans())
    def power(self, key: str, on: bool) -> None:
        bench = self.bench
        bench.store(bench.books.call(PowerVm(f"vm-{key}", on), 7, bench.now, bench.out))

    @rule(steps=st.integers(1, 4))
    def hypervisor(self, steps: int) -> None:
        self.bench.drive(steps)

    @rule(seconds=st.integers(1, 40))
    def time(self, seconds: int) -> None:
        self.bench.now += seconds * SECOND
        writes = self.bench.books.tick(self.bench.now, self.bench.out)
        self.bench.store(Answer(None, writes))

    @rule()
    def crash(self) -> None:
        before = self.bench.books.audit(AuditAsk())
        self.bench.crash()
        after = self.bench.books.audit(AuditAsk())
        assert (before.vms, before.reservations) == (after.vms, after.reservations)
        assert before.datastores == after.datastores
        assert (before.cpu_used, before.memory_used_mb) == (after.cpu_used, after.memory_used_mb)

    @invariant()
    def sums_and_bounds(self) -> None:
        audit = self.bench.audit()
        assert self.bench.books.summary().cpu_free == audit.cpu - audit.cpu_used
        keys = [row.key for row in (*audit.vms, *audit.reservations)]
        assert len(keys) == len(set(keys))

    @invariant()
    def what_was_confirmed_is_still_held(self) -> None:
        held = {r.key for r in self.bench.books.reservations.values() if not r.expires_at}
        held |= {vm.key for vm in self.bench.books.vms.values()}
        assert self.confirmed <= held

    def teardown(self) -> None:
        """Nothing leaks: when all is deleted and expired, all room is free."""
        bench = self.bench
        bench.hypervisor._fail.clear()
        for _ in range(3):
            bench.drive()
            for vm_id in sorted(bench.books.vms):
                bench.call(DeleteVm(vm_id), 9)
            for r in list(bench.books.reservations.values()):
                assert bench.call(Release(r.key, r.attempt, r.reservation_id)) == Done()
        audit = bench.audit()
        assert (audit.cpu_used, audit.memory_used_mb) == (0, 0)
        assert not bench.disk
        bench.crash()
        bench.drive()
        assert not bench.hypervisor.machines


TestBooksUnderFire = BooksUnderFire.TestCase
TestBooksUnderFire.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_failures_rebuild_as_errors() -> None:
    assert isinstance(Bench().call(CreateVm("vm", "k", 1, 1)), Failure)
