"""The service registry: who serves what, where; registered, watched, failed over.

    async with fabric.open_registry("zookeeper://h1:2181,h2:2181") as registry:
        async with registry.register("scheduler", "http://10.0.0.5:9080", passive=True) as me:
            await me.until_active()  # the one before us has gone, or there was none
            ...                      # serve, for as long as me.active
        async for instances in registry.watch("scheduler"):
            ...                      # whenever they change

Services of one machine may use the directory of an embedded coordinator instead.

Whoever is active may go on for a lease after it *sent* the last renewal that was granted, by its
own clock, and stops at once when the connection to the coordinator comes into doubt.  Only later
can the next one take over.  ``number`` rises from one holder to the next: who writes to a store
that knows it is fenced.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol

from fabric.coordination.ensemble import Ensemble, is_ensemble, parse_ensemble
from fabric.coordination.memory import MemoryCoordinator
from fabric.coordination.services import Instance, ServiceRecord, check_name, check_service
from fabric.errors import Unavailable
from fabric.limits import MAX_INT

#: How long opening and registering try to reach the coordinator.
_REACH_WITHIN_S: Final = 15.0
_TRY_AGAIN_S: Final = 0.05


class Services(Protocol):
    """A coordinator's side. Every call may raise ``Unavailable``."""

    #: How often whoever watches looks again by himself.
    look_again_s: float

    @property
    def lease_s(self) -> float:
        """How long a registration lasts without renewal."""

    def listen(self, tell: Callable[[bool], None]) -> None:
        """Have ``tell`` called on the loop: true for a change, false for a connection in doubt."""

    async def enter(self, token: int, name: str, record: ServiceRecord) -> int:
        """Register; the same ``token`` never twice. Returns the number."""

    async def renew(self, name: str, number: int) -> bool:
        """Go on for another lease; false when the registration has ended."""

    async def withdraw(self, name: str, number: int) -> None: ...

    async def read(self, name: str) -> tuple[Instance, ...]: ...

    async def names(self) -> tuple[str, ...]: ...

    async def close(self) -> None: ...


def open_registry(where: str | Path | Ensemble | MemoryCoordinator) -> Registry:
    """Return a registry, to be used with ``async with``. Nothing happens before that.

    ``where`` is an address of ZooKeeper, the directory of an embedded coordinator, or a coordinator
    in memory.  Raises ``ConfigError`` for an impossible address.
    """
    if isinstance(where, str):
        where = parse_ensemble(where) if is_ensemble(where) else Path(where)
    return Registry(where)


class Registry:
    """See the module. All calls raise ``Unavailable`` while the coordinator cannot be reached."""

    def __init__(self, where: Path | Ensemble | MemoryCoordinator) -> None:
        self._where = where
        self._changes = 0
        self._changed = asyncio.Condition()
        self._registrations: set[Registration] = set()
        self._wakers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Registry:
        self._services = _services(self._where)
        self._services.listen(self._told)
        try:
            await _until_reached(self._services.names)
        except BaseException:
            await self._services.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._services.close()

    def register(
        self,
        service: str,
        address: str,
        *,
        passive: bool = False,
        details: Sequence[tuple[str, str]] = (),
    ) -> Registration:
        """Return a registration, to be used with ``async with``.

        ``passive``: of all instances of this service only the first is active.  Raises ``BadInput``
        for an impossible name or address; entering it raises ``Conflict`` where the service is of
        the other kind.
        """
        record = ServiceRecord(address, passive, tuple(details))
        check_service(service, record)
        return Registration(self, service, record)

    async def services(self) -> tuple[str, ...]:
        """Return the names of all services that have instances."""
        return await self._services.names()

    async def instances(self, service: str) -> tuple[Instance, ...]:
        """Return the instances of one service, in the order in which they registered."""
        check_name(service)
        return await self._services.read(service)

    async def watch(self, service: str) -> AsyncIterator[tuple[Instance, ...]]:
        """Yield the instances of one service now, and again whenever they have changed.

        An outage of the coordinator is no change: services do not end with it.
        """
        check_name(service)
        last: tuple[Instance, ...] | None = None
        while True:
            seen = self._changes
            with contextlib.suppress(Unavailable):
                instances = await self._services.read(service)
                if instances != last:
                    last = instances
                    yield instances
            await self._next_change(seen, self._services.look_again_s)

    async def _next_change(self, seen: int, within_s: float) -> None:
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._changed.wait_for(lambda: self._changes != seen)

    def _told(self, connected: bool) -> None:
        if not connected:
            for registration in self._registrations:
                registration._doubt()
        self._wake()

    def _wake(self) -> None:
        self._changes += 1
        task = asyncio.get_running_loop().create_task(self._notify())
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class Registration:
    """One instance, registered while the context lasts; again and again if need be."""

    def __init__(self, registry: Registry, service: str, record: ServiceRecord) -> None:
        self.service = service
        #: Rises with each registration of anybody's; 0 while we are not registered.
        self.number = 0
        self._registry = registry
        self._record = record
        self._token = secrets.randbelow(MAX_INT) + 1
        self._serving = False
        self._until = 0.0
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Registration:
        await _until_reached(self._turn)
        self._registry._registrations.add(self)
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._doubt()
        self._registry._registrations.discard(self)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self.number:
            with contextlib.suppress(Unavailable):  # then it ends with its lease
                await self._registry._services.withdraw(self.service, self.number)

    @property
    def active(self) -> bool:
        """Whether we are to serve, right now."""
        return self._serving and time.monotonic() < self._until

    async def until_active(self) -> None:
        """Wait until we are to serve. Raises what ended the registration for good."""
        await self._until_state(True)

    async def until_inactive(self) -> None:
        """Wait until we are not to serve any more: the coordinator may have given it to another."""
        await self._until_state(False)

    async def _until_state(self, wanted: bool) -> None:
        registry = self._registry
        while self.active != wanted:
            if self._keeper is not None and self._keeper.done():
                self._keeper.result()
            left_s = max(self._until - time.monotonic(), 0.0) + 1e-3
            await registry._next_change(
                registry._changes, min(left_s, registry._services.lease_s / 3)
            )

    def _doubt(self) -> None:
        self._until = 0.0

    async def _keep(self) -> None:
        registry = self._registry
        while True:
            seen = registry._changes
            was = self.active
            with contextlib.suppress(Unavailable):
                await self._turn()
            if self.active != was:
                registry._wake()
                continue
            services = registry._services
            await registry._next_change(seen, min(services.lease_s / 3, services.look_again_s))

    async def _turn(self) -> None:
        """Register, or renew; find out whether it is our turn to serve."""
        services = self._registry._services
        sent = time.monotonic()
        if self.number and not await services.renew(self.service, self.number):
            self.number = 0
            self._doubt()
        if not self.number:
            sent = time.monotonic()
            self.number = await services.enter(self._token, self.service, self._record)
        serving = True
        if self._record.passive:
            found = await services.read(self.service)
            serving = bool(found) and found[0].number == self.number
        self._serving = serving
        self._until = sent + services.lease_s


async def _until_reached(work: Callable[[], object]) -> None:
    """Do ``work``, again while the coordinator cannot be reached, but not for ever."""
    deadline = time.monotonic() + _REACH_WITHIN_S
    while True:
        try:
            await work()  # type: ignore[misc]
            return
        except Unavailable:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(_TRY_AGAIN_S)


def _services(where: Path | Ensemble | MemoryCoordinator) -> Services:
    if isinstance(where, Ensemble):
        from fabric.coordination.service_nodes import NodeServices

        return NodeServices(where)
    from fabric.coordination.service_rows import EmbeddedServices, RowServices

    if isinstance(where, MemoryCoordinator):
        return RowServices(where.within)
    return EmbeddedServices(where)
