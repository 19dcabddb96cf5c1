"""Projects: a tenant's slice of one of its resource tickets."""

from __future__ import annotations

from fabric.cloudstore.client import Claim, Delete, Free, Require, RequireNone
from fabric.errors import NotFound
from nodes.cloud.access import Cloud, Stored, create, debits, present, settled
from nodes.cloud.tenants import read_tenant, ticket_scope
from nodes.contract.entities import PROJECT, Project, SecurityGroup, Task, Tenant, Ticket, Vm
from nodes.contract.errors import (
    InvalidResourceTicketSubdivide,
    ResourceTicketNotFound,
    container_not_empty,
    name_taken,
    not_found,
)
from nodes.contract.quota import QuotaLine, costs, limit_map, subdivide
from nodes.contract.specs import ProjectSpec


def project_scope(tenant_id: str) -> str:
    return f"project/{tenant_id}"


async def read_project(cloud: Cloud, project_id: str) -> Stored[Project]:
    """Return a project, or raise ``NotFound``."""
    error = not_found(NotFound, "Project", project_id)
    return present(await cloud.read(Project, project_id), error)


@settled
async def create_project(cloud: Cloud, tenant_id: str, spec: ProjectSpec) -> Task:
    """Create a project and debit its limits on the tenant's ticket."""
    tenant = (await read_tenant(cloud, tenant_id)).value
    scope = project_scope(tenant_id)
    if await cloud.store.name_owner(tenant_id, scope, spec.name) is not None:
        raise name_taken(PROJECT, spec.name)
    ticket = await _ticket_named(cloud, tenant, spec.ticket_name)
    lines = _limits(spec, ticket)
    project_id = cloud.store.new_id(tenant_id)
    project = Project(
        project_id,
        spec.name,
        tenant_id,
        ticket.id,
        ticket.name,
        lines,
        limit_map(lines),
        dict.fromkeys(limit_map(lines), 0),
        _groups(tenant, spec.security_groups),
    )
    task = cloud.done(tenant_id, "CREATE_PROJECT", PROJECT, project_id)
    await cloud.commit(
        tenant_id,
        [
            Require(Tenant.KIND, tenant_id),
            *debits(ticket, costs(ticket.lines, lines)),
            Claim(scope, spec.name, project_id),
            create(project),
            create(task),
        ],
        {ticket.id: ticket.lines},
    )
    return task


@settled
async def delete_project(cloud: Cloud, project_id: str) -> Task:
    """Delete an empty project and return its limits (not its usage) to the ticket."""
    project = (await read_project(cloud, project_id)).value
    home = project.tenant_id
    where = ("project_id", project_id)
    if (await cloud.store.list(Vm.KIND, home=home, where=where, limit=1)).items:
        raise container_not_empty(PROJECT, project_id, "VMs")
    ticket = present(
        await cloud.read(Ticket, project.ticket_id),
        not_found(ResourceTicketNotFound, "Resource ticket", project.ticket_id),
    ).value
    task = cloud.done(home, "DELETE_PROJECT", PROJECT, project_id)
    await cloud.commit(
        home,
        [
            RequireNone(Vm.KIND, "project_id", project_id),
            *debits(ticket, costs(ticket.lines, project.lines, -1)),
            Free(project_scope(home), project.name, project_id),
            Delete(Project.KIND, project_id),
            create(task),
        ],
    )
    return task


async def _ticket_named(cloud: Cloud, tenant: Tenant, name: str) -> Ticket:
    owner = await cloud.store.name_owner(tenant.id, ticket_scope(tenant.id), name)
    ticket = await cloud.read(Ticket, owner) if owner is not None else None
    if ticket is None:
        raise ResourceTicketNotFound(
            f"Resource ticket '{name}' not found in tenant '{tenant.name}'",
            {"tenantName": tenant.name, "ticketName": name},
        )
    return ticket.value


def _limits(spec: ProjectSpec, ticket: Ticket) -> tuple[QuotaLine, ...]:
    if spec.percent is not None:
        return subdivide(ticket.lines, spec.percent)
    given = {line.key for line in spec.limits}
    for line in ticket.lines:
        if line.key not in given:
            raise InvalidResourceTicketSubdivide(
                f"Project limits must hold every key of resource ticket {ticket.name}"
                f" (missing {line.key})",
                {"missingLimit": line.key},
            )
    return spec.limits


def _groups(tenant: Tenant, own: tuple[str, ...]) -> tuple[SecurityGroup, ...]:
    """Inherit all of the tenant's groups, in its order; then own ones that are new."""
    inherited = dict.fromkeys(group.name for group in tenant.security_groups)
    return (
        *(SecurityGroup(name, True) for name in inherited),
        *(SecurityGroup(name, False) for name in dict.fromkeys(own) if name not in inherited),
    )
