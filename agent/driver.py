"""What the agent asks of a hypervisor: a handful of idempotent calls, as data.

Books put these out with ``Sink.drive``; the runtime hands them to a driver's ``execute``, the
simulator to a pure one.  A driver makes each call all or nothing as well as it can, and each call
may come again after a crash: creating a VM that is there, or destroying one that is not, succeeds.
Calls about one VM are carried out in the order in which they were put out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(slots=True)
class CreateMachine:
    """Make the VM, powered off. Result: ``None``."""

    vm_id: str
    cpu: int
    memory_mb: int
    disk_mb: int
    datastore: str
    image_id: str


@dataclass(slots=True)
class DestroyMachine:
    """Power the VM off and remove it with its disk. Result: ``None``."""

    vm_id: str


@dataclass(slots=True)
class SetPower:
    """Power the VM on or off. Result: ``None``."""

    vm_id: str
    on: bool


@dataclass(slots=True)
class Inventory:
    """List the VMs that Fabric made on this host. Result: :class:`Machines`."""


@dataclass(slots=True)
class Machines:
    """VM ids and whether each is powered on, sorted."""

    vms: tuple[tuple[str, bool], ...]


DriverCall: TypeAlias = CreateMachine | DestroyMachine | SetPower | Inventory
