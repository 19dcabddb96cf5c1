"""With and without keys: who asks the other kind is told so, within the time it waits anyway."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import agent
import fabric
from fabric.counters import Counters
from fabric.errors import FabricError, KeysMissing
from fabric.transport.authority import ClusterKeys
from fabric.transport.zmq import ZmqTransport
from fabric.wire.common import Done
from nodes.cli.output import Exit
from tests.real.keyed import PATIENCE_S, KeyedPeer, cluster, issue, until
from tests.real.processes import environment


@pytest.fixture
def keys(tmp_path: Path) -> ClusterKeys:
    return cluster(tmp_path / "keys")


async def test_a_client_without_keys_is_told_that_they_are_missing(keys: ClusterKeys) -> None:
    async with KeyedPeer(issue(keys, "peer")) as peer, fabric.connect(peer.address) as client:
        with pytest.raises(KeysMissing, match="wants keys, and this side has none"):
            await client.status(timeout_s=3)
        assert peer.got.empty()


async def test_a_client_with_keys_is_told_that_the_peer_has_none(keys: ClusterKeys) -> None:
    async with fabric.open(host=agent.simulated_host()) as peer:
        address = peer.contact.address
        async with fabric.connect(address, keys=keys.guest("operator", 60)) as client:
            with pytest.raises(KeysMissing, match="has no keys, and this side has"):
                await client.status(timeout_s=3)
        assert peer.counters["refused_cards"] >= 1


async def test_a_peer_is_told_once_as_long_as_it_tries(keys: ClusterKeys) -> None:
    troubles: list[FabricError] = []
    counters = Counters()
    plain = ZmqTransport("tcp://127.0.0.1:0", counters)
    plain.on_trouble(lambda error, fatal: troubles.append(error))
    await plain.start(5, lambda sender, message: None)
    try:
        async with KeyedPeer(issue(keys, "peer")) as peer:
            plain.send(peer.address, Done())
            await until(lambda: troubles)
            assert isinstance(troubles[0], KeysMissing)
            assert troubles[0].data == {"address": peer.address}
            peer.transport.send(plain.address, Done())  # and the other way round
            await until(lambda: "KeysMissing" in peer.codes())
            assert len(troubles) == 1
    finally:
        await plain.close()


def test_the_command_says_which_side_has_no_keys(tmp_path: Path) -> None:
    peer = subprocess.Popen(
        [sys.executable, "-m", "nodes", "peer", "--candidate", "--data-dir", str(tmp_path / "p")],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert peer.stdout is not None
    address = peer.stdout.readline().split(" at ")[1].split()[0].rstrip(";")
    made = ("keys", "create", "--keys", str(tmp_path / "keys"), "one")
    asked = ("status", "--peer", address, "--keys", str(tmp_path / "keys"), "--timeout-s", "3")
    try:
        for words, code in ((made, Exit.OK), (asked, None)):
            done = subprocess.run(
                [sys.executable, "-m", "nodes", *words], env=environment(), text=True,
                capture_output=True, check=False, timeout=PATIENCE_S,
            )  # fmt: skip
            assert code is None or done.returncode == code, done.stderr
        assert done.returncode != Exit.OK and "has no keys" in done.stderr
    finally:
        peer.send_signal(signal.SIGTERM)
        peer.communicate(timeout=PATIENCE_S)


async def test_two_peers_without_keys_have_nothing_against_each_other() -> None:
    troubles: list[FabricError] = []
    got: asyncio.Queue[object] = asyncio.Queue()
    plain, other = (ZmqTransport("tcp://127.0.0.1:0", Counters()) for _ in range(2))
    plain.on_trouble(lambda error, fatal: troubles.append(error))
    await plain.start(5, lambda sender, message: None)
    await other.start(6, lambda sender, message: got.put_nowait(message))
    try:
        plain.send(other.address, Done())
        async with asyncio.timeout(PATIENCE_S):
            assert await got.get() == Done()
        assert not troubles
    finally:
        await plain.close()
        await other.close()
