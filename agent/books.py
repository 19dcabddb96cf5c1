"""The books of one host: who holds how much of it. The only judge of its capacity.

Theory of operation
-------------------
Room is held by *reservations* (by request key; provisional ones expire after
:data:`~fabric.limits.RESERVATION_LIFETIME_US`) and by *VMs*.  Creating a VM turns its reservation
into the VM: the room changes hands, never its amount.  The sums ``used`` are kept beside the rows;
:meth:`Books.audit` shows both, so that whoever asks can add up himself.

Every change is handed back as writes; whatever is answered is answered behind them.  What is asked
again hands the same writes back again: the first ones may still be on their way to the disk.  One
reservation or VM is one key, so :meth:`Books.restore` needs no log.

* One key holds room once: reserving again under a live key answers the same reservation.
* A lower attempt under a key than the one held, or than one released, is refused: it is a late
  copy of something that its sender has given up.
* Everything is deterministic; time and callers' tokens come from outside.

Tens of thousands of books live in one simulator process: rows exist only for what is held, the
description of the host is shared, the summary is made when asked for and kept until a change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from agent.lifecycle import CREATING, Answers, Lifecycle
from agent.records import (
    DRAIN_KEY,
    RESERVATION_PREFIX,
    VM_PREFIX,
    Reservation,
    Vm,
    reservation_key,
)
from fabric.errors import BadInput
from fabric.ids import format_id
from fabric.limits import HOST_PAGE, MAX_RESERVATIONS, MAX_TEXT, RESERVATION_LIFETIME_US
from fabric.machine import NEVER, Contact, Message, Sink, Write
from fabric.placement.constraints import host_verdict, pick_datastore
from fabric.placement.host import Answer
from fabric.placement.request import PlacementRequest
from fabric.tree.summary import Summary, host_summary
from fabric.wire.codec import decode_record
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
    VmPage,
)
from fabric.wire.placement import HostRefused, Reserve, Reserved

if TYPE_CHECKING:
    from agent.host import HostSpec

Held: TypeAlias = Reservation | Vm


class Books:
    """Capacity, reservations and VMs of one host. Implements ``fabric.placement.HostBooks``."""

    __slots__ = (
        "_by_key",
        "_disk_used",
        "_draining",
        "_expiry",
        "_last_id",
        "_lifecycle",
        "_me",
        "_released",
        "_reservations",
        "_summary",
        "cpu_used",
        "memory_used_mb",
        "spec",
        "version",
    )

    def __init__(self, spec: HostSpec, me: Contact) -> None:
        self.spec = spec
        self._me = me
        self.cpu_used = 0
        self.memory_used_mb = 0
        self._disk_used: dict[str, int] = {}
        self._reservations: dict[int, Reservation] = {}
        self._by_key: dict[str, Held] = {}
        self._released: dict[str, int] = {}  # key -> highest attempt given up, oldest first
        self._lifecycle = Lifecycle(self._vm_gone)
        self._draining = False
        self._expiry = NEVER  # no provisional reservation expires earlier
        self._last_id = 0
        self._summary: Summary | None = None
        self.version = 0

    # --- what the peer asks -----------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether the host takes no new placements."""
        return self._draining

    @property
    def due(self) -> int:
        """When :meth:`tick` wants to be called next."""
        return min(self._expiry, self._lifecycle.due)

    @property
    def vms(self) -> dict[str, Vm]:
        """The VMs by id. Read only."""
        return self._lifecycle.vms

    @property
    def reservations(self) -> dict[int, Reservation]:
        """The reservations by id, provisional and confirmed. Read only."""
        return self._reservations

    def restore(self, stored: Iterable[tuple[bytes, bytes]], now: int, out: Sink) -> None:
        """Load what was durable, and go on with what a crash interrupted."""
        found = False
        for key, value in sorted(stored):
            if key.startswith(RESERVATION_PREFIX):
                self._hold(decode_record(Reservation, value))
            elif key.startswith(VM_PREFIX):
                vm = decode_record(Vm, value)
                self._lifecycle.vms[vm.vm_id] = vm
                self._hold(vm)
            elif key == DRAIN_KEY:
                self._draining = True
            else:
                continue
            found = True
        if found:
            # without any record the machines on the hypervisor may be anybody's: left alone
            self._lifecycle.resume(out)

    def summary(self) -> Summary:
        """Return this host's summary; the same object until something in it changes."""
        summary = self._summary
        if summary is None:
            spec = self.spec
            free = self._free_disks()
            summary = self._summary = host_summary(
                labels=spec.draining_labels if self._draining else spec.labels,
                cpu=spec.cpu,
                cpu_free=spec.cpu - self.cpu_used,
                memory_mb=spec.memory_mb,
                memory_free_mb=spec.memory_mb - self.memory_used_mb,
                disk_free_mb=max(free.values(), default=0),
                vms=len(self._lifecycle.vms),
            )
        return summary

    def reserve(self, ask: Reserve, now: int) -> Answer:
        """Re-check everything and reserve atomically: ``Reserved`` or ``HostRefused``."""
        expired = self._expire(now)
        request = ask.request
        held = self._by_key.get(request.key)
        if held is not None:
            if ask.attempt < held.attempt:
                return self._refuse(ask, "stale attempt", expired)
            return Answer(self._reserved(held, ask, now), (*expired, self._current(held)))
        reason = self._reason_against(request, ask.attempt)
        if reason:
            return self._refuse(ask, reason, expired)
        datastore = pick_datastore(request, self._free_disks()) or ""
        reservation = Reservation(
            max(self._last_id + 1, now),  # never used before, also after a restart
            request.key,
            ask.attempt,
            request.vm_id,
            request.cpu,
            request.memory_mb,
            request.disk_mb,
            datastore,
            now + RESERVATION_LIFETIME_US,
        )
        self._hold(reservation)
        return Answer(self._reserved(reservation, ask, now), (*expired, reservation.write()))

    def call(self, body: Message, token: int, now: int, out: Sink) -> Answer:
        """Carry out a message of ``fabric.wire.host``."""
        expired = self._expire(now)
        answer = self._call(body, token, out)
        if expired:
            answer.writes = (*expired, *answer.writes)
        return answer

    def driven(self, op: int, result: Any, error: str | None, now: int, out: Sink) -> Answers:
        """Take the outcome of a hypervisor call."""
        answers = self._lifecycle.driven(op, result, error, now, out)
        if answers:
            self.version += 1
        return answers

    def tick(self, now: int, out: Sink) -> tuple[Write, ...]:
        """Expire what is over, try again what failed."""
        self._lifecycle.retry(now, out)
        return self._expire(now)

    # --- host calls -------------------------------------------------------------------------------

    def _call(self, body: Message, token: int, out: Sink) -> Answer:
        match body:
            case Confirm():
                return self._confirm(body)
            case Release():
                return self._release(body)
            case CreateVm():
                return self._create(body, token, out)
            case DeleteVm():
                return self._lifecycle.delete(body.vm_id, token, out)
            case PowerVm():
                return self._lifecycle.power(body.vm_id, body.on, token, out)
            case ListVms():
                rows = [vm.info() for vm in self._vms_after(body.after)]
                return Answer(VmPage(tuple(rows[:HOST_PAGE]), len(rows) > HOST_PAGE))
            case AuditAsk():
                return Answer(self.audit(body))
            case Drain():
                return self._drain(body.on)
        return Answer(Failure("NotBuiltYet", f"hosts know no call {type(body).__name__}"))

    def _confirm(self, body: Confirm) -> Answer:
        held = self._by_key.get(body.key)
        if held is None or held.reservation_id != body.reservation_id:
            return _unknown_reservation(body)
        if body.attempt < held.attempt:
            return _stale(held)
        if isinstance(held, Vm) or not held.expires_at:
            return Answer(Done(), (self._current(held),))
        confirmed = replace(held, expires_at=0)
        self._reservations[held.reservation_id] = confirmed
        self._by_key[held.key] = confirmed
        self.version += 1
        return Answer(Done(), (confirmed.write(),))

    def _release(self, body: Release) -> Answer:
        held = self._by_key.get(body.key)
        if held is None or held.reservation_id != body.reservation_id:
            self._remember_released(body.key, body.attempt)
            if body.reservation_id in self._reservations:
                return Answer(Done())  # after a restart the id may have gone to somebody else
            return Answer(Done(), (Write(reservation_key(body.reservation_id), None),))
        if body.attempt < held.attempt:
            return _stale(held)
        if isinstance(held, Vm) or (body.unconfirmed and not held.expires_at):
            data = (("key", body.key), ("vm_id", held.vm_id))
            return Answer(Failure("Conflict", "the reservation is in use", data))
        self._remember_released(body.key, body.attempt)
        return Answer(Done(), (self._drop(held),))

    def _create(self, body: CreateVm, token: int, out: Sink) -> Answer:
        held = self._by_key.get(body.key)
        if held is None or held.reservation_id != body.reservation_id:
            return _unknown_reservation(body)
        if body.attempt < held.attempt:
            return _stale(held)
        if held.vm_id != body.vm_id:
            message = f"the reservation is for VM {held.vm_id}"
            return Answer(Failure("Conflict", message, (("vm_id", body.vm_id),)))
        if isinstance(held, Vm):
            return self._lifecycle.create_again(self.vms[held.vm_id], token)
        if len(body.image_id) > MAX_TEXT or not body.image_id.isascii():
            return Answer(Failure("InvalidEntity", "image_id: must be ASCII"))
        vm = Vm(
            held.vm_id,
            CREATING,
            held.key,
            max(held.attempt, body.attempt),
            held.reservation_id,
            held.cpu,
            held.memory_mb,
            held.disk_mb,
            held.datastore,
            body.image_id,
        )
        gone = self._drop(held)
        self._hold(vm)
        answer = self._lifecycle.create(vm, token, out)
        answer.writes = (gone, *answer.writes)
        return answer

    def _drain(self, on: bool) -> Answer:
        if self._draining != on:
            self._draining = on
            self._changed()
        return Answer(Done(), (Write(DRAIN_KEY, b"1" if on else None),))

    def audit(self, ask: AuditAsk) -> Audit:
        """Return a page of the account: what is used, and everything that uses it."""
        vms = [vm.info() for vm in self._vms_after(ask.vm_after)]
        reservations = [
            self._reservations[number].info()
            for number in sorted(self._reservations)
            if number > ask.reservation_after
        ]
        spec = self.spec
        used = self._disk_used
        return Audit(
            self.version,
            spec.cpu,
            self.cpu_used,
            spec.memory_mb,
            self.memory_used_mb,
            tuple((name, size, used.get(name, 0)) for name, size in spec.datastores),
            self._draining,
            tuple(vms[:HOST_PAGE]),
            tuple(reservations[:HOST_PAGE]),
            len(vms) > HOST_PAGE or len(reservations) > HOST_PAGE,
        )

    # --- inside -----------------------------------------------------------------------------------

    def _reason_against(self, request: PlacementRequest, attempt: int) -> str:
        """Return why a new reservation cannot be made, or ``""``."""
        if attempt <= self._released.get(request.key, -1):
            return "stale attempt"
        try:
            request.check()
        except BadInput:
            return "invalid request"
        if request.vm_id in self._lifecycle.vms:
            return "vm exists"
        if len(self._reservations) >= MAX_RESERVATIONS:
            return "reservations"
        spec = self.spec
        return host_verdict(
            request,
            format_id(self._me.node_id),
            spec.draining_labels if self._draining else spec.labels,
            (spec.cpu - self.cpu_used, spec.memory_mb - self.memory_used_mb),
            self._free_disks(),
        )

    def _free_disks(self) -> dict[str, int]:
        used = self._disk_used
        return {name: size - used.get(name, 0) for name, size in self.spec.datastores}

    def _reserved(self, held: Held, ask: Reserve, now: int) -> Reserved:
        lifetime_us = RESERVATION_LIFETIME_US
        if isinstance(held, Reservation) and held.expires_at:
            lifetime_us = held.expires_at - now
        return Reserved(
            held.key,
            held.attempt,
            ask.entry_job,
            held.reservation_id,
            self._me,
            lifetime_us,
            held.datastore,
        )

    def _current(self, held: Held) -> Write:
        """Return the write that makes this row durable, as it is now."""
        return (held if isinstance(held, Reservation) else self.vms[held.vm_id]).write()

    def _refuse(self, ask: Reserve, reason: str, writes: tuple[Write, ...]) -> Answer:
        return Answer(HostRefused(ask.job, reason, self.summary()), writes)

    def _hold(self, held: Held) -> None:
        """Enter a row and what it uses."""
        self._use(held, 1)
        self._by_key[held.key] = held
        self._last_id = max(self._last_id, held.reservation_id)
        if isinstance(held, Reservation):
            self._reservations[held.reservation_id] = held
            if held.expires_at:
                self._expiry = min(self._expiry, held.expires_at)

    def _drop(self, reservation: Reservation) -> Write:
        """Take a reservation out of the books."""
        self._use(reservation, -1)
        del self._by_key[reservation.key]
        del self._reservations[reservation.reservation_id]
        return Write(reservation_key(reservation.reservation_id), None)

    def _vm_gone(self, vm: Vm) -> None:
        self._use(vm, -1)
        del self._by_key[vm.key]

    def _use(self, held: Held, sign: int) -> None:
        self.cpu_used += sign * held.cpu
        self.memory_used_mb += sign * held.memory_mb
        if held.disk_mb:
            left = self._disk_used.get(held.datastore, 0) + sign * held.disk_mb
            self._disk_used[held.datastore] = left
        self._changed()

    def _changed(self) -> None:
        self._summary = None
        self.version += 1

    def _expire(self, now: int) -> tuple[Write, ...]:
        if now < self._expiry:
            return ()
        provisional = [r for r in self._reservations.values() if r.expires_at]
        over = sorted(r.reservation_id for r in provisional if r.expires_at <= now)
        writes = tuple(self._drop(self._reservations[number]) for number in over)
        self._expiry = min((r.expires_at for r in provisional if r.expires_at > now), default=NEVER)
        return writes

    def _remember_released(self, key: str, attempt: int) -> None:
        """Refuse late copies of an attempt that was given up. A restart forgets: they expire."""
        attempt = max(attempt, self._released.pop(key, 0))
        self._released[key] = attempt
        if len(self._released) > MAX_RESERVATIONS:
            del self._released[next(iter(self._released))]

    def _vms_after(self, after: str) -> list[Vm]:
        vms = self._lifecycle.vms
        return [vms[vm_id] for vm_id in sorted(vms) if vm_id > after]


def _unknown_reservation(body: Confirm | CreateVm) -> Answer:
    data = (("key", body.key), ("reservation_id", str(body.reservation_id)))
    return Answer(Failure("UnknownReservation", "it expired, was released, or never was", data))


def _stale(held: Held) -> Answer:
    message = f"attempt {held.attempt} holds the reservation"
    return Answer(Failure("Conflict", message, (("key", held.key), ("attempt", str(held.attempt)))))
