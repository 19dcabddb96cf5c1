"""``/tenants/{id}/resource-tickets`` and ``/resource-tickets``."""

from __future__ import annotations

from nodes.cloud import tenants
from nodes.cloud.tasks import tasks_of
from nodes.contract import render
from nodes.contract.entities import RESOURCE_TICKET
from nodes.contract.specs import read_ticket
from nodes.front.call import Call, Reply, Route
from nodes.front.routes import lists


async def create_ticket(call: Call) -> Reply:
    spec = read_ticket(call.json())
    return call.created(await tenants.create_ticket(call.cloud, call.id, spec))


async def list_tickets(call: Call) -> Reply:
    await tenants.read_tenant(call.cloud, call.id)
    _, tickets = await tenants.children(call.cloud, call.id)
    return lists.listed(call, lists.named(call, tickets), render.ticket)


async def get_ticket(call: Call) -> Reply:
    ticket = await tenants.read_ticket(call.cloud, call.id)
    return Reply(200, render.ticket(call.base, ticket.value))


async def list_ticket_tasks(call: Call) -> Reply:
    await tenants.read_ticket(call.cloud, call.id)
    found = await tasks_of(call.cloud, RESOURCE_TICKET, call.id, call.id, lists.wanted(call))
    return lists.tasks(call, found)


ROUTES = (
    Route("GET", "/tenants/{id}/resource-tickets", list_tickets, paged=True),
    Route("POST", "/tenants/{id}/resource-tickets", create_ticket),
    Route("GET", "/resource-tickets/{id}", get_ticket),
    Route("GET", "/resource-tickets/{id}/tasks", list_ticket_tasks, paged=True),
)
