"""The simulated hypervisor over files: what was told is found again; bad files are said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.driver import CreateMachine, DestroyMachine, Inventory, Machines, SetPower
from agent.drivers.simulated_edge import SimulatedDriver
from fabric.errors import DataDirectoryError, HypervisorError, NotFound


async def test_vms_are_found_again(tmp_path: Path) -> None:
    driver = SimulatedDriver(str(tmp_path))
    long_id = "v" * 250
    for vm_id in ("a/b", long_id, long_id + "x", "gone"):
        await driver.execute(CreateMachine(vm_id, 1, 2, 3, "d", "i"))
    await driver.execute(SetPower("a/b", True))
    await driver.execute(DestroyMachine("gone"))
    await driver.execute(DestroyMachine("gone"))
    again = SimulatedDriver(str(tmp_path))
    expected = Machines((("a/b", True), (long_id, False), (long_id + "x", False)))
    assert await again.execute(Inventory()) == expected
    await again.close()


async def test_failures_are_coded() -> None:
    driver = SimulatedDriver(fail={"CreateMachine": 1_000_000}, latency_s=0.0001)
    with pytest.raises(HypervisorError):
        await driver.execute(CreateMachine("a", 1, 1, 1, "", ""))
    with pytest.raises(NotFound):
        await driver.execute(SetPower("a", True))


async def test_a_broken_file_names_the_directory(tmp_path: Path) -> None:
    (tmp_path / "hypervisor").mkdir()
    (tmp_path / "hypervisor" / "a.json").write_text("{", "utf-8")
    with pytest.raises(DataDirectoryError, match="hypervisor"):
        SimulatedDriver(str(tmp_path))
