"""VMs from request to host: the two error channels, tasks, quotas, locks, deletion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent import simulated_host
from fabric.errors import DeadlineExceeded
from fabric.machine import Contact
from fabric.wire.host import CreateVm
from nodes.cloud.access import Cloud, NoImages
from nodes.contract.entities import Leftover, Work
from nodes.roles import trying
from nodes.roles.actions import Pause
from nodes.roles.claims import SILENCE_US
from nodes.sweeper import Sweeper
from nodes.worker import Worker
from tests.contract.fake_hosts import FakeHosts
from tests.contract.support import Api, Json, disk, line, vm_spec

MakeWorker = Callable[..., Worker]


@pytest.fixture
def hosts() -> FakeHosts:
    return FakeHosts()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "pause", lambda tries: Pause(0))


@pytest.fixture
async def worker(cloud: Cloud, hosts: FakeHosts) -> AsyncIterator[Worker]:
    worker = Worker(cloud, hosts, lambda: 0, "worker", "1")
    cloud.on_work = worker.nudge
    worker.start()
    yield worker
    await worker.stop()


async def ended(api: Api, task: Json) -> Json:
    """Poll a task until it ended."""
    async with asyncio.timeout(20):
        while task["state"] not in ("COMPLETED", "ERROR"):
            await asyncio.sleep(0)
            task = (await api.get(f"/tasks/{task['id']}")).body
    return task


async def create(api: Api, project: str, **changed: Any) -> Json:
    got = await api.post(f"/projects/{project}/vms", vm_spec(**changed))
    assert got.status == 201, got
    body: Json = got.body
    return body


async def created(api: Api, project: str, **changed: Any) -> str:
    task = await ended(api, await create(api, project, **changed))
    assert task["state"] == "COMPLETED", task
    return str(task["entity"]["id"])


# --- taking the request ---------------------------------------------------------------------------


async def test_the_first_answer_shows_the_task_as_created(api: Api) -> None:
    project = await api.room()
    task = await create(api, project)
    assert (task["operation"], task["state"]) == ("CREATE_VM", "QUEUED")
    assert task["entity"]["kind"] == "vm"
    assert "startedTime" not in task and "endTime" not in task
    assert task["steps"] == [
        {
            "sequence": number,
            "operation": operation,
            "state": "QUEUED",
            "queuedTime": task["queuedTime"],
            "errors": [],
            "warnings": [],
            "options": None,
        }
        for number, operation in enumerate(["RESERVE_RESOURCE", "CREATE_VM"])
    ]
    assert (await api.get(f"/tasks/{task['id']}")).body == task
    assert (await api.get(f"/projects/{project}/tasks")).body["items"] == [task]
    vm = (await api.get(f"/vms/{task['entity']['id']}")).body
    assert vm["state"] == "CREATING"
    assert "host" not in vm and "datastore" not in vm
    assert [d["state"] for d in vm["attachedDisks"]] == ["CREATING"]


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        ({"attachedDisks": []}, "attachedDisks size must be between 1 and"),
        ({"attachedDisks": [disk(boot=False, gb=1)]}, "exactly one boot disk"),
        ({"attachedDisks": [disk(), disk("b")]}, "exactly one boot disk"),
        ({"sourceImageId": ""}, "sourceImageId"),
        ({"attachedDisks": [disk(), disk("b", boot=False)]}, "attachedDisks[1].capacityGb"),
        ({"attachedDisks": [disk(), disk("b", boot=False, gb=0)]}, "attachedDisks[1].capacityGb"),
        (
            {"affinities": [{"kind": "host", "id": "a"}, {"kind": "host", "id": "b"}]},
            "A VM can only be affixed on one host",
        ),
        (
            {"affinities": [{"kind": "datastore", "id": "a"}, {"kind": "datastore", "id": "b"}]},
            "A VM can only be affixed on one datastore",
        ),
        ({"affinities": [{"kind": "disk", "id": "a"}, {"kind": "host", "id": "b"}]}, "combined"),
        ({"affinities": [{"kind": "vm", "id": "a"}]}, "kind vm"),
        ({"affinities": [{"kind": "moon", "id": "a"}]}, "affinities[0].kind must match"),
    ],
)
async def test_spec_rules(api: Api, changed: Json, fragment: str) -> None:
    project = await api.room()
    got = await api.post(f"/projects/{project}/vms", vm_spec(**changed))
    assert (got.status, got.body["code"]) == (400, "InvalidEntity")
    assert fragment in got.body["message"]
    assert (await api.get(f"/projects/{project}/vms")).body["items"] == []


async def test_references_in_order(api: Api, cloud: Cloud) -> None:
    project = await api.room()
    got = await api.post("/projects/none/vms", vm_spec(flavor="none"))
    assert (got.status, got.body["code"]) == (404, "NotFound")
    cloud.images = NoImages()
    got = await api.post(f"/projects/{project}/vms", vm_spec(flavor="none"))
    assert (got.status, got.body["code"]) == (400, "InvalidFlavor")
    assert got.body["message"] == "Flavor none is not found for kind vm"
    assert got.body["data"] == {"kind": "vm", "flavor": "none"}
    got = await api.post(f"/projects/{project}/vms", vm_spec())
    assert (got.status, got.body["code"]) == (404, "ImageNotFound")
    assert got.body["message"] == "Image id 'any-image' not found"
    assert got.body["data"] == {"id": "any-image"}


async def test_a_vm_of_which_one_disk_cannot_be_is_not_made_at_all(api: Api) -> None:
    project = await api.room(line("ephemeral-disk", 1, "COUNT"))
    two = [disk(), disk("b", boot=False, gb=3)]
    got = await api.post(f"/projects/{project}/vms", vm_spec(attachedDisks=two))
    assert (got.status, got.body["code"]) == (400, "QuotaError")
    assert got.body["data"] == {
        "limit": "ephemeral-disk, 1, COUNT",
        "usage": "ephemeral-disk, 0, COUNT",
        "newUsage": "ephemeral-disk, 2, COUNT",
    }
    strange = [disk(), {**disk("b", boot=False, gb=3), "flavor": "none"}]
    got = await api.post(f"/projects/{project}/vms", vm_spec(attachedDisks=strange))
    assert got.body["code"] == "InvalidFlavor"
    assert await api.usage(project) == {"ephemeral-disk": (0, "COUNT")}
    assert (await api.get(f"/projects/{project}/tasks")).body["items"] == []


async def test_quota_is_debited_at_once_and_equal_is_fine(api: Api) -> None:
    project = await api.room(line("vm", 2, "COUNT"), line("vm.memory", 1, "GB"))
    disks = [disk(), disk("b", boot=False, gb=3)]
    for _ in range(2):
        await create(api, project, attachedDisks=disks)
    assert await api.usage(project) == {
        "vm": (2, "COUNT"),
        "vm.memory": (1, "GB"),
        "vm.cpu": (2, "COUNT"),
        "ephemeral-disk": (4, "COUNT"),
        "ephemeral-disk.capacity": (6, "GB"),
    }
    got = await api.post(f"/projects/{project}/vms", vm_spec())
    assert (got.status, got.body["code"]) == (400, "QuotaError")
    assert got.body["data"]["newUsage"] == "vm, 3, COUNT"


async def test_many_at_once_never_exceed_the_limit(api: Api) -> None:
    project = await api.room(line("vm", 5, "COUNT"))
    sent = [api.post(f"/projects/{project}/vms", vm_spec()) for _ in range(12)]
    answers: list[Any] = await asyncio.gather(*sent)
    assert sorted(got.status for got in answers) == [201] * 5 + [400] * 7
    assert (await api.usage(project))["vm"] == (5, "COUNT")


async def test_a_capacity_for_the_boot_disk_is_ignored_with_a_warning(api: Api) -> None:
    project = await api.room()
    task = await create(api, project, attachedDisks=[disk(gb=9)])
    assert [w["code"] for w in task["steps"][0]["warnings"]] == ["InvalidEntity"]
    vm = (await api.get(f"/vms/{task['entity']['id']}")).body
    assert vm["attachedDisks"][0]["capacityGb"] == 0


# --- carrying it out ------------------------------------------------------------------------------


async def test_create_and_delete(api: Api, worker: Worker, hosts: FakeHosts) -> None:
    project = await api.room()
    task = await ended(api, await create(api, project, tags=["a", "b", "a"]))
    assert task["state"] == "COMPLETED"
    assert [step["state"] for step in task["steps"]] == ["COMPLETED", "COMPLETED"]
    assert task["queuedTime"] <= task["startedTime"] <= task["endTime"]
    vm_id = task["entity"]["id"]
    vm = (await api.get(f"/vms/{vm_id}")).body
    assert (vm["state"], vm["host"], vm["datastore"]) == ("STOPPED", "inproc://host-1", "local")
    assert (vm["tags"], vm["metadata"], vm["attachedIsos"]) == (["a", "b"], {}, [])
    assert [d["state"] for d in vm["attachedDisks"]] == ["ATTACHED"]
    assert vm["selfLink"].endswith(f"/vms/{vm_id}")
    assert hosts.held() == [vm_id]
    assert (await api.get(f"/projects/{project}/vms?name=vm1")).body["items"] == [vm]

    got = await api.delete(f"/vms/{vm_id}")
    assert (got.status, got.body["operation"], got.body["state"]) == (201, "DELETE_VM", "QUEUED")
    assert [step["operation"] for step in got.body["steps"]] == ["DELETE_VM"]
    assert (await ended(api, got.body))["state"] == "COMPLETED"
    assert (await api.get(f"/vms/{vm_id}")).status == 404
    assert (await api.get(f"/vms/{vm_id}/tasks")).body["code"] == "VmNotFound"
    assert hosts.held() == []
    assert {value for value, _ in (await api.usage(project)).values()} == {0}
    operations = (await api.get(f"/projects/{project}/tasks?kind=VM&state=completed")).body["items"]
    assert [it["operation"] for it in operations] == ["CREATE_VM", "DELETE_VM"]


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ({"cpu": 1, "memory_mb": 256}, "NotEnoughMemoryResource"),
        ({"cpu": 1, "datastores": {"local": 10}}, "NotEnoughDatastoreCapacity"),
    ],
)
async def test_a_refused_vm_stays_in_error_with_its_quota(
    api: Api, cloud: Cloud, room: Any, code: str
) -> None:
    hosts = FakeHosts(2, simulated_host(**room))
    worker = Worker(cloud, hosts, lambda: 0, "worker", "1")
    worker.start()
    project = await api.room()
    disks = [disk(), disk("b", boot=False, gb=1)]
    task = await ended(api, await create(api, project, attachedDisks=disks))
    assert task["state"] == "ERROR"
    assert [step["state"] for step in task["steps"]] == ["ERROR", "QUEUED"]
    assert [error["code"] for error in task["steps"][0]["errors"]] == [code]
    assert "startedTime" not in task["steps"][1]
    vm_id = task["entity"]["id"]
    vm = (await api.get(f"/vms/{vm_id}")).body
    assert (vm["state"], [d["state"] for d in vm["attachedDisks"]]) == ("ERROR", ["ERROR", "ERROR"])
    assert (await api.usage(project))["vm"] == (1, "COUNT")
    task = await ended(api, (await api.delete(f"/vms/{vm_id}")).body)
    assert task["state"] == "COMPLETED"
    assert (await api.usage(project))["vm"] == (0, "COUNT")
    await worker.stop()


async def test_cpu_runs_out(api: Api, worker: Worker, hosts: FakeHosts) -> None:
    project = await api.room()
    for _ in range(12):
        await created(api, project)
    task = await ended(api, await create(api, project))
    assert [error["code"] for error in task["steps"][0]["errors"]] == ["NotEnoughCpuResource"]
    assert len(hosts.held()) == 12


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"networks": ["none"]}, "NetworkNotFound"),
        ({"affinities": [{"kind": "host", "id": "10.0.0.1"}]}, "UnfullfillableAffinities"),
        ({"affinities": [{"kind": "datastore", "id": "none"}]}, "UnfullfillableAffinities"),
        ({"affinities": [{"kind": "disk", "id": "none"}]}, "UnfullfillableAffinities"),
    ],
)
async def test_what_cannot_be_met_is_a_step_error(
    api: Api, worker: Worker, changed: Json, code: str
) -> None:
    project = await api.room()
    task = await ended(api, await create(api, project, **changed))
    assert [error["code"] for error in task["steps"][0]["errors"]] == [code]


async def test_a_host_affinity_names_an_address(api: Api, worker: Worker, hosts: FakeHosts) -> None:
    project = await api.room()
    vm = await created(api, project, affinities=[{"kind": "host", "id": "inproc://host-3"}])
    assert (await api.get(f"/vms/{vm}")).body["host"] == "inproc://host-3"


async def test_a_hypervisor_that_fails_leaves_nothing(
    api: Api, worker: Worker, hosts: FakeHosts
) -> None:
    for host in hosts.all:
        host.hypervisor._fail["CreateMachine"] = 1_000_000
    project = await api.room()
    task = await ended(api, await create(api, project))
    assert [step["state"] for step in task["steps"]] == ["COMPLETED", "ERROR"]
    assert [error["code"] for error in task["steps"][1]["errors"]] == ["InternalError"]
    assert hosts.held() == []
    assert [books.cpu_used for books in hosts.books()] == [0, 0, 0]


# --- locks and state ------------------------------------------------------------------------------


async def test_one_task_at_a_time(api: Api, cloud: Cloud, hosts: FakeHosts) -> None:
    project = await api.room()
    vm = (await create(api, project))["entity"]["id"]
    got = await api.delete(f"/vms/{vm}")
    assert (got.status, got.body["code"]) == (400, "ConcurrentTask")
    assert len((await api.get(f"/vms/{vm}/tasks")).body["items"]) == 1


async def test_projects_and_tenants_with_content_stay(api: Api) -> None:
    project = await api.room()
    await create(api, project)
    got = await api.delete(f"/projects/{project}")
    assert (got.status, got.body["code"]) == (400, "ContainerNotEmpty")
    assert got.body["data"]["kind"] == "project"
    tenant = (await api.get("/tenants")).body["items"][0]["id"]
    got = await api.delete(f"/tenants/{tenant}")
    assert (got.status, got.body["code"]) == (400, "ContainerNotEmpty")
    assert (got.body["data"]["kind"], got.body["data"]["id"]) == ("tenant", tenant)


async def test_a_flavor_in_use_waits_for_its_last_user(api: Api, worker: Worker) -> None:
    project = await api.room()
    vms = [await created(api, project) for _ in range(2)]
    flavor = (await api.get("/flavors?name=disk&kind=ephemeral-disk")).body["items"][0]["id"]
    got = await api.delete(f"/flavors/{flavor}")
    assert (got.status, got.body["state"]) == (201, "COMPLETED")
    assert (await api.get(f"/flavors/{flavor}")).body["state"] == "PENDING_DELETE"
    got = await api.delete(f"/flavors/{flavor}")
    assert (got.status, got.body["code"]) == (400, "InvalidFlavorState")
    got = await api.post(f"/projects/{project}/vms", vm_spec())
    assert (got.status, got.body["code"]) == (400, "InvalidFlavorState")
    for vm in vms:
        assert (await api.get(f"/flavors/{flavor}")).status == 200
        await ended(api, (await api.delete(f"/vms/{vm}")).body)
    assert (await api.get(f"/flavors/{flavor}")).body["code"] == "FlavorNotFound"
    assert (await api.get(f"/flavors/{flavor}/tasks")).status == 404


# --- trouble --------------------------------------------------------------------------------------


async def test_a_dead_host_is_replaced(api: Api, worker: Worker, hosts: FakeHosts) -> None:
    project = await api.room()
    first = hosts.all[0]
    ask = first.ask

    def die(body: Any, now: int) -> Any:
        first.gone = True
        return ask(body, now)

    first.ask = die  # type: ignore[method-assign]
    vm = await created(api, project)
    assert (await api.get(f"/vms/{vm}")).body["host"] == "inproc://host-2"


async def test_a_silent_host_is_cleaned_before_another_is_tried(
    api: Api, worker: Worker, hosts: FakeHosts
) -> None:
    """The create got through, its answer and all repetitions did not; then the host is back."""
    project = await api.room()
    lost = 0
    original = hosts.ask

    async def flaky(host: Contact, body: Any, timeout_s: float) -> Any:
        nonlocal lost
        answer = await original(host, body, timeout_s)
        if isinstance(body, CreateVm) and body.key.endswith("/1"):
            lost += 1
            raise DeadlineExceeded("no answer")
        return answer

    hosts.ask = flaky  # type: ignore[method-assign]
    vm = await created(api, project)
    assert lost == trying.MAX_TRIES
    calls = [call for call, _ in hosts.asked]
    assert calls[calls.index("Release") :] == ["Release", "DeleteVm", "Confirm", "CreateVm"]
    assert hosts.held() == [vm]
    assert sum(books.cpu_used for books in hosts.books()) == 1


async def test_what_a_dead_host_holds_is_removed_when_it_is_back(
    api: Api, cloud: Cloud, worker: Worker, hosts: FakeHosts
) -> None:
    """The host dies right after it made the VM, and again before the VM is deleted."""
    project = await api.room()
    original = hosts.ask

    async def die_of(host: Contact, body: Any, timeout_s: float) -> Any:
        answer = await original(host, body, timeout_s)
        if isinstance(body, CreateVm) and body.key.endswith("/1"):
            hosts.all[0].gone = True
            raise DeadlineExceeded("no answer")
        return answer

    hosts.ask = die_of  # type: ignore[method-assign]
    vm = await created(api, project)
    assert (await api.get(f"/vms/{vm}")).body["host"] == "inproc://host-2"
    assert hosts.held() == [vm, vm], "the dead host still has its copy"
    sweeper = Sweeper(cloud, hosts)
    await sweeper.sweep()
    assert len(await cloud.list(Leftover)) == 1
    hosts.all[0].gone = False
    await sweeper.sweep()
    assert hosts.held() == [vm]
    assert (await api.get(f"/vms/{vm}")).body["host"] == "inproc://host-2"

    hosts.all[1].gone = True
    task = await ended(api, (await api.delete(f"/vms/{vm}")).body)
    assert task["state"] == "COMPLETED"
    assert hosts.held() == [vm]
    hosts.all[1].gone = False
    await sweeper.sweep()
    assert hosts.held() == []
    assert await cloud.list(Leftover) == []
    assert sum(books.cpu_used for books in hosts.books()) == 0


async def test_a_worker_taken_for_dead_can_store_nothing_any_more(
    api: Api, cloud: Cloud, hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = await api.room()
    reached, go_on = asyncio.Event(), asyncio.Event()
    original = hosts.ask

    async def hang(host: Contact, body: Any, timeout_s: float) -> Any:
        if isinstance(body, CreateVm) and not reached.is_set():
            reached.set()
            await go_on.wait()
        return await original(host, body, timeout_s)

    async def silent(*_: object) -> None:
        """A process that hangs sends no heartbeat."""

    hosts.ask = hang  # type: ignore[method-assign]
    slow = Worker(cloud, hosts, lambda: 0, "slow", "1")
    monkeypatch.setattr(slow, "_beat", silent)
    slow.start()
    task = await create(api, project)
    await reached.wait()
    now = 0
    other = Worker(cloud, hosts, lambda: now, "other", "1")
    other.start()
    await asyncio.sleep(0)
    await other._look()
    assert (await api.get(f"/tasks/{task['id']}")).body["state"] == "STARTED"
    now = SILENCE_US
    await other._look()
    done = await ended(api, task)
    assert done["state"] == "COMPLETED"
    go_on.set()
    while slow._runs:
        await asyncio.sleep(0)
    assert (await api.get(f"/tasks/{task['id']}")).body == done
    assert hosts.held() == [task["entity"]["id"]]
    await slow.stop()
    await other.stop()


async def test_without_a_fabric_the_task_fails_after_many_tries(
    api: Api, worker: Worker, hosts: FakeHosts
) -> None:
    hosts.unreachable = True
    project = await api.room()
    task = await ended(api, await create(api, project))
    assert [error["code"] for error in task["steps"][0]["errors"]] == ["InternalError"]


async def test_every_interruption_is_survived(
    api: Api, cloud: Cloud, hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kill the worker at its n-th action, for every n, before and after the action took effect."""
    project = await api.room()
    n = 0
    while True:
        for after in (False, True):
            task = await create(api, project)
            interrupted = await _run_with_interruption(
                cloud, hosts, monkeypatch, n, after, f"{n}{after}"
            )
            task = await ended(api, (await api.get(f"/tasks/{task['id']}")).body)
            assert task["state"] == "COMPLETED", (n, after, task)
            vm = task["entity"]["id"]
            assert hosts.held() == [vm], (n, after)
            assert sum(books.cpu_used for books in hosts.books()) == 1
            got = await api.delete(f"/vms/{vm}")
            gone = await _run_with_interruption(cloud, hosts, monkeypatch, n, after, f"d{n}{after}")
            task = await ended(api, (await api.get(f"/tasks/{got.body['id']}")).body)
            assert task["state"] == "COMPLETED", (n, after, task)
            assert (await api.get(f"/vms/{vm}")).status == 404
            assert hosts.held() == []
            assert sum(books.cpu_used for books in hosts.books()) == 0
            assert {value for value, _ in (await api.usage(project)).values()} == {0}
        if not interrupted and not gone:
            break
        n += 1
    assert n > 5, "the interruptions reached no action"
    assert await cloud.list(Work) == []


async def _run_with_interruption(
    cloud: Cloud,
    hosts: FakeHosts,
    monkeypatch: pytest.MonkeyPatch,
    n: int,
    after: bool,
    life: str,
) -> bool:
    """Run a worker that dies at its n-th action, then a new life of it until all is done."""
    died = asyncio.Event()
    count = 0
    do = Worker._do

    async def dying(self: Worker, run: Any, action: Any) -> Any:
        nonlocal count
        count += 1
        if count == n + 1 and after:
            await do(self, run, action)
        if count == n + 1:
            died.set()
            await asyncio.Event().wait()
        return await do(self, run, action)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_do", dying)
        first = Worker(cloud, hosts, lambda: 0, "worker", life + "a")
        first.start()
        await _until(cloud, died)
        await first.stop()
    second = Worker(cloud, hosts, lambda: 0, "worker", life + "b")
    second.start()
    await _until(cloud, asyncio.Event())
    await second.stop()
    return died.is_set()


async def _until(cloud: Cloud, died: asyncio.Event) -> None:
    """Wait until the worker died, or nothing is left to do."""
    async with asyncio.timeout(20):
        while not died.is_set() and await cloud.list(Work):
            await asyncio.sleep(0)
