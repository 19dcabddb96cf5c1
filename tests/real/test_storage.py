"""Data directories: what is durable, who may open them, and what happens when the disk refuses."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from xxhash import xxh3_64_digest

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


# --- bit rot --------------------------------------------------------------------------------------


def flip(path: Path, place: int, bit: int = 0) -> None:
    """Turn one bit of a file around."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def rotten(directory: Path, what: bytes, bit: int = 0) -> int:
    """Flip a bit in every copy of ``what`` in the database. Returns how many there are."""
    path = directory / "peer.lmdb" / "data.mdb"
    content = path.read_bytes()
    places = [at for at in range(len(content)) if content.startswith(what, at)]
    for place in places:
        flip(path, place, bit)
    return len(places)


def filled(directory: Path) -> dict[bytes, bytes]:
    """Fill a data directory and return its records."""
    records = {b"host/r/%016x" % i: b"reservation %06d" % i for i in range(200)}
    records[b"seat/%016x" % 7] = b"the vote in cell 7"
    records[b"topo/path"] = b"where we are in the tree"
    environment = Environment(directory, node_id=5)
    environment.commit([Write(key, value) for key, value in records.items()])
    environment.close()
    return records


def test_a_flipped_bit_in_what_was_promised_is_told_by_its_key(tmp_path: Path) -> None:
    filled(tmp_path)
    assert rotten(tmp_path, b"the vote in cell 7") >= 1
    with pytest.raises(DataDirectoryError, match="1 damaged records") as caught:
        Environment(tmp_path)
    assert caught.value.data["keys"] == "seat/0000000000000007"


def test_a_flipped_bit_in_a_key_or_a_checksum_is_told(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    assert rotten(tmp_path / "a", b"r/%016x" % 150) >= 1
    filled(tmp_path / "b")
    assert rotten(tmp_path / "b", xxh3_64_digest(b"host/r/%016x" % 9 + b"reservation 000009")) >= 1
    for directory in ("a", "b"):
        with pytest.raises(DataDirectoryError, match="damaged records"):
            Environment(tmp_path / directory)


def test_what_others_tell_again_is_dropped_where_it_is_damaged(tmp_path: Path) -> None:
    records = filled(tmp_path)
    assert rotten(tmp_path, b"where we are in the tree", bit=5) >= 1
    del records[b"topo/path"]
    for _ in range(2):  # and the account is right again
        environment = Environment(tmp_path, node_id=5)
        assert dict(environment.records()) == records
        environment.close()


def test_a_record_that_vanished_is_missed(tmp_path: Path) -> None:
    filled(tmp_path)
    with lmdb.open(str(tmp_path / "peer.lmdb"), max_dbs=4, lib_version=0) as env:
        records = env.open_db(b"records")
        with env.begin(db=records, write=True) as txn:
            assert txn.delete(b"host/r/%016x" % 42)
    with pytest.raises(DataDirectoryError, match="lost records"):
        Environment(tmp_path)


def test_a_flipped_bit_in_the_identity_is_told(tmp_path: Path) -> None:
    Environment(tmp_path, node_id=123_456_789).close()
    assert rotten(tmp_path, b"123456789") >= 1
    with pytest.raises(DataDirectoryError, match="damaged records"):
        Environment(tmp_path)


def test_a_directory_of_an_older_version_is_refused(tmp_path: Path) -> None:
    Environment(tmp_path).close()
    with lmdb.open(str(tmp_path / "peer.lmdb"), max_dbs=4, lib_version=0) as env:
        meta = env.open_db(b"meta")
        with env.begin(db=meta, write=True) as txn:
            txn.put(b"format", b"1")
    with pytest.raises(DataDirectoryError, match="an older version"):
        Environment(tmp_path)


#: Opens a data directory and prints what it holds, as one number; or why it cannot.
READER = """
import sys
from pathlib import Path
from fabric.errors import DataDirectoryError
from fabric.storage.environment import Environment
try:
    environment = Environment(Path(sys.argv[1]))
    print(sorted(environment.records()))
except DataDirectoryError:
    print("refused")
"""


def test_a_bit_flipped_anywhere_never_gives_other_records(tmp_path: Path) -> None:
    """Whatever LMDB makes of a damaged page, no peer goes on with records that it did not write.

    (LMDB may end the process: a page that it follows may lead nowhere. That is no wrong answer.)
    """
    records = filled(tmp_path / "0")
    content = (tmp_path / "0" / "peer.lmdb" / "data.mdb").read_bytes()
    draw = random.Random(7)
    readers = []
    for number in range(1, 17):
        directory = tmp_path / str(number) / "peer.lmdb"
        directory.mkdir(parents=True)
        (directory / "data.mdb").write_bytes(content)
        flip(directory / "data.mdb", draw.randrange(len(content)), draw.randrange(8))
        command = [sys.executable, "-c", READER, str(directory.parent)]
        readers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    told = []
    for reader in readers:
        out, _ = reader.communicate(timeout=60)
        told.append(out.strip() if reader.returncode == 0 else "ended")
    whole = repr(sorted(records.items()))
    without_path = repr(sorted(item for item in records.items() if item[0] != b"topo/path"))
    assert set(told) <= {whole, without_path, "refused", "ended"}
    assert told.count(whole) < len(told)
