"""``fabric services``: what is registered with a coordinator, and where."""

from __future__ import annotations

import asyncio
from typing import Any

import fabric
from fabric.errors import ConfigError
from nodes.cli.output import Exit, Output
from nodes.config import Config


def run(config: Config, out: Output) -> int:
    """Print all registered services, or one of them again and again."""
    where = config.text("coordinator")
    if not where:
        raise ConfigError(
            "fabric services needs --coordinator: a directory, or zookeeper://HOST:PORT",
            {"field": "coordinator"},
        )
    watched = config.text("watch")
    return asyncio.run(_watch(where, watched, out) if watched else _list(where, out))


async def _list(where: str, out: Output) -> int:
    async with fabric.open_registry(where) as registry:
        found = [await registry.instances(name) for name in await registry.services()]
    instances = [instance for service in found for instance in service]
    _print(instances, out)
    out.object({"services": [_object(instance) for instance in instances]})
    return Exit.OK


async def _watch(where: str, name: str, out: Output) -> int:
    async with fabric.open_registry(where) as registry:
        async for instances in registry.watch(name):
            _print(instances, out)
            out.line("")
            out.object({"service": name, "instances": [_object(each) for each in instances]})
    return Exit.OK


def _print(instances: tuple[fabric.Instance, ...] | list[fabric.Instance], out: Output) -> None:
    rows = [
        (
            each.service, each.address, "active" if each.active else "standby",
            "active/passive" if each.passive else "active/active",
            " ".join(f"{key}={value}" for key, value in each.details),
        )
        for each in instances
    ]  # fmt: skip
    out.table(("service", "address", "state", "kind", "details"), rows)


def _object(instance: fabric.Instance) -> dict[str, Any]:
    return {**instance._asdict(), "details": dict(instance.details)}
