"""Entities as the contract's JSON. ``base`` is scheme, host and port of the request.

An entity that has not changed is rendered identically in every answer, empty lists included.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nodes.contract.entities import (
    EPHEMERAL_DISK,
    VM,
    ApiError,
    Disk,
    Flavor,
    Project,
    SecurityGroup,
    Step,
    Task,
    Tenant,
    Ticket,
    Vm,
)
from nodes.contract.quota import QuotaLine, usage_lines

Json = dict[str, Any]


def task(base: str, it: Task) -> Json:
    out: Json = {
        "id": it.id,
        "selfLink": f"{base}/tasks/{it.id}",
        "operation": it.operation,
        "state": it.state,
        "entity": {"kind": it.entity_kind, "id": it.entity_id},
        "queuedTime": it.queued_ms,
    }
    _times(out, it.started_ms, it.ended_ms)
    out["steps"] = [_step(sequence, step) for sequence, step in enumerate(it.steps)]
    return out


def _step(sequence: int, it: Step) -> Json:
    out: Json = {
        "sequence": sequence,
        "operation": it.operation,
        "state": it.state,
        "queuedTime": it.queued_ms,
    }
    _times(out, it.started_ms, it.ended_ms)
    out["errors"] = [_error(error) for error in it.errors]
    out["warnings"] = [_error(warning) for warning in it.warnings]
    out["options"] = None
    return out


def _times(out: Json, started_ms: int | None, ended_ms: int | None) -> None:
    """A time that has not come is absent."""
    if started_ms is not None:
        out["startedTime"] = started_ms
    if ended_ms is not None:
        out["endTime"] = ended_ms


def _error(it: ApiError) -> Json:
    return {"code": it.code, "message": it.message, "data": it.data or {}}


def tenant(base: str, it: Tenant, projects: Iterable[Project], tickets: Iterable[Ticket]) -> Json:
    return {
        **_entity(base, "tenants", it.id, "tenant", it.name),
        "projects": [{"id": p.id, "name": p.name} for p in projects],
        "resourceTickets": [{"id": t.id, "name": t.name} for t in tickets],
        "securityGroups": _groups(it.security_groups),
    }


def ticket(base: str, it: Ticket) -> Json:
    return {
        **_entity(base, "resource-tickets", it.id, "resource-ticket", it.name),
        "tenantId": it.tenant_id,
        "limits": lines(it.lines),
        "usage": lines(usage_lines(it.lines, it.usage)),
    }


def project(base: str, it: Project) -> Json:
    return {
        **_entity(base, "projects", it.id, "project", it.name),
        "resourceTicket": {
            "tenantTicketId": it.ticket_id,
            "tenantTicketName": it.ticket_name,
            "limits": lines(it.lines),
            "usage": lines(usage_lines(it.lines, it.usage)),
        },
        "securityGroups": _groups(it.security_groups),
    }


def flavor(base: str, it: Flavor) -> Json:
    return {
        **_entity(base, "flavors", it.id, it.kind, it.name),
        "state": it.state,
        "cost": lines(it.cost),
    }


def vm(base: str, it: Vm) -> Json:
    out: Json = {
        **_entity(base, "vms", it.id, VM, it.name),
        "tags": list(it.tags),
        "flavor": it.flavor,
        "cost": lines(it.cost),
        "state": it.state,
        "sourceImageId": it.source_image_id,
    }
    if it.host is not None:
        out["host"] = it.host
    if it.datastore is not None:
        out["datastore"] = it.datastore
    out["attachedDisks"] = [_disk(disk) for disk in it.disks]
    out["attachedIsos"] = []
    out["metadata"] = dict(it.metadata or {})
    return out


def _disk(it: Disk) -> Json:
    return {
        "id": it.id,
        "name": it.name,
        "kind": EPHEMERAL_DISK,
        "flavor": it.flavor,
        "state": it.state,
        "capacityGb": it.capacity_gb,
        "bootDisk": it.boot,
    }


def lines(items: Iterable[QuotaLine]) -> list[Json]:
    return [{"key": i.key, "value": i.value, "unit": i.unit} for i in items]


def _groups(items: Iterable[SecurityGroup]) -> list[Json]:
    return [{"name": g.name, "inherited": g.inherited} for g in items]


def _entity(base: str, path: str, entity_id: str, kind: str, name: str) -> Json:
    return {
        "id": entity_id,
        "kind": kind,
        "selfLink": f"{base}/{path}/{entity_id}",
        "name": name,
        "tags": [],
    }
