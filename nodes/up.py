"""``fabric up``: a whole small cloud in one process.

N hosts, each a whole peer with agent and its own data directory, talk over the in-process
transport; the first one is the candidate that makes the topology, and the peer through which the
worker places.  Store, front and worker are a :class:`~nodes.service.CloudService`.

Nothing says goodbye at the end: the whole fabric stops as if killed, and the same directory
started again goes on where it was.  The layout below the data directory::

    store/        CloudStore
    coordinator/  the embedded coordinator, unless another one is given
    host-001/     one per host: the peer's records, its books, its (simulated) machines
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import fabric
from agent import HostSpec, simulated_host
from fabric.api import Fabric
from fabric.coordination.memory import MemoryCoordinator
from fabric.transport.keys import NodeKeys
from nodes.roles.sizing import STORAGE_TAGS
from nodes.service import CloudService, Listen, make_directory, until_stopped

#: How long the hosts may take to find their places.
_FORM_S: Final = 60.0
#: Where the command line reaches the first host, and through it the others.
_DOOR: Final = "tcp://127.0.0.1:0"
_HOST_NAME: Final = re.compile(r"host-(\d{3})")


def default_host() -> HostSpec:
    """Return what each host of ``fabric up`` has: a server with one local datastore."""
    return simulated_host(tags=[STORAGE_TAGS[0]], networks=["default"])


@dataclass(slots=True)
class UpOptions:
    """Without ``data_dir`` everything is in memory. More hosts on record than asked for all start:

    VMs may be on them.
    """

    hosts: int = 4
    data_dir: Path | None = None
    #: Where the topology is kept; by default a directory beside the hosts'.
    coordinator: str | None = None
    accept_any_image: bool = False
    listen: Listen = field(default_factory=Listen)
    host: HostSpec = field(default_factory=default_host)
    settings: fabric.Settings | None = None
    keys: NodeKeys | None = None


@dataclass(slots=True, frozen=True)
class Ready:
    """What is up: the REST endpoint, and the peers of all hosts, the candidate first."""

    url: str
    hosts: tuple[Fabric, ...]


@contextlib.asynccontextmanager
async def up(options: UpOptions) -> AsyncIterator[Ready]:
    """Run the cloud for as long as the context lasts."""
    if options.data_dir is not None:
        make_directory(options.data_dir, unless=("peer", "peer.lmdb"))
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            CloudService(
                options.data_dir,
                options.listen,
                accept_any_image=options.accept_any_image,
                name="up",
            )
        )
        peers = await _open_hosts(options, stack)
        await asyncio.gather(*(peer.ready(_FORM_S) for peer in peers))
        service.work_with(*peers)
        yield Ready(service.url, tuple(peers))


async def run_up(
    options: UpOptions,
    stop: asyncio.Event,
    on_ready: Callable[[Ready], None] = lambda ready: None,
) -> None:
    """Run until ``stop`` is set; ``on_ready`` is told once everything answers."""
    async with up(options) as ready:
        on_ready(ready)
        await until_stopped(stop, *ready.hosts)


async def _open_hosts(options: UpOptions, stack: contextlib.AsyncExitStack) -> list[Fabric]:
    names = _names(options)
    first = f"inproc://{names[0]}"
    peers = []
    for name in names:
        candidate = name == names[0]
        peer = fabric.open(
            f"inproc://{name}",
            join=() if candidate else (first,),
            data_dir=None if options.data_dir is None else options.data_dir / name,
            host=options.host,
            candidate=candidate,
            coordinator=_coordinator(options) if candidate else None,
            door=_DOOR if candidate else None,
            keys=options.keys if candidate else None,
            settings=options.settings,
        )
        await peer.__aenter__()
        stack.push_async_callback(peer.close)  # no goodbye: see above
        peers.append(peer)
    return peers


def _coordinator(options: UpOptions) -> str | Path | MemoryCoordinator:
    if options.coordinator is not None:
        return options.coordinator
    if options.data_dir is None:
        return MemoryCoordinator()
    return options.data_dir / "coordinator"


def _names(options: UpOptions) -> list[str]:
    """Return the names of the hosts to start: those asked for, and all that are on record."""
    number = options.hosts
    if options.data_dir is not None:
        for path in options.data_dir.iterdir():
            known = _HOST_NAME.fullmatch(path.name)
            if known is not None:
                number = max(number, int(known[1]))
    return [f"host-{index:03}" for index in range(1, number + 1)]
