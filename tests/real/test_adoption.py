"""A coordinator that lost the topology: the chairman halts, the fabric lives on, and is adopted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import agent
import fabric
from fabric.coordination.memory import MemoryCoordinator
from fabric.coordination.rules import create
from fabric.errors import Conflict
from fabric.settings import Settings
from fabric.tree.chair import ChairmanNotice
from nodes.demo.zookeepers import LocalEnsemble, missing
from tests.real.processes import fabric as command
from tests.real.processes import keys_of

PATIENCE_S = 60.0
_NAMES = itertools.count()
SMALL = Settings(leaf_min=2, leaf_max=3, inner_min=2, inner_max=3)


class Fleet:
    """Peers of this process; the first two are candidates."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self.stack = stack
        self.peers: list[fabric.Fabric] = []
        self.halted = asyncio.Event()

    async def add(self, coordinator: Any = None) -> fabric.Fabric:
        peer = fabric.open(
            host=agent.simulated_host(), candidate=coordinator is not None,
            coordinator=coordinator, settings=SMALL, keys=keys_of(f"adoption-{next(_NAMES)}"),
            join=[peer.contact.address for peer in self.peers[:2]],
        )
        await self.stack.enter_async_context(peer)
        peer._running().watchers.append(self.noticed)
        self.peers.append(peer)
        await peer.ready(PATIENCE_S)
        return peer

    def noticed(self, notice: Any) -> None:
        if isinstance(notice, ChairmanNotice) and notice.what == "halted":
            self.halted.set()

    async def place(self, key: str) -> None:
        request = fabric.PlacementRequest(key=key, vm_id=key, cpu=1, memory_mb=1)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    placement = await self.peers[-1].place(request)
                    break
                except fabric.Unavailable:
                    continue
        await self.peers[-1].confirm(placement)

    async def hosts(self) -> int:
        tree = await self.peers[0].tree()
        return sum(len(leaf.record.members) for leaf in leaves(tree) if leaf.record)


def leaves(cell: fabric.TreeCell) -> list[fabric.TreeCell]:
    if not cell.children:
        return [cell]
    return [leaf for child in cell.children for leaf in leaves(child)]


@contextlib.asynccontextmanager
async def fleet_of(number: int, coordinator: Any) -> AsyncIterator[Fleet]:
    async with contextlib.AsyncExitStack() as stack:
        fleet = Fleet(stack)
        for index in range(number):
            await fleet.add(coordinator if index < 2 else None)
        async with asyncio.timeout(PATIENCE_S):
            while await whole(fleet) != number:
                await asyncio.sleep(0.05)
        yield fleet


async def whole(fleet: Fleet) -> int:
    try:
        return await fleet.hosts()
    except fabric.FabricError:
        return 0


async def lose_and_adopt(
    fleet: Fleet, lose: Callable[[], Awaitable[None]], adopt: Callable[[str], Awaitable[None]]
) -> None:
    """The story of both tests."""
    with pytest.raises(Conflict, match="not halted"):
        await fleet.peers[-1].adopt()
    before = (await fleet.peers[0].status()).topo
    assert before is not None
    fleet.halted.clear()
    await lose()
    async with asyncio.timeout(PATIENCE_S):
        await fleet.halted.wait()
    await fleet.place("while-halted")
    await adopt(fleet.peers[-1].contact.address)
    await fleet.add()  # joins wait while the chairman is halted
    async with asyncio.timeout(PATIENCE_S):
        while await whole(fleet) != len(fleet.peers):
            await asyncio.sleep(0.05)
    after = (await fleet.peers[0].status()).topo
    assert after is not None
    assert after.order.generation == before.order.generation + 1
    assert after.root == before.root
    await fleet.place("after-adoption")


async def test_an_emptied_coordinator_adopts_what_the_fabric_knows() -> None:
    coordinator = MemoryCoordinator()
    async with fleet_of(7, coordinator) as fleet:

        async def lose() -> None:
            coordinator._rows._rows.clear()
            create(coordinator._rows, 77)

        async def adopt(address: str) -> None:
            async with fabric.connect(address, keys=keys_of("adoption-asker")) as client:
                adopted = await client.adopt()
            assert adopted.hosts == 7

        await lose_and_adopt(fleet, lose, adopt)
        topo = (await fleet.peers[0].status()).topo
        assert topo is not None
        assert topo.coordinator_id == 77


@pytest.mark.skipif(bool(missing()), reason=f"WITHOUT REAL ZOOKEEPER: {missing()}")
@pytest.mark.parametrize("loss", ["emptied", "restored"])
async def test_a_zookeeper_that_lost_it_adopts_what_the_fabric_knows(
    tmp_path: Path, loss: str
) -> None:
    with LocalEnsemble(tmp_path, size=1) as ensemble:
        server = ensemble.servers[0]
        async with fleet_of(3, ensemble.address()) as fleet:
            if loss == "restored":
                await asyncio.to_thread(server.kill)
                server.save(tmp_path / "copy")
                await asyncio.to_thread(ensemble.start)
            for _ in range(2):
                await fleet.add()

            async def lose() -> None:
                await asyncio.to_thread(server.kill)
                if loss == "restored":
                    server.restore(tmp_path / "copy")
                else:
                    server.empty()
                await asyncio.to_thread(ensemble.start)

            async def adopt(address: str) -> None:
                done = await asyncio.to_thread(
                    command, "topology", "adopt", "--peer", address, "--timeout-s", "20"
                )
                assert done.returncode == 0, done.stderr
                assert "with 5 hosts, as generation 2" in done.stdout

            await lose_and_adopt(fleet, lose, adopt)
