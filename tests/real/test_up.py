"""``fabric up`` in one process: killed in the middle of its work, it goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import fabric
from agent import simulated_host
from fabric.cloudstore.storage.node import StoreNode
from fabric.errors import AddressInUse, DataDirectoryError, EdgeError
from nodes.cloud.access import KINDS
from nodes.demo.rest import RestClient, create_project
from nodes.service import FRONT_SERVICE, FrontOptions, Listen, run_front
from nodes.up import UpOptions, up

ROOT = Path(__file__).parents[2]
HOSTS = 3
VM: dict[str, Any] = {
    "name": "vm",
    "flavor": "small",
    "sourceImageId": "image",
    "attachedDisks": [{"name": "boot", "kind": "ephemeral", "flavor": "boot", "bootDisk": True}],
}


class Child:
    """A running ``up_child``."""

    rest: RestClient
    url: str

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, data_dir: Path) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.real.up_child", str(data_dir), str(HOSTS)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        child = cls(process)
        child.url = (await child._read())["url"]
        child.rest = RestClient(child.url)
        return child

    async def _read(self) -> Any:
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            raw = await self._process.stdout.readline()
        assert raw, "the child ended"
        return json.loads(raw)

    async def books(self) -> dict[str, tuple[list[str], list[str]]]:
        """Return VM ids and confirmed reservations by host."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"books\n")
        books: dict[str, tuple[list[str], list[str]]] = await self._read()
        return books

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def all_tasks_end(self, project: str) -> None:
        async with asyncio.timeout(60):
            while True:
                tasks = (await self.rest.get(f"/projects/{project}/tasks"))["items"]
                if all(task["state"] in ("COMPLETED", "ERROR") for task in tasks):
                    break
                await asyncio.sleep(0.05)
        assert Counter(task["state"] for task in tasks) == {"COMPLETED": len(tasks)}, tasks


@contextlib.asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[Child]:
    child = await Child.start(data_dir)
    try:
        async with child.rest:
            yield child
    finally:
        await child.kill()


async def unfinished(data_dir: Path) -> int:
    """Count the work that a killed process left in its store."""
    async with await StoreNode.open(data_dir / "store") as store:
        return len(await store.client(KINDS).list_all("work"))


async def send_until_killed(
    child: Child, requests: list[tuple[str, str, Any]], kill_after: int
) -> list[str]:
    """Send all requests at once and kill the child after some answers.

    Returns the entity ids of all requests that were answered.
    """
    answered: list[str] = []
    enough = asyncio.Event()

    async def send(method: str, path: str, body: Any) -> None:
        with contextlib.suppress(aiohttp.ClientError):  # the connection died with the child
            async with session.request(method, path, json=body) as response:
                task = await response.json()
                assert response.status == 201, task
                answered.append(task["entity"]["id"])
            if len(answered) >= kill_after:
                enough.set()

    connector = aiohttp.TCPConnector(limit=16)
    async with aiohttp.ClientSession(child.url, connector=connector) as session:
        sent = [asyncio.create_task(send(*request)) for request in requests]
        async with asyncio.timeout(60):
            await enough.wait()
        await child.kill()
        await asyncio.gather(*sent)
    return answered


async def audit(child: Child, project: str, vms: list[dict[str, Any]]) -> None:
    """Compare the VMs of the project with its quota and with the hosts' books."""
    usage = (await child.rest.get(f"/projects/{project}"))["resourceTicket"]["usage"]
    assert {item["value"] for item in usage if item["key"] in ("vm", "vm.memory", "vm.cpu")} == {
        len(vms)
    }
    books = await child.books()
    held = {address: sorted(ids) for address, (ids, _) in books.items() if ids}
    expected: dict[str, list[str]] = {}
    for vm in vms:
        expected.setdefault(vm["host"], []).append(vm["id"])
    assert held == {address: sorted(ids) for address, ids in expected.items()}
    # what was reserved and never confirmed expires; what was confirmed became a VM
    assert not [key for _, confirmed in books.values() for key in confirmed]


async def test_killed_in_the_middle_of_creations_and_deletions(tmp_path: Path) -> None:
    left_behind = 0
    async with running(tmp_path) as child:
        project = await create_project(child.rest)
        create = [("POST", f"/projects/{project}/vms", VM)] * 30
        promised = await send_until_killed(child, create, 12)
    left_behind += await unfinished(tmp_path)

    async with running(tmp_path) as child:
        create = create[:10]
        promised += await send_until_killed(child, create, 6)
    left_behind += await unfinished(tmp_path)

    async with running(tmp_path) as child:
        await child.all_tasks_end(project)
        vms = (await child.rest.get(f"/projects/{project}/vms"))["items"]
        assert set(promised) <= {vm["id"] for vm in vms}, "an answered VM is lost"
        assert {vm["state"] for vm in vms} == {"STOPPED"}
        await audit(child, project, vms)
        delete = [("DELETE", f"/vms/{vm['id']}", None) for vm in vms]
        going = await send_until_killed(child, delete, len(vms) // 2)
    left_behind += await unfinished(tmp_path)

    async with running(tmp_path) as child:
        await child.all_tasks_end(project)
        vms = (await child.rest.get(f"/projects/{project}/vms"))["items"]
        assert not {vm["id"] for vm in vms} & set(going), "an answered deletion is lost"
        await audit(child, project, vms)
    assert left_behind > 0, "no kill hit a task"


async def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=str(port)):
            async with up(UpOptions(1, tmp_path, listen=Listen(port=port))):
                pass


async def test_an_address_of_another_machine() -> None:
    with pytest.raises(EdgeError, match=r"192\.0\.2\.1"):
        async with up(UpOptions(1, listen=Listen("192.0.2.1", 0))):
            pass


async def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match="file"):
        async with up(UpOptions(1, tmp_path / "file" / "data")):
            pass


async def test_a_directory_of_another_kind_of_node(tmp_path: Path) -> None:
    async with fabric.open(data_dir=tmp_path, host=simulated_host(), candidate=True):
        pass
    with pytest.raises(DataDirectoryError, match="another kind of node"):
        async with up(UpOptions(1, tmp_path)):
            pass


async def test_a_directory_in_use(tmp_path: Path) -> None:
    options = UpOptions(1, tmp_path, listen=Listen(port=0))
    async with up(options):
        with pytest.raises(DataDirectoryError):
            async with up(options):
                pass


async def test_in_memory_and_as_many_hosts_as_on_record(tmp_path: Path) -> None:
    async with up(UpOptions(1, listen=Listen(port=0))) as ready:
        assert len(ready.hosts) == 1
    for asked in (2, 1):
        async with up(UpOptions(asked, tmp_path, listen=Listen(port=0))) as ready:
            assert len(ready.hosts) == 2


def spec(**changed: Any) -> dict[str, Any]:
    return {**VM, **changed}


async def ended(rest: RestClient, project: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create a VM and return its task once it ended, whichever way."""
    async with (
        aiohttp.ClientSession(rest.base) as session,
        session.post(f"/projects/{project}/vms", json=body) as response,
    ):
        task = await response.json()
        assert response.status == 201, task
    async with asyncio.timeout(30):
        while task["state"] not in ("COMPLETED", "ERROR"):
            await asyncio.sleep(0.02)
            task = await rest.get(f"/tasks/{task['id']}")
    return task


async def test_refusals_of_the_real_tree_have_the_contracts_codes() -> None:
    host = simulated_host(cpu=4, memory_mb=4096, datastores={"local": 50_000})
    options = UpOptions(2, accept_any_image=True, listen=Listen(port=0), host=host)
    boot = VM["attachedDisks"][0]
    huge = {**boot, "name": "data", "bootDisk": False, "capacityGb": 100}
    async with up(options) as ready, RestClient(ready.url) as rest:
        project = await create_project(rest)
        for name, cpu, memory_gb in (("wide", 5, 1), ("deep", 1, 5)):
            cost = [
                {"key": "vm.cpu", "value": cpu, "unit": "COUNT"},
                {"key": "vm.memory", "value": memory_gb, "unit": "GB"},
            ]
            await rest.change("/flavors", {"name": name, "kind": "vm", "cost": cost})
        for changed, code in (
            ({"flavor": "wide"}, "NotEnoughCpuResource"),
            ({"flavor": "deep"}, "NotEnoughMemoryResource"),
            ({"attachedDisks": [boot, huge]}, "NotEnoughDatastoreCapacity"),
            ({"affinities": [{"kind": "datastore", "id": "none"}]}, "UnfullfillableAffinities"),
            ({"affinities": [{"kind": "host", "id": "none"}]}, "UnfullfillableAffinities"),
        ):
            task = await ended(rest, project, spec(**changed))
            assert [e["code"] for e in task["steps"][0]["errors"]] == [code], task
        where = [{"kind": "host", "id": "inproc://host-002"}]
        task = await ended(rest, project, spec(affinities=where))
        assert task["state"] == "COMPLETED"
        vm = await rest.get(f"/vms/{task['entity']['id']}")
        assert (vm["host"], vm["datastore"]) == ("inproc://host-002", "local")


async def test_a_front_joins_a_fabric_over_zeromq(tmp_path: Path) -> None:
    stop, told = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with fabric.open(host=simulated_host(), candidate=True) as host:
        await host.ready()
        options = FrontOptions(
            (host.contact.address,), tmp_path, Listen(port=0), True,
            coordinator=str(tmp_path / "registry"),
        )
        front = asyncio.create_task(
            run_front(options, stop, lambda url, contact: told.set_result((url, contact)))
        )
        await asyncio.wait((told, front), return_when=asyncio.FIRST_COMPLETED)
        url, contact = told.result()
        async with RestClient(url) as rest:
            project = await create_project(rest)
            vm = await rest.get(f"/vms/{await rest.change(f'/projects/{project}/vms', VM)}")
        assert vm["host"] == host.contact.address
        rows = {row.contact.node_id: row.observer for row in await host.members()}
        assert rows == {host.contact.node_id: False, contact.node_id: True}
        async with fabric.open_registry(tmp_path / "registry") as registry:
            assert [each.address for each in await registry.instances(FRONT_SERVICE)] == [url]
        stop.set()
        await front
