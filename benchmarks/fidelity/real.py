"""The scenario over ZeroMQ: starts the processes, listens to them, strikes owners."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.fidelity.account import Account, Window
from benchmarks.fidelity.plan import (
    CANDIDATES,
    END_S,
    FIRST_KILL_S,
    KILL_STEP_S,
    KILLS,
    PEERS,
    WINDOW_S,
    PeerPlan,
    peers,
    scenario,
)
from benchmarks.workers import known_ports
from sim.world import SimWorld

PROCESSES: Final = 4
#: Processes have this long to import everything, and to stop.
_START_S: Final = 60.0
_STOP_S: Final = 20.0


def run(seed: int) -> Account:
    """Run the scenario of ``seed`` and return what was seen."""
    with tempfile.TemporaryDirectory(prefix="fabric-fidelity-") as directory:
        return asyncio.run(_Run(seed, directory).go())


class _Run:
    def __init__(self, seed: int, directory: str) -> None:
        world = SimWorld(scenario(seed))
        self.account = Account(PEERS, PEERS - CANDIDATES)
        self._settings = dataclasses.asdict(world.settings)
        self._plans = _with_ports(peers(world))
        self._directory = directory
        self._home: dict[int, asyncio.subprocess.Process] = {}
        self._windows = 0
        self._failure: str | None = None

    async def go(self) -> Account:
        """Run to the end; raises ``RuntimeError`` if a process fails."""
        async with contextlib.AsyncExitStack() as stack:
            workers = [await self._spawn(number, stack) for number in range(PROCESSES)]
            listening = [asyncio.ensure_future(self._listen(worker)) for worker in workers]
            began_s = time.monotonic() + 0.5
            for worker in workers:
                _tell(worker, begin=began_s)
            await _until(began_s + WINDOW_S[1] + 1)
            self.account.quiet()
            for number in range(KILLS):
                await _until(began_s + FIRST_KILL_S + number * KILL_STEP_S)
                target = self.account.target()
                if target is not None:
                    _tell(self._home[target], strike=target)
            await _until(began_s + END_S)
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.close()
            async with asyncio.timeout(_STOP_S):
                await asyncio.gather(*listening)
        if self._failure is not None or self._windows != PROCESSES:
            raise RuntimeError(self._failure or "a process ended early; see its stderr above")
        return self.account

    async def _spawn(
        self, number: int, stack: contextlib.AsyncExitStack
    ) -> asyncio.subprocess.Process:
        mine = self._plans[number::PROCESSES]
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.fidelity.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        stack.callback(_kill, worker)
        self._home.update(dict.fromkeys([plan.node_id for plan in mine], worker))
        _tell(
            worker,
            peers=[plan.as_dict() for plan in mine],
            settings=self._settings,
            directory=self._directory,
            candidates=[f"tcp://127.0.0.1:{plan.port}" for plan in self._plans if plan.candidate],
        )
        assert worker.stdout is not None
        async with asyncio.timeout(_START_S):
            await worker.stdout.readline()
        return worker

    async def _listen(self, worker: asyncio.subprocess.Process) -> None:
        assert worker.stdout is not None
        while line := await worker.stdout.readline():
            self._take(json.loads(line))
        await worker.wait()

    def _take(self, said: dict[str, Any]) -> None:
        account = self.account
        if "ready" in said:
            account.state(said["at"], said["node"], said["ready"], said["counted"])
        elif "leaf" in said:
            account.placed(said["node"], said["leaf"])
        elif "term" in said:
            account.owned(said["at"], said["node"], said["cell"], said["term"])
        elif "died" in said:
            account.died(said["at"], said["died"])
        elif "itself" in said:
            account.owned_cell(said["itself"])
        elif "failed" in said:
            self._failure = said["failed"]
        else:
            self._windows += 1
            account.window.add(
                Window(
                    Counter(said["sent"]), Counter(said["received"]),
                    said["bytes"], said["cpu_s"], said["dropped"],
                )
            )  # fmt: skip


def _with_ports(plans: Sequence[PeerPlan]) -> list[PeerPlan]:
    """Give the candidates ports: everybody joins through them, so they must be known before."""
    ports = known_ports(CANDIDATES)
    return [
        dataclasses.replace(plan, port=ports.pop()) if plan.candidate else plan for plan in plans
    ]


def _tell(worker: asyncio.subprocess.Process, **words: Any) -> None:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(words).encode() + b"\n")


def _kill(worker: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.kill()


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(at_s - time.monotonic(), 0))
