"""A running peer goes over to new keys while others talk to it: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fabric.errors import AddressInUse
from fabric.transport.address import TcpAddress
from fabric.transport.authority import ClusterKeys
from fabric.transport.rotation import Rotation
from fabric.wire.common import Done, Failure
from tests.real.keyed import HOUR_S, KeyedPeer, cluster, issue, until

EVERY_S = 0.002


@pytest.fixture
def keys(tmp_path: Path) -> ClusterKeys:
    return cluster(tmp_path / "keys")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.transport.guard._SWEEP_S", 0.1)


class Talk:
    """Numbered messages from one peer to another, all the time."""

    def __init__(self, one: KeyedPeer, other: KeyedPeer) -> None:
        self.one, self.other = one, other
        self.sent = 0
        self.task = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        while True:
            assert self.one.send(self.other, Failure("C", str(self.sent)))
            self.sent += 1
            await asyncio.sleep(EVERY_S)


def rotations(peer: KeyedPeer) -> int:
    return peer.counters["rotations"]


def serial_of(peer: KeyedPeer) -> int:
    guard = peer.transport._guard
    assert guard is not None
    return guard.keys.certificate.serial


async def heard(peer: KeyedPeer, talks: list[Talk]) -> None:
    """All that was said to ``peer`` has come, each message once."""
    total = sum(talk.sent for talk in talks)
    await until(lambda: peer.got.qsize() >= total)
    by_sender: dict[int, list[int]] = {}
    while not peer.got.empty():
        sender, message = peer.got.get_nowait()
        by_sender.setdefault(sender, []).append(int(message.message))
    for talk in talks:
        assert sorted(by_sender[talk.one.node_id]) == list(range(talk.sent))


async def test_no_message_is_lost_while_keys_rotate(keys: ClusterKeys) -> None:
    async with (
        KeyedPeer(issue(keys, "a")) as a, KeyedPeer(issue(keys, "b")) as b,
        KeyedPeer(issue(keys, "c")) as c,
    ):  # fmt: skip
        address, old = b.address, serial_of(b)
        talks = [Talk(a, b), Talk(c, b), Talk(b, a), Talk(b, c)]
        await until(lambda: all(talk.sent > 50 for talk in talks))
        for number in (1, 2):  # the second time from the first port again
            keys.rotate("b", HOUR_S)
            await until(lambda number=number: rotations(b) == number)
        said = talks[0].sent
        await until(lambda: talks[0].sent > said + 50)
        for talk in talks:
            talk.task.cancel()
        await heard(b, talks[:2])
        await heard(a, [talks[2]])
        await heard(c, [talks[3]])
        assert b.address == address and serial_of(b) > old
        assert not b.troubles
        async with KeyedPeer(issue(keys, "new")) as new:  # whoever comes later finds the new key
            new.send(b, Done())
            assert await b.next() == (new.node_id, Done())


async def test_a_port_lost_to_a_stranger_while_rotating(
    keys: ClusterKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind = Rotation._bind

    def taken(self: Rotation, address: TcpAddress) -> TcpAddress:
        if address.port:
            raise AddressInUse("a stranger was faster")
        return bind(self, address)

    monkeypatch.setattr(Rotation, "_bind", taken)
    async with KeyedPeer(issue(keys, "a")) as a, KeyedPeer(issue(keys, "b")) as b:
        a.send(b, Done())
        await b.next()
        keys.rotate("b", HOUR_S)
        await until(lambda: rotations(b) == 1)
        async with KeyedPeer(issue(keys, "c")) as c:
            for peer in (a, c):
                peer.send(b, Failure("C", "still there"))
                assert await b.next() == (peer.node_id, Failure("C", "still there"))


async def test_another_nodes_key_file_is_not_taken(keys: ClusterKeys) -> None:
    mine, other = issue(keys, "a"), issue(keys, "b")
    assert mine.directory and other.directory
    async with KeyedPeer(mine) as a:
        (mine.directory / "node.key").write_bytes((other.directory / "node.key").read_bytes())
        await until(lambda: a.troubles)
        assert "another node's" in a.troubles[0][0].message
        assert serial_of(a) == mine.certificate.serial
