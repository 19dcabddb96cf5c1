"""One behaviour for every coordinator: lease, epochs, versioned records, transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
    Put,
    Record,
    Resign,
    Resigned,
)
from fabric.coordination.memory import MemoryCoordinator
from fabric.errors import BadInput
from fabric.runtime.driver import Coordinator

LONG_US = 60_000_000


@pytest.fixture(params=["embedded", "memory"])
async def coordinator(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Coordinator]:
    made: Coordinator
    made = EmbeddedCoordinator(tmp_path) if request.param == "embedded" else MemoryCoordinator()
    yield made
    await made.close()


async def campaign(coordinator: Coordinator, node_id: int, lease_us: int = LONG_US) -> Chair:
    answer = await coordinator.ask(Campaign(node_id, lease_us))
    assert isinstance(answer, Chair)
    return answer


async def test_one_holder_renews_and_others_wait(coordinator: Coordinator) -> None:
    first = await campaign(coordinator, 1)
    assert (first.held, first.holder) == (True, 1)
    other = await campaign(coordinator, 2)
    assert (other.held, other.holder, other.epoch) == (False, 1, first.epoch)
    assert (await campaign(coordinator, 1)).epoch == first.epoch
    assert other.coordinator_id == first.coordinator_id > 0


async def test_each_holder_has_a_higher_epoch(coordinator: Coordinator) -> None:
    first = await campaign(coordinator, 1, lease_us=0)
    second = await campaign(coordinator, 2)
    assert second.held
    assert second.epoch > first.epoch
    assert await coordinator.ask(Resign(first.epoch)) == Resigned()
    assert not (await campaign(coordinator, 3)).held  # an old epoch gives nothing away
    await coordinator.ask(Resign(second.epoch))
    third = await campaign(coordinator, 1)
    assert third.held
    assert third.epoch > second.epoch


async def test_commits_need_the_chair(coordinator: Coordinator) -> None:
    put = Put("topo", 0, b"x")
    assert await coordinator.ask(Commit(Epoch(1, 1), (put,))) == CommitRefused("lease")
    expired = await campaign(coordinator, 1, lease_us=0)
    assert await coordinator.ask(Commit(expired.epoch, (put,))) == CommitRefused("lease")
    chair = await campaign(coordinator, 2)
    assert await coordinator.ask(Commit(expired.epoch, (put,))) == CommitRefused("lease")
    assert await coordinator.ask(Commit(chair.epoch, (put,))) == Committed((1,))


async def test_commits_are_all_or_nothing(coordinator: Coordinator) -> None:
    chair = await campaign(coordinator, 1)

    async def commit(*puts: Put) -> object:
        return await coordinator.ask(Commit(chair.epoch, puts))

    assert await commit(Put("a", 0, b"1"), Put("b", 0, b"1")) == Committed((1, 1))
    assert await commit(Put("a", 1, b"2"), Put("b", 0, b"2")) == CommitRefused("version")
    assert await commit(Put("a", 1, b"2"), Put("c", 1, None)) == CommitRefused("version")
    assert await commit(Put("a", 1, b"3"), Put("b", 1, None)) == Committed((2, 0))
    loaded = await coordinator.ask(Load())
    assert isinstance(loaded, Loaded)
    assert loaded.records == (Record("a", 2, b"3"),)


async def test_impossible_records_are_refused(coordinator: Coordinator) -> None:
    chair = await campaign(coordinator, 1)
    for put in (Put("", 0, b""), Put("x" * 300, 0, b""), Put("a", 0, bytes(70_000))):
        with pytest.raises(BadInput):
            await coordinator.ask(Commit(chair.epoch, (Put("good", 0, b""), put)))
    loaded = await coordinator.ask(Load())
    assert isinstance(loaded, Loaded)
    assert loaded.records == ()
