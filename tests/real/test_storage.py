"""Data directories: what is durable, who may open them, and what happens when the disk refuses."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from fabric.errors import DataDirectoryError, StorageError
from fabric.machine import Write
from fabric.storage.committer import CommittedStorage
from fabric.storage.environment import FORMAT_VERSION, Environment


async def write(storage: CommittedStorage, *writes: Write) -> None:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_durable(error: StorageError | None) -> None:
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    storage.submit(writes, on_durable)
    await done


async def test_records_identity_and_boots_survive(tmp_path: Path) -> None:
    storage = CommittedStorage(tmp_path / "a")
    node_id = storage.node_id
    assert storage.boot_id == 1
    await write(storage, Write(b"k1", b"v1"), Write(b"k2", b"v2"))
    await write(storage, Write(b"k1", None), Write(b"k3", b""))
    await storage.close()
    again = CommittedStorage(tmp_path / "a")
    assert (again.node_id, again.boot_id) == (node_id, 2)
    assert list(again.stored()) == [(b"k2", b"v2"), (b"k3", b"")]
    await again.close()


async def test_what_waits_becomes_one_commit_answered_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    real = Environment.commit

    def commit(self: Environment, writes: list[Write]) -> None:
        commits.append(len(writes))
        real(self, writes)

    monkeypatch.setattr(Environment, "commit", commit)
    storage = CommittedStorage(tmp_path)
    answers: list[int] = []
    all_done = asyncio.Event()

    def on_durable(number: int) -> None:
        answers.append(number)
        if number == 499:
            all_done.set()

    for i in range(500):
        storage.submit(
            [Write(b"%d" % i, b"x")], lambda error, i=i: on_durable(i if error is None else -1)
        )
    async with asyncio.timeout(20):
        await all_done.wait()
    assert answers == list(range(500))
    assert sum(commits) == 500
    assert len(commits) < 250
    await storage.close()


async def test_the_first_failed_commit_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = CommittedStorage(tmp_path)
    await write(storage, Write(b"a", b"1"))
    calls = 0

    def commit(self: Environment, writes: list[Write]) -> None:
        nonlocal calls
        calls += 1
        raise StorageError("input/output error")

    monkeypatch.setattr(Environment, "commit", commit)
    for _ in range(3):
        with pytest.raises(StorageError, match="input/output"):
            await write(storage, Write(b"b", b"2"))
    assert calls == 1
    await storage.close()


def test_a_full_map_grows_and_loses_nothing(tmp_path: Path) -> None:
    environment = Environment(tmp_path, map_bytes=64 * 1024)
    for i in range(100):
        environment.commit([Write(b"%03d" % i, bytes(4000))])
    assert len(list(environment.records())) == 100
    environment.close()
    again = Environment(tmp_path, map_bytes=64 * 1024)
    assert len(list(again.records())) == 100
    again.close()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    with pytest.raises(DataDirectoryError, match="in use"):
        Environment(tmp_path)
    environment.close()
    Environment(tmp_path).close()


def test_a_directory_of_another_node_is_refused(tmp_path: Path) -> None:
    Environment(tmp_path, node_id=5).close()
    with pytest.raises(DataDirectoryError, match="belongs to node 0000000000000005"):
        Environment(tmp_path, node_id=6)
    Environment(tmp_path, node_id=5).close()


def test_a_directory_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Environment(tmp_path).close()
    with lmdb.open(str(tmp_path / "peer.lmdb"), max_dbs=4, lib_version=0) as env:
        meta = env.open_db(b"meta")
        with env.begin(db=meta, write=True) as txn:
            txn.put(b"format", str(FORMAT_VERSION + 1).encode())
    with pytest.raises(DataDirectoryError, match="newer version"):
        Environment(tmp_path)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "peer.lmdb").mkdir()
    (tmp_path / "peer.lmdb" / "data.mdb").write_bytes(b"hello" * 5000)
    with pytest.raises(DataDirectoryError, match=str(tmp_path)):
        Environment(tmp_path)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryError, match="cannot be written"):
        Environment(tmp_path / "file")


def test_an_unwritable_directory_is_refused() -> None:
    with pytest.raises(DataDirectoryError, match="cannot be written"):
        Environment(Path("/proc/fabric"))  # not even root may write there


#: Writes numbered records as fast as it can and prints each number once it is durable.
WRITER = """
import asyncio, sys
from pathlib import Path
from fabric.machine import Write
from fabric.storage.committer import CommittedStorage
async def main():
    storage = CommittedStorage(Path(sys.argv[1]))
    number = 0
    while True:
        for _ in range(10):
            key = b"%08d" % number
            storage.submit([Write(key, key)], lambda error, n=number: print(n, flush=True))
            number += 1
        await asyncio.sleep(0)
asyncio.run(main())
"""


async def test_what_was_called_durable_is_found_after_sigkill(tmp_path: Path) -> None:
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(200)]
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.wait()
        writer.stdout.close()
        storage = CommittedStorage(tmp_path)
        found = {int(key) for key, value in storage.stored() if key == value}
        await storage.close()
        assert set(told) <= found
        assert found == set(range(len(found)))  # in order: no hole
