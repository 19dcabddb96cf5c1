"""``/tenants``."""

from __future__ import annotations

from typing import Any

from nodes.cloud import tenants
from nodes.cloud.tasks import tasks_of
from nodes.contract import render
from nodes.contract.entities import TENANT, Tenant
from nodes.contract.specs import read_tenant
from nodes.front import paging
from nodes.front.call import Call, Reply, Route
from nodes.front.routes import lists


async def create_tenant(call: Call) -> Reply:
    return call.created(await tenants.create_tenant(call.cloud, read_tenant(call.json())))


async def get_tenant(call: Call) -> Reply:
    tenant = await tenants.read_tenant(call.cloud, call.id)
    return Reply(200, await _show(call, tenant.value))


async def list_tenants(call: Call) -> Reply:
    found = lists.named(call, await tenants.list_tenants(call.cloud))
    body = paging.page(call.path, call.query, call.cursor, found, lambda item: item.value)
    body["items"] = [await _show(call, tenant) for tenant in body["items"]]
    return Reply(200, body)


async def delete_tenant(call: Call) -> Reply:
    return call.created(await tenants.delete_tenant(call.cloud, call.id))


async def list_tenant_tasks(call: Call) -> Reply:
    await tenants.read_tenant(call.cloud, call.id)
    found = await tasks_of(call.cloud, TENANT, call.id, call.id, lists.wanted(call))
    return lists.tasks(call, found)


async def _show(call: Call, tenant: Tenant) -> dict[str, Any]:
    projects, tickets = await tenants.children(call.cloud, tenant.id)
    return render.tenant(
        call.base, tenant, [it.value for it in projects], [it.value for it in tickets]
    )


ROUTES = (
    Route("GET", "/tenants", list_tenants, paged=True),
    Route("POST", "/tenants", create_tenant),
    Route("GET", "/tenants/{id}", get_tenant),
    Route("DELETE", "/tenants/{id}", delete_tenant),
    Route("GET", "/tenants/{id}/tasks", list_tenant_tasks, paged=True),
)
