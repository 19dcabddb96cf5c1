"""Short words for what tests of the front do again and again.

Every answer is checked against the contract's schemas, whatever the test asked for it.
"""

from __future__ import annotations

import itertools
import json
from typing import Any, NamedTuple

from aiohttp.test_utils import TestClient

from tests.contract.schemas import check_answer

Json = dict[str, Any]


class Got(NamedTuple):
    status: int
    body: Any
    headers: Any


class Api:
    """A client whose answers are plain tuples."""

    def __init__(self, session: TestClient[Any, Any]) -> None:
        self._session = session
        self.base = str(session.make_url("")).rstrip("/")
        self._names = itertools.count(1)

    async def send(
        self, method: str, path: str, raw: bytes | None = None, kind: str = "application/json"
    ) -> Got:
        headers = {"Content-Type": kind} if raw is not None else {}
        path = path.removeprefix(self.base)  # a selfLink is absolute
        async with self._session.request(method, path, data=raw, headers=headers) as answer:
            body = json.loads(await answer.text())
        check_answer(method, path, answer.status, body)
        return Got(answer.status, body, answer.headers)

    async def get(self, path: str) -> Got:
        return await self.send("GET", path)

    async def post(self, path: str, body: Any = None) -> Got:
        return await self.send("POST", path, json.dumps(body).encode())

    async def delete(self, path: str) -> Got:
        return await self.send("DELETE", path)

    async def made(self, path: str, body: Json) -> str:
        """Post, insist on success, return the id of what was made."""
        got = await self.post(path, body)
        assert got.status == 201, got
        return str(got.body["entity"]["id"])

    def name(self) -> str:
        return f"n{next(self._names)}"

    async def tenant(self, name: str | None = None) -> str:
        return await self.made("/tenants", {"name": name or self.name()})

    async def ticket(self, tenant: str, *limits: Json, name: str = "ticket") -> str:
        body = {"name": name, "limits": list(limits) or [line("vm", 100, "COUNT")]}
        return await self.made(f"/tenants/{tenant}/resource-tickets", body)

    async def project(self, tenant: str, *limits: Json, name: str = "project") -> str:
        given = list(limits) or [line("subdivide.percent", 100, "COUNT")]
        body = {"name": name, "resourceTicket": {"name": "ticket", "limits": given}}
        return await self.made(f"/tenants/{tenant}/projects", body)

    async def flavors(self) -> None:
        """Make the flavors that :func:`vm_spec` names."""
        cost = [
            line("vm", 1, "COUNT"),
            line("vm.cpu", 1, "COUNT"),
            line("vm.memory", 512, "MB"),
        ]
        await self.made("/flavors", {"name": "small", "kind": "vm", "cost": cost})
        disk = {
            "name": "disk",
            "kind": "ephemeral-disk",
            "cost": [line("ephemeral-disk", 1, "COUNT")],
        }
        await self.made("/flavors", disk)

    async def room(self, *limits: Json) -> str:
        """Make flavors, a tenant, its ticket with ``limits``, and a project with all of it."""
        await self.flavors()
        tenant = await self.tenant()
        await self.ticket(tenant, *limits)
        return await self.project(tenant)

    async def usage(self, project: str) -> dict[str, tuple[float, str]]:
        got = await self.get(f"/projects/{project}")
        usage = got.body["resourceTicket"]["usage"]
        return {item["key"]: (item["value"], item["unit"]) for item in usage}


def line(key: str, value: float, unit: str) -> Json:
    return {"key": key, "value": value, "unit": unit}


def disk(name: str = "boot", *, boot: bool = True, gb: int | None = None) -> Json:
    out: Json = {"name": name, "flavor": "disk", "kind": "ephemeral-disk", "bootDisk": boot}
    if gb is not None:
        out["capacityGb"] = gb
    return out


def vm_spec(**changed: Any) -> Json:
    spec = {
        "name": "vm1",
        "flavor": "small",
        "sourceImageId": "any-image",
        "attachedDisks": [disk()],
    }
    return {**spec, **changed}


class Clock:
    """Milliseconds that pass only when read."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        self.now_ms += 1
        return self.now_ms
