"""What books keep on disk: one record per reservation and per VM, under ``host/``.

Records are replaced, never changed in place: the record in memory is the one that was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fabric.machine import Write
from fabric.placement.host import HOST_PREFIX
from fabric.wire.codec import Int, Text, encode_record
from fabric.wire.host import ReservationInfo, VmInfo

RESERVATION_PREFIX: Final = HOST_PREFIX + b"r/"
VM_PREFIX: Final = HOST_PREFIX + b"v/"
DRAIN_KEY: Final = HOST_PREFIX + b"drain"


@dataclass(slots=True)
class Reservation:
    """Room held for ``key``. ``expires_at`` 0: confirmed, held until consumed or released."""

    reservation_id: Int
    key: Text
    attempt: Int
    vm_id: Text
    cpu: Int
    memory_mb: Int
    disk_mb: Int
    datastore: Text
    expires_at: Int

    def write(self) -> Write:
        return Write(reservation_key(self.reservation_id), encode_record(self))

    def info(self) -> ReservationInfo:
        return ReservationInfo(
            self.reservation_id,
            self.key,
            self.attempt,
            self.vm_id,
            self.cpu,
            self.memory_mb,
            self.disk_mb,
            self.datastore,
            self.expires_at,
        )


@dataclass(slots=True)
class Vm:
    """A VM and the room it uses. ``state`` is one of ``agent.lifecycle``."""

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

    def write(self) -> Write:
        return Write(vm_key(self.vm_id), encode_record(self))

    def info(self) -> VmInfo:
        return VmInfo(
            self.vm_id,
            self.state,
            self.key,
            self.attempt,
            self.reservation_id,
            self.cpu,
            self.memory_mb,
            self.disk_mb,
            self.datastore,
            self.image_id,
        )


def reservation_key(reservation_id: int) -> bytes:
    return RESERVATION_PREFIX + b"%016x" % reservation_id


def vm_key(vm_id: str) -> bytes:
    return VM_PREFIX + vm_id.encode()
