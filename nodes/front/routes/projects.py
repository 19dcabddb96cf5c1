"""``/tenants/{id}/projects`` and ``/projects``."""

from __future__ import annotations

from nodes.cloud import projects, tenants
from nodes.cloud.tasks import tasks_of_project
from nodes.contract import render
from nodes.contract.specs import read_project
from nodes.front.call import Call, Reply, Route
from nodes.front.routes import lists


async def create_project(call: Call) -> Reply:
    spec = read_project(call.json())
    return call.created(await projects.create_project(call.cloud, call.id, spec))


async def list_projects(call: Call) -> Reply:
    await tenants.read_tenant(call.cloud, call.id)
    found, _ = await tenants.children(call.cloud, call.id)
    return lists.listed(call, lists.named(call, found), render.project)


async def get_project(call: Call) -> Reply:
    project = await projects.read_project(call.cloud, call.id)
    return Reply(200, render.project(call.base, project.value))


async def delete_project(call: Call) -> Reply:
    return call.created(await projects.delete_project(call.cloud, call.id))


async def list_project_tasks(call: Call) -> Reply:
    await projects.read_project(call.cloud, call.id)
    found = await tasks_of_project(call.cloud, call.id, lists.wanted(call, by_kind=True))
    return lists.tasks(call, found)


ROUTES = (
    Route("GET", "/tenants/{id}/projects", list_projects, paged=True),
    Route("POST", "/tenants/{id}/projects", create_project),
    Route("GET", "/projects/{id}", get_project),
    Route("DELETE", "/projects/{id}", delete_project),
    Route("GET", "/projects/{id}/tasks", list_project_tasks, paged=True),
)
