"""``/tasks``."""

from __future__ import annotations

from nodes.cloud.tasks import find_tasks, read_task
from nodes.contract import render
from nodes.front.call import Call, Reply, Route
from nodes.front.routes import lists


async def get_task(call: Call) -> Reply:
    return Reply(200, render.task(call.base, (await read_task(call.cloud, call.id)).value))


async def list_tasks(call: Call) -> Reply:
    query = call.query
    wanted = lists.wanted(call, by_kind=True)
    found = await find_tasks(call.cloud, query.get("entityId"), query.get("entityKind"), wanted)
    return lists.tasks(call, found)


ROUTES = (Route("GET", "/tasks", list_tasks, paged=True), Route("GET", "/tasks/{id}", get_task))
