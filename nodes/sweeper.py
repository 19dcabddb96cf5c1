"""Removes what hosts that had died still hold when they come back.

A host that dies while a VM is made on it, or before it is deleted, cannot be cleaned; the worker
leaves a :class:`~nodes.contract.entities.Leftover` on record.  The sweeper asks those hosts again
and again until they answer.  It touches only what the given-up reservation key holds: the same VM
may long live under another key, even on the same host.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from fabric.cloudstore.client import Delete
from fabric.errors import Conflict, FabricError
from nodes.cloud.access import Cloud, Raced
from nodes.contract.entities import Leftover
from nodes.roles import trying
from nodes.worker import Hosts

_LOG: Final = logging.getLogger(__name__)

#: How often dead hosts are tried: soon after a return, and nothing that a fabric would notice.
_EACH_S: Final = 5.0
_CALL_TIMEOUT_S: Final = 2.0


class Sweeper:
    """Any number may run: all that they do is idempotent."""

    def __init__(self, cloud: Cloud, hosts: Hosts) -> None:
        self._cloud = cloud
        self._hosts = hosts
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._sweep_forever(), name="sweeper")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _sweep_forever(self) -> None:
        while True:
            try:
                await self.sweep()
            except FabricError as error:
                _LOG.warning("sweeping failed: %s", error)
            except Exception:
                _LOG.exception("sweeping failed")
            await asyncio.sleep(_EACH_S)

    async def sweep(self) -> None:
        """Try every leftover once."""
        for stored in await self._cloud.list(Leftover):
            leftover = stored.value
            if await self._hosts.gone(trying.contact(leftover.attempt)):
                continue
            try:
                await self._remove(leftover)
                await self._cloud.commit(leftover.id, [Delete(Leftover.KIND, leftover.id)])
            except Raced:
                continue  # another one swept it
            except FabricError as error:
                _LOG.info("host %s is not clean yet: %s", leftover.attempt.address, error)

    async def _remove(self, leftover: Leftover) -> None:
        release = trying.release(leftover.attempt)
        try:
            await self._hosts.ask(release.host, release.body, _CALL_TIMEOUT_S)
        except Conflict:  # the VM was made under this key, so the VM there is the given-up one
            remove = trying.remove(leftover.attempt, leftover.vm_id)
            await self._hosts.ask(remove.host, remove.body, _CALL_TIMEOUT_S)
