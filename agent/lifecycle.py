"""The life of the VMs of one host, from reservation consumed to room freed.

Every state on the way is stored before its outcome is told, so a crash at any point is answered by
the same rule: a VM found in a passing state has its hypervisor call put out again (calls are
idempotent)::

    creating --ok--> stopped <--> starting/stopping <--> started
       |                  \\                              /
       | failed            `------> deleting <-----------'
       v                                |
    undoing ---------ok---------------> gone (room freed) <---ok---

A failed create is undone before its failure is told.  What cannot be destroyed keeps its room and
is tried again every few seconds.  After a restart the hypervisor's inventory is compared with the
books: machines of ours that no record knows were made by a create whose record a crash took away,
and are removed; records without a machine become ``lost``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent.driver import CreateMachine, DestroyMachine, DriverCall, Inventory, Machines, SetPower
from agent.records import Vm, vm_key
from fabric.machine import NEVER, Message, Sink, Write
from fabric.placement.host import Answer
from fabric.units import SECOND
from fabric.wire.common import Done, Failure

CREATING: Final = "creating"
STOPPED: Final = "stopped"
STARTING: Final = "starting"
STARTED: Final = "started"
STOPPING: Final = "stopping"
DELETING: Final = "deleting"
UNDOING: Final = "undoing"
LOST: Final = "lost"

#: States with a hypervisor call under way (or to be tried again).
PASSING: Final = (CREATING, STARTING, STOPPING, DELETING, UNDOING)
#: Before a failed removal is tried again: hypervisors recover in seconds, and nobody waits for it.
RETRY_US: Final = 5 * SECOND

Answers = list[tuple[int, Answer]]


@dataclass(slots=True)
class Operation:
    """A hypervisor call under way, and who waits for its outcome."""

    vm_id: str
    waiters: list[int] = field(default_factory=list)
    deleters: list[int] = field(default_factory=list)
    failure: Failure | None = None
    """Why the create failed that is being undone."""


class Lifecycle:
    """All VMs of one host. ``on_gone`` is told of each VM whose room is free again."""

    __slots__ = ("_by_vm", "_inventory", "_last_op", "_on_gone", "_operations", "_retry", "vms")

    def __init__(self, on_gone: Callable[[Vm], None]) -> None:
        self.vms: dict[str, Vm] = {}
        self._on_gone = on_gone
        self._operations: dict[int, Operation] = {}
        self._by_vm: dict[str, Operation] = {}
        self._retry: dict[str, int] = {}
        self._inventory: tuple[int, tuple[Vm, ...]] | None = None
        self._last_op = 0

    @property
    def due(self) -> int:
        """When :meth:`retry` wants to be called."""
        return min(self._retry.values()) if self._retry else NEVER

    # --- calls ------------------------------------------------------------------------------------

    def create(self, vm: Vm, token: int, out: Sink) -> Answer:
        """Begin to make ``vm``, whose room is already held."""
        self.vms[vm.vm_id] = vm
        self._begin(vm, Operation(vm.vm_id, [token]), out)
        return Answer(None, (vm.write(),))

    def create_again(self, vm: Vm, token: int) -> Answer:
        """Answer a repeated create of a VM that the books know."""
        operation = self._by_vm.get(vm.vm_id)
        if vm.state == CREATING and operation is not None and not operation.deleters:
            operation.waiters.append(token)
            return Answer(None)
        if vm.state in (CREATING, DELETING, UNDOING, LOST):
            return _busy(vm)
        return Answer(vm.info(), (vm.write(),))

    def delete(self, vm_id: str, token: int, out: Sink) -> Answer:
        """Remove the VM; one that is not there is removed already."""
        vm = self.vms.get(vm_id)
        if vm is None:
            return Answer(Done(), (Write(vm_key(vm_id), None),))
        operation = self._by_vm.get(vm_id)
        if operation is not None and vm.state in (CREATING, DELETING, UNDOING):
            operation.deleters.append(token)  # a create in flight is undone when it ends
            return Answer(None)
        if operation is not None:
            return _busy(vm)
        self._retry.pop(vm_id, None)
        vm = self._set(vm, UNDOING if vm.state == UNDOING else DELETING)
        self._begin(vm, Operation(vm_id, [], [token]), out)
        return Answer(None, (vm.write(),))

    def power(self, vm_id: str, on: bool, token: int, out: Sink) -> Answer:
        """Start or stop the VM."""
        vm = self.vms.get(vm_id)
        if vm is None:
            return Answer(Failure("NotFound", f"no VM {vm_id} on this host", (("vm_id", vm_id),)))
        if vm.state == (STARTED if on else STOPPED):
            return Answer(vm.info(), (vm.write(),))
        passing = STARTING if on else STOPPING
        if vm.state == passing:
            self._by_vm[vm_id].waiters.append(token)
            return Answer(None)
        if vm.state != (STOPPED if on else STARTED):
            return _busy(vm)
        vm = self._set(vm, passing)
        self._begin(vm, Operation(vm_id, [token]), out)
        return Answer(None, (vm.write(),))

    # --- outcomes ---------------------------------------------------------------------------------

    def driven(self, op: int, result: Any, error: str | None, now: int, out: Sink) -> Answers:
        """Take the outcome of hypervisor call ``op``."""
        if self._inventory is not None and self._inventory[0] == op:
            known = self._inventory[1]
            self._inventory = None
            return self._compare(known, result, out) if isinstance(result, Machines) else []
        operation = self._operations.pop(op, None)
        if operation is None or self._by_vm.get(operation.vm_id) is not operation:
            return []
        del self._by_vm[operation.vm_id]
        vm = self.vms.get(operation.vm_id)
        if vm is None:  # a machine that no record knew: removed, or found again by the next start
            return []
        if vm.state == CREATING:
            return self._created(vm, operation, error, out)
        if vm.state in (STARTING, STOPPING):
            return self._powered(vm, operation, error)
        return self._destroyed(vm, operation, error, now)

    def _created(self, vm: Vm, operation: Operation, error: str | None, out: Sink) -> Answers:
        if error is None and not operation.deleters:
            vm = self._set(vm, STOPPED)
            return _all(operation.waiters, vm.info(), vm.write())
        if error is None:
            operation.failure = Failure("Conflict", "the VM was deleted while it was made")
        else:
            operation.failure = Failure(error, f"the hypervisor could not make VM {vm.vm_id}")
        vm = self._set(vm, UNDOING)
        self._begin(vm, operation, out)
        return [(0, Answer(None, (vm.write(),)))]

    def _powered(self, vm: Vm, operation: Operation, error: str | None) -> Answers:
        worked = error is None
        vm = self._set(vm, STARTED if (vm.state == STARTING) == worked else STOPPED)
        if error is None:
            return _all(operation.waiters, vm.info(), vm.write())
        failure = Failure(error, f"the hypervisor could not switch VM {vm.vm_id}")
        return _all(operation.waiters, failure, vm.write())

    def _destroyed(self, vm: Vm, operation: Operation, error: str | None, now: int) -> Answers:
        write = Write(vm_key(vm.vm_id), None)
        if error is None:
            del self.vms[vm.vm_id]
            self._on_gone(vm)
            outcome: Message = Done()
        else:  # the room stays held: whatever is there may still use it
            self._retry[vm.vm_id] = now + RETRY_US
            write = vm.write()
            outcome = Failure(error, f"the hypervisor could not remove VM {vm.vm_id}")
        answers = _all(operation.deleters, outcome, write)
        if operation.failure is not None:
            answers += [(token, Answer(operation.failure)) for token in operation.waiters]
        return answers

    def _compare(self, known: Sequence[Vm], machines: Machines, out: Sink) -> Answers:
        """Bring books and hypervisor together after a restart."""
        found = dict(machines.vms)
        for vm_id in sorted(found):
            if vm_id not in self.vms:
                operation = Operation(vm_id)
                self._drive(DestroyMachine(vm_id), operation, out)
        writes = []
        for vm in known:
            if self.vms.get(vm.vm_id) is not vm:
                continue  # it went on meanwhile
            on = found.get(vm.vm_id)
            state = LOST if on is None else STARTED if on else STOPPED
            if vm.state != state:
                writes.append(self._set(vm, state).write())
        return [(0, Answer(None, tuple(writes)))] if writes else []

    # --- restart and retry ------------------------------------------------------------------------

    def resume(self, out: Sink) -> None:
        """Put out again what a crash interrupted, and ask what the hypervisor really has."""
        settled = []
        for vm_id in sorted(self.vms):
            vm = self.vms[vm_id]
            if vm.state in PASSING:
                self._begin(vm, Operation(vm_id), out)
            else:
                settled.append(vm)
        self._last_op += 1
        self._inventory = (self._last_op, tuple(settled))
        out.drive(Inventory(), self._last_op)

    def retry(self, now: int, out: Sink) -> None:
        """Try again the removals whose time has come."""
        for vm_id in sorted(vm_id for vm_id, at in self._retry.items() if at <= now):
            del self._retry[vm_id]
            vm = self.vms.get(vm_id)
            if vm is not None and vm_id not in self._by_vm:
                self._begin(vm, Operation(vm_id), out)

    # --- inside -----------------------------------------------------------------------------------

    def _set(self, vm: Vm, state: str) -> Vm:
        vm = replace(vm, state=state)
        self.vms[vm.vm_id] = vm
        return vm

    def _begin(self, vm: Vm, operation: Operation, out: Sink) -> None:
        """Put out the hypervisor call that the VM's passing state stands for."""
        call: DriverCall
        if vm.state == CREATING:
            call = CreateMachine(
                vm.vm_id, vm.cpu, vm.memory_mb, vm.disk_mb, vm.datastore, vm.image_id
            )
        elif vm.state in (STARTING, STOPPING):
            call = SetPower(vm.vm_id, vm.state == STARTING)
        else:
            call = DestroyMachine(vm.vm_id)
        self._drive(call, operation, out)

    def _drive(self, call: DriverCall, operation: Operation, out: Sink) -> None:
        self._last_op += 1
        self._operations[self._last_op] = operation
        self._by_vm[operation.vm_id] = operation
        out.drive(call, self._last_op)


def _all(tokens: Sequence[int], body: Message, write: Write) -> Answers:
    """The same answer for all ``tokens``; the write goes first, with or without anybody waiting."""
    if not tokens:
        return [(0, Answer(None, (write,)))]
    return [(t, Answer(body, (write,) if i == 0 else ())) for i, t in enumerate(tokens)]


def _busy(vm: Vm) -> Answer:
    return Answer(
        Failure(
            "Conflict", f"VM {vm.vm_id} is {vm.state}", (("vm_id", vm.vm_id), ("state", vm.state))
        )
    )
