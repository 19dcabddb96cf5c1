"""Reading tasks: one, or lists by entity, project, state and kind."""

from __future__ import annotations

from dataclasses import dataclass

from fabric.errors import NotFound
from nodes.cloud.access import Cloud, Stored, present
from nodes.contract.entities import Task
from nodes.contract.errors import InvalidQueryParams, not_found
from nodes.contract.tasks import entity_key


@dataclass(slots=True, frozen=True)
class TaskFilter:
    """State and entity kind, each in any letter case; absent ones keep everything."""

    state: str | None = None
    kind: str | None = None

    def keeps(self, task: Task) -> bool:
        if self.state and task.state != self.state.upper():
            return False
        return not self.kind or task.entity_kind.lower() == self.kind.lower()


async def read_task(cloud: Cloud, task_id: str) -> Stored[Task]:
    """Return a task, or raise ``NotFound``."""
    return present(await cloud.read(Task, task_id), not_found(NotFound, "Task", task_id))


async def tasks_of(
    cloud: Cloud, kind: str, entity_id: str, home: str, wanted: TaskFilter
) -> list[Stored[Task]]:
    """Return the tasks whose entity is this one."""
    found = await cloud.list(Task, home=home, where=("entity", entity_key(kind, entity_id)))
    return [task for task in found if wanted.keeps(task.value)]


async def tasks_of_project(cloud: Cloud, project_id: str, wanted: TaskFilter) -> list[Stored[Task]]:
    """Return the tasks on VMs and disks of a project, also of those that are gone."""
    found = await cloud.list(Task, home=project_id, where=("project_id", project_id))
    return [task for task in found if wanted.keeps(task.value)]


async def find_tasks(
    cloud: Cloud, entity_id: str | None, entity_kind: str | None, wanted: TaskFilter
) -> list[Stored[Task]]:
    """Return the tasks of one entity (id and kind), or of all if neither is given."""
    if bool(entity_id) != bool(entity_kind):
        raise InvalidQueryParams("Both entityId and entityKind have to be given, or neither")
    where = ("entity", entity_key(entity_kind, entity_id)) if entity_id and entity_kind else None
    return [it for it in await cloud.list(Task, where=where) if wanted.keeps(it.value)]
