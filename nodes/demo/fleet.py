"""The demo's child processes: start, kill, start again, and leave none behind.

Each child runs in a process group of its own, so that Ctrl-C in the terminal reaches the demo
alone, which then ends its children itself: by pid, and only those it started.  A child's stdout is
read line by line (``fabric peer --json`` tells on its first line who it is); its stderr goes to a
file in the demo's temporary directory, whose last lines are shown when the child dies unasked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fabric.errors import CheckFailed

#: Importing and binding on two busy cores; a child silent for longer is broken.
_READY_S: Final = 60.0
#: How long children may take to leave before they are killed.
_LEAVE_S: Final = 5.0
#: A killed process is gone at once; the kernel may take a moment to free a large one.
_REAP_S: Final = 20.0
#: One line of a child's stdout: the JSON result of a simulation is a few KB.
_MAX_LINE: Final = 1 << 20


@dataclass(slots=True)
class Child:
    """One process of the demo. ``said`` is the JSON object of its first line."""

    name: str
    words: tuple[str, ...]
    errors: Path
    process: subprocess.Popen[bytes] | None = None
    stdout: asyncio.StreamReader | None = None
    said: dict[str, Any] = field(default_factory=dict)
    drain: asyncio.Task[None] | None = None
    expected_to_die: bool = False

    @property
    def pid(self) -> int:
        """The process id, 0 if it never started."""
        return self.process.pid if self.process else 0

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone, if it still runs."""
        if self.process is not None:
            self.process.send_signal(number)  # Popen knows whether the pid is still the child's

    def stderr(self) -> str:
        """Return what it wrote to stderr, in all its lives."""
        try:
            return self.errors.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def last_words(self) -> str:
        """Return the end of what it wrote to stderr."""
        return " | ".join(self.stderr().strip().splitlines()[-3:])

    async def ended(self) -> int:
        """Wait until the process is gone; return its exit code.

        Its stdout ends when it does, so no thread and no signal handler is needed to wait.
        """
        if self.process is None:
            return 0
        if self.drain is not None:
            await self.drain
        elif self.stdout is not None:
            await _drain(self.stdout)
        return self.process.wait(_REAP_S)


class Fleet:
    """All children. Use as an async context manager; on leaving it, none is left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.children: dict[str, Child] = {}

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            await self._leave()
        self.kill_all()

    async def start(self, name: str, words: Sequence[str]) -> Child:
        """Start ``fabric WORDS`` as a process of its own and return at once."""
        child = Child(name, tuple(words), self.directory / f"{name}.err")
        self.children[name] = child
        await self._spawn(child)
        return child

    async def restart(self, name: str, more: Sequence[str] = ()) -> Child:
        """Start a child that died again, on its own directory: the same words, and ``more``."""
        child = self.children[name]
        await child.ended()
        child.words = (*child.words, *more)
        child.said, child.drain, child.expected_to_die = {}, None, False
        await self._spawn(child)
        return child

    async def _spawn(self, child: Child) -> None:
        with child.errors.open("ab") as errors:
            child.process = subprocess.Popen(
                [sys.executable, "-m", "nodes", *child.words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True, env=_environment(),
            )
        loop = asyncio.get_running_loop()
        child.stdout = asyncio.StreamReader(limit=_MAX_LINE)
        protocol = asyncio.StreamReaderProtocol(child.stdout)
        await loop.connect_read_pipe(lambda: protocol, child.process.stdout)

    async def ready(self, child: Child) -> dict[str, Any]:
        """Wait for the line on which the child tells who it is, then keep draining its stdout."""
        assert child.stdout is not None
        try:
            line = await asyncio.wait_for(child.stdout.readline(), _READY_S)
            child.said = json.loads(line)
            if child.said.get("event") != "ready":
                raise ValueError("its first line tells of something else")
        except (TimeoutError, ValueError) as error:
            child.signal(signal.SIGKILL)
            await child.ended()
            reason = child.last_words() or f"{type(error).__name__}, and it wrote nothing"
            raise CheckFailed(
                f"{child.name} did not start: {reason}", {"child": child.name}
            ) from None
        child.drain = asyncio.create_task(_drain(child.stdout))
        return child.said

    def strike(self, name: str) -> None:
        """SIGKILL: no farewell, no flush."""
        child = self.children[name]
        child.expected_to_die = True
        child.signal(signal.SIGKILL)

    def troubles(self) -> list[str]:
        """What children said or did that nobody asked for: deaths, and tracebacks on stderr."""
        found = []
        for child in self.children.values():
            if not child.running and not child.expected_to_die:
                found.append(f"{child.name} died: {child.last_words()}")
            elif "Traceback (most recent call last)" in child.stderr():
                found.append(f"{child.name} logged an error: {child.last_words()}")
        return found

    def kill_all(self) -> None:
        """Kill what is left and reap it. Needs no event loop; may be called any number of times."""
        for child in self.children.values():
            child.expected_to_die = True
            child.signal(signal.SIGKILL)
        for child in self.children.values():
            if child.process is not None:
                child.process.wait(_REAP_S)

    async def _leave(self) -> None:
        """Ask all to leave; whoever takes too long is killed by the caller."""
        for child in self.children.values():
            child.expected_to_die = True
            child.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await asyncio.gather(*(child.ended() for child in self.children.values()))


async def _drain(stream: asyncio.StreamReader) -> None:
    """Read on, so that the child never blocks on a full pipe."""
    while await stream.read(_MAX_LINE):
        pass


def _environment() -> dict[str, str]:
    """The children's environment: ours without FABRIC_* (they get flags), one thread per library.

    The package that runs the demo is the one that the children import, wherever it lies.
    """
    root = str(Path(__file__).resolve().parents[2])
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FABRIC_")}
    paths = [root, *filter(None, [kept.get("PYTHONPATH", "")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
