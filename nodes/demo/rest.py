"""The demo's REST client: a tenant, a ticket, a project, flavors and VMs, as any client would.

It speaks the Photon v1 contract: every change answers with a task, which is polled until it is
COMPLETED; a task in ERROR is a failed check that quotes the step's error.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import aiohttp

from fabric.errors import CheckFailed

_POLL_S: Final = 0.1
_TASK_S: Final = 60.0


class RestClient:
    """A session with one API front."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))

    async def __aenter__(self) -> RestClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> dict[str, Any]:
        """GET ``path``; anything but 2xx is a failed check."""
        return await self._call("GET", path, None)

    async def change(self, path: str, body: dict[str, Any]) -> str:
        """POST ``body``, wait for the task, and return the id of the entity it worked on."""
        task = await self._call("POST", path, body)
        deadline = asyncio.get_running_loop().time() + _TASK_S
        while task["state"] not in ("COMPLETED", "ERROR"):
            if asyncio.get_running_loop().time() > deadline:
                raise CheckFailed(f"{task['operation']} is still {task['state']} after {_TASK_S} s")
            await asyncio.sleep(_POLL_S)
            task = await self._call("GET", f"/tasks/{task['id']}", None)
        if task["state"] == "ERROR":
            errors = [error for step in task["steps"] for error in step["errors"] or ()]
            raise CheckFailed(f"{task['operation']} ended in ERROR: {errors}")
        return str(task["entity"]["id"])

    async def _call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            async with self._session.request(method, self.base + path, json=body) as response:
                answer: dict[str, Any] = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CheckFailed(f"{method} {path} failed: {error!r}") from None
        if response.status // 100 != 2:
            raise CheckFailed(f"{method} {path} answered {response.status}: {answer}")
        return answer


def _limit(key: str, value: float, unit: str) -> dict[str, Any]:
    return {"key": key, "value": value, "unit": unit}


async def create_project(client: RestClient) -> str:
    """Create tenant, ticket, project and flavors; return the project's id."""
    limits = [_limit("vm.count", 100, "COUNT"), _limit("vm.memory", 200, "GB"),
              _limit("vm.cpu", 200, "COUNT"), _limit("vm", 100, "COUNT"),
              _limit("ephemeral-disk", 100, "COUNT"),
              _limit("ephemeral-disk.count", 100, "COUNT")]
    tenant = await client.change("/tenants", {"name": "demo"})
    await client.change(f"/tenants/{tenant}/resource-tickets", {"name": "gold", "limits": limits})
    project = await client.change(
        f"/tenants/{tenant}/projects",
        {"name": "first", "resourceTicket": {"name": "gold", "limits": limits}},
    )
    await client.change("/flavors", {
        "name": "small", "kind": "vm",
        "cost": [_limit("vm", 1, "COUNT"), _limit("vm.count", 1, "COUNT"),
                 _limit("vm.cpu", 1, "COUNT"), _limit("vm.memory", 1, "GB")],
    })
    await client.change("/flavors", {
        "name": "boot", "kind": "ephemeral-disk",
        "cost": [_limit("ephemeral-disk", 1, "COUNT"), _limit("ephemeral-disk.count", 1, "COUNT")],
    })
    return project


async def create_vm(client: RestClient, project: str, name: str) -> str:
    """Create one VM and return its id once its task is COMPLETED."""
    return await client.change(f"/projects/{project}/vms", {
        "name": name, "flavor": "small", "sourceImageId": "demo-image",
        "attachedDisks": [
            {"name": "boot", "kind": "ephemeral-disk", "flavor": "boot", "bootDisk": True}
        ],
    })
