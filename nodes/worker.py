"""The worker: finds unfinished tasks, claims them, and runs their machines against the real world.

One asyncio task per claimed task, bounded in number.  Every save is one transaction that also
checks and raises the work item's version: a worker that was taken for dead, and is not, cannot
store anything any more and drops the task.  A worker that dies leaves its work items; it, or
another, resumes them from what is stored.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from fabric.cloudstore.client import CompareAndSet, Delete, Operation
from fabric.errors import FabricError, Unavailable
from fabric.errors import Refused as RefusedError
from fabric.machine import Contact, Message
from fabric.placement.request import Placed, PlacementRequest
from fabric.runtime.tracing import TRACE
from fabric.units import SECOND
from fabric.wire.placement import Explanation
from nodes.cloud.access import Cloud, Raced, Stored, create, debits, replaced
from nodes.cloud.flavors import reap_flavors
from nodes.contract import quota
from nodes.contract.entities import Leftover, Project, Task, Vm, Work
from nodes.contract.tasks import CREATE_VM, DELETE_VM
from nodes.roles import actions
from nodes.roles.claims import BEAT_US, Claims, Item
from nodes.roles.create_vm import CreateVm
from nodes.roles.delete_vm import DeleteVm

_LOG: Final = logging.getLogger(__name__)

#: Tasks that one worker runs at a time; the others wait in the store.
MAX_RUNS: Final = 64
#: How often a worker looks for work that nobody told it of.
_POLL_S: Final = 1.0
_PLACE_TIMEOUT_S: Final = 10.0
_CALL_TIMEOUT_S: Final = 10.0


class Hosts(Protocol):
    """The fabric, as a worker needs it."""

    async def place(self, request: PlacementRequest, timeout_s: float) -> Placed:
        """Reserve room; raises ``fabric.errors.Refused`` with its explanation, or others."""

    async def ask(self, host: Contact, body: Message, timeout_s: float) -> Message:
        """Have a host's agent carry out a message of ``fabric.wire.host``."""

    async def gone(self, host: Contact) -> bool:
        """Whether the fabric declared this host dead, or it left."""

    async def find(self, address: str) -> int | None:
        """Return the node id of the host with this address."""


@dataclass(slots=True)
class _Run:
    """A claimed task with the versions that the next save must find."""

    work: Stored[Work]
    task: Stored[Task]
    vm: Stored[Vm] | None
    turn: asyncio.Lock


class Worker:
    """Runs tasks until stopped. ``name`` must be its alone among living workers."""

    def __init__(
        self,
        cloud: Cloud,
        hosts: Hosts,
        clock_us: Callable[[], int],
        name: str,
        life: str,
        on_ended: Callable[[Task], None] = lambda task: None,
    ) -> None:
        self._cloud = cloud
        self._on_ended = on_ended
        self._hosts = hosts
        self._clock_us = clock_us
        self._claims = Claims(name, life)
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._full = False  # work was left lying because all runs were taken
        self._nudge = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None

    def nudge(self) -> None:
        """There is new work: look at once instead of at the next turn."""
        self._nudge.set()

    def start(self) -> None:
        self._loop_task = asyncio.create_task(self._look_forever(), name="worker")

    async def stop(self) -> None:
        """Drop everything where it stands; the claims stay for the next life."""
        running = [*self._runs.values()]
        if self._loop_task is not None:
            running.append(self._loop_task)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # --- finding work -----------------------------------------------------------------------------

    async def _look_forever(self) -> None:
        while True:
            self._nudge.clear()
            try:
                await self._look()
            except FabricError as error:
                _LOG.warning("looking for work failed: %s", error)
            except Exception:
                _LOG.exception("looking for work failed")
            try:
                async with asyncio.timeout(_POLL_S):
                    await self._nudge.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        found = {stored.value.id: stored for stored in await self._cloud.list(Work)}
        self._full = False
        items = [Item(key, it.version, it.value.holder) for key, it in found.items()]
        for item in self._claims.look(items, self._clock_us()):
            self._full = len(self._runs) >= MAX_RUNS
            if self._full:
                return
            if item.task_id in self._runs:
                continue
            run = asyncio.create_task(self._guarded(found[item.task_id]))
            self._runs[item.task_id] = run
            run.add_done_callback(functools.partial(self._forget, item.task_id))

    def _forget(self, task_id: str, _: asyncio.Task[None]) -> None:
        del self._runs[task_id]
        if self._full:
            self._nudge.set()

    # --- one task ---------------------------------------------------------------------------------

    async def _guarded(self, work: Stored[Work]) -> None:
        try:
            await self._carry(work)
        except Raced:
            _LOG.info("task %s was taken by another worker, or changed", work.value.id)
        except FabricError as error:
            _LOG.warning("task %s stopped, to be resumed: %s", work.value.id, error)
        except Exception:
            _LOG.exception("task %s stopped on a defect, to be resumed", work.value.id)

    async def _carry(self, work: Stored[Work]) -> None:
        TRACE.set(work.value.trace)  # of this asyncio task alone
        run = await self._claim(work)
        machine = _machine(run)
        if machine is None:
            return
        _LOG.info("task %s: %s begins or goes on", work.value.id, work.value.operation)
        beating = asyncio.create_task(self._beat(run))
        try:
            action = machine.begin(self._cloud.clock_ms())
            while not isinstance(action, actions.Finished):
                outcome = await self._do(run, action)
                action = machine.take(outcome, self._cloud.clock_ms())
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _claim(self, work: Stored[Work]) -> _Run:
        claimed = replace(work.value, holder=self._claims.holder, beat=work.value.beat + 1)
        version = await self._cloud.commit(work.value.id, [replaced(work, claimed)])
        task = await self._cloud.read(Task, work.value.id)
        vm = await self._cloud.read(Vm, work.value.entity_id)
        if task is None:
            raise Raced(f"task {work.value.id} is gone")
        return _Run(replace(work, value=claimed, version=version), task, vm, asyncio.Lock())

    async def _beat(self, run: _Run) -> None:
        """Show that we live for as long as the task runs."""
        while True:
            await asyncio.sleep(BEAT_US / SECOND)
            async with run.turn:
                try:
                    await self._raise(run, [])
                except Raced:
                    return  # the next save finds out
                except FabricError as error:
                    _LOG.warning("heartbeat of task %s failed: %s", run.work.value.id, error)

    # --- actions ----------------------------------------------------------------------------------

    async def _do(self, run: _Run, action: actions.Action) -> actions.Outcome:
        match action:
            case actions.Save():
                async with run.turn:
                    await self._save(run, action)
                return actions.Done()
            case actions.Place():
                return await self._place(action)
            case actions.Ask():
                return await self._ask(action)
            case actions.FindHost():
                return await self._find(action)
            case actions.Pause():
                await asyncio.sleep(action.ms / 1000)
                return actions.Done()
            case actions.Reap():
                await reap_flavors(self._cloud, action.flavor_ids)
                return actions.Done()
        raise AssertionError(f"unknown action {action!r}")

    async def _place(self, action: actions.Place) -> actions.Outcome:
        try:
            return actions.PlacedAt(await self._hosts.place(action.request, _PLACE_TIMEOUT_S))
        except RefusedError as error:
            explanation = error.explanation
            counts = dict(explanation.counts) if isinstance(explanation, Explanation) else {}
            return actions.Refused(error.message, counts)
        except FabricError as error:
            return actions.Failed(error)

    async def _find(self, action: actions.FindHost) -> actions.Outcome:
        try:
            return actions.Found(await self._hosts.find(action.address))
        except FabricError as error:
            return actions.Failed(error)

    async def _ask(self, action: actions.Ask) -> actions.Outcome:
        try:
            return actions.Answered(
                await self._hosts.ask(action.host, action.body, _CALL_TIMEOUT_S)
            )
        except FabricError as error:
            dead = isinstance(error, Unavailable) and await self._hosts.gone(action.host)
            return actions.Failed(error, dead)

    # --- saving -----------------------------------------------------------------------------------

    async def _save(self, run: _Run, action: actions.Save) -> None:
        operations: list[Operation] = [replaced(run.task, action.task)]
        if action.vm is not None:
            assert run.vm is not None
            if action.removed:
                operations += await self._removal(run, action.vm)
            else:
                operations.append(replaced(run.vm, action.vm))
        for attempt in action.left:
            leftover_id = self._cloud.store.new_id(run.work.value.id)
            leftover = Leftover(leftover_id, run.work.value.entity_id, attempt)
            operations.append(create(leftover))
        if action.ended:
            operations.append(Delete(Work.KIND, run.work.value.id, run.work.version))
            await self._cloud.commit(run.work.value.id, operations)
            self._on_ended(action.task)
            _LOG.info("task %s: %s", action.task.id, action.task.state)
            return
        reap = action.vm.flavor_ids if action.vm is not None and action.removed else ()
        version = await self._raise(run, operations, reap)
        run.task = replace(run.task, value=action.task, version=version)
        if action.removed:
            run.vm = None
        elif action.vm is not None and run.vm is not None:
            run.vm = replace(run.vm, value=action.vm, version=version)

    async def _removal(self, run: _Run, vm: Vm) -> list[Operation]:
        assert run.vm is not None
        operations: list[Operation] = [Delete(Vm.KIND, vm.id, run.vm.version)]
        project = await self._cloud.read(Project, vm.project_id)
        if project is not None:
            cost = quota.costs(project.value.lines, vm.whole_cost, -1)
            operations += debits(project.value, cost)
        return operations

    async def _raise(
        self, run: _Run, operations: list[Operation], reap: tuple[str, ...] = ()
    ) -> int:
        """Commit ``operations`` together with a beat, which fails if the claim is lost."""
        before = run.work.value
        after = replace(before, beat=before.beat + 1, reap=reap or before.reap)
        proof: CompareAndSet = replaced(run.work, after)
        version = await self._cloud.commit(before.id, [proof, *operations])
        run.work = replace(run.work, value=after, version=version)
        return version


def _machine(run: _Run) -> actions.TaskRun | None:
    """Return the machine of a task; ``None`` for operations that this version does not know."""
    vm = run.vm.value if run.vm is not None else None
    if run.work.value.operation == CREATE_VM and vm is not None:
        return CreateVm(run.task.value, vm)
    if run.work.value.operation == DELETE_VM:
        return DeleteVm(run.task.value, vm, run.work.value)
    _LOG.error("task %s: nobody here knows %s", run.work.value.id, run.work.value.operation)
    return None
