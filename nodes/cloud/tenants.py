"""Tenants and their resource tickets.

A tenant lives in a shard of its own choosing, its name in the root shard.  Creation stores the
tenant unnamed, claims the name, then marks the tenant named; only named tenants are seen.  Whoever
dies in between leaves either an unseen document, or a claim whose owner exists: the next one who
wants the name marks that tenant named and is told ``NameTaken``.  Deletion removes the tenant,
then frees the name: a claim whose owner is gone may be taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fabric.cloudstore.client import ROOT, Claim, Delete, Free, Require, RequireNone
from fabric.errors import NameTaken, NotFound
from nodes.cloud.access import Cloud, Stored, create, present, replaced, settled
from nodes.contract.entities import (
    RESOURCE_TICKET,
    TENANT,
    Project,
    SecurityGroup,
    Task,
    Tenant,
    Ticket,
)
from nodes.contract.errors import (
    ResourceTicketNotFound,
    container_not_empty,
    name_taken,
    not_found,
)
from nodes.contract.quota import limit_map
from nodes.contract.specs import TenantSpec, TicketSpec

_SCOPE: Final = "tenant"
#: Tickets deleted together with their tenant in its last transaction; more go before it.
_TICKETS_AT_ONCE: Final = 20


def ticket_scope(tenant_id: str) -> str:
    return f"ticket/{tenant_id}"


async def read_tenant(cloud: Cloud, tenant_id: str) -> Stored[Tenant]:
    """Return a tenant that is seen, or raise ``NotFound``."""
    error = not_found(NotFound, "Tenant", tenant_id)
    tenant = present(await cloud.read(Tenant, tenant_id), error)
    if not tenant.value.named:
        raise error
    return tenant


async def list_tenants(cloud: Cloud) -> list[Stored[Tenant]]:
    return [tenant for tenant in await cloud.list(Tenant) if tenant.value.named]


async def children(
    cloud: Cloud, tenant_id: str
) -> tuple[Sequence[Stored[Project]], Sequence[Stored[Ticket]]]:
    """Return the projects and tickets of a tenant, oldest first."""
    where = ("tenant_id", tenant_id)
    projects = await cloud.list(Project, home=tenant_id, where=where)
    return projects, await cloud.list(Ticket, home=tenant_id, where=where)


async def create_tenant(cloud: Cloud, spec: TenantSpec) -> Task:
    tenant_id = cloud.store.new_home()
    groups = tuple(SecurityGroup(name, False) for name in dict.fromkeys(spec.security_groups))
    tenant = Tenant(tenant_id, spec.name, groups)
    task = cloud.done(tenant_id, "CREATE_TENANT", TENANT, tenant_id)
    await cloud.commit(tenant_id, [create(tenant), create(task)])
    try:
        await _claim(cloud, tenant)
    except NameTaken:
        await cloud.commit(tenant_id, [Delete(Tenant.KIND, tenant_id), Delete(Task.KIND, task.id)])
        raise
    await _mark_named(cloud, tenant_id)
    return task


@settled
async def _claim(cloud: Cloud, tenant: Tenant) -> None:
    claim = Claim(_SCOPE, tenant.name, tenant.id)
    owner = await cloud.store.name_owner(ROOT, _SCOPE, tenant.name)
    if owner is None or owner == tenant.id:
        await cloud.commit(ROOT, [claim])
        return
    if await _mark_named(cloud, owner):
        raise name_taken(TENANT, tenant.name)
    await cloud.commit(ROOT, [Free(_SCOPE, tenant.name, owner), claim])


@settled
async def _mark_named(cloud: Cloud, tenant_id: str) -> bool:
    """Make a tenant that holds its name seen. False: it was deleted."""
    tenant = await cloud.read(Tenant, tenant_id)
    if tenant is None:
        return False
    if not tenant.value.named:
        await cloud.commit(tenant_id, [replaced(tenant, replace(tenant.value, named=True))])
    return True


@settled
async def delete_tenant(cloud: Cloud, tenant_id: str) -> Task:
    tenant = (await read_tenant(cloud, tenant_id)).value
    projects, tickets = await children(cloud, tenant_id)
    if projects:
        raise container_not_empty(TENANT, tenant_id, "projects")
    empty = RequireNone(Project.KIND, "tenant_id", tenant_id)
    while len(tickets) > _TICKETS_AT_ONCE:
        batch, tickets = tickets[:_TICKETS_AT_ONCE], tickets[_TICKETS_AT_ONCE:]
        await cloud.commit(tenant_id, [empty, *_delete_tickets(batch)])
    task = cloud.done(tenant_id, "DELETE_TENANT", TENANT, tenant_id)
    await cloud.commit(
        tenant_id,
        [
            empty,
            *_delete_tickets(tickets),
            RequireNone(Ticket.KIND, "tenant_id", tenant_id),
            Delete(Tenant.KIND, tenant_id),
            create(task),
        ],
    )
    await cloud.commit(ROOT, [Free(_SCOPE, tenant.name, tenant_id)])
    return task


def _delete_tickets(tickets: Sequence[Stored[Ticket]]) -> list[Delete | Free]:
    operations: list[Delete | Free] = []
    for ticket in tickets:
        it = ticket.value
        operations.append(Delete(Ticket.KIND, it.id))
        operations.append(Free(ticket_scope(it.tenant_id), it.name, it.id))
    return operations


async def read_ticket(cloud: Cloud, ticket_id: str) -> Stored[Ticket]:
    """Return a resource ticket, or raise ``ResourceTicketNotFound``."""
    error = not_found(ResourceTicketNotFound, "Resource ticket", ticket_id)
    return present(await cloud.read(Ticket, ticket_id), error)


@settled
async def create_ticket(cloud: Cloud, tenant_id: str, spec: TicketSpec) -> Task:
    await read_tenant(cloud, tenant_id)
    scope = ticket_scope(tenant_id)
    if await cloud.store.name_owner(tenant_id, scope, spec.name) is not None:
        raise name_taken(RESOURCE_TICKET, spec.name)
    ticket_id = cloud.store.new_id(tenant_id)
    usage = dict.fromkeys(limit_map(spec.limits), 0)
    ticket = Ticket(ticket_id, spec.name, tenant_id, spec.limits, limit_map(spec.limits), usage)
    task = cloud.done(tenant_id, "CREATE_RESOURCE_TICKET", RESOURCE_TICKET, ticket_id)
    await cloud.commit(
        tenant_id,
        [
            Require(Tenant.KIND, tenant_id),
            Claim(scope, spec.name, ticket_id),
            create(ticket),
            create(task),
        ],
    )
    return task
