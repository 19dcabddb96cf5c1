"""Tenants, tickets, projects, flavors: quota arithmetic, names, what blocks deletion, tasks."""

from __future__ import annotations

import asyncio

import pytest

from fabric.cloudstore.client import ROOT, Claim, Delete
from nodes.cloud.access import Cloud, create
from nodes.contract.entities import Tenant
from tests.contract.support import Api, Json, line, vm_spec


async def limits(api: Api, path: str) -> dict[str, tuple[float, str, float]]:
    body = (await api.get(path)).body
    ticket = body.get("resourceTicket", body)
    usage = {item["key"]: item["value"] for item in ticket["usage"]}
    return {it["key"]: (it["value"], it["unit"], usage[it["key"]]) for it in ticket["limits"]}


# --- sync tasks -----------------------------------------------------------------------------------


async def test_sync_operations_are_completed_in_the_answer(api: Api) -> None:
    got = await api.post("/tenants", {"name": "acme"})
    task = got.body
    assert (got.status, task["operation"], task["state"]) == (201, "CREATE_TENANT", "COMPLETED")
    assert task["queuedTime"] == task["startedTime"] == task["endTime"]
    assert task["steps"] == []
    assert task["entity"]["kind"] == "tenant"
    for path in (f"/tasks/{task['id']}", task["selfLink"]):
        assert (await api.get(path)).body == task
    tenant = task["entity"]["id"]
    assert (await api.get(f"/tenants/{tenant}/tasks")).body["items"] == [task]
    assert (await api.get("/tasks/none")).body["code"] == "NotFound"


async def test_a_tenant_shows_its_projects_and_tickets(api: Api) -> None:
    tenant = await api.made("/tenants", {"name": "acme", "securityGroups": ["b", "a", "b"]})
    ticket = await api.ticket(tenant)
    body = {
        "name": "p",
        "resourceTicket": {"name": "ticket", "limits": [line("vm", 1, "COUNT")]},
        "securityGroups": ["c", "a"],
    }
    project = await api.made(f"/tenants/{tenant}/projects", body)
    shown = (await api.get(f"/tenants/{tenant}")).body
    own = [{"name": "b", "inherited": False}, {"name": "a", "inherited": False}]
    assert shown == {
        "id": tenant,
        "kind": "tenant",
        "selfLink": shown["selfLink"],
        "name": "acme",
        "tags": [],
        "projects": [{"id": project, "name": "p"}],
        "resourceTickets": [{"id": ticket, "name": "ticket"}],
        "securityGroups": own,
    }
    assert shown["selfLink"] == f"{api.base}/tenants/{tenant}"
    assert (await api.get(f"/projects/{project}")).body["securityGroups"] == [
        {"name": "b", "inherited": True},
        {"name": "a", "inherited": True},
        {"name": "c", "inherited": False},
    ]


# --- names ----------------------------------------------------------------------------------------


async def test_names_are_unique_in_their_scope_only(api: Api) -> None:
    first, second = await api.tenant("one"), await api.tenant("two")
    for tenant in (first, second):
        await api.ticket(tenant)
        await api.project(tenant)
    got = await api.post("/tenants", {"name": "one"})
    assert (got.status, got.body["code"]) == (400, "NameTaken")
    assert got.body["message"] == "Tenant name 'one' already taken"
    got = await api.post(
        f"/tenants/{first}/resource-tickets", {"name": "ticket", "limits": [line("a", 1, "B")]}
    )
    assert got.body["message"] == "Resource ticket name 'ticket' already taken"
    share = {"name": "ticket", "limits": [line("subdivide.percent", 1, "COUNT")]}
    got = await api.post(f"/tenants/{first}/projects", {"name": "project", "resourceTicket": share})
    assert got.body["message"] == "Project name 'project' already taken"


async def test_a_flavor_name_is_unique_per_kind(api: Api) -> None:
    spec = {"name": "f", "cost": [line("vm", 1, "COUNT")]}
    for kind in ("vm", "ephemeral-disk", "persistent-disk"):
        got = await api.post("/flavors", {**spec, "kind": kind})
        assert (got.status, got.body["entity"]["kind"]) == (201, kind)
    got = await api.post("/flavors", {**spec, "kind": "vm"})
    assert got.body["message"] == "Flavor name 'f' already taken"
    assert len((await api.get("/flavors?name=f")).body["items"]) == 3
    assert [f["kind"] for f in (await api.get("/flavors?kind=vm")).body["items"]] == ["vm"]


async def test_many_who_want_one_name(api: Api) -> None:
    answers = await asyncio.gather(*(api.post("/tenants", {"name": "one"}) for _ in range(8)))
    assert sorted(got.status for got in answers) == [201] + [400] * 7
    listed = (await api.get("/tenants")).body["items"]
    assert [tenant["name"] for tenant in listed] == ["one"]
    assert len((await api.get("/tasks")).body["items"]) == 1


async def test_a_name_is_free_again_after_deletion(api: Api) -> None:
    tenant = await api.tenant("one")
    await api.ticket(tenant)
    assert (await api.delete(f"/tenants/{tenant}")).status == 201
    assert (await api.get(f"/tenants/{tenant}")).status == 404
    assert await api.tenant("one") != tenant


async def test_a_claim_left_by_a_crash(api: Api, cloud: Cloud) -> None:
    """A front died between claiming the name and naming the tenant: it exists after all."""
    tenant_id = cloud.store.new_home()
    await cloud.store.transact(tenant_id, [create(Tenant(tenant_id, "one"))])
    assert (await api.get(f"/tenants/{tenant_id}")).status == 404
    assert (await api.get("/tenants")).body["items"] == []
    await cloud.store.transact(ROOT, [Claim("tenant", "one", tenant_id)])
    assert (await api.post("/tenants", {"name": "one"})).body["code"] == "NameTaken"
    assert [t["id"] for t in (await api.get("/tenants")).body["items"]] == [tenant_id]
    # another died between deleting the tenant and freeing its name: the name is free
    await cloud.store.transact(tenant_id, [Delete("tenant", tenant_id)])
    assert await api.tenant("one") != tenant_id


# --- quota ----------------------------------------------------------------------------------------


async def test_units_are_1024_based_and_kept(api: Api) -> None:
    tenant = await api.tenant()
    ticket = await api.ticket(
        tenant, line("memory", 4, "GB"), line("disk", 1.5, "MB"), line("vm", 10, "COUNT")
    )
    body = {
        "name": "p",
        "resourceTicket": {
            "name": "ticket",
            "limits": [
                line("memory", 1024, "MB"),
                line("disk", 512, "KB"),
                line("vm", 2.5, "COUNT"),
                line("extra", 7, "B"),
            ],
        },
    }
    project = await api.made(f"/tenants/{tenant}/projects", body)
    assert await limits(api, f"/resource-tickets/{ticket}") == {
        "memory": (4, "GB", 1),
        "disk": (1.5, "MB", 0.5),
        "vm": (10, "COUNT", 2.5),
    }
    assert await limits(api, f"/projects/{project}") == {
        "memory": (1024, "MB", 0),
        "disk": (512, "KB", 0),
        "vm": (2.5, "COUNT", 0),
        "extra": (7, "B", 0),
    }
    shown = (await api.get(f"/projects/{project}")).body["resourceTicket"]
    assert (shown["tenantTicketId"], shown["tenantTicketName"]) == (ticket, "ticket")
    assert (await api.delete(f"/projects/{project}")).status == 201
    assert {used for _, _, used in (await limits(api, f"/resource-tickets/{ticket}")).values()} == {
        0
    }


async def test_integers_stay_integers(api: Api) -> None:
    tenant = await api.tenant()
    raw = b'{"name": "t", "limits": [{"key": "a", "value": 2.0, "unit": "GB"}]}'
    got = await api.send("POST", f"/tenants/{tenant}/resource-tickets", raw)
    shown = (await api.get(f"/resource-tickets/{got.body['entity']['id']}")).body
    assert repr(shown["limits"][0]["value"]) == "2"


async def test_subdivision_is_of_the_limit_not_of_what_is_left(api: Api) -> None:
    tenant = await api.tenant()
    ticket = await api.ticket(tenant, line("memory", 10, "GB"), line("vm", 5, "COUNT"))
    half = line("subdivide.percent", 50, "COUNT")
    for name in ("a", "b"):
        project = await api.project(tenant, half, name=name)
        assert await limits(api, f"/projects/{project}") == {
            "memory": (5, "GB", 0),
            "vm": (2.5, "COUNT", 0),
        }
    got = await api.post(
        f"/tenants/{tenant}/projects",
        {"name": "c", "resourceTicket": {"name": "ticket", "limits": [half]}},
    )
    assert (got.status, got.body["code"]) == (400, "QuotaError")
    assert got.body["data"] == {
        "limit": "memory, 10, GB",
        "usage": "memory, 10, GB",
        "newUsage": "memory, 15, GB",
    }
    assert (await limits(api, f"/resource-tickets/{ticket}"))["vm"] == (5, "COUNT", 5)
    assert len((await api.get(f"/tenants/{tenant}/projects")).body["items"]) == 2


@pytest.mark.parametrize("percent", [0, 0.5, 100.5, 101])
async def test_impossible_shares(api: Api, percent: float) -> None:
    tenant = await api.tenant()
    await api.ticket(tenant)
    share = [line("subdivide.percent", percent, "COUNT")]
    got = await api.post(
        f"/tenants/{tenant}/projects",
        {"name": "c", "resourceTicket": {"name": "ticket", "limits": share}},
    )
    assert (got.status, got.body["code"]) == (400, "InvalidEntity")


async def test_project_limits_must_hold_every_key(api: Api) -> None:
    tenant = await api.tenant()
    await api.ticket(tenant, line("a", 1, "B"), line("b", 1, "B"))
    spec: Json = {"name": "p", "resourceTicket": {"name": "ticket", "limits": [line("a", 1, "B")]}}
    got = await api.post(f"/tenants/{tenant}/projects", spec)
    assert (got.status, got.body["code"]) == (400, "InvalidResourceTicketSubdivide")
    assert got.body["data"] == {"missingLimit": "b"}
    spec["resourceTicket"]["name"] = "none"
    got = await api.post(f"/tenants/{tenant}/projects", spec)
    assert (got.status, got.body["code"]) == (404, "ResourceTicketNotFound")
    name = (await api.get(f"/tenants/{tenant}")).body["name"]
    assert got.body["data"] == {"tenantName": name, "ticketName": "none"}


async def test_decimals_add_up_exactly(api: Api) -> None:
    """Ten times 0.7 GB are 7 GB: no float may say that they are more."""
    tenant = await api.tenant()
    await api.ticket(tenant, line("disk", 7, "GB"))
    for number in range(10):
        await api.project(tenant, line("disk", 0.7, "GB"), name=f"p{number}")
    got = await api.post(
        f"/tenants/{tenant}/projects",
        {"name": "q", "resourceTicket": {"name": "ticket", "limits": [line("disk", 0.001, "GB")]}},
    )
    assert got.body["code"] == "QuotaError"
    assert got.body["data"]["newUsage"] == "disk, 7.001, GB"


async def test_limits_out_of_range(api: Api) -> None:
    tenant = await api.tenant()
    path = f"/tenants/{tenant}/resource-tickets"
    for raw in (b"-1", b"1e400", b"1e30", b"123456789012345678901234567890"):
        body = b'{"name": "t", "limits": [{"key": "a", "value": %s, "unit": "GB"}]}' % raw
        got = await api.send("POST", path, body)
        assert (got.status, got.body["code"]) == (400, "InvalidEntity"), raw
        assert "limits[0].value must be" in got.body["message"]
    got = await api.post(path, {"name": "t", "limits": []})
    assert got.body["message"].startswith("limits size must be between 1 and ")
    assert got.body["message"].endswith("(was [])")


async def test_keys_without_limit_are_counted_and_never_refused(api: Api) -> None:
    project = await api.room(line("vm", 5, "COUNT"))
    assert (await api.post(f"/projects/{project}/vms", vm_spec())).status == 201
    usage = await api.usage(project)
    assert usage["vm.memory"] == (512, "MB")
    assert usage["vm"] == (1, "COUNT")


# --- flavors --------------------------------------------------------------------------------------


async def test_flavors(api: Api) -> None:
    cost = [line("vm.cost", 1.8, "COUNT"), line("vm.memory", 2, "GB")]
    flavor = await api.made("/flavors", {"name": "f", "kind": "vm", "cost": cost})
    shown = (await api.get(f"/flavors/{flavor}")).body
    assert (shown["kind"], shown["state"], shown["cost"]) == ("vm", "READY", cost)
    got = await api.delete(f"/flavors/{flavor}")
    assert (got.body["operation"], got.body["state"]) == ("DELETE_FLAVOR", "COMPLETED")
    assert got.body["entity"] == {"kind": "vm", "id": flavor}
    got = await api.get(f"/flavors/{flavor}")
    assert (got.status, got.body["code"], got.body["data"]) == (
        404,
        "FlavorNotFound",
        {"id": flavor},
    )
    await api.made("/flavors", {"name": "f", "kind": "vm", "cost": cost})


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "floppy"},
        {"cost": []},
        {"kind": "ephemeral-disk", "cost": [line("ephemeral-disk.capacity", 1, "GB")]},
        {"cost": [line("vm", 1, "COUNT"), line("vm", 2, "COUNT")]},
    ],
)
async def test_impossible_flavors(api: Api, changed: Json) -> None:
    spec = {"name": "f", "kind": "vm", "cost": [line("vm", 1, "COUNT")], **changed}
    got = await api.post("/flavors", spec)
    assert (got.status, got.body["code"]) == (400, "InvalidEntity")


# --- lists of tasks -------------------------------------------------------------------------------


async def test_task_filters(api: Api) -> None:
    tenant = await api.tenant()
    ticket = await api.ticket(tenant)
    got = await api.get(f"/tasks?entityId={ticket}&entityKind=Resource-Ticket&state=completed")
    assert [task["operation"] for task in got.body["items"]] == ["CREATE_RESOURCE_TICKET"]
    assert (await api.get(f"/resource-tickets/{ticket}/tasks")).body["items"] == got.body["items"]
    assert (await api.get(f"/tasks?entityId={ticket}&entityKind=vm")).body["items"] == []
    assert (await api.get("/tasks?state=ERROR")).body["items"] == []
    kinds = [task["entity"]["kind"] for task in (await api.get("/tasks?kind=TENANT")).body["items"]]
    assert kinds == ["tenant"]
    for query in (f"entityId={ticket}", "entityKind=vm", "entityKind=vm&entityId="):
        got = await api.get(f"/tasks?{query}")
        assert (got.status, got.body["code"]) == (400, "InvalidQueryParams")


# --- tenants apart --------------------------------------------------------------------------------


async def test_tenants_do_not_see_each_other(api: Api) -> None:
    rooms = {}
    for name in ("one", "two"):
        tenant = await api.tenant(name)
        rooms[name] = (tenant, await api.ticket(tenant), await api.project(tenant))
    await api.flavors()
    one, two = rooms["one"], rooms["two"]
    await api.post(f"/projects/{one[2]}/vms", vm_spec())
    assert (await api.get(f"/projects/{two[2]}/vms")).body["items"] == []
    assert (await api.usage(two[2]))["vm"] == (0, "COUNT")
    listed = (await api.get(f"/tenants/{two[0]}/resource-tickets")).body["items"]
    assert [ticket["id"] for ticket in listed] == [two[1]]
    assert (await api.get(f"/projects/{two[2]}/tasks")).body["items"] == []
    got = await api.delete(f"/tenants/{two[0]}")
    assert got.body["code"] == "ContainerNotEmpty"
    assert (await api.delete(f"/projects/{two[2]}")).status == 201
    assert (await api.delete(f"/tenants/{two[0]}")).status == 201
    assert (await api.get(f"/resource-tickets/{two[1]}")).body["code"] == "ResourceTicketNotFound"
    assert (await api.get(f"/resource-tickets/{one[1]}")).status == 200


async def test_a_tenant_with_many_tickets_goes_too(api: Api) -> None:
    tenant = await api.tenant()
    tickets = [await api.ticket(tenant, name=f"t{number}") for number in range(45)]
    assert (await api.delete(f"/tenants/{tenant}")).status == 201
    for ticket in tickets:
        assert (await api.get(f"/resource-tickets/{ticket}")).status == 404


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/tenants/{}", "NotFound"),
        ("/tenants/{}/projects", "NotFound"),
        ("/tenants/{}/resource-tickets", "NotFound"),
        ("/tenants/{}/tasks", "NotFound"),
        ("/projects/{}", "NotFound"),
        ("/projects/{}/vms", "NotFound"),
        ("/projects/{}/tasks", "NotFound"),
        ("/resource-tickets/{}", "ResourceTicketNotFound"),
        ("/flavors/{}", "FlavorNotFound"),
        ("/vms/{}", "VmNotFound"),
        ("/tasks/{}", "NotFound"),
    ],
)
@pytest.mark.parametrize("unknown", ["x", "0" * 36, "a" * 3000, "%00", "%F0%9F%90%8D", "fff" * 12])
async def test_unknown_ids_of_any_shape(api: Api, path: str, code: str, unknown: str) -> None:
    got = await api.get(path.format(unknown))
    assert (got.status, got.body["code"]) == (404, code)
