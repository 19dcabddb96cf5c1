"""Building and advancing tasks, exactly as the contract's task model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fabric.errors import FabricError
from nodes.contract.entities import (
    COMPLETED,
    ERROR,
    QUEUED,
    STARTED,
    ApiError,
    Step,
    Task,
)

# Operations that workers carry out, and their steps.
CREATE_VM: Final = "CREATE_VM"
DELETE_VM: Final = "DELETE_VM"
RESERVE_RESOURCE: Final = "RESERVE_RESOURCE"


def completed(task_id: str, operation: str, kind: str, entity_id: str, now_ms: int) -> Task:
    """Build the task of a sync operation: done before the answer, all three times equal."""
    return Task(
        task_id,
        operation,
        COMPLETED,
        kind,
        entity_id,
        entity_key(kind, entity_id),
        now_ms,
        now_ms,
        now_ms,
    )


def queued(
    task_id: str,
    operation: str,
    kind: str,
    entity_id: str,
    steps: Sequence[str],
    now_ms: int,
    project_id: str | None = None,
) -> Task:
    """Build the task of an async operation: everything QUEUED, nothing started."""
    return Task(
        task_id,
        operation,
        QUEUED,
        kind,
        entity_id,
        entity_key(kind, entity_id),
        now_ms,
        steps=tuple(Step(name, QUEUED, now_ms) for name in steps),
        project_id=project_id,
    )


def entity_key(kind: str, entity_id: str) -> str:
    """Return the value under which the tasks of an entity are indexed; kinds match in any case."""
    return f"{kind.lower()}/{entity_id}"


def with_warning(task: Task, index: int, warning: ApiError) -> Task:
    """Add a warning to a step; warnings fail nothing."""
    step = task.steps[index]
    return _with_step(task, index, replace(step, warnings=(*step.warnings, warning)))


def start_step(task: Task, index: int, now_ms: int) -> Task:
    """Start step ``index``, and with the first one the task."""
    step = task.steps[index]
    if step.state == QUEUED:
        task = _with_step(task, index, replace(step, state=STARTED, started_ms=now_ms))
    if task.state == QUEUED:
        task = replace(task, state=STARTED, started_ms=now_ms)
    return task


def complete_step(task: Task, index: int, now_ms: int) -> Task:
    """Complete step ``index``, and with the last one the task."""
    task = start_step(task, index, now_ms)
    task = _with_step(task, index, replace(task.steps[index], state=COMPLETED, ended_ms=now_ms))
    if index == len(task.steps) - 1:
        task = replace(task, state=COMPLETED, ended_ms=now_ms)
    return task


def fail_step(task: Task, index: int, error: FabricError, now_ms: int) -> Task:
    """Fail step ``index`` and the task; later steps stay QUEUED."""
    task = start_step(task, index, now_ms)
    step = task.steps[index]
    failed = replace(step, state=ERROR, ended_ms=now_ms, errors=(*step.errors, kept(error)))
    return replace(_with_step(task, index, failed), state=ERROR, ended_ms=now_ms)


def kept(error: FabricError) -> ApiError:
    """Return the form of an error that a step keeps."""
    return ApiError(error.code, error.message, dict(error.data))


def _with_step(task: Task, index: int, step: Step) -> Task:
    steps = list(task.steps)
    steps[index] = step
    return replace(task, steps=tuple(steps))
