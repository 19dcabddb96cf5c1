"""One process of the fabric: one peer or several, each with its own sockets.

Told on stdin: what to run; then ``begin``, ``watch`` (tell when the members of a cell know that a
node is gone), ``count``, ``strike`` (end a peer without goodbye), ``gate`` (the coordinator answers
no longer, or again).  Tells on stdout what its peers notice and count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import agent
import fabric
from benchmarks.membership.plan import HOST_CPU, HOST_MEMORY_MB
from benchmarks.workers import parents_lines, say
from fabric.api import Fabric
from fabric.coordination.embedded import EmbeddedCoordinator
from fabric.coordination.interface import (
    CoordinatorAnswer,
    CoordinatorNews,
    CoordinatorRequest,
    Lost,
)
from fabric.errors import FabricError
from fabric.peer.notices import MemberNotice, OwnerNotice, PlaceNotice
from fabric.wire.gossip import DEAD

#: How often what has no notice is looked at.
_LOOK_S: Final = 0.05


class GatedCoordinator:
    """The embedded coordinator behind a gate: shut, it is a coordinator out of reach."""

    def __init__(self, directory: Path) -> None:
        self._behind = EmbeddedCoordinator(directory)
        self.shut = False

    def listen(self, tell: Callable[[CoordinatorNews], None]) -> None:
        """A gate has no news."""

    async def ask(self, request: CoordinatorRequest) -> CoordinatorAnswer:
        """Pass the request on, or lose it."""
        return Lost("shut") if self.shut else await self._behind.ask(request)

    async def close(self) -> None:
        """Close what is behind the gate."""
        await self._behind.close()


class Peers:
    """The peers of this process."""

    def __init__(self, task: dict[str, Any]) -> None:
        self._plans: list[dict[str, Any]] = task["peers"]
        self._directory = Path(task["directory"])
        self._candidates: list[str] = task["candidates"]
        self._running: dict[int, Fabric] = {}
        self._gates: list[GatedCoordinator] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._memory_before_mb = 0.0

    async def obey(self, told: dict[str, Any]) -> None:
        """Do what one line says."""
        if "begin" in told:
            self._memory_before_mb = _memory_mb()
            for plan in self._plans:
                self._spawn(self._run(plan))
        elif "watch" in told:
            for node_id, fab in self._running.items():
                if node_id != told["watch"]:
                    self._spawn(self._tell_when_known(fab, told["cell"], told["watch"]))
        elif "strike" in told:
            await self._running.pop(told["strike"]).close()
        elif "gate" in told:
            for gate in self._gates:
                gate.shut = told["gate"]
        elif "count" in told:
            sent = {node: fab.counters["sent_bytes"] for node, fab in self._running.items()}
            grown_mb = _memory_mb() - self._memory_before_mb
            say(counted=sent, at=time.monotonic(), cpu_s=time.process_time(), grown_mb=grown_mb)

    async def end(self) -> None:
        """Stop everything."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*[fab.close() for fab in self._running.values()])

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            say(failed=repr(task.exception()))

    async def _run(self, plan: dict[str, Any]) -> None:
        address = f"tcp://127.0.0.1:{plan['port']}"
        gate = None
        if plan["candidate"]:
            gate = GatedCoordinator(self._directory / "coordinator")
            self._gates.append(gate)
        fab = fabric.open(
            address,
            join=[] if plan["creates"] else [a for a in self._candidates if a != address],
            host=None if gate else agent.simulated_host(HOST_CPU, HOST_MEMORY_MB),
            candidate=gate is not None,
            coordinator=gate,
            node_id=plan["node_id"],
        )
        await fab.__aenter__()
        self._running[plan["node_id"]] = fab
        say(node=plan["node_id"], address=fab.contact.address)
        self._spawn(self._settle(fab, plan["node_id"]))
        async for notice in fab.notices():
            if isinstance(notice, PlaceNotice):
                say(node=plan["node_id"], leaf=notice.path[0])
            elif isinstance(notice, OwnerNotice):
                say(node=plan["node_id"], owns=notice.owns, cell=notice.cell)
            elif isinstance(notice, MemberNotice) and notice.state == DEAD:
                say(died=notice.contact.node_id, by=plan["node_id"], at=time.monotonic())

    async def _settle(self, fab: Fabric, node_id: int) -> None:
        while True:
            with contextlib.suppress(FabricError):
                status = await fab.status()
                if status.complete and len(status.owners) == len(status.path):
                    say(node=node_id, settled=time.monotonic(), depth=len(status.path))
                    return
            await asyncio.sleep(2 * _LOOK_S)

    async def _tell_when_known(self, fab: Fabric, cell: int, victim: int) -> None:
        while True:
            read = await fab.cell()
            if read.record.cell != cell:
                return
            if all(row.key != victim or row.state >= DEAD for row in read.rows):
                say(node=fab.contact.node_id, knows=victim, at=time.monotonic())
                return
            await asyncio.sleep(_LOOK_S)


def _memory_mb() -> float:
    """Return this process's resident memory now."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


async def main() -> None:
    """Do what stdin says until it ends."""
    lines = await parents_lines()
    peers = Peers(json.loads(await lines.readline()))
    say(here=True)
    try:
        while line := await lines.readline():
            await peers.obey(json.loads(line))
    finally:
        await peers.end()


if __name__ == "__main__":
    asyncio.run(main())
