"""A host as people describe it: sizes, datastores, networks, zone and tags.

``agent.simulated_host(cpu=16, memory_mb=65536, ...)`` gives what ``fabric.open(host=...)`` takes.
One :class:`HostSpec` may stand for any number of equal hosts: it is immutable, and their books
share it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.books import Books
from fabric.errors import BadInput
from fabric.limits import MAX_HOST_CPU, MAX_HOST_MB, MAX_HOST_NAMES
from fabric.machine import Contact
from fabric.placement.constraints import host_labels

if TYPE_CHECKING:
    from fabric.placement.host import HostDriver

#: Names of zones, tags, networks and datastores: a DNS label's length, so that summaries hold many.
MAX_NAME = 63


@dataclass(frozen=True, slots=True)
class HostSpec:
    """Capacity and attributes of a host. Made by :func:`simulated_host`, which checks them."""

    cpu: int
    memory_mb: int
    datastores: tuple[tuple[str, int], ...] = ()
    networks: tuple[str, ...] = ()
    zone: str = ""
    tags: tuple[str, ...] = ()
    hypervisor: str = "simulated"
    labels: tuple[str, ...] = dataclasses.field(default=(), init=False)
    draining_labels: tuple[str, ...] = dataclasses.field(default=(), init=False)

    def __post_init__(self) -> None:
        names = [name for name, _ in self.datastores]
        for field, draining in (("labels", False), ("draining_labels", True)):
            labels = host_labels(self.zone, self.tags, self.networks, names, draining)
            object.__setattr__(self, field, labels)

    def books(self, me: Contact) -> Books:
        """Return empty books for the peer ``me``."""
        return Books(self, me)

    def driver(self, data_dir: str | None) -> HostDriver:
        """Return the driver of this host's hypervisor."""
        from agent.drivers.simulated_edge import SimulatedDriver

        return SimulatedDriver(data_dir)


def simulated_host(
    cpu: int = 16,
    memory_mb: int = 65_536,
    datastores: Mapping[str, int] | None = None,
    networks: Sequence[str] = (),
    zone: str = "",
    tags: Sequence[str] = (),
) -> HostSpec:
    """Describe a host whose hypervisor is simulated. Raises :class:`BadInput`.

    ``datastores`` maps names to sizes in MB; without any, the host has ``local`` of 500,000 MB.
    """
    stores = {"local": 500_000} if datastores is None else datastores
    _check_size("cpu", cpu, MAX_HOST_CPU)
    _check_size("memory_mb", memory_mb, MAX_HOST_MB)
    if not isinstance(stores, Mapping):
        raise _bad("datastores", stores, "must map names to sizes in MB")
    for name, size in stores.items():
        _check_size(f"datastores[{name!r}]", size, MAX_HOST_MB)
    if zone:
        _check_names("zone", (zone,))
    return HostSpec(
        cpu,
        memory_mb,
        tuple((name, stores[name]) for name in _check_names("datastores", tuple(stores))),
        _check_names("networks", networks),
        zone,
        _check_names("tags", tags),
    )


def _check_size(field: str, value: int, high: int) -> None:
    if type(value) is not int or not 1 <= value <= high:
        raise _bad(field, value, f"must be an integer from 1 to {high}")


def _check_names(field: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names sorted, each once."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise _bad(field, names, "must be a list of names")
    if len(names) > MAX_HOST_NAMES:
        raise _bad(field, len(names), f"at most {MAX_HOST_NAMES} names allowed")
    for name in names:
        usable = isinstance(name, str) and name.isascii() and name.isprintable()
        if not usable or not 1 <= len(name) <= MAX_NAME:
            raise _bad(field, name, f"names have 1 to {MAX_NAME} printable ASCII characters")
    return tuple(sorted(set(names)))


def _bad(field: str, value: object, reason: str) -> BadInput:
    return BadInput(f"{field}: {reason} (was {value!r:.80})", {"field": field, "reason": reason})
