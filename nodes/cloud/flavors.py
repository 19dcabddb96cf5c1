"""Flavors live in the root shard; VMs that use one, in any shard.

A user writes the reference first and looks at the flavor again afterwards; a deleter marks
PENDING_DELETE first and looks for users afterwards.  So at least one of the two sees the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fabric.cloudstore.client import ROOT, Claim, Delete, Free
from nodes.cloud.access import Cloud, Raced, Stored, create, present, replaced, settled
from nodes.contract.entities import PENDING_DELETE, READY, Flavor, Task, Vm
from nodes.contract.errors import (
    FlavorNotFound,
    InvalidFlavorState,
    invalid_flavor,
    name_taken,
    not_found,
)
from nodes.contract.specs import FlavorSpec


def _scope(kind: str) -> str:
    return f"flavor/{kind}"


async def read_flavor(cloud: Cloud, flavor_id: str) -> Stored[Flavor]:
    """Return a flavor, or raise ``FlavorNotFound``."""
    error = not_found(FlavorNotFound, "Flavor", flavor_id)
    return present(await cloud.read(Flavor, flavor_id), error)


async def usable_flavor(cloud: Cloud, kind: str, name: str) -> Flavor:
    """Return the READY flavor of this kind and name, or raise what a create request answers."""
    owner = await cloud.store.name_owner(ROOT, _scope(kind), name)
    flavor = await cloud.read(Flavor, owner) if owner is not None else None
    if flavor is None:
        raise invalid_flavor(kind, name)
    if flavor.value.state != READY:
        raise _bad_state("Use", flavor.value)
    return flavor.value


@settled
async def create_flavor(cloud: Cloud, spec: FlavorSpec) -> Task:
    if await cloud.store.name_owner(ROOT, _scope(spec.kind), spec.name) is not None:
        raise name_taken("flavor", spec.name)
    flavor_id = cloud.store.new_id(ROOT)
    flavor = Flavor(flavor_id, spec.name, spec.kind, READY, spec.cost)
    task = cloud.done(ROOT, "CREATE_FLAVOR", spec.kind, flavor_id)
    claim = Claim(_scope(spec.kind), spec.name, flavor_id)
    await cloud.commit(ROOT, [claim, create(flavor), create(task)])
    return task


@settled
async def delete_flavor(cloud: Cloud, flavor_id: str) -> Task:
    """Remove an unused flavor; a used one stays PENDING_DELETE until its last user is deleted."""
    stored = await read_flavor(cloud, flavor_id)
    flavor = stored.value
    if flavor.state != READY:
        raise _bad_state("Delete", flavor)
    task = cloud.done(ROOT, "DELETE_FLAVOR", flavor.kind, flavor_id)
    marked = replace(flavor, state=PENDING_DELETE)
    await cloud.commit(ROOT, [replaced(stored, marked), create(task)])
    await reap_flavors(cloud, [flavor_id])
    return task


async def reap_flavors(cloud: Cloud, flavor_ids: Iterable[str]) -> None:
    """Remove those of the flavors that wait for their last user and have none left."""
    for flavor_id in dict.fromkeys(flavor_ids):
        stored = await cloud.read(Flavor, flavor_id)
        if stored is None or stored.value.state != PENDING_DELETE:
            continue
        if (await cloud.store.list(Vm.KIND, where=("flavor_ids", flavor_id), limit=1)).items:
            continue
        flavor = stored.value
        try:
            await cloud.commit(
                ROOT,
                [
                    Delete(Flavor.KIND, flavor_id, stored.version),
                    Free(_scope(flavor.kind), flavor.name, flavor_id),
                ],
            )
        except Raced:
            continue  # somebody else reaped it


def _bad_state(what: str, flavor: Flavor) -> InvalidFlavorState:
    return InvalidFlavorState(
        f"{what} of {flavor.kind} flavor {flavor.name} is not possible in state {flavor.state}"
    )
