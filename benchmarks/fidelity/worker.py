"""One process of the real side: several peers, each with its own sockets and directory.

Talks in JSON lines.  Told on stdin: what to run, then when to begin (``CLOCK_MONOTONIC``, which all
processes of a machine share), then whom to strike.  The end of stdin ends it.  Tells on stdout what
its peers notice, how they settle, and what they counted in the quiet window.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import agent
import fabric
from benchmarks.fidelity.account import Window, asks_itself, settled
from benchmarks.fidelity.plan import LOOK_S, LOOK_UNTIL_S, WINDOW_S, PeerPlan
from benchmarks.workers import parents_lines, say
from fabric.api import Fabric
from fabric.errors import FabricError
from fabric.peer.notices import OwnerNotice, PlaceNotice
from fabric.settings import Settings
from sim.world import DATASTORE_MB


class Worker:
    """The peers of this process."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._plans = [PeerPlan(**plan) for plan in task["peers"]]
        self._settings = Settings(**task["settings"])
        self._directory = Path(task["directory"])
        self._candidates: list[str] = task["candidates"]
        self._running: dict[int, Fabric] = {}
        self._began_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, at_s: float) -> None:
        """Run everything that is planned; the run begins at ``at_s``."""
        self._began_s = at_s
        for plan in self._plans:
            self._spawn(self._start(plan))
        self._spawn(self._look())
        self._spawn(self._count())

    def strike(self, node_id: int) -> None:
        """End a peer without goodbye, in the middle of whatever it does."""
        fab = self._running.pop(node_id)
        say(died=node_id, at=self._now_s)
        self._spawn(fab.close())

    async def end(self) -> None:
        """Stop everything."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*[fab.close() for fab in self._running.values()])

    @property
    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            say(failed=repr(task.exception()))

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(at_s - self._now_s, 0))

    async def _start(self, plan: PeerPlan) -> None:
        address = f"tcp://127.0.0.1:{plan.port}"
        spec = (
            agent.simulated_host(plan.cpu, plan.memory_mb, {"local": DATASTORE_MB})
            if (plan.cpu)
            else None
        )
        fab = fabric.open(
            address,
            join=[] if plan.creates else [a for a in self._candidates if a != address],
            data_dir=self._directory / plan.name,
            host=spec,
            candidate=plan.candidate,
            coordinator=self._directory / "coordinator" if plan.candidate else None,
            node_id=plan.node_id,
            settings=self._settings,
        )
        await self._until(plan.at_s)
        await fab.__aenter__()
        self._spawn(self._watch(plan.node_id, fab))
        self._running[plan.node_id] = fab

    async def _watch(self, node_id: int, fab: Fabric) -> None:
        async for notice in fab.notices():
            if isinstance(notice, PlaceNotice):
                say(node=node_id, leaf=notice.path[0])
            elif isinstance(notice, OwnerNotice) and notice.owns:
                say(node=node_id, cell=notice.cell, term=notice.term, at=self._now_s)

    async def _look(self) -> None:
        """Ask each peer how it is, and tell when that has changed."""
        told: dict[int, tuple[bool, int]] = {}
        number = 0
        while self._now_s < LOOK_UNTIL_S:
            number += 1
            await self._until(number * LOOK_S)
            for node_id, fab in tuple(self._running.items()):
                with contextlib.suppress(FabricError):
                    state = settled(await fab.status())
                    if told.get(node_id) != state:
                        told[node_id] = state
                        say(node=node_id, ready=state[0], counted=state[1], at=self._now_s)

    async def _count(self) -> None:
        await self._until(WINDOW_S[0] - 1)
        for fab in self._running.values():
            for cell in (await fab.status()).owns:
                say(itself=asks_itself(fab.contact, (await fab.cell(cell)).record))
        await self._until(WINDOW_S[0])
        before = self._read()
        await self._until(WINDOW_S[1])
        window = self._read().since(before)
        say(
            sent=window.sent, received=window.received, bytes=window.bytes,
            cpu_s=window.cpu_s, dropped=window.dropped,
        )  # fmt: skip

    def _read(self) -> Window:
        window = Window(cpu_s=time.process_time())
        for fab in self._running.values():
            counters = fab.counters
            window.sent.update({c.__name__: n for c, n in counters.sent.items()})
            window.received.update({c.__name__: n for c, n in counters.received.items()})
            window.bytes += counters["sent_bytes"]
            window.dropped += sum(n for c, n in counters.counts.items() if c.startswith("dropped"))
        return window


async def main() -> None:
    """Do what stdin says until it ends."""
    words = await parents_lines()
    worker = Worker(json.loads(await words.readline()))
    say(here=True)
    try:
        while line := await words.readline():
            told = json.loads(line)
            if "begin" in told:
                worker.begin(told["begin"])
            else:
                worker.strike(told["strike"])
    finally:
        await worker.end()


if __name__ == "__main__":
    asyncio.run(main())
