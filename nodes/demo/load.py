"""Placements through the library, many at once, each under its own idempotency key.

A placement is *lost* if it never ends confirmed, and *doubled* if two hosts hold it as confirmed;
so this client keeps the rule that prevents both: once a confirmation was sent to a host, only that
host's own answer decides.  While the host is dead its placement stays in doubt; when it comes back
on its directory, it either has the confirmation, or says that it never was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fabric.api import Fabric
from fabric.errors import CheckFailed, FabricError, Unavailable, UnknownReservation
from fabric.machine import Contact
from fabric.placement.request import Placed, PlacementRequest
from nodes.demo.scene import Counters

_CONCURRENT: Final = 16
_PLACE_S: Final = 10.0
_CONFIRM_S: Final = 2.0
_PAUSE_S: Final = 0.2
#: A placement that takes longer is lost: takeover, repair and restart all fit in.
_LOST_S: Final = 150.0


@dataclass(slots=True)
class Load:
    """One batch of placements. ``confirmed`` maps keys to hosts; ``failed`` to their last error."""

    fabric: Fabric
    counters: Counters
    confirmed: dict[str, Contact] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    in_doubt: set[str] = field(default_factory=set)
    on_confirmed: Callable[[int], None] | None = None

    async def run(self, prefix: str, count: int) -> None:
        """Place and confirm ``count`` VMs."""
        self.counters.wanted += count
        keys = iter([f"{prefix}-{number:03d}" for number in range(count)])
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_CONCURRENT, count)):
                group.create_task(self._work(keys))

    async def _work(self, keys: object) -> None:
        for key in keys:  # type: ignore[attr-defined]
            self.counters.in_flight += 1
            began = time.monotonic()
            try:
                await self._one(key, began + _LOST_S)
            finally:
                self.counters.in_flight -= 1
            self.counters.latencies_ms.append((time.monotonic() - began) * 1000)

    async def _one(self, key: str, deadline: float) -> None:
        request = PlacementRequest(key=key, vm_id=key, cpu=1, memory_mb=1024, disk_mb=1024)
        while True:
            try:
                placed = await self.fabric.place(request, timeout_s=_PLACE_S)
                if await self._confirm(placed, deadline):
                    self.confirmed[key] = placed.host
                    self.counters.confirmed += 1
                    if self.on_confirmed is not None:
                        self.on_confirmed(len(self.confirmed))
                    return
            except Unavailable as error:
                self._check_deadline(key, deadline, error)
            except FabricError as error:
                self.failed[key] = f"{error.code}: {error.message}"
                return
            self.counters.retried += 1
            await asyncio.sleep(_PAUSE_S)

    async def _confirm(self, placed: Placed, deadline: float) -> bool:
        """Ask the host until it answers. False: it does not hold the reservation; place again."""
        while True:
            try:
                await self.fabric.confirm(placed, timeout_s=_CONFIRM_S)
            except Unavailable as error:
                self.in_doubt.add(placed.key)
                self._check_deadline(placed.key, deadline, error)
                self.counters.retried += 1
                await asyncio.sleep(_PAUSE_S)
            except UnknownReservation:
                self.in_doubt.discard(placed.key)
                return False
            else:
                self.in_doubt.discard(placed.key)
                return True

    def _check_deadline(self, key: str, deadline: float, error: FabricError) -> None:
        if time.monotonic() > deadline:
            raise CheckFailed(f"placement {key} is lost: {error.code}: {error.message}")
