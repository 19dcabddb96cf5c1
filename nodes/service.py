"""The cloud on top of a running peer: store, REST front and worker, in one process.

:class:`CloudService` puts them together around a :class:`fabric.Fabric`; ``fabric up`` gives it a
peer among hosts of its own process, :func:`run_front` an observer that joins a fabric of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

import fabric
from fabric.api import Fabric
from fabric.cloudstore.storage.node import StoreNode
from fabric.errors import DataDirectoryError, FabricError
from fabric.transport.keys import NodeKeys
from nodes.cloud.access import KINDS, AnyImage, Cloud, Images, NoImages
from nodes.contract.entities import Task
from nodes.front.server import Front, Running, start
from nodes.front.status import ERROR, INITIALIZING, READY, Component, Instance
from nodes.hosts import FabricHosts
from nodes.metrics import Exposition
from nodes.sweeper import Sweeper
from nodes.worker import Worker

#: The name under which fronts are registered; all of them serve.
FRONT_SERVICE: Final = "front"


@dataclass(slots=True)
class Listen:
    """Where the REST front listens. Port 0: any free one."""

    host: str = "127.0.0.1"
    port: int = 9080


@dataclass(slots=True)
class FrontOptions:
    """A front that joins a fabric. Without ``data_dir`` nothing survives."""

    join: tuple[str, ...]
    data_dir: Path | None = None
    listen: Listen = field(default_factory=Listen)
    accept_any_image: bool = False
    address: str = "tcp://127.0.0.1:0"
    keys: NodeKeys | None = None
    #: Where the front registers itself, as an instance of the service :data:`FRONT_SERVICE`.
    coordinator: str | None = None


class CloudService:
    """Store, front and worker. The front listens from the start, the worker once there are hosts.

    ``name`` is the worker's and must stay the same over restarts: then it takes up at once what its
    former life had claimed.
    """

    def __init__(
        self, data_dir: Path | None, listen: Listen, *, accept_any_image: bool, name: str
    ) -> None:
        self._data_dir = data_dir
        self._listen = listen
        self._images: Images = AnyImage() if accept_any_image else NoImages()
        self._name = name
        self._stack = contextlib.AsyncExitStack()
        self._fab: Fabric | None = None
        self._exposition = Exposition()

    async def __aenter__(self) -> CloudService:
        async with contextlib.AsyncExitStack() as stack:
            self._store = await stack.enter_async_context(await self._open_store())
            clock_ms = _Clock()
            self._cloud = Cloud(self._store.client(KINDS), clock_ms, self._images)
            front = Front(self._cloud, self._components, self._exposition)
            self._running: Running = await start(front, self._listen.host, self._listen.port)
            stack.push_async_callback(self._running.stop)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """The endpoint of the REST front."""
        return self._running.url

    def work_with(self, fab: Fabric, *others: Fabric) -> None:
        """Start the worker: it places through this peer. Metrics tell of it and of ``others``."""
        self._fab = fab
        for peer in (fab, *others):
            self._exposition.add_peer(peer)
        hosts = FabricHosts(fab)
        worker = Worker(
            self._cloud,
            hosts,
            lambda: time.monotonic_ns() // 1000,
            self._name,
            secrets.token_hex(8),
            self._task_ended,
        )
        self._cloud.on_work = worker.nudge
        sweeper = Sweeper(self._cloud, hosts)
        for part in (worker, sweeper):
            part.start()
            self._stack.push_async_callback(part.stop)

    def _task_ended(self, task: Task) -> None:
        if task.ended_ms is not None:
            seconds = max(task.ended_ms - task.queued_ms, 0) / 1000
            self._exposition.tasks.labels(task.operation, task.state).observe(seconds)

    async def _open_store(self) -> StoreNode:
        if self._data_dir is None:
            return await StoreNode.in_memory()
        return await StoreNode.open(self._data_dir / "store")

    async def _components(self) -> Sequence[Component]:
        failed = self._store.failed
        store = Instance("local", ERROR if failed else READY, failed or "")
        return (
            Component("cloudStore", (store,)),
            *await _fabric_components(self._fab),
        )


async def _fabric_components(fab: Fabric | None) -> tuple[Component, ...]:
    """Return how chairman and root scheduler look from our peer."""
    waiting = Instance("local", INITIALIZING, "the peer has not found its place yet")
    chairman = root = waiting
    if fab is not None:
        address = fab.contact.address
        try:
            status = await fab.status()
        except FabricError as error:
            chairman = root = Instance(address, ERROR, error.message)
        else:
            # whoever has a topology got it from a chairman
            if status.topo is not None:
                chairman = Instance(address, READY)
                owner = next((it for it in status.owners if it.cell == status.topo.root), None)
                if owner is not None:
                    root = Instance(owner.contact.address, READY)
    return Component("chairman", (chairman,)), Component("rootScheduler", (root,))


class _Clock:
    """Epoch milliseconds that never go back, so that a task cannot end before it began."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> int:
        self._last = max(self._last, time.time_ns() // 1_000_000)
        return self._last


def make_directory(path: Path, unless: Sequence[str]) -> None:
    """Make a data directory, or raise :class:`DataDirectoryError` that says why not.

    ``unless`` are names in it that only another kind of node makes.
    """
    for name in unless:
        if (path / name).exists():
            raise DataDirectoryError(
                f"data directory {path} belongs to another kind of node: it holds {name}",
                {"path": str(path)},
            )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataDirectoryError(
            f"cannot make data directory {path}: {error.strerror}", {"path": str(path)}
        ) from None


async def run_front(
    options: FrontOptions,
    stop: asyncio.Event,
    on_ready: Callable[[str, fabric.Contact], None] = lambda url, contact: None,
) -> None:
    """Join a fabric as an observer and serve the REST API over it until ``stop`` is set."""
    if options.data_dir is not None:
        make_directory(options.data_dir, unless=("host-001", "peer.lmdb"))
    peer_dir = None if options.data_dir is None else options.data_dir / "peer"
    async with (
        CloudService(
            options.data_dir,
            options.listen,
            accept_any_image=options.accept_any_image,
            name="front",
        ) as service,
        fabric.open(
            options.address, join=options.join, data_dir=peer_dir, keys=options.keys
        ) as fab,
        contextlib.AsyncExitStack() as registered,
    ):
        await fab.ready()
        service.work_with(fab)
        if options.coordinator is not None:
            registry = await registered.enter_async_context(
                fabric.open_registry(options.coordinator)
            )
            entry = registry.register(FRONT_SERVICE, service.url)
            await registered.enter_async_context(entry)
        on_ready(service.url, fab.contact)
        await until_stopped(stop, fab)


async def until_stopped(stop: asyncio.Event, *peers: Fabric) -> None:
    """Wait for ``stop``; raise if one of the peers fails before."""
    waiting = [asyncio.ensure_future(peer.failed()) for peer in peers]
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((stopping, *waiting), return_when=asyncio.FIRST_COMPLETED)
        for future in waiting:
            failure = future.result() if future.done() else None
            if failure is not None:
                raise failure
    finally:
        for task in (stopping, *waiting):
            task.cancel()
        await asyncio.gather(stopping, *waiting, return_exceptions=True)
