"""``fabric.open`` as people use it: a lone peer, peers that join, clients, restarts, bad input."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import agent
import fabric
from fabric.coordination.embedded import EmbeddedCoordinator
from fabric.coordination.interface import Campaign, Chair
from fabric.errors import AddressInUse, BadInput, DataDirectoryError, DeadlineExceeded
from fabric.peer.notices import OwnerNotice
from fabric.wire.host import Audit, AuditAsk
from fabric.wire.peer import Status, StatusAsk
from fabric.wire.placement import Explanation


async def test_a_lone_candidate_makes_its_own_tree() -> None:
    async with fabric.open(host=agent.simulated_host(), candidate=True) as fab:
        await fab.ready()
        status = await fab.status()
        assert status.chairman
        assert status.contact == fab.contact
        assert [row.contact for row in await fab.members()] == [fab.contact]
        tree = await fab.tree()
        assert tree.owner == fab.contact
        assert tree.error is None


@pytest.mark.parametrize("scheme", ["tcp", "inproc"])
async def test_peers_join_see_each_other_and_leave(scheme: str) -> None:
    def address(number: int) -> str:
        return "tcp://127.0.0.1:0" if scheme == "tcp" else f"inproc://open-{number}"

    async with fabric.open(address(1), host=agent.simulated_host(), candidate=True) as first:
        await first.ready()
        join = [first.contact.address]
        async with (
            fabric.open(address(2), host=agent.simulated_host(), join=join) as second,
            fabric.open(address(3), join=join) as observer,
        ):
            for joined in (second, observer):
                await joined.ready()
            everybody = {first.contact, second.contact, observer.contact}
            async with asyncio.timeout(20):
                while {row.contact for row in await first.members()} != everybody:
                    await asyncio.sleep(0.05)
            answer = await observer.call(second.contact, StatusAsk())
            assert isinstance(answer, Status)
            assert answer.contact == second.contact
        async with asyncio.timeout(20):
            while len(await first.members()) > 1:
                await asyncio.sleep(0.05)


async def test_placing_at_once_confirming_and_releasing() -> None:
    host = agent.simulated_host(cpu=4, memory_mb=8192)
    async with fabric.open(host=host, candidate=True) as fab:
        request = fabric.PlacementRequest(key="k1", vm_id="v1", cpu=3, memory_mb=1024)
        placement = await fab.place(request)  # before there is a tree
        assert placement.host == fab.contact
        assert (await fab.place(request)).reservation_id == placement.reservation_id
        await fab.confirm(placement)
        second = fabric.PlacementRequest(key="k2", vm_id="v2", cpu=2, memory_mb=1024)
        with pytest.raises(fabric.Refused, match="1 hosts") as refused:
            await fab.place(second)
        assert isinstance(refused.value.explanation, Explanation)
        assert refused.value.explanation.hosts == 1
        await fab.release(placement)
        async with fabric.connect(fab.contact.address) as client:
            again = await client.place(second)
            await client.confirm(again)
            await client.release(again)
        with pytest.raises(BadInput, match="cpu"):
            await fab.place(fabric.PlacementRequest(key="k3", vm_id="v3", cpu=0, memory_mb=1))


async def test_a_confirmed_reservation_survives_a_crash(tmp_path: Path) -> None:
    host = agent.simulated_host(cpu=4, memory_mb=8192)
    request = fabric.PlacementRequest(key="k1", vm_id="v1", cpu=3, memory_mb=1024)
    async with fabric.open(data_dir=tmp_path, host=host, candidate=True) as fab:
        placement = await fab.place(request)
        await fab.confirm(placement)
        address = fab.contact.address
        await fab.close()
    async with fabric.open(address, data_dir=tmp_path, host=host, candidate=True) as fab:
        books = await fab.call(fab.contact, AuditAsk())
        assert isinstance(books, Audit)
        assert (books.cpu_used, books.memory_used_mb) == (3, 1024)


async def test_a_client_asks_from_outside() -> None:
    async with (
        fabric.open(host=agent.simulated_host(), candidate=True) as fab,
        fabric.connect(fab.contact.address) as client,
    ):
        assert (await client.status()).contact == fab.contact
        with pytest.raises(fabric.FabricError):
            await client.cell(99)
    async with fabric.connect("tcp://127.0.0.1:1") as client:
        with pytest.raises(DeadlineExceeded, match=r"127\.0\.0\.1:1"):
            await client.status(0.1)


async def test_a_peer_within_a_process_is_reached_through_its_door() -> None:
    host = agent.simulated_host()
    async with fabric.open(
        "inproc://door-1", door="tcp://127.0.0.1:0", host=host, candidate=True
    ) as first:
        await first.ready()
        async with (
            fabric.open("inproc://door-2", host=host, join=[first.contact.address]) as second,
            fabric.connect(first.door) as client,
        ):
            await second.ready()
            assert (await client.status()).contact == first.contact
            assert (await client.tree()).error is None
            placement = await client.place(
                fabric.PlacementRequest(key="k", vm_id="v", cpu=1, memory_mb=1)
            )
            await client.release(placement)


async def test_events_tell_what_happens_and_end_with_the_peer() -> None:
    async with fabric.open(host=agent.simulated_host(), candidate=True) as fab:
        events = fab.notices()
        async with asyncio.timeout(20):
            async for notice in events:
                if isinstance(notice, OwnerNotice) and notice.owns:
                    break
        rest = asyncio.create_task(_drain(fab))
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await rest


async def _drain(fab: fabric.Fabric) -> None:
    async for _ in fab.events():
        pass


async def test_a_data_directory_keeps_identity_and_topology(tmp_path: Path) -> None:
    async with fabric.open(data_dir=tmp_path, host=agent.simulated_host(), candidate=True) as fab:
        await fab.ready()
        before, first = fab.contact, await fab.status()
        with pytest.raises(DataDirectoryError, match="in use"):
            async with fabric.open(data_dir=tmp_path):
                pass
        await fab.close()  # as good as a crash
    async with fabric.open(
        before.address, data_dir=tmp_path, host=agent.simulated_host(), candidate=True
    ) as fab:
        assert fab.contact == before
        await fab.ready()
        second = await fab.status()
    assert second.boot_id == first.boot_id + 1
    assert first.topo is not None
    assert second.topo is not None
    assert second.topo.coordinator_id == first.topo.coordinator_id
    assert second.topo.root == first.topo.root


async def test_a_chairman_that_leaves_gives_the_chair_back(tmp_path: Path) -> None:
    coordinator = EmbeddedCoordinator(tmp_path)
    async with fabric.open(
        host=agent.simulated_host(), candidate=True, coordinator=tmp_path
    ) as fab:
        await fab.ready()
        chair = await coordinator.ask(Campaign(1, 60_000_000))
        assert isinstance(chair, Chair)
        assert chair.holder == fab.contact.node_id
    chair = await coordinator.ask(Campaign(1, 60_000_000))
    assert isinstance(chair, Chair)
    assert chair.held
    await coordinator.close()


async def test_failing_to_open_leaves_nothing_behind(tmp_path: Path) -> None:
    async with fabric.open() as fab:
        for _ in range(2):  # the second try finds the directory unlocked
            with pytest.raises(AddressInUse):
                async with fabric.open(fab.contact.address, data_dir=tmp_path, candidate=True):
                    pass


@pytest.mark.parametrize(
    "options",
    [
        {"address": "tcp://0.0.0.0:0"},
        {"address": "nonsense"},
        {"address": "inproc://"},
        {"join": ["tcp://10.1.2.3:7000"]},
        {"join": ["tcp://127.0.0.1:0"]},
        {"door": "tcp://127.0.0.1:0"},
        {"address": "inproc://x", "door": "tcp://10.0.0.1:0"},
    ],
)
def test_impossible_addresses_are_refused_at_once(options: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        fabric.open(**options)  # type: ignore[arg-type]


async def test_a_peer_that_does_not_run_says_so() -> None:
    fab = fabric.open()
    with pytest.raises(fabric.FabricError, match="not running"):
        await fab.status()


def test_the_blocking_variant_does_the_same() -> None:
    with fabric.open_blocking(host=agent.simulated_host(), candidate=True) as fab:
        fab.ready()
        assert [row.contact for row in fab.members()] == [fab.contact]
        assert fab.tree().owner == fab.contact
        assert fab.status().chairman


def test_the_blocking_variant_raises_what_opening_raises() -> None:
    with fabric.open_blocking() as fab, pytest.raises(AddressInUse):
        fabric.open_blocking(fab.contact.address).__enter__()
