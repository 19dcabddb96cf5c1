"""Three replicas of one shard under loss, reordering, crashes and partitions; and planted bugs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

import fabric.cloudstore.shard as shard_module
from fabric.cloudstore.following import Following
from fabric.cloudstore.replication import ReadBatch, Replication
from fabric.cloudstore.shard import ShardMachine
from fabric.machine import Sink
from fabric.units import SECOND
from fabric.wire.store import Append
from tests.sim.store_cluster import Violation, World


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trim often, so that trimming is part of every run."""
    monkeypatch.setattr(shard_module, "LOG_KEEP_BYTES", 4000)


@pytest.mark.parametrize("seed", range(60))
def test_three_replicas_keep_their_promises(seed: int) -> None:
    world = World(seed)
    world.run()
    assert len(world.acknowledged) > 50


@pytest.mark.parametrize("replicas", [1, 5])
def test_the_number_of_replicas_is_only_a_number(replicas: int) -> None:
    for seed in range(3):
        world = World(seed, replicas)
        world.run(6 * SECOND)


def test_logs_are_trimmed_behind_what_every_replica_has() -> None:
    world = World(2)
    world.run()
    assert all(node.machine.log.base_index for node in world.nodes)


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        world = World(99)
        world.run(6 * SECOND)
        runs.append((world.events, world.now, world.committed, world.history))
    assert runs[0] == runs[1]


def test_a_calm_network_keeps_its_leader() -> None:
    world = World(5)
    world.loss_ppm = 0
    world.prepare()
    world.run_until(world.now + 20 * SECOND)
    assert len(world.leaders) <= 2
    assert len(world.acknowledged) > 200


# --- planted bugs: the checkers must see them ----------------------------------------------------


class LeaderCountsItselfTooEarly(ShardMachine):
    """The leader counts entries that its disk does not have yet."""

    def _extend(self, commands: Sequence[bytes], now: int, out: Sink) -> None:
        super()._extend(commands, now, out)
        self.log.durable = self.log.last_index


class Hasty(Following):
    @property
    def match(self) -> int:
        return self.equal


class FollowerAcknowledgesTooEarly(ShardMachine):
    """A follower answers for entries that are still on their way to its disk."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._following = Hasty(self.log)


class ReadsWithoutAsking(ShardMachine):
    """The leader answers reads without proving that it still leads."""

    def _reads(self, leading: Replication, now: int, out: Sink) -> None:
        for follower in leading.followers.values():
            follower.round = leading.round + 1
        super()._reads(leading, now, out)


class NoOwnTermNeeded(ShardMachine):
    """Reads are served before the leader's own no-op is committed."""

    def _reads(self, leading: Replication, now: int, out: Sink) -> None:
        if leading.reading is None and leading.waiting_reads:
            leading.round += 1
            leading.reading = ReadBatch(leading.round, self.commit, leading.waiting_reads)
            leading.waiting_reads = []
            for follower in leading.followers.values():
                self._send_append(leading, follower, now, out, heartbeat=False)
        super()._reads(leading, now, out)


class Credulous(Following):
    def refuse(self, message: Append, commit: int) -> int | None:
        super().refuse(message, commit)
        return None if message.prev_index <= self.log.last_index else self.log.last_index


class LogsAreNotCompared(ShardMachine):
    """A follower takes entries without looking at what comes before them."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._following = Credulous(self.log)


class TermsAreForgotten(ShardMachine):
    """A restarted replica does not know what it has voted."""

    def start(self, stored: Any, applied: int, now: int, out: Sink) -> None:
        super().start(stored, applied, now, out)
        self.election.term = self.log.last_term
        self.election.vote = 0


@pytest.mark.parametrize(
    "bug",
    [
        LeaderCountsItselfTooEarly,
        FollowerAcknowledgesTooEarly,
        ReadsWithoutAsking,
        NoOwnTermNeeded,
        LogsAreNotCompared,
        TermsAreForgotten,
    ],
)
def test_planted_bugs_are_found(bug: Callable[..., ShardMachine]) -> None:
    for seed in range(200):
        try:
            World(seed, machine_class=bug).run()
        except Violation:
            return
        except AssertionError:
            return  # an assertion inside the machine saw it first
    pytest.fail(f"{bug.__name__} went unnoticed over 200 seeds")
