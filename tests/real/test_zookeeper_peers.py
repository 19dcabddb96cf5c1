"""Peers whose coordinator is a real ZooKeeper ensemble: forming, and what happens to the chair."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kazoo.client import KazooClient

import agent
import fabric
from fabric.settings import Settings
from fabric.tree.chair import ChairmanNotice
from fabric.wire.codec import decode_record, encode_record
from fabric.wire.tree import Topo
from nodes.demo.zookeepers import LocalEnsemble, missing
from tests.real.processes import PeerProcess, eventually, peers, result_of
from tests.real.processes import fabric as command

PATIENCE_S = 60.0
#: Leaf cells with three seats: two of them still elect an owner.
SMALL = Settings(leaf_min=3, leaf_max=5, inner_min=2, inner_max=3)


@pytest.fixture
def address(zookeeper: LocalEnsemble) -> str:
    return zookeeper.address(f"/peers/{uuid4().hex}")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[LocalEnsemble]:
    """A ZooKeeper of our own, to be broken."""
    if why := missing():
        pytest.skip(f"WITHOUT REAL ZOOKEEPER: {why}")
    with LocalEnsemble(tmp_path, size=1) as ensemble:
        yield ensemble


@contextlib.asynccontextmanager
async def hosts(address: str, number: int, candidates: int = 2) -> AsyncIterator[Fleet]:
    """Hosts of one fabric, of which the first ones stand for chairman; the first makes it."""
    async with contextlib.AsyncExitStack() as stack:
        fleet = Fleet(stack, address)
        for index in range(number):
            await fleet.add(index < candidates)
        yield fleet


class Fleet:
    """Peers of this process, and what they told."""

    def __init__(self, stack: contextlib.AsyncExitStack, address: str) -> None:
        self.stack = stack
        self.address = address
        self.peers: list[fabric.Fabric] = []
        self.told: list[ChairmanNotice] = []
        self.news = asyncio.Event()

    async def add(self, candidate: bool = False) -> fabric.Fabric:
        peer = await self.start(candidate)
        await peer.ready(PATIENCE_S)
        return peer

    async def start(self, candidate: bool = False) -> fabric.Fabric:
        """Start a peer that may have to wait for its place."""
        peer = fabric.open(
            host=agent.simulated_host(), candidate=candidate, coordinator=self.address,
            join=[peer.contact.address for peer in self.peers[:3]], settings=SMALL,
        )
        await self.stack.enter_async_context(peer)
        peer._running().watchers.append(self._noticed)
        self.peers.append(peer)
        return peer

    def _noticed(self, notice: Any) -> None:
        if isinstance(notice, ChairmanNotice):
            self.told.append(notice)
            self.news.set()

    async def hears(self, what: str, detail: str = "") -> None:
        """Wait for a notice of a chairman."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(n.what == what and re.search(detail, n.detail) for n in self.told):
                self.news.clear()
                await self.news.wait()

    async def chairman(self) -> fabric.Fabric:
        """Wait until exactly one says that it is chairman."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                holders = [peer for peer in self.peers if (await peer.status()).chairman]
                assert len(holders) <= 1
                if holders:
                    return holders[0]
                await asyncio.sleep(0.02)

    async def members(self, number: int) -> None:
        """Wait until so many hosts are in the tree, as its owners see it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(fabric.FabricError):
                    if _count(await self.peers[-1].tree()) == number:
                        return
                await asyncio.sleep(0.05)

    async def place(self, key: str, through: fabric.Fabric) -> None:
        """Place, trying until it works."""
        request = fabric.PlacementRequest(key=key, vm_id=key, cpu=1, memory_mb=1)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(fabric.Unavailable):
                    await through.confirm(await through.place(request))
                    return


def _count(cell: fabric.TreeCell) -> int:
    if cell.error is not None or cell.record is None:
        return -1000
    if cell.children:
        return sum(_count(child) for child in cell.children)
    return len(cell.record.members)


async def test_peers_form_and_the_chair_passes_on(address: str) -> None:
    async with hosts(address, 3, candidates=3) as fleet:
        first = await fleet.chairman()
        assert first is fleet.peers[0]
        before = (await first.status()).topo
        assert before is not None
        fleet.peers.remove(first)
        await first.leave()
        second = await fleet.chairman()
        await fleet.members(2)
        after = (await second.status()).topo
        assert after is not None
        assert after.order > before.order
        assert after.coordinator_id == before.coordinator_id


async def test_owners_are_replaced_and_hosts_found_while_zookeeper_is_down(
    alone: LocalEnsemble,
) -> None:
    async with hosts(alone.address(), 6) as fleet:
        await fleet.members(6)
        alone.kill()
        await fleet.hears("unreachable")
        root = await fleet.peers[-1].tree()
        assert root.owner is not None
        owner = next(p for p in fleet.peers if p.contact == root.owner)
        fleet.peers.remove(owner)
        await owner.close()  # to the others that is a crash
        for peer in fleet.peers:
            await fleet.place(f"down-{peer.contact.node_id}", peer)
        alone.start()
        await fleet.chairman()
        await fleet.members(5)


async def test_a_chairman_stops_at_a_doubt_and_does_what_waited_when_it_is_over(
    alone: LocalEnsemble,
) -> None:
    async with hosts(alone.address(), 2, candidates=1) as fleet:
        chairman = await fleet.chairman()
        alone.servers[0].pause()
        await fleet.hears("lost")
        assert not (await chairman.status()).chairman
        waiting = await fleet.start()
        assert (await waiting.status()).topo is None
        alone.servers[0].resume()
        await waiting.ready(PATIENCE_S)
        assert await fleet.chairman() is chairman
        await fleet.members(3)


@pytest.mark.parametrize(
    ("node", "value", "why"),
    [
        ("topo", b"by hand", "the topology cannot be read: coordinator node topo: "),
        ("cell/1", b"\x80", "the topology cannot be read: coordinator node cell/1: "),
        ("cell/7", None, "cannot be read: coordinator node cell/7: it is the record of cell 1"),
        ("topo", "older root", "makes no tree: coordinator node topo: the root, cell 99"),
        ("meta", b'{"format": 2}', "/meta was written by a newer version of Fabric"),
    ],
)
async def test_records_written_by_others_stop_the_chairman_who_names_them(
    zookeeper: LocalEnsemble, address: str, node: str, value: bytes | str | None, why: str
) -> None:
    base = "/" + address.partition("//")[2].partition("/")[2]
    async with hosts(address, 2, candidates=1) as fleet:
        await fleet.chairman()
        client = KazooClient(zookeeper.servers[0].address)
        client.start()
        try:
            if value is None:
                client.create(f"{base}/{node}", client.get(f"{base}/cell/1")[0])
            elif isinstance(value, str):
                topo = decode_record(Topo, client.get(f"{base}/topo")[0])
                broken = dataclasses.replace(topo, root=99)
                client.set(f"{base}/topo", encode_record(broken))
            else:
                client.set(f"{base}/{node}", value)
            name = client.get_children(f"{base}/chair")[0]
            client.delete(f"{base}/chair/{name}")  # so that it reads all again
            await fleet.hears("halted" if node != "meta" else "unreachable", re.escape(why))
            read = client.get(f"{base}/{node}")[0]
            assert value is None or isinstance(value, str) or read == value
        finally:
            client.stop()
            client.close()
        await fleet.place("halted", fleet.peers[-1])


def test_a_chairman_frozen_for_longer_than_its_session_finds_a_successor(address: str) -> None:
    def started(*words: str) -> PeerProcess:
        return start("--candidate", "--coordinator", address, "--host", "sim", *words)

    def is_chairman(peer: PeerProcess) -> bool:
        seen = result_of("status", "--peer", peer.address)
        return bool(seen["is_chairman"])

    with peers() as start:
        first = started()
        second = started("--join", first.address)
        eventually(lambda: command("members", "--peer", first.address),
                   lambda done: done.stdout.count(" alive ") == 2)
        assert is_chairman(first)
        first.process.send_signal(signal.SIGSTOP)
        eventually(lambda: is_chairman(second), lambda holds: holds)
        first.process.send_signal(signal.SIGCONT)
        # whatever it does first on waking, it does not rule
        assert not is_chairman(first)
        eventually(lambda: result_of("status", "--peer", first.address),
                   lambda seen: seen["chairman"]["node_id"] == second.node_id)
        assert is_chairman(second)
