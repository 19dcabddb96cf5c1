"""All routes: the ones that are built, by resource, and the rest of the contract."""

from __future__ import annotations

from nodes.front import unbuilt
from nodes.front.call import Route
from nodes.front.routes import flavors, projects, status, tasks, tenants, tickets, vms

BUILT: tuple[Route, ...] = (
    *status.ROUTES,
    *tasks.ROUTES,
    *tenants.ROUTES,
    *tickets.ROUTES,
    *projects.ROUTES,
    *flavors.ROUTES,
    *vms.ROUTES,
)

ROUTES: tuple[Route, ...] = (*BUILT, *unbuilt.routes())
