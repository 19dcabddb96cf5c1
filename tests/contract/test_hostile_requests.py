"""Requests with anything in any place: a coded answer each time, and nothing half done."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.support import Api, Json, disk, line, vm_spec

NASTY: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    1e308,
    "",
    "\x00",
    "\ud800",
    "a" * 5000,
    "a" * 64,
    "é",
    "ephemeral-disk.capacity",
    "GB",
    [],
    [[]],
    [None],
    {},
    {"key": 1},
    [{}] * 100,
    "x\x1fGB",
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def mutated(body: Json, chance: random.Random) -> Json:
    out = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        container, key = chance.choice(list(places(out)))
        if isinstance(container, dict) and chance.random() < 0.2:
            container[str(chance.choice(NASTY))[:100]] = container.pop(key)
        else:
            container[key] = copy.deepcopy(chance.choice(NASTY))
    return out


@pytest.mark.parametrize("seed", range(4))
async def test_no_request_makes_the_front_stumble(api: Api, seed: int) -> None:
    chance = random.Random(seed)
    project = await api.room(line("vm", 1000, "COUNT"), line("vm.memory", 100, "GB"))
    tenant = (await api.get("/tenants")).body["items"][0]["id"]
    limits = [line("vm", 1, "COUNT"), line("vm.memory", 1.5, "MB")]
    full = vm_spec(
        attachedDisks=[disk(), disk("data", boot=False, gb=2)],
        affinities=[{"kind": "host", "id": "h"}, {"kind": "datastore", "id": "d"}],
        networks=["n"],
        environment={"a": "b"},
        tags=["t"],
    )
    bodies: list[tuple[str, Json]] = [
        ("/tenants", {"name": "t", "securityGroups": ["g"]}),
        (f"/tenants/{tenant}/resource-tickets", {"name": "t", "limits": limits}),
        (
            f"/tenants/{tenant}/projects",
            {"name": "p", "resourceTicket": {"name": "ticket", "limits": limits}},
        ),
        ("/flavors", {"name": "f", "kind": "vm", "cost": limits}),
        (f"/projects/{project}/vms", full),
        (f"/projects/{project}/vms", full),
    ]
    taken = 0
    for _ in range(400):
        path, body = chance.choice(bodies)
        body = {**body, "name": api.name()}
        if chance.random() < 0.9:
            body = mutated(body, chance)
        raw = json.dumps(body).encode()
        if chance.random() < 0.1:
            raw = raw[: chance.randrange(len(raw))]
        got = await api.send("POST", path, raw)
        assert got.status in (201, 400, 404), (got, raw)
        if got.status == 201:
            taken += 1
            assert got.body["state"] in ("COMPLETED", "QUEUED")
        else:
            assert set(got.body) == {"code", "message", "data"}
            assert len(got.body["message"]) < 25_000
    assert taken > 40
    for path in ("/tenants", f"/projects/{project}/vms", "/flavors", "/tasks"):
        assert (await api.get(path)).status == 200
    vms = (await api.get(f"/projects/{project}/vms")).body["items"]
    memory = sum(item["value"] for vm in vms for item in vm["cost"] if item["key"] == "vm.memory")
    disks = sum(it["capacityGb"] for vm in vms for it in vm["attachedDisks"])
    usage = await api.usage(project)
    assert usage["vm"] == (len(vms), "COUNT")
    assert usage["vm.memory"][0] * 1024 == memory
    assert usage.get("ephemeral-disk.capacity", (0, "GB")) == (disks, "GB")


@pytest.mark.parametrize(
    "query",
    [
        "?name=%00",
        "?name=%ED%A0%80",
        "?state=" + "x" * 3000,
        "?entityId=%00&entityKind=" + "y" * 3000,
        "?pageSize=%FF",
        "?" + "&".join(f"a{number}=1" for number in range(500)),
        "?&&&=&",
    ],
)
async def test_strange_queries(api: Api, query: str) -> None:
    for path in ("/tasks", "/tenants", "/flavors"):
        got = await api.get(path + query)
        assert got.status in (200, 400), got
