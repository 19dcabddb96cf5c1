"""``/projects/{id}/vms`` and ``/vms``."""

from __future__ import annotations

from nodes.cloud import vms
from nodes.cloud.tasks import tasks_of
from nodes.contract import render
from nodes.contract.entities import VM
from nodes.contract.specs import read_vm
from nodes.front.call import Call, Reply, Route
from nodes.front.routes import lists


async def create_vm(call: Call) -> Reply:
    return call.created(await vms.create_vm(call.cloud, call.id, read_vm(call.json())))


async def list_vms(call: Call) -> Reply:
    found = lists.named(call, await vms.list_vms(call.cloud, call.id))
    return lists.listed(call, found, render.vm)


async def get_vm(call: Call) -> Reply:
    return Reply(200, render.vm(call.base, (await vms.read_vm(call.cloud, call.id)).value))


async def delete_vm(call: Call) -> Reply:
    return call.created(await vms.delete_vm(call.cloud, call.id))


async def list_vm_tasks(call: Call) -> Reply:
    await vms.read_vm(call.cloud, call.id)
    return lists.tasks(call, await tasks_of(call.cloud, VM, call.id, call.id, lists.wanted(call)))


ROUTES = (
    Route("GET", "/projects/{id}/vms", list_vms, paged=True),
    Route("POST", "/projects/{id}/vms", create_vm),
    Route("GET", "/vms/{id}", get_vm),
    Route("DELETE", "/vms/{id}", delete_vm),
    Route("GET", "/vms/{id}/tasks", list_vm_tasks, paged=True),
)
