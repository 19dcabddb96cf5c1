"""One behaviour for every coordinator: lease, epochs, versioned records, transactions."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from kazoo.client import KazooClient

from fabric.coordination.embedded import EmbeddedCoordinator
from fabric.coordination.interface import (
    Campaign,
    Chair,
    Commit,
    CommitRefused,
    Committed,
    Epoch,
    Load,
    Loaded,
    Lost,
    Put,
    Record,
    Resign,
    Resigned,
)
from fabric.coordination.memory import MemoryCoordinator
from fabric.coordination.zookeeper import ZooKeeperCoordinator
from fabric.errors import BadInput
from fabric.runtime.errands import Coordinator
from nodes.demo.zookeepers import LocalEnsemble

#: Longer than any of these tests, and shorter than the session that the ZooKeeper clients ask for.
LONG_US = 40_000_000
SESSION_S = 60


class Bench(ABC):
    """One coordinator, and its clients: each candidate has one of its own."""

    def __init__(self) -> None:
        self.clients: list[Coordinator] = []

    def candidate(self) -> Coordinator:
        self.clients.append(self.connect())
        return self.clients[-1]

    @abstractmethod
    def connect(self) -> Coordinator: ...

    @abstractmethod
    async def expire(self, client: Coordinator, node_id: int) -> None:
        """End the lease of ``node_id`` as time would."""


class Embedded(Bench):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def connect(self) -> Coordinator:
        return EmbeddedCoordinator(self.directory)

    async def expire(self, client: Coordinator, node_id: int) -> None:
        await client.ask(Campaign(node_id, 0))


class Memory(Embedded):
    shared = None

    def connect(self) -> Coordinator:
        self.shared = self.shared or MemoryCoordinator()
        return self.shared


class ZooKeeper(Bench):
    def __init__(self, ensemble: LocalEnsemble) -> None:
        super().__init__()
        self.servers = ensemble.servers[0].address
        self.address = ensemble.address(f"/contract/{uuid4().hex}", session_s=SESSION_S)

    def connect(self) -> Coordinator:
        return ZooKeeperCoordinator(self.address)

    async def expire(self, client: Coordinator, node_id: int) -> None:
        assert isinstance(client, ZooKeeperCoordinator)
        session = client._session
        assert session._client is not None
        double = KazooClient(self.servers, client_id=session._client.client_id)
        double.start()  # it takes the session over, and ends it
        double.stop()
        double.close()
        await connected(client)


@pytest.fixture(params=["embedded", "memory", "zookeeper"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    made: Bench
    if request.param == "zookeeper":
        made = ZooKeeper(request.getfixturevalue("zookeeper"))
    else:
        made = {"embedded": Embedded, "memory": Memory}[request.param](tmp_path)
    yield made
    for client in made.clients:
        await client.close()


async def connected(client: Coordinator) -> None:
    """Wait until it can be asked; the others can be at once."""
    while isinstance(await client.ask(Load()), Lost):
        await asyncio.sleep(0.01)


async def campaign(client: Coordinator, node_id: int) -> Chair:
    await connected(client)
    answer = await client.ask(Campaign(node_id, LONG_US))
    assert isinstance(answer, Chair)
    return answer


async def test_one_holder_renews_and_others_wait(bench: Bench) -> None:
    one, two = bench.candidate(), bench.candidate()
    first = await campaign(one, 1)
    assert (first.held, first.holder) == (True, 1)
    other = await campaign(two, 2)
    assert (other.held, other.holder, other.epoch) == (False, 1, first.epoch)
    assert await campaign(one, 1) == first
    assert other.coordinator_id == first.coordinator_id > 0


async def test_each_holder_has_a_higher_epoch(bench: Bench) -> None:
    one, two = bench.candidate(), bench.candidate()
    first = await campaign(one, 1)
    await bench.expire(one, 1)
    second = await campaign(two, 2)
    assert second.held
    assert second.epoch > first.epoch
    assert await one.ask(Resign(first.epoch)) == Resigned()
    assert not (await campaign(one, 1)).held  # an old epoch gives nothing away
    await two.ask(Resign(second.epoch))
    third = await campaign(one, 1)
    assert third.held
    assert third.epoch > second.epoch


async def test_commits_need_the_chair(bench: Bench) -> None:
    one, two = bench.candidate(), bench.candidate()
    await connected(one)
    put = Put("topo", 0, b"x")
    assert await one.ask(Commit(Epoch(1, 1), (put,))) == CommitRefused("lease")
    expired = await campaign(one, 1)
    await bench.expire(one, 1)
    assert await one.ask(Commit(expired.epoch, (put,))) == CommitRefused("lease")
    chair = await campaign(two, 2)
    for client in (one, two):
        assert await client.ask(Commit(expired.epoch, (put,))) == CommitRefused("lease")
    assert await two.ask(Commit(chair.epoch, (put,))) == Committed((1,))


async def test_commits_are_all_or_nothing(bench: Bench) -> None:
    client = bench.candidate()
    chair = await campaign(client, 1)

    async def commit(*puts: Put) -> object:
        return await client.ask(Commit(chair.epoch, puts))

    assert await commit(Put("a", 0, b"1"), Put("cell/1", 0, b"1")) == Committed((1, 1))
    assert await commit(Put("a", 0, b"2")) == CommitRefused("version")
    assert await commit(Put("a", 1, b"2"), Put("cell/1", 0, b"2")) == CommitRefused("version")
    assert await commit(Put("a", 1, b"2"), Put("c", 1, None)) == CommitRefused("version")
    assert await commit(Put("a", 1, b"3"), Put("cell/1", 1, None)) == Committed((2, 0))
    assert await commit(Put("a", 2, b"4"), Put("never", 0, None)) == Committed((3, 0))
    loaded = await client.ask(Load())
    assert isinstance(loaded, Loaded)
    assert loaded.records == (Record("a", 3, b"4"),)


async def test_records_are_what_every_client_reads(bench: Bench) -> None:
    one, two = bench.candidate(), bench.candidate()
    chair = await campaign(one, 1)
    puts = (Put("topo", 0, b"t"), *(Put(f"cell/{n}", 0, b"%d" % n) for n in range(1, 600)))
    assert await one.ask(Commit(chair.epoch, puts)) == Committed((1,) * 600)
    await campaign(two, 2)
    await one.ask(Resign(chair.epoch))
    assert (await campaign(two, 2)).held
    loaded = await two.ask(Load())
    assert isinstance(loaded, Loaded)
    assert {(r.path, r.value) for r in loaded.records} == {(p.path, p.value) for p in puts}


async def test_impossible_records_are_refused(bench: Bench) -> None:
    client = bench.candidate()
    chair = await campaign(client, 1)
    for put in (Put("", 0, b""), Put("x" * 300, 0, b""), Put("a", 0, bytes(70_000))):
        with pytest.raises(BadInput):
            await client.ask(Commit(chair.epoch, (Put("good", 0, b""), put)))
    loaded = await client.ask(Load())
    assert isinstance(loaded, Loaded)
    assert loaded.records == ()
