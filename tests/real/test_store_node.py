"""A store node on real LMDB: restarts, SIGKILL in a write storm, bad directories, rotten bits."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import lmdb
import pytest

from fabric.cloudstore.client import (
    CompareAndSet,
    Create,
    Debit,
    Delete,
    Kind,
    StoreClient,
)
from fabric.cloudstore.storage import node as node_module
from fabric.cloudstore.storage.environment import LmdbEnvironment
from fabric.cloudstore.storage.node import StoreNode
from fabric.errors import (
    CorruptData,
    DataDirectoryError,
    StorageError,
    StoreFull,
    Unavailable,
)
from fabric.limits import LOG_KEEP_BYTES
from fabric.machine import Write

KINDS = [Kind("tenant"), Kind("vm", indexes=("projectId",))]


async def test_reopened_it_goes_on_where_it_was(tmp_path: Path) -> None:
    async with await StoreNode.open(tmp_path) as node:
        store = node.client(KINDS)
        tenants = [store.new_home() for _ in range(20)]
        for tenant in tenants:
            await store.transact(tenant, [Create("tenant", tenant, {"n": 0})], key="make")
        gone = tenants.pop()
        await store.transact(gone, [Delete("tenant", gone)])
    async with await StoreNode.open(tmp_path, 128) as node:
        store = node.client(KINDS)
        assert {d.id for d in await store.list_all("tenant")} == set(tenants)
        document = await store.get("tenant", tenants[0])
        assert document is not None
        again = await store.transact(tenants[0], [Create("tenant", tenants[0], {})], key="make")
        assert again.version == document.version
        later = await store.transact(
            tenants[0], [CompareAndSet("tenant", tenants[0], document.version, {"n": 1})]
        )
        assert later.version > document.version


async def test_concurrent_transactions_share_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    real = LmdbEnvironment.commit

    def counted(self: LmdbEnvironment, writes: list[Write]) -> None:
        commits.append(len(writes))
        real(self, writes)

    async with await StoreNode.open(tmp_path) as node:
        store = node.client(KINDS)
        tenants = [store.new_home() for _ in range(200)]
        monkeypatch.setattr(LmdbEnvironment, "commit", counted)
        await asyncio.gather(*(store.transact(t, [Create("tenant", t, {})]) for t in tenants))
    assert len(commits) < 50  # votes, no-ops, entries, flushes


async def test_the_log_is_trimmed_behind_the_documents(tmp_path: Path) -> None:
    async with await StoreNode.open(tmp_path) as node:
        store = node.client(KINDS)
        tenant = store.new_home()
        version = (await store.transact(tenant, [Create("tenant", tenant, {"n": 0})])).version
        for n in range(120):
            body = {"n": n, "pad": "x" * 20_000}
            done = await store.transact(tenant, [CompareAndSet("tenant", tenant, version, body)])
            version = done.version
        log = node._hosted[int(tenant[:3], 16)]._machine.log
        async with asyncio.timeout(20):  # trimming follows the flush of the documents
            while log.bytes > LOG_KEEP_BYTES:
                await asyncio.sleep(0.01)
        trimmed = log.base_index
        assert trimmed > 60
    async with await StoreNode.open(tmp_path) as node:
        document = await node.client(KINDS).get("tenant", tenant)
        assert document is not None and document.body["n"] == 119
        log = node._hosted[int(tenant[:3], 16)]._machine.log
        assert log.base_index >= trimmed and log.bytes <= LOG_KEEP_BYTES


STORM = """
    import asyncio, os, sys
    from fabric.cloudstore.client import Create, Debit, Kind
    from fabric.cloudstore.storage.node import StoreNode

    KINDS = [Kind("tenant"), Kind("vm", indexes=("projectId",))]

    async def writer(store, tenant, worker):
        n = 0
        while True:
            vm = store.new_id(tenant)
            key = f"{os.getpid()}-{worker}-{n}"
            ops = [
                Create("vm", vm, {"projectId": tenant, "n": n, "pad": "x" * 200}),
                Debit("tenant", tenant, {"vm": 1}),
            ]
            done = await store.transact(tenant, ops, key=key)
            print(tenant, vm, n, done.version, flush=True)
            n += 1

    async def main():
        node = await StoreNode.open(sys.argv[1])
        store = node.client(KINDS)
        tenants = [d.id for d in await store.list_all("tenant")]
        while len(tenants) < 8:
            tenant = store.new_home()
            await store.transact(tenant, [Create("tenant", tenant, {})])
            tenants.append(tenant)
        await asyncio.gather(*(writer(store, tenants[w % 8], w) for w in range(32)))

    asyncio.run(main())
"""


async def _verify(store: StoreClient, acknowledged: dict[str, tuple[str, int, int]]) -> None:
    """Every acknowledged write is there, and quota is the sum of what is there."""
    for vm, (tenant, n, version) in acknowledged.items():
        document = await store.get("vm", vm)
        assert document is not None, f"{vm} was acknowledged and is lost"
        assert (document.body["n"], document.version) == (n, version)
        assert document.body["projectId"] == tenant
    for tenant_document in await store.list_all("tenant"):
        tenant = tenant_document.id
        found = await store.list_all("vm", home=tenant, where=("projectId", tenant))
        assert tenant_document.body.get("usage", {}).get("vm", 0) == len(found)


async def test_sigkill_in_a_write_storm_loses_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[str, tuple[str, int, int]] = {}
    for lines in (40, 400, 1500, 700, 90):  # where each life ends
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(STORM), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(lines):
            line = process.stdout.readline()
            assert line, "the storm ended by itself"
            tenant, vm, n, version = line.split()
            acknowledged[vm] = (tenant, int(n), int(version))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n") and len(line.split()) == 4:
                tenant, vm, n, version = line.split()
                acknowledged[vm] = (tenant, int(n), int(version))
        process.wait()
        async with await StoreNode.open(tmp_path) as node:
            await _verify(node.client(KINDS), acknowledged)
    assert len(acknowledged) >= 2730


# --- bad directories ------------------------------------------------------------------------------


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    async with await StoreNode.open(tmp_path):
        with pytest.raises(DataDirectoryError, match="in use"):
            await StoreNode.open(tmp_path)
    async with await StoreNode.open(tmp_path):
        pass


async def test_another_number_of_shards_is_refused(tmp_path: Path) -> None:
    async with await StoreNode.open(tmp_path, 16) as node:
        assert node.shards == 16
    with pytest.raises(DataDirectoryError, match="has 16 shards"):
        await StoreNode.open(tmp_path, 32)
    async with await StoreNode.open(tmp_path) as node:
        assert node.shards == 16


async def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("fabric.cloudstore.storage.directory.FORMAT_VERSION", 7)
        async with await StoreNode.open(tmp_path):
            pass
    with pytest.raises(DataDirectoryError, match="format 7"):
        await StoreNode.open(tmp_path)


async def test_halves_of_two_stores_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        async with await StoreNode.open(tmp_path / name):
            pass
    os.rename(tmp_path / "a" / "log", tmp_path / "a" / "old")
    os.rename(tmp_path / "b" / "log", tmp_path / "a" / "log")
    with pytest.raises(DataDirectoryError, match="another"):
        await StoreNode.open(tmp_path / "a")


async def test_what_is_no_directory_or_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(DataDirectoryError):
        await StoreNode.open(tmp_path / "file")
    (tmp_path / "store" / "log").mkdir(parents=True)
    (tmp_path / "store" / "log" / "data.mdb").write_bytes(b"garbage" * 2000)
    with pytest.raises(DataDirectoryError, match="no database"):
        await StoreNode.open(tmp_path / "store")


async def test_an_unwritable_directory_is_refused() -> None:
    with pytest.raises(DataDirectoryError, match="cannot be written"):
        await StoreNode.open("/proc/store")  # not even root may


# --- disks that misbehave -------------------------------------------------------------------------


def _flip(path: Path, needle: bytes) -> int:
    """Change one byte in each copy of ``needle`` in a file, as rotting bits would."""
    data = bytearray(path.read_bytes())
    count = start = 0
    while (at := data.find(needle, start)) >= 0:
        data[at] ^= 1
        count, start = count + 1, at + 1
    path.write_bytes(data)
    return count


async def test_a_rotten_document_is_detected_and_never_served(tmp_path: Path) -> None:
    async with await StoreNode.open(tmp_path) as node:
        store = node.client(KINDS)
        rotten, sound = store.new_home(), store.new_home()
        await store.transact(rotten, [Create("tenant", rotten, {"name": "find-me-and-rot"})])
        await store.transact(sound, [Create("tenant", sound, {"name": "sound"})])
    assert _flip(tmp_path / "documents" / "data.mdb", b"find-me-and-rot") >= 1
    async with await StoreNode.open(tmp_path) as node:
        store = node.client(KINDS)
        with pytest.raises(CorruptData):
            await store.get("tenant", rotten)
        with pytest.raises(CorruptData):
            await store.list_all("tenant")
        assert await store.get("tenant", sound) is not None
        # a transaction that needs it stops the shard rather than guessing
        with pytest.raises((StorageError, Unavailable)):
            await store.transact(rotten, [Debit("tenant", rotten, {"vm": 1})])


async def test_a_rotten_log_entry_is_detected(tmp_path: Path) -> None:
    async with await StoreNode.open(tmp_path) as node:
        store = node.client(KINDS)
        tenant = store.new_home()
        await store.transact(tenant, [Create("tenant", tenant, {"name": "find-me-and-rot"})])
    assert _flip(tmp_path / "log" / "data.mdb", b"find-me-and-rot") >= 1
    async with await StoreNode.open(tmp_path) as node:
        store = node.client(KINDS)
        for _ in range(2):
            with pytest.raises(CorruptData):
                await store.get("tenant", tenant)


async def test_a_failed_commit_stops_the_store_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await StoreNode.open(tmp_path) as node:
        store = node.client(KINDS)
        tenant = store.new_home()
        await store.transact(tenant, [Create("tenant", tenant, {})])
        calls = []

        def broken(self: LmdbEnvironment, writes: list[Write]) -> None:
            calls.append(len(writes))
            raise StorageError("fsync: input/output error")

        with monkeypatch.context() as faulty:
            faulty.setattr(LmdbEnvironment, "commit", broken)
            with pytest.raises(Unavailable):  # the outcome is unknown
                await store.transact(tenant, [Debit("tenant", tenant, {"vm": 1})])
        for _ in range(3):
            with pytest.raises(StorageError, match="input/output"):
                await store.transact(tenant, [Debit("tenant", tenant, {"vm": 1})])
        assert len(calls) == 1 and node.failed is not None


async def test_a_full_map_grows_and_the_transaction_is_replayed(tmp_path: Path) -> None:
    async with await StoreNode.open(tmp_path, map_bytes=1 << 17) as node:
        store = node.client(KINDS)
        tenant = store.new_home()
        for n in range(60):
            vm = store.new_id(tenant)
            await store.transact(tenant, [Create("vm", vm, {"n": n, "pad": "x" * 20_000})])
    async with await StoreNode.open(tmp_path) as node:
        assert len(await node.client(KINDS).list_all("vm")) == 60


async def test_a_full_disk_refuses_writes_and_serves_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await StoreNode.open(tmp_path) as node:
        store = node.client(KINDS)
        tenant = store.new_home()
        await store.transact(tenant, [Create("tenant", tenant, {})])
        with monkeypatch.context() as full:
            full.setattr(node_module, "STORE_RESERVE_BYTES", 1 << 62)
            with pytest.raises(StoreFull):
                await store.transact(tenant, [Debit("tenant", tenant, {"vm": 1})])
            assert await store.get("tenant", tenant) is not None
        await store.transact(tenant, [Debit("tenant", tenant, {"vm": 1})])


def test_a_row_that_lmdb_would_silently_not_take_is_noticed(tmp_path: Path) -> None:
    environment = LmdbEnvironment(tmp_path)
    with pytest.raises(StorageError):
        environment.commit([Write(b"k" * 600, b"too long a key")])
    environment.commit([Write(b"k", b"v"), Write(b"a", b"before it"), Write(b"none", None)])
    assert [k for k, _ in environment.iterate(b"", b"")] == [b"a", b"k"]
    assert list(environment.iterate(b"k", b"")) == [(b"k", b"v")]
    assert list(environment.iterate(b"", b"k")) == []
    environment.close()
    assert lmdb.version()[0] == 0  # the engine whose files every version of the binding reads


async def test_shards_are_made_when_they_are_used_and_then_cost_nothing(tmp_path: Path) -> None:
    async with await StoreNode.open(tmp_path) as node:
        assert node.shards == 128 and not node._hosted
        store = node.client(KINDS)
        tenant = store.new_home()
        await store.transact(tenant, [Create("tenant", tenant, {})])
        (hosted,) = node._hosted.values()
        assert hosted._machine.leads
        assert list(node.used_shards()) == [int(tenant[:3], 16)]


async def test_a_closed_store_answers_that_it_is_closed(tmp_path: Path) -> None:
    node = await StoreNode.open(tmp_path)
    store = node.client(KINDS)
    tenant = store.new_home()
    await store.transact(tenant, [Create("tenant", tenant, {})])
    waiting = [
        asyncio.create_task(store.transact(tenant, [Debit("tenant", tenant, {"n": 1})]))
        for _ in range(10)
    ]
    await asyncio.sleep(0)
    await node.close()
    await node.close()
    for answer in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(answer, Unavailable)
    with pytest.raises(Unavailable):
        await store.get("tenant", tenant)
    async with await StoreNode.open(tmp_path) as again:
        assert await again.client(KINDS).get("tenant", tenant) is not None
