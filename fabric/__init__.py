"""Fabric: the control plane of a data centre as a library.

    async with fabric.open(host=agent.simulated_host(), candidate=True) as fab:
        placement = await fab.place(fabric.PlacementRequest("key-1", "vm-1", cpu=2, memory_mb=2048))
        await fab.confirm(placement)

These are all public names.  Nothing is loaded before it is used, so ``import fabric`` costs next to
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fabric.api import Fabric, open
    from fabric.blocking import BlockingFabric, open_blocking
    from fabric.client import Client, connect
    from fabric.coordination.registry import Registration, Registry, open_registry
    from fabric.coordination.services import Instance
    from fabric.errors import FabricError, Refused, Unavailable
    from fabric.machine import Contact
    from fabric.placement.request import Constraint, PlacementRequest
    from fabric.placement.request import Placed as Placement
    from fabric.settings import Settings
    from fabric.survey import TreeCell

__all__ = [
    "BlockingFabric",
    "Client",
    "Constraint",
    "Contact",
    "Fabric",
    "FabricError",
    "Instance",
    "Placement",
    "PlacementRequest",
    "Refused",
    "Registration",
    "Registry",
    "Settings",
    "TreeCell",
    "Unavailable",
    "connect",
    "open",
    "open_blocking",
    "open_registry",
]

#: Public name -> the module that defines it, and its name there.
_HOMES = {
    "BlockingFabric": ("fabric.blocking", "BlockingFabric"),
    "Client": ("fabric.client", "Client"),
    "Constraint": ("fabric.placement.request", "Constraint"),
    "Contact": ("fabric.machine", "Contact"),
    "Fabric": ("fabric.api", "Fabric"),
    "FabricError": ("fabric.errors", "FabricError"),
    "Instance": ("fabric.coordination.services", "Instance"),
    "Placement": ("fabric.placement.request", "Placed"),
    "PlacementRequest": ("fabric.placement.request", "PlacementRequest"),
    "Refused": ("fabric.errors", "Refused"),
    "Registration": ("fabric.coordination.registry", "Registration"),
    "Registry": ("fabric.coordination.registry", "Registry"),
    "Settings": ("fabric.settings", "Settings"),
    "TreeCell": ("fabric.survey", "TreeCell"),
    "Unavailable": ("fabric.errors", "Unavailable"),
    "connect": ("fabric.client", "connect"),
    "open": ("fabric.api", "open"),
    "open_blocking": ("fabric.blocking", "open_blocking"),
    "open_registry": ("fabric.coordination.registry", "open_registry"),
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fabric' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home[0]), home[1])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
