"""Calls to one host's agent, and their answers. Type ids 60-79.

They travel in a ``Request`` (anybody asks a host by its contact) or in a ``HostCall`` (an entry
asks the host that it placed on).  All of them are idempotent: asked again they answer the same.
Failures come as ``Failure`` with the codes of ``fabric.errors``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fabric.limits import HOST_PAGE, MAX_HOST_NAMES
from fabric.wire.codec import Int, Text, many, register


@dataclass(slots=True)
class Confirm:
    """The caller takes this reservation: it no longer expires. Answered by ``Done``."""

    key: Text
    attempt: Int
    reservation_id: Int


@dataclass(slots=True)
class Release:
    """The reserved room is not needed. Answered by ``Done``, also when it is gone already.

    ``unconfirmed``: only if nobody has confirmed it (an entry giving back what it got twice).
    """

    key: Text
    attempt: Int
    reservation_id: Int
    unconfirmed: bool = False


@dataclass(slots=True)
class CreateVm:
    """Make the VM that the reservation was for; it consumes the reservation.

    Answered by :class:`VmInfo`.  When the driver fails, what it left is removed and the room freed.
    """

    vm_id: Text
    key: Text
    attempt: Int
    reservation_id: Int
    image_id: Text = ""


@dataclass(slots=True)
class DeleteVm:
    """Remove the VM and free its room. Answered by ``Done``, also when there is no such VM."""

    vm_id: Text


@dataclass(slots=True)
class PowerVm:
    """Start (``on``) or stop the VM. Answered by :class:`VmInfo`."""

    vm_id: Text
    on: bool


@dataclass(slots=True)
class Drain:
    """Take no new placements (or, ``on`` false, take them again). Answered by ``Done``."""

    on: bool


@dataclass(slots=True)
class VmInfo:
    """A VM as the host's books hold it."""

    vm_id: Text
    state: Text
    key: Text
    attempt: Int
    reservation_id: Int
    cpu: Int
    memory_mb: Int
    disk_mb: Int
    datastore: Text
    image_id: Text


@dataclass(slots=True)
class ReservationInfo:
    """A reservation as the host's books hold it. ``expires_at`` 0: confirmed."""

    reservation_id: Int
    key: Text
    attempt: Int
    vm_id: Text
    cpu: Int
    memory_mb: Int
    disk_mb: Int
    datastore: Text
    expires_at: Int


@dataclass(slots=True)
class ListVms:
    """VMs with ids above ``after``, in order. Answered by :class:`VmPage`."""

    after: Text = ""


@dataclass(slots=True)
class VmPage:
    """A page of VMs; ``more`` when others follow the last one."""

    vms: Annotated[tuple[VmInfo, ...], many(HOST_PAGE)]
    more: bool


@dataclass(slots=True)
class AuditAsk:
    """The whole account of the books. Answered by :class:`Audit`, in pages.

    The next page starts after ``vm_after`` and ``reservation_after``, taken from the page before.
    """

    vm_after: Text = ""
    reservation_after: Int = 0


@dataclass(slots=True)
class Audit:
    """Capacity, what the books say is used, and every VM and reservation that uses it.

    Pages with the same ``version`` are of one moment.  Over all pages the rows add up to the used
    amounts; whoever audits adds them up himself.
    """

    version: Int
    cpu: Int
    cpu_used: Int
    memory_mb: Int
    memory_used_mb: Int
    datastores: Annotated[tuple[tuple[Text, Int, Int], ...], many(MAX_HOST_NAMES)]
    """Name, size and used MB."""
    draining: bool
    vms: Annotated[tuple[VmInfo, ...], many(HOST_PAGE)]
    reservations: Annotated[tuple[ReservationInfo, ...], many(HOST_PAGE)]
    more: bool


register(60, Confirm)
register(61, Release)
register(62, CreateVm)
register(63, DeleteVm)
register(64, PowerVm)
register(65, Drain)
register(66, VmInfo)
register(67, ListVms)
register(68, VmPage)
register(69, AuditAsk)
register(70, Audit)
