"""VMs: taking create and delete requests. Workers carry the tasks out (``nodes.roles``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fabric.cloudstore.client import Delete
from fabric.runtime.tracing import TRACE
from nodes.cloud.access import Cloud, Raced, Stored, create, debits, present, replaced, settled
from nodes.cloud.flavors import usable_flavor
from nodes.cloud.projects import read_project
from nodes.contract import quota
from nodes.contract.entities import (
    CREATING,
    EPHEMERAL_DISK,
    ERROR,
    READY,
    STOPPED,
    VM,
    ApiError,
    Disk,
    Flavor,
    Project,
    Task,
    Vm,
    Work,
)
from nodes.contract.errors import (
    ConcurrentTask,
    ImageNotFound,
    InvalidFlavorState,
    VmNotFound,
    not_found,
    state_error,
)
from nodes.contract.quota import QuotaLine, amount_of
from nodes.contract.specs import VmSpec
from nodes.contract.tasks import (
    CREATE_VM,
    DELETE_VM,
    RESERVE_RESOURCE,
    queued,
    with_warning,
)

_DELETABLE: Final = (CREATING, STOPPED, ERROR)
_BOOT_CAPACITY_IGNORED: Final = ApiError(
    "InvalidEntity", "capacityGb of the boot disk is ignored: it has the size of the image", {}
)


async def read_vm(cloud: Cloud, vm_id: str) -> Stored[Vm]:
    """Return a VM, or raise ``VmNotFound``."""
    return present(await cloud.read(Vm, vm_id), not_found(VmNotFound, "VM", vm_id))


async def list_vms(cloud: Cloud, project_id: str) -> list[Stored[Vm]]:
    project = (await read_project(cloud, project_id)).value
    return await cloud.list(Vm, home=project.tenant_id, where=("project_id", project_id))


@settled
async def create_vm(cloud: Cloud, project_id: str, spec: VmSpec) -> Task:
    """Debit the quota, record VM and task, all in one transaction."""
    project = (await read_project(cloud, project_id)).value
    vm = await _plan(cloud, project, spec)
    home = project.tenant_id
    task = queued(
        cloud.store.new_id(home),
        CREATE_VM,
        VM,
        vm.id,
        (RESERVE_RESOURCE, CREATE_VM),
        cloud.clock_ms(),
        project_id,
    )
    if any(disk.boot and disk.capacity_gb is not None for disk in spec.disks):
        task = with_warning(task, 0, _BOOT_CAPACITY_IGNORED)
    vm = replace(vm, lock=task.id)
    version = await cloud.commit(
        home,
        [
            *debits(project, quota.costs(project.lines, vm.whole_cost)),
            create(vm),
            create(task),
            create(Work(task.id, CREATE_VM, vm.id, trace=TRACE.get())),
        ],
        {project.id: project.lines},
    )
    await _recheck_flavors(cloud, project, vm, task, version)
    cloud.on_work()
    return task


@settled
async def delete_vm(cloud: Cloud, vm_id: str) -> Task:
    """Lock the VM for deletion; its quota comes back when the worker has removed it."""
    stored = await read_vm(cloud, vm_id)
    vm = stored.value
    if vm.state not in _DELETABLE:
        raise state_error(DELETE_VM, VM, vm_id, vm.state)
    if vm.lock is not None:
        raise ConcurrentTask(f"Another task on {VM}/{vm_id} has not ended")
    task = queued(
        cloud.store.new_id(vm.tenant_id),
        DELETE_VM,
        VM,
        vm_id,
        (DELETE_VM,),
        cloud.clock_ms(),
        vm.project_id,
    )
    await cloud.commit(
        vm.tenant_id,
        [
            replaced(stored, replace(vm, lock=task.id)),
            create(task),
            create(Work(task.id, DELETE_VM, vm_id, trace=TRACE.get())),
        ],
    )
    cloud.on_work()
    return task


async def _plan(cloud: Cloud, project: Project, spec: VmSpec) -> Vm:
    """Look up what the spec refers to and check the quota, in the contract's order."""
    flavor = await usable_flavor(cloud, VM, spec.flavor)
    image_size = await cloud.images.size_of(spec.source_image_id)
    if image_size is None:
        raise ImageNotFound(
            f"Image id '{spec.source_image_id}' not found", {"id": spec.source_image_id}
        )
    spent = list(flavor.cost)
    quota.check(project.lines, project.usage, quota.costs(project.lines, spent))
    disks = []
    for disk in spec.disks:
        disk_flavor = await usable_flavor(cloud, EPHEMERAL_DISK, disk.flavor)
        capacity = image_size >> 30 if disk.boot else disk.capacity_gb or 0
        cost = _disk_cost(disk_flavor, capacity)
        spent += cost
        quota.check(project.lines, project.usage, quota.costs(project.lines, spent))
        disks.append(
            Disk(
                cloud.store.new_id(project.tenant_id),
                disk.name,
                disk_flavor.name,
                disk_flavor.id,
                CREATING,
                capacity,
                disk.boot,
                cost,
            )
        )
    return Vm(
        id=cloud.store.new_id(project.tenant_id),
        name=spec.name,
        project_id=project.id,
        tenant_id=project.tenant_id,
        flavor=flavor.name,
        flavor_id=flavor.id,
        cost=flavor.cost,
        state=CREATING,
        source_image_id=spec.source_image_id,
        disks=tuple(disks),
        affinities=spec.affinities,
        networks=spec.networks,
        environment=spec.environment,
        tags=spec.tags,
        flavor_ids=tuple(dict.fromkeys((flavor.id, *(disk.flavor_id for disk in disks)))),
    )


def _disk_cost(flavor: Flavor, capacity_gb: int) -> tuple[QuotaLine, ...]:
    capacity = QuotaLine(f"{EPHEMERAL_DISK}.capacity", amount_of(capacity_gb, "GB"), "GB")
    return (*flavor.cost, capacity)


async def _recheck_flavors(
    cloud: Cloud, project: Project, vm: Vm, task: Task, version: int
) -> None:
    """Look at the flavors again now that the references are stored (see ``nodes.cloud.flavors``).

    If one is being deleted, everything is taken back, unless a worker has begun already: then the
    VM is a user that the deletion came after, as if the request had been a moment earlier.
    """
    for flavor_id in vm.flavor_ids:
        flavor = await cloud.read(Flavor, flavor_id)
        if flavor is not None and flavor.value.state == READY:
            continue
        cost = quota.costs(project.lines, vm.whole_cost, -1)
        try:
            await cloud.commit(
                project.tenant_id,
                [
                    Delete(Work.KIND, task.id, version),
                    Delete(Vm.KIND, vm.id, version),
                    Delete(Task.KIND, task.id, version),
                    *debits(project, cost),
                ],
            )
        except Raced:
            return
        raise InvalidFlavorState(f"A flavor of VM {vm.name} was deleted in this moment")
