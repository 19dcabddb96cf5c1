"""The steps of CREATE_VM: RESERVE_RESOURCE, then CREATE_VM.

::

    FINDING -> PLACING --placed, stored--> CONFIRMING --step 0--> CREATING --step 1--> finished
                  ^                            |                     |
                  |  reservation gone          |                     |
                  +----------------------------+---------------------+
                  |                            | silent, or it failed|
                  |  host acknowledged,        v                     v
                  `--or left the fabric-- REMOVING <-------- RELEASING

(host, attempt) is stored by compare-and-set before the host is told to create.  Another host is
tried only once the first one acknowledged that it has nothing, or left the fabric; so of all
attempts at most one living host holds the VM, and deleting the VM cleans up after all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fabric.errors import Conflict, FabricError, Unavailable, UnknownReservation
from fabric.wire.host import VmInfo
from nodes.contract import tasks
from nodes.contract.entities import (
    ATTACHED,
    COMPLETED,
    ENDED,
    ERROR,
    LEFT,
    PLACED,
    STOPPED,
    VOID,
    Attempt,
    Task,
    Vm,
)
from nodes.roles import sizing, trying
from nodes.roles.actions import (
    Action,
    Answered,
    Failed,
    FindHost,
    Finished,
    Found,
    Outcome,
    Place,
    PlacedAt,
    Refused,
    Save,
)

#: Hosts tried for one VM before its task fails.
MAX_ATTEMPTS: Final = 4

_RESERVE: Final = 0
_CREATE: Final = 1

FINDING: Final = "finding"
PLACING: Final = "placing"
CONFIRMING: Final = "confirming"
CREATING: Final = "creating"
RELEASING: Final = "releasing"
REMOVING: Final = "removing"


class CreateVm:
    """One CREATE_VM task."""

    def __init__(self, task: Task, vm: Vm) -> None:
        self._task = task
        self._vm = vm
        self._state = PLACING
        self._host_id: int | None = None
        self._tries = 0
        self._saved = False  # the last action was a save or a pause: the state's own is due
        self._left: tuple[Attempt, ...] = ()  # not yet on record as left behind
        self._error: FabricError | None = None  # why the task fails once the host is clean

    def begin(self, now_ms: int) -> Action:
        if self._attempt is not None:  # confirming twice is harmless, also after the create
            self._state = CONFIRMING
            return self._act(now_ms)
        self._state = PLACING if sizing.host_affinity(self._vm) is None else FINDING
        self._task = tasks.start_step(self._task, self._step, now_ms)
        return self._save()

    def take(self, outcome: Outcome, now_ms: int) -> Action:
        if self._saved:
            self._saved = False
            return self._act(now_ms)
        match outcome:
            case Found():
                self._host_id = outcome.node_id
                self._state = PLACING
                return self._act(now_ms)
            case PlacedAt():
                return self._placed(outcome)
            case Refused():
                error = sizing.step_error(self._vm, outcome.message, outcome.counts)
                return self._fail(error, now_ms)
            case Answered():
                return self._answered(outcome, now_ms)
            case Failed():
                return self._failed(outcome, now_ms)
        raise AssertionError(f"nobody asked for {outcome!r}")

    # --- what a state does ------------------------------------------------------------------------

    def _act(self, now_ms: int) -> Action:
        """Return the action of the present state."""
        if self._task.state in ENDED:
            return Finished()
        attempt = self._attempt
        if attempt is None:
            return self._look_for_host(now_ms)
        if self._state == CONFIRMING:
            return trying.confirm(attempt)
        if self._state == CREATING:
            return trying.create(attempt, self._vm.id, self._vm.source_image_id)
        if self._state == RELEASING:
            return trying.release(attempt)
        return trying.remove(attempt, self._vm.id)

    def _look_for_host(self, now_ms: int) -> Action:
        if self._state == FINDING:
            return FindHost(sizing.host_affinity(self._vm) or "")
        key = f"{self._vm.id}/{len(self._vm.attempts) + 1}"
        try:
            return Place(sizing.placement_request(self._vm, key, self._host_id))
        except FabricError as error:
            return self._fail(error, now_ms)

    @property
    def _step(self) -> int:
        return _RESERVE if self._task.steps[_RESERVE].state != COMPLETED else _CREATE

    @property
    def _attempt(self) -> Attempt | None:
        """The attempt whose host may hold something."""
        last = self._vm.attempts[-1] if self._vm.attempts else None
        return last if last is not None and last.phase == PLACED else None

    # --- what came of it --------------------------------------------------------------------------

    def _placed(self, outcome: PlacedAt) -> Action:
        placed = outcome.placed
        attempt = Attempt(
            placed.key,
            placed.attempt,
            placed.host.node_id,
            placed.host.address,
            placed.reservation_id,
        )
        self._vm = replace(self._vm, attempts=(*self._vm.attempts, attempt))
        self._enter(CONFIRMING)
        return self._save()

    def _answered(self, outcome: Answered, now_ms: int) -> Action:
        if self._state == CONFIRMING:
            self._enter(CREATING)
            if self._step == _CREATE:
                return self._act(now_ms)
            self._task = tasks.complete_step(self._task, _RESERVE, now_ms)
            self._task = tasks.start_step(self._task, _CREATE, now_ms)
            return self._save()
        if self._state == CREATING:
            return self._created(outcome.body, now_ms)
        if self._state == RELEASING:
            self._enter(REMOVING)
            return self._act(now_ms)
        return self._clean(VOID, now_ms)

    def _created(self, body: object, now_ms: int) -> Action:
        assert isinstance(body, VmInfo)
        assert self._attempt is not None
        self._vm = replace(
            self._vm,
            state=STOPPED,
            lock=None,
            host=self._attempt.address,
            datastore=body.datastore or None,
            disks=tuple(replace(disk, state=ATTACHED) for disk in self._vm.disks),
        )
        self._task = tasks.complete_step(self._task, _CREATE, now_ms)
        return self._save(ended=True)

    def _failed(self, outcome: Failed, now_ms: int) -> Action:
        error = outcome.error
        self._tries += 1
        if self._attempt is None:
            again = isinstance(error, Unavailable) and self._tries < trying.MAX_TRIES
            return self._pause() if again else self._fail(error, now_ms)
        if outcome.dead:
            return self._clean(LEFT, now_ms)
        if self._state == RELEASING and isinstance(error, Conflict):
            self._enter(REMOVING)  # a VM uses the reservation
            return self._act(now_ms)
        if self._state in (CONFIRMING, CREATING) and isinstance(error, UnknownReservation):
            return self._clean(VOID, now_ms)
        if isinstance(error, Unavailable | Conflict) and self._tries < trying.MAX_TRIES:
            return self._pause()
        if self._state in (RELEASING, REMOVING):  # deleting the VM will try that host again
            return self._fail(self._error or error, now_ms)
        if not isinstance(error, Unavailable | Conflict):
            self._error = error
        self._enter(RELEASING)
        return self._act(now_ms)

    def _clean(self, phase: str, now_ms: int) -> Action:
        """Go on to the next host: this one holds nothing any more, or is gone."""
        *before, last = self._vm.attempts
        if phase == LEFT:
            self._left = (last,)
        self._vm = replace(self._vm, attempts=(*before, replace(last, phase=phase)))
        if self._error is not None:
            return self._fail(self._error, now_ms)
        if len(self._vm.attempts) >= MAX_ATTEMPTS:
            return self._fail(Unavailable(f"{MAX_ATTEMPTS} hosts were tried in vain"), now_ms)
        self._enter(PLACING)
        return self._save()

    # --- ways on ----------------------------------------------------------------------------------

    def _enter(self, state: str) -> None:
        self._state = state
        self._tries = 0

    def _pause(self) -> Action:
        self._saved = True
        return trying.pause(self._tries)

    def _save(self, *, ended: bool = False) -> Action:
        self._saved = True
        left, self._left = self._left, ()
        return Save(self._task, self._vm, ended=ended, left=left)

    def _fail(self, error: FabricError, now_ms: int) -> Action:
        self._vm = replace(
            self._vm,
            state=ERROR,
            lock=None,
            disks=tuple(replace(disk, state=ERROR) for disk in self._vm.disks),
        )
        self._task = tasks.fail_step(self._task, self._step, trying.shown(error), now_ms)
        return self._save(ended=True)
