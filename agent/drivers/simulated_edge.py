"""The simulated hypervisor as the asyncio runtime drives it: its VMs are files.

One JSON file per VM under ``<data directory>/hypervisor``, written aside, synced, renamed, and the
directory synced, so a VM whose creation was told is found again after ``kill -9``; half a file is
never seen.  Calls run one after another in a thread: that keeps their order, and the loop free.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.driver import CreateMachine, DestroyMachine, DriverCall, SetPower
from agent.drivers.simulated import SimulatedHypervisor
from fabric.errors import DataDirectoryError, error_from_code
from fabric.stream import Stream

_FIELDS = ("vm_id", "cpu", "memory_mb", "disk_mb", "datastore", "image_id")


class SimulatedDriver:
    """Implements ``fabric.placement.host.HostDriver``. Without a directory it only remembers."""

    def __init__(
        self,
        data_dir: str | None = None,
        *,
        latency_s: float = 0.0,
        fail: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> None:
        self._hypervisor = SimulatedHypervisor(Stream(seed), fail)
        self._latency_s = latency_s
        self._directory: Path | None = None
        self._turn = asyncio.Lock()
        if data_dir is not None:
            self._directory = Path(data_dir) / "hypervisor"
            self._load(self._directory)

    async def execute(self, call: DriverCall) -> Any:
        """Carry out one call; raises ``FabricError`` when it fails."""
        async with self._turn:
            if self._latency_s:
                await asyncio.sleep(self._latency_s)
            result, error = self._hypervisor.execute(call)
            if error is not None:
                raise error_from_code(error, f"simulated: {type(call).__name__} failed")
            if self._directory is not None and isinstance(
                call, CreateMachine | DestroyMachine | SetPower
            ):
                await asyncio.to_thread(self._store, self._directory, call.vm_id)
            return result

    async def close(self) -> None:
        """Wait for the call under way."""
        async with self._turn:
            pass

    def _load(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for path in sorted(directory.glob("*.json")):
                row = json.loads(path.read_text("utf-8"))
                machine = CreateMachine(*[row[field] for field in _FIELDS])
                self._hypervisor.machines[machine.vm_id] = (machine, bool(row["on"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataDirectoryError(
                f"cannot read the simulated hypervisor's files in {directory}: {error}",
                {"path": str(directory)},
            ) from error

    def _store(self, directory: Path, vm_id: str) -> None:
        """Make the file of ``vm_id`` say what the hypervisor has, durably."""
        path = directory / f"{_file_name(vm_id)}.json"
        machine = self._hypervisor.machines.get(vm_id)
        try:
            if machine is None:
                path.unlink(missing_ok=True)
            else:
                row = {field: getattr(machine[0], field) for field in _FIELDS}
                beside = path.with_suffix(".new")
                with beside.open("w", encoding="utf-8") as file:
                    json.dump({**row, "on": machine[1]}, file)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DataDirectoryError(
                f"cannot write {path}: {error.strerror}", {"path": str(path)}
            ) from error


def _file_name(vm_id: str) -> str:
    """Return a file name that only this id has: readable when that is short enough."""
    name = quote(vm_id, safe="")
    return name if len(name) <= 100 else hashlib.sha256(vm_id.encode()).hexdigest()
