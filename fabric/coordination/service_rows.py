"""Registered services in an embedded coordinator, or one in memory: rows with leases.

Nothing tells that a row has changed, so watchers look again several times a second; a look is a
read transaction of microseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar, cast

import lmdb

from fabric.coordination import services
from fabric.coordination.embedded import SharedDirectory
from fabric.coordination.rules import Table
from fabric.coordination.services import Instance, ServiceRecord
from fabric.errors import Unavailable
from fabric.units import SECOND

_LEASE_US: Final = 3 * SECOND
_LOOK_AGAIN_S: Final = 0.2
_ANSWER_WITHIN_S: Final = 5.0

T = TypeVar("T")
#: Work over a table, at a time of the clock that the boot id names.
Work = Callable[[Table, int, str], T]


class RowServices:
    """Over anything that runs ``work`` in one transaction, given whether it writes."""

    look_again_s = _LOOK_AGAIN_S

    def __init__(self, within: Callable[[Work[object], bool], object]) -> None:
        self._within = within

    @property
    def lease_s(self) -> float:
        return _LEASE_US / SECOND

    def listen(self, tell: Callable[[bool], None]) -> None:
        """Rows tell nothing."""

    async def enter(self, token: int, name: str, record: ServiceRecord) -> int:
        return await self._run(
            lambda table, now, boot: services.enter(table, name, record, _LEASE_US, now, boot), True
        )

    async def renew(self, name: str, number: int) -> bool:
        return await self._run(
            lambda table, now, boot: services.renew(table, name, number, _LEASE_US, now, boot), True
        )

    async def withdraw(self, name: str, number: int) -> None:
        await self._run(lambda table, now, boot: services.withdraw(table, name, number), True)

    async def read(self, name: str) -> tuple[Instance, ...]:
        return await self._run(
            lambda table, now, boot: services.read(table, name, now, boot), False
        )

    async def names(self) -> tuple[str, ...]:
        return await self._run(services.names, False)

    async def close(self) -> None:
        """There is nothing to close."""

    async def _run(self, work: Work[T], writes: bool) -> T:
        return cast(T, self._within(work, writes))


class EmbeddedServices(RowServices):
    """In the directory that processes of one machine share; a thread waits for its disk."""

    def __init__(self, directory: Path) -> None:
        self._shared = SharedDirectory.acquire(directory)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fabric-services")
        super().__init__(self._shared.within)

    async def close(self) -> None:
        await asyncio.wrap_future(self._thread.submit(self._shared.release))
        self._thread.shutdown(wait=False)

    async def _run(self, work: Work[T], writes: bool) -> T:
        job = self._thread.submit(self._within, work, writes)
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                return cast(T, await asyncio.wrap_future(job))
        except TimeoutError:
            raise Unavailable(f"the coordinator did not answer in {_ANSWER_WITHIN_S:g} s") from None
        except lmdb.Error as error:
            raise Unavailable(f"coordinator directory {self._shared.directory}: {error}") from None
