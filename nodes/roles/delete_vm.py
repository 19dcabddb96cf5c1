"""The one step of DELETE_VM: every host that may hold a copy removes it, then the VM goes.

::

    (for each attempt PLACED:  RELEASING -> REMOVING)  -> VM deleted, quota back (one save)
        -> flavors that waited for it are reaped -> finished

A VM that is missing on its host is no error.  A host that left the fabric cannot be asked; what it
may hold is put on record and removed when it comes back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fabric.errors import Conflict, FabricError, Unavailable
from nodes.contract import tasks
from nodes.contract.entities import CREATING, ENDED, ERROR, PLACED, Attempt, Task, Vm, Work
from nodes.roles import trying
from nodes.roles.actions import Action, Answered, Failed, Finished, Outcome, Reap, Save

_DELETE: Final = 0

RELEASING: Final = "releasing"
REMOVING: Final = "removing"
REAPING: Final = "reaping"


class DeleteVm:
    """One DELETE_VM task. ``vm`` is ``None`` when an earlier life of it got that far."""

    def __init__(self, task: Task, vm: Vm | None, work: Work) -> None:
        self._task = task
        self._vm = vm
        self._flavors = work.reap if vm is None else vm.flavor_ids
        attempts = () if vm is None else vm.attempts
        self._dirty = [attempt for attempt in attempts if attempt.phase == PLACED]
        self._left: list[Attempt] = []
        self._state = RELEASING if vm is not None else REAPING
        self._tries = 0
        self._saved = False  # the last action was a save or a pause: the state's own is due

    def begin(self, now_ms: int) -> Action:
        self._task = tasks.start_step(self._task, _DELETE, now_ms)
        self._saved = True
        return Save(self._task)

    def take(self, outcome: Outcome, now_ms: int) -> Action:
        if self._saved:
            self._saved = False
            return self._act()
        if self._state == REAPING:
            self._task = tasks.complete_step(self._task, _DELETE, now_ms)
            self._saved = True
            return Save(self._task, ended=True)
        match outcome:
            case Answered():
                return self._answered()
            case Failed():
                return self._failed(outcome, now_ms)
        raise AssertionError(f"nobody asked for {outcome!r}")

    def _act(self) -> Action:
        """Return the action of the present state."""
        if self._task.state in ENDED:
            return Finished()
        if self._vm is None or self._state == REAPING:
            return Reap(self._flavors)
        if not self._dirty:
            self._state = REAPING
            self._saved = True
            return Save(self._task, self._vm, removed=True, left=tuple(self._left))
        if self._state == RELEASING:
            return trying.release(self._dirty[0])
        return trying.remove(self._dirty[0], self._vm.id)

    def _answered(self) -> Action:
        self._tries = 0
        if self._state == RELEASING:
            self._state = REMOVING
        else:
            self._state = RELEASING
            del self._dirty[0]
        return self._act()

    def _failed(self, outcome: Failed, now_ms: int) -> Action:
        error = outcome.error
        self._tries += 1
        if outcome.dead:
            self._left.append(self._dirty[0])
            self._state = REMOVING
            return self._answered()
        if self._state == RELEASING and isinstance(error, Conflict):
            return self._answered()  # the VM itself uses the reservation
        if isinstance(error, Unavailable | Conflict) and self._tries < trying.MAX_TRIES:
            self._saved = True
            return trying.pause(self._tries)
        return self._fail(error, now_ms)

    def _fail(self, error: FabricError, now_ms: int) -> Action:
        assert self._vm is not None
        state = ERROR if self._vm.state == CREATING else self._vm.state
        self._vm = replace(self._vm, state=state, lock=None)
        self._task = tasks.fail_step(self._task, _DELETE, trying.shown(error), now_ms)
        self._saved = True
        return Save(self._task, self._vm, ended=True)
