"""From a VM to the room it needs, and from a refusal to the contract's step error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fabric.errors import BadInput, FabricError, Refused
from fabric.ids import format_id
from fabric.limits import MAX_HOST_CPU, MAX_HOST_MB
from fabric.placement.request import Constraint, PlacementRequest
from nodes.contract.entities import Affinity, Vm
from nodes.contract.errors import (
    NetworkNotFound,
    NotEnoughCpuResource,
    NotEnoughDatastoreCapacity,
    NotEnoughMemoryResource,
    UnfullfillableAffinities,
    not_found,
)
from nodes.contract.quota import SCALE, find

_STORAGE: Final = "storage."
#: Datastore kinds that a disk flavor may ask for. A host that has one carries the key as a tag.
STORAGE_TAGS: Final = ("storage.LOCAL_VMFS", "storage.SHARED_VMFS", "storage.NFS")

#: A VM with disks of no size still has files of its own, which lie on a datastore.
_OWN_FILES_MB: Final = 1

_BY_SIZE: Final[Mapping[str, type[FabricError]]] = {
    "cpu": NotEnoughCpuResource,
    "memory": NotEnoughMemoryResource,
    "disk": NotEnoughDatastoreCapacity,
}


def host_affinity(vm: Vm) -> str | None:
    """Return the address of the host that the VM is affixed to."""
    return next((it.id for it in vm.affinities if it.kind == "host"), None)


def placement_request(vm: Vm, key: str, host_id: int | None) -> PlacementRequest:
    """Return the room that ``vm`` needs; raises the step error if nothing could ever hold it."""
    if vm.networks:
        raise not_found(NetworkNotFound, "Network", vm.networks[0])
    constraints = [_constraint(it, host_id) for it in vm.affinities]
    constraints += [_storage(key) for key in _storage_keys(vm)]
    cpu = _amount(vm, "vm.cpu", SCALE["COUNT"])
    memory_mb = _amount(vm, "vm.memory", SCALE["MB"])
    disk_mb = max(_OWN_FILES_MB, sum(disk.capacity_gb for disk in vm.disks) << 10)
    if cpu > MAX_HOST_CPU:
        raise NotEnoughCpuResource(f"no host has {cpu} CPUs")
    if memory_mb > MAX_HOST_MB:
        raise NotEnoughMemoryResource(f"no host has {memory_mb} MB of memory")
    if disk_mb > MAX_HOST_MB:
        raise NotEnoughDatastoreCapacity(f"no datastore has {disk_mb} MB")
    return PlacementRequest(key, vm.id, cpu, memory_mb, disk_mb, tuple(constraints))


def step_error(vm: Vm, message: str, counts: Mapping[str, int]) -> FabricError:
    """Return what the contract calls a refusal: the size that most hosts lacked, if any did."""
    lacking = [(counts[size], size) for size in _BY_SIZE if counts.get(size)]
    if lacking:
        most = max(count for count, _ in lacking)
        return _BY_SIZE[next(size for count, size in lacking if count == most)](message)
    if vm.affinities:
        return UnfullfillableAffinities(message)
    return Refused(message)


def _amount(vm: Vm, key: str, scale: int) -> int:
    line = find(vm.cost, key)
    if line is None or line.amount <= 0:
        raise BadInput(f"cost of flavor {vm.flavor} needs {key} above 0 to be placed")
    return -(-line.amount // scale)


def _constraint(affinity: Affinity, host_id: int | None) -> Constraint:
    if affinity.kind == "host":
        if host_id is None:
            raise UnfullfillableAffinities(f"there is no host {affinity.id:.200}")
        return Constraint("host", (format_id(host_id),))
    if affinity.kind == "datastore":
        return Constraint("datastore", (affinity.id,))
    if affinity.kind == "portGroup":
        return Constraint("network", (affinity.id,))
    raise UnfullfillableAffinities(f"there is no {affinity.kind} {affinity.id:.200}")


def _storage_keys(vm: Vm) -> list[str]:
    keys = [line.key for disk in vm.disks for line in disk.cost if line.key.startswith(_STORAGE)]
    return list(dict.fromkeys(keys))


def _storage(key: str) -> Constraint:
    if key not in STORAGE_TAGS:
        raise Refused(f"no datastore is of the kind {key}")
    return Constraint("tag", (key,))
