"""Processes of a benchmark that the parent talks to in JSON lines, over their stdin and stdout.

The end of its stdin ends a worker, so no worker outlives its parent; ``Workers`` kills what is left
when it is closed.  Both sides share ``CLOCK_MONOTONIC``, as all processes of a machine do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

#: Processes have this long to import everything, and to stop.
START_WITHIN_S: Final = 120.0
_STOP_WITHIN_S: Final = 20.0
_MAX_LINE: Final = 1 << 22


class Worker:
    """One process, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        #: What its first line said.
        self.first: dict[str, Any] = {}

    def tell(self, **words: Any) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that is gone already is left alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    async def hear(self, take: Callable[[Worker, dict[str, Any]], None]) -> None:
        """Pass every line on to ``take``, until the process ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            take(self, json.loads(line))
        await self._process.wait()

    async def end(self) -> None:
        """Ask it to end; one that does not (it may be stopped) is killed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    async def ended(self) -> None:
        """Wait until it is no more."""
        await self._process.wait()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def read_first(self) -> None:
        """Wait for its first line; raises ``RuntimeError`` when it ends instead."""
        assert self._process.stdout is not None
        async with asyncio.timeout(START_WITHIN_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process ended before it was ready; see its stderr above")
        self.first = json.loads(line)


class Workers:
    """All processes of a run. To be used with ``async with``."""

    def __init__(self, module: str, take: Callable[[Worker, dict[str, Any]], None]) -> None:
        self._module = module
        self._take = take
        self._hearing: set[asyncio.Task[None]] = set()
        self.all: list[Worker] = []
        #: The first failure of any task that reads a worker.
        self.failure: BaseException | None = None

    async def __aenter__(self) -> Workers:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                await asyncio.gather(*[worker.end() for worker in self.all])
        finally:
            for worker in self.all:
                worker.kill()
            await asyncio.gather(*[worker.ended() for worker in self.all])
            for task in tuple(self._hearing):
                task.cancel()
            await asyncio.gather(*self._hearing, return_exceptions=True)

    async def start(self, task: dict[str, Any]) -> Worker:
        """Start a process, give it its task, and wait until it says that it is ready."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, limit=_MAX_LINE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        worker = Worker(process)
        self.all.append(worker)
        worker.tell(**task)
        await worker.read_first()
        hearing = asyncio.ensure_future(worker.hear(self._take))
        self._hearing.add(hearing)
        hearing.add_done_callback(self._heard)
        return worker

    def _heard(self, task: asyncio.Task[None]) -> None:
        self._hearing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = self.failure or task.exception()


def known_ports(count: int) -> list[int]:
    """Return free ports for those whose addresses others must know before they listen.

    They are below those that the kernel gives to the others, who bind in the meantime.
    """
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            held = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                held.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
                ports.append(held.getsockname()[1])
    return ports


def say(**words: Any) -> None:
    """In a worker: tell the parent one thing."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def parents_lines() -> asyncio.StreamReader:
    """In a worker: what the parent tells, line by line."""
    lines = asyncio.StreamReader(limit=_MAX_LINE)
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return lines
