"""``/flavors``."""

from __future__ import annotations

from fabric.cloudstore.client import ROOT
from nodes.cloud import flavors
from nodes.cloud.tasks import tasks_of
from nodes.contract import render
from nodes.contract.entities import Flavor
from nodes.contract.specs import read_flavor
from nodes.front.call import Call, Reply, Route
from nodes.front.routes import lists


async def create_flavor(call: Call) -> Reply:
    return call.created(await flavors.create_flavor(call.cloud, read_flavor(call.json())))


async def list_flavors(call: Call) -> Reply:
    kind = call.query.get("kind")
    found = lists.named(call, await call.cloud.list(Flavor))
    chosen = [item for item in found if kind is None or item.value.kind == kind]
    return lists.listed(call, chosen, render.flavor)


async def get_flavor(call: Call) -> Reply:
    flavor = await flavors.read_flavor(call.cloud, call.id)
    return Reply(200, render.flavor(call.base, flavor.value))


async def delete_flavor(call: Call) -> Reply:
    return call.created(await flavors.delete_flavor(call.cloud, call.id))


async def list_flavor_tasks(call: Call) -> Reply:
    flavor = (await flavors.read_flavor(call.cloud, call.id)).value
    found = await tasks_of(call.cloud, flavor.kind, call.id, ROOT, lists.wanted(call))
    return lists.tasks(call, found)


ROUTES = (
    Route("GET", "/flavors", list_flavors, paged=True),
    Route("POST", "/flavors", create_flavor),
    Route("GET", "/flavors/{id}", get_flavor),
    Route("DELETE", "/flavors/{id}", delete_flavor),
    Route("GET", "/flavors/{id}/tasks", list_flavor_tasks, paged=True),
)
