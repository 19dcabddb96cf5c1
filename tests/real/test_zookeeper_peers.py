"""Peers whose coordinator is a real ZooKeeper ensemble: forming, and what happens to the chair."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

import agent
import fabric
from nodes.demo.zookeepers import Ensemble

PATIENCE_S = 60.0


@pytest.fixture
def address(zookeeper: Ensemble) -> str:
    return zookeeper.address(f"/peers/{uuid4().hex}")


@contextlib.asynccontextmanager
async def candidates(address: str, number: int) -> AsyncIterator[list[fabric.Fabric]]:
    """Hosts that all stand for chairman; the first makes the topology."""
    async with contextlib.AsyncExitStack() as stack:
        peers: list[fabric.Fabric] = []
        for _ in range(number):
            peer = fabric.open(
                host=agent.simulated_host(), candidate=True, coordinator=address,
                join=[peers[0].contact.address] if peers else (),
            )
            await stack.enter_async_context(peer)
            await peer.ready(PATIENCE_S)
            peers.append(peer)
        yield peers


async def chairman(peers: list[fabric.Fabric]) -> fabric.Fabric:
    """Wait until exactly one says that it is chairman."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            holders = [peer for peer in peers if (await peer.status()).chairman]
            assert len(holders) <= 1
            if holders:
                return holders[0]
            await asyncio.sleep(0.02)


async def test_peers_form_and_the_chair_passes_on(address: str) -> None:
    async with candidates(address, 3) as peers:
        first = await chairman(peers)
        assert first is peers[0]
        before = await first.status()
        assert before.topo is not None
        await first.leave()
        second = await chairman(peers[1:])
        async with asyncio.timeout(PATIENCE_S):
            while len(await second.members()) > 2:
                await asyncio.sleep(0.02)
        after = await second.status()
        assert after.topo is not None
        assert after.topo.order > before.topo.order
        assert after.topo.coordinator_id == before.topo.coordinator_id


async def test_a_placement_through_peers_on_zookeeper(address: str) -> None:
    async with candidates(address, 2) as peers:
        request = fabric.PlacementRequest(key="k", vm_id="v", cpu=1, memory_mb=1)
        await peers[1].release(await peers[1].place(request))
