"""Writes and reads per second of an embedded store, beside a bare LMDB loop with group commit.

    python -m benchmarks.store [--quick] [--dir DIR] [--json]

The bare loop is what nobody can beat from asyncio: tasks put 256 B rows into a list, one thread
commits whatever has come together, the tasks wait for it.  It has no log, no documents beside it,
no transactions, no conditions.  Both run in turns in the same process on the same disk; only the
ratio says something about another machine.  With ``--json`` the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import queue
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import lmdb

from fabric.cloudstore.client import CompareAndSet, Create, Kind, StoreClient
from fabric.cloudstore.storage.node import StoreNode

IN_FLIGHT = (1, 64, 256)
VALUE = "v" * 244  # with its field name and CBOR heads: 256 bytes
KIND = Kind("row")
KEYS = 20_000


class BareLoop:
    """Group commit on one LMDB environment, nothing else."""

    def __init__(self, directory: Path) -> None:
        self._env = lmdb.open(str(directory), map_size=1 << 34, lib_version=0)
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[list[tuple[bytes, asyncio.Future[None]]] | None] = (
            queue.SimpleQueue()
        )
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._busy = self._planned = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._n = 0

    async def write(self) -> None:
        self._n += 1
        key = b"row-%019d" % (self._n * 7919 % KEYS)
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((key, future))
        if not self._busy and not self._planned:
            self._planned = True
            self._loop.call_soon(self._commit)
        await future

    def _commit(self) -> None:
        self._planned = False
        batch, self._waiting = self._waiting, []
        self._busy = True
        self._jobs.put(batch)

    def _run(self) -> None:
        value = VALUE.encode()
        while (batch := self._jobs.get()) is not None:
            with self._env.begin(write=True) as txn:
                for key, _ in batch:
                    txn.put(key, value)
            self._loop.call_soon_threadsafe(self._done, batch)

    def _done(self, batch: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        self._busy = False
        for _, future in batch:
            future.set_result(None)
        if self._waiting:
            self._commit()

    async def close(self) -> None:
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._env.close()


class StoreLoop:
    """Compare-and-set of random documents through the client, spread over eight tenants."""

    def __init__(self, store: StoreClient) -> None:
        self.store = store
        self._rows: list[tuple[str, str]] = []
        self._free: list[tuple[str, str, int]] = []
        self._n = 0

    async def fill(self) -> None:
        homes = [self.store.new_home() for _ in range(8)]
        for start in range(0, KEYS, 32):
            home = homes[start // 32 % 8]
            rows = [self.store.new_id(home) for _ in range(32)]
            body = {"value": VALUE}
            done = await self.store.transact(home, [Create("row", row, body) for row in rows])
            self._free += [(home, row, done.version) for row in rows]
            self._rows += [(home, row) for row in rows]

    async def write(self) -> None:
        self._n += 1
        place = self._n * 7919 % len(self._free)
        home, row, version = self._free[place]
        self._free[place] = self._free[-1]
        self._free.pop()  # nobody else changes it meanwhile
        done = await self.store.transact(
            home, [CompareAndSet("row", row, version, {"value": VALUE})]
        )
        self._free.append((home, row, done.version))

    async def read(self) -> None:
        self._n += 1
        document = await self.store.get("row", self._rows[self._n * 7919 % len(self._rows)][1])
        assert document is not None


async def measure(
    operation: Callable[[], Awaitable[None]], in_flight: int, seconds: float
) -> tuple[float, list[float]]:
    """Return operations per second and the latencies in ms of a closed loop."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def one() -> None:
        while (begin := time.perf_counter()) < end:
            await operation()
            latencies.append((time.perf_counter() - begin) * 1000)

    begin = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(in_flight)))
    return len(latencies) / (time.perf_counter() - begin), latencies


async def run(directory: Path, rounds: int, seconds: float) -> dict[str, float]:
    samples: dict[str, list[float]] = {}
    latencies: dict[str, list[float]] = {}
    async with await StoreNode.open(directory / "store") as node:
        loop = StoreLoop(node.client([KIND]))
        bare = BareLoop(directory / "bare")
        await loop.fill()
        await measure(bare.write, 64, seconds / 2)  # warm up both
        await measure(loop.write, 64, seconds / 2)
        for _ in range(rounds):
            for n in IN_FLIGHT:
                rate, _ = await measure(bare.write, n, seconds)
                samples.setdefault(f"bare_writes_{n}", []).append(rate)
                rate, found = await measure(loop.write, n, seconds)
                samples.setdefault(f"writes_{n}", []).append(rate)
                latencies.setdefault(f"writes_{n}", []).extend(found)
            rate, _ = await measure(loop.read, 64, seconds / 2)
            samples.setdefault("reads_64", []).append(rate)
        await bare.close()
    result = {name: round(statistics.median(rates), 1) for name, rates in samples.items()}
    for n in IN_FLIGHT:
        pairs = zip(samples[f"writes_{n}"], samples[f"bare_writes_{n}"], strict=True)
        result[f"ratio_{n}"] = round(statistics.median(a / b for a, b in pairs), 3)
        cuts = statistics.quantiles(latencies[f"writes_{n}"], n=100)
        result[f"p50_ms_{n}"], result[f"p99_ms_{n}"] = round(cuts[49], 3), round(cuts[98], 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--dir", type=Path, help="where to put the data (default: temporary)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="fabric-store-", dir=options.dir))
    try:
        rounds, seconds = (3, 1.5) if options.quick else (5, 4.0)
        result = asyncio.run(run(directory, rounds, seconds))
    finally:
        shutil.rmtree(directory)
    for n in IN_FLIGHT:
        print(
            f"{n:4} in flight: {result[f'writes_{n}']:9.0f} writes/s,"
            f" p50 {result[f'p50_ms_{n}']:.2f} ms, p99 {result[f'p99_ms_{n}']:.2f} ms;"
            f" bare LMDB loop {result[f'bare_writes_{n}']:9.0f}/s, ratio {result[f'ratio_{n}']:.2f}"
        )
    print(f"  64 in flight: {result['reads_64']:9.0f} linearizable reads/s")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
