"""A candidate's client while its ZooKeeper dies, freezes, forgets, or is written by others."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from fabric.coordination.interface import (
    Campaign,
    Chair,
    Commit,
    CommitRefused,
    Committed,
    CoordinatorNews,
    CoordinatorRequest,
    Epoch,
    Load,
    Loaded,
    Lost,
    Put,
    Resign,
    Severed,
    Vacated,
)
from fabric.coordination.zookeeper import ZooKeeperCoordinator
from fabric.errors import ConfigError, ForeignData
from nodes.demo.zookeepers import LocalEnsemble, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"WITHOUT REAL ZOOKEEPER: {missing()}")

LEASE_US = 3_000_000
PATIENCE_S = 60.0


class Candidate:
    """A client, and the news that it told."""

    def __init__(self, address: str, node_id: int = 1) -> None:
        self.node_id = node_id
        self.client = ZooKeeperCoordinator(address)
        self.news: asyncio.Queue[CoordinatorNews] = asyncio.Queue()
        self.client.listen(self.news.put_nowait)

    async def answered(self, request: CoordinatorRequest) -> Any:
        """Ask until there is an answer, as a machine does."""
        async with asyncio.timeout(PATIENCE_S):
            while isinstance(answer := await self.client.ask(request), Lost):
                await asyncio.sleep(0.02)
        return answer

    async def campaign(self, lease_us: int = LEASE_US) -> Chair:
        answer = await self.answered(Campaign(self.node_id, lease_us))
        assert isinstance(answer, Chair)
        return answer

    async def wins(self) -> Chair:
        """Campaign until the chair is ours."""
        async with asyncio.timeout(PATIENCE_S):
            while not (chair := await self.campaign()).held:
                await asyncio.sleep(0.02)
        return chair

    async def told(self, kind: type[CoordinatorNews]) -> None:
        """Wait for news of one kind."""
        async with asyncio.timeout(PATIENCE_S):
            while not isinstance(await self.news.get(), kind):
                pass

    def expire(self) -> None:
        """End the session at the server, as if it had timed out."""
        assert self.client._session._client is not None
        client_id = self.client._session._client.client_id
        with stranger(self.client._session.ensemble.servers, client_id=client_id):
            pass


@contextmanager
def stranger(servers: str, **options: Any) -> Iterator[KazooClient]:
    """A client of somebody else's."""
    client = KazooClient(servers, **options)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


@pytest.fixture
async def meet() -> AsyncIterator[Callable[..., Candidate]]:
    """A function that makes candidates."""
    made: list[Candidate] = []

    def make(address: str, node_id: int = 1) -> Candidate:
        made.append(Candidate(address, node_id))
        return made[-1]

    yield make
    for candidate in made:
        await candidate.client.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[LocalEnsemble]:
    """A ZooKeeper of our own, to be broken."""
    with LocalEnsemble(tmp_path, size=1) as ensemble:
        yield ensemble


@pytest.fixture
def base(zookeeper: LocalEnsemble) -> str:
    return f"/faults/{uuid4().hex}"


async def write(candidate: Candidate, epoch: Epoch, version: int, path: str = "topo") -> Any:
    return await candidate.client.ask(Commit(epoch, (Put(path, version, b"x"),)))


# --- the connection -------------------------------------------------------------------------------


async def test_a_frozen_server_is_told_before_the_session_can_end(
    alone: LocalEnsemble, meet: Callable[..., Candidate]
) -> None:
    candidate = meet(alone.address())
    chair = await candidate.wins()
    alone.servers[0].pause()
    await candidate.told(Severed)
    assert isinstance(await write(candidate, chair.epoch, 0), Lost | CommitRefused)
    assert isinstance(await candidate.client.ask(Campaign(1, LEASE_US)), Lost)
    alone.servers[0].resume()
    await candidate.told(Vacated)
    again = await candidate.wins()
    assert again.epoch >= chair.epoch
    assert await write(candidate, again.epoch, 0) == Committed((1,))


async def test_a_server_that_is_killed_and_started_keeps_session_and_chair(
    alone: LocalEnsemble, meet: Callable[..., Candidate]
) -> None:
    candidate = meet(alone.address())
    chair = await candidate.wins()
    alone.kill()
    await candidate.told(Severed)
    assert isinstance(await candidate.client.ask(Load()), Lost)
    alone.start()
    await candidate.told(Vacated)
    assert (await candidate.wins()).epoch == chair.epoch


async def test_an_expired_session_has_lost_the_chair_for_good(
    zookeeper: LocalEnsemble, base: str, meet: Callable[..., Candidate]
) -> None:
    first, second = (meet(zookeeper.address(base), n) for n in (1, 2))
    old = await first.wins()
    assert not (await second.campaign()).held
    first.expire()
    await first.told(Severed)
    await second.told(Vacated)
    new = await second.wins()
    assert new.epoch > old.epoch
    assert await first.answered(Commit(old.epoch, (Put("topo", 0, b"old"),))) == CommitRefused(
        "lease"
    )
    assert not (await first.campaign()).held
    assert await write(second, new.epoch, 0) == Committed((1,))


async def test_the_leader_of_three_dies_and_writing_goes_on(
    tmp_path: Path, meet: Callable[..., Candidate]
) -> None:
    with LocalEnsemble(tmp_path) as ensemble:
        candidate = meet(ensemble.address())
        chair = await candidate.wins()
        assert await write(candidate, chair.epoch, 0) == Committed((1,))
        ensemble.leader().kill()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                again = await candidate.wins()
                answer = await write(candidate, again.epoch, 1)
                if answer == Committed((2,)):
                    break
                # the answer may have been lost with the connection, the write not
                if answer == CommitRefused("version"):
                    break
                assert isinstance(answer, Lost | CommitRefused)
        loaded = await candidate.answered(Load())
        assert [(r.path, r.version) for r in loaded.records] == [("topo", 2)]


async def test_too_short_a_session_is_refused(
    zookeeper: LocalEnsemble, base: str, meet: Callable[..., Candidate]
) -> None:
    candidate = meet(zookeeper.address(base, session_s=2))
    await candidate.answered(Load())
    with pytest.raises(ConfigError, match="too short for the chair lease of 3 s"):
        await candidate.client.ask(Campaign(1, LEASE_US))


# --- an ensemble that knows less than it did ------------------------------------------------------


async def test_an_emptied_ensemble_is_another_coordinator(
    alone: LocalEnsemble, meet: Callable[..., Candidate]
) -> None:
    candidate = meet(alone.address())
    chair = await candidate.wins()
    assert await write(candidate, chair.epoch, 0) == Committed((1,))
    alone.kill()
    alone.servers[0].empty()
    alone.start()
    after = await candidate.wins()  # though the server refuses whoever has seen newer things
    assert after.coordinator_id != chair.coordinator_id
    assert await candidate.answered(Load()) == Loaded((), after.coordinator_id)


async def test_a_restored_copy_is_read_as_it_is(
    alone: LocalEnsemble, meet: Callable[..., Candidate], tmp_path: Path
) -> None:
    candidate = meet(alone.address())
    chair = await candidate.wins()
    assert await write(candidate, chair.epoch, 0) == Committed((1,))
    alone.kill()
    alone.servers[0].save(tmp_path / "copy")
    alone.start()
    chair = await candidate.wins()
    assert await write(candidate, chair.epoch, 1) == Committed((2,))
    alone.kill()
    alone.servers[0].restore(tmp_path / "copy")
    alone.start()
    after = await candidate.wins()
    assert after.coordinator_id == chair.coordinator_id
    loaded = await candidate.answered(Load())
    assert [(r.path, r.version) for r in loaded.records] == [("topo", 1)]


async def test_a_tree_emptied_by_hand_under_a_living_chairman(
    zookeeper: LocalEnsemble, base: str, meet: Callable[..., Candidate]
) -> None:
    candidate = meet(zookeeper.address(base))
    chair = await candidate.wins()
    with stranger(zookeeper.servers[0].address) as other:
        other.delete(base, recursive=True)
    assert await candidate.answered(
        Commit(chair.epoch, (Put("topo", 0, b"x"),))
    ) == CommitRefused("lease")
    after = await candidate.wins()
    assert after.coordinator_id != chair.coordinator_id
    assert after.epoch > chair.epoch


# --- the line for the chair -----------------------------------------------------------------------


async def test_a_hung_candidate_leaves_the_line(
    zookeeper: LocalEnsemble, base: str, meet: Callable[..., Candidate]
) -> None:
    hung, other = (meet(zookeeper.address(base), n) for n in (1, 2))
    assert (await hung.campaign(lease_us=100_000)).held  # and then never again
    await other.campaign()
    await other.told(Vacated)
    assert (await other.wins()).held


async def test_a_place_whose_answer_was_lost_is_found_again(
    zookeeper: LocalEnsemble, base: str, meet: Callable[..., Candidate]
) -> None:
    candidate = meet(zookeeper.address(base))
    chair = await candidate.wins()
    candidate.client._place = None  # as if nobody had told us
    assert await candidate.wins() == chair
    await candidate.client.ask(Resign(chair.epoch))
    with stranger(zookeeper.servers[0].address) as other:
        assert other.get_children(f"{base}/chair") == []


# --- what somebody else wrote ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "value", "why"),
    [
        ("meta", b"hello", "meta is not the JSON object that Fabric writes"),
        ("meta", b'{"format": 9, "id": "01"}', r"meta was written by a newer version .*format 9"),
        ("chair/lock-0000000001", b"", "chair/lock-0000000001 is no candidate's node"),
        (f"chair/{1:016x}-0000000000", b"", f"chair/{1:016x}-0000000000 belongs to no session"),
        ("topo", bytes(70_000), "topo holds 70000 bytes, more than 65536"),
        ("cell/1", bytes(70_000), "cell/1 holds 70000 bytes"),
    ],
)
async def test_foreign_nodes_are_named_and_left_alone(
    zookeeper: LocalEnsemble, base: str, meet: Callable[..., Candidate],
    node: str, value: bytes, why: str,
) -> None:  # fmt: skip
    await meet(zookeeper.address(base)).answered(Load())  # it makes the layout
    with stranger(zookeeper.servers[0].address) as other:
        if other.exists(f"{base}/{node}"):
            other.set(f"{base}/{node}", value)
        else:
            other.create(f"{base}/{node}", value)
        candidate = meet(zookeeper.address(base), 2)
        request = Campaign(2, LEASE_US) if node.startswith("chair") else Load()
        with pytest.raises(ForeignData, match=f"coordinator node {base}/{why}"):
            await candidate.answered(request)
        assert other.get(f"{base}/{node}")[0] == value


async def test_a_path_that_is_in_use_for_something_else(
    zookeeper: LocalEnsemble, base: str, meet: Callable[..., Candidate]
) -> None:
    with stranger(zookeeper.servers[0].address) as other:
        other.create(f"{base}/kafka", b"", makepath=True)
        with pytest.raises(ForeignData, match=f"node {base} holds 'kafka' but no 'meta'"):
            await meet(zookeeper.address(base)).answered(Load())
        assert other.get_children(base) == ["kafka"]


# --- credentials ----------------------------------------------------------------------------------


async def test_every_node_belongs_to_whoever_has_the_credentials(
    zookeeper: LocalEnsemble, base: str, meet: Callable[..., Candidate],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(1)
    caplog.set_level(1, "fabric")  # put back afterwards
    caplog.set_level(1, "kazoo")
    monkeypatch.setenv("ZK_OURS", "fabric:s3cret-ours")
    monkeypatch.setenv("ZK_THEIRS", "fabric:s3cret-theirs")
    ours = meet(zookeeper.address(base, auth_env="ZK_OURS"))
    chair = await ours.wins()
    assert await write(ours, chair.epoch, 0) == Committed((1,))
    assert await write(ours, chair.epoch, 0, "cell/1") == Committed((1,))
    with stranger(zookeeper.servers[0].address) as other:
        for node in ("", "/meta", "/chair", "/cell", "/service", "/topo", "/cell/1"):
            for touch in (other.get, other.get_children, lambda path: other.set(path, b"")):
                with pytest.raises(NoAuthError):
                    touch(base + node)
    for options in ({}, {"auth_env": "ZK_THEIRS"}):
        intruder = meet(zookeeper.address(base, **options), 2)
        for request in (Load(), Campaign(2, LEASE_US)):
            with pytest.raises(ForeignData, match=f"node {base}/meta does not let us in"):
                await intruder.answered(request)
    assert "s3cret" not in caplog.text


# --- TLS ------------------------------------------------------------------------------------------


def keytool(*words: str) -> None:
    subprocess.run(["keytool", *words], check=True, capture_output=True, timeout=PATIENCE_S)


@contextmanager
def encrypted(directory: Path) -> Iterator[tuple[int, Path]]:
    """A server with a certificate of its own; its TLS port, and what to check it by."""
    store, certificate = directory / "keys.p12", directory / "ca.pem"
    common = ("-alias", "zk", "-keystore", str(store), "-storepass", "changeit")
    keytool(
        "-genkeypair", *common, "-storetype", "PKCS12", "-keyalg", "EC", "-dname", "CN=zk",
        "-ext", "san=ip:127.0.0.1", "-validity", "2",
    )  # fmt: skip
    keytool("-exportcert", "-rfc", *common, "-file", str(certificate))
    trusted = directory / "trusted.p12"
    keytool(
        "-importcert", "-noprompt", "-alias", "zk", "-keystore", str(trusted), "-storepass",
        "changeit", "-storetype", "PKCS12", "-file", str(certificate),
    )  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = [
        f"secureClientPort={port}", "secureClientPortAddress=127.0.0.1",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={store}", "ssl.keyStore.password=changeit",
        f"ssl.trustStore.location={trusted}", "ssl.trustStore.password=changeit",
        "ssl.clientAuth=none",
    ]  # fmt: skip
    with LocalEnsemble(directory / "server", size=1, settings=settings):
        yield port, certificate


async def test_tls_lets_the_right_server_in_and_no_other(
    tmp_path: Path, meet: Callable[..., Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZK_OURS", "fabric:s3cret")
    other = tmp_path / "other"
    other.mkdir()
    keytool(
        "-genkeypair", "-alias", "x", "-keystore", str(other / "x.p12"), "-storepass", "changeit",
        "-keyalg", "EC", "-dname", "CN=zk", "-ext", "san=ip:127.0.0.1", "-storetype", "PKCS12",
    )  # fmt: skip
    keytool(
        "-exportcert", "-rfc", "-alias", "x", "-keystore", str(other / "x.p12"),
        "-storepass", "changeit", "-file", str(other / "ca.pem"),
    )  # fmt: skip
    with encrypted(tmp_path) as (port, ca):
        address = f"zookeeper://127.0.0.1:{port}/tls?auth_env=ZK_OURS"
        candidate = meet(f"{address}&tls_ca={ca}")
        chair = await candidate.wins()
        assert await write(candidate, chair.epoch, 0) == Committed((1,))
        for wrong in (f"{address}&tls_ca={other / 'ca.pem'}", address):
            stranger = meet(wrong, 2)
            tries = count_connections(stranger)
            async with asyncio.timeout(PATIENCE_S):
                await tries.wait()
            assert isinstance(await stranger.client.ask(Load()), Lost)


def count_connections(candidate: Candidate) -> asyncio.Event:
    """Return an event that is set once the client has tried to connect several times in vain."""
    client = candidate.client._session._client
    assert client is not None
    loop, tried, enough = asyncio.get_running_loop(), iter(range(3)), asyncio.Event()
    connect = client._connection._connect

    def counting(*server: Any) -> Any:
        if next(tried, None) is None:
            loop.call_soon_threadsafe(enough.set)
        return connect(*server)

    client._connection._connect = counting
    return enough
