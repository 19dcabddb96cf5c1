"""The same with Serf's agents: joining, idle traffic, memory, crashes.

What an agent knows is read from its log (``EventMemberJoin``, ``EventMemberFailed``), so asking
costs it nothing; what it sent over UDP it tells of itself on SIGUSR1 (its metrics, by intervals of
ten seconds).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.membership.fabric_side import note
from benchmarks.membership.plan import Plan

_FORM_WITHIN_S: Final = 300.0
_KNOWN_WITHIN_S: Final = 60.0
_INTERVAL_S: Final = 10.0
_EVENT: Final = re.compile(r"serf: EventMember(Join|Failed): n(\d+) ")
_SENT: Final = re.compile(r"^\[(.+?)\]\[C\] 'serf-agent\.memberlist\.udp\.sent': .* Sum: ([\d.]+)")


@dataclass
class SerfFigures:
    """What was measured. Times in seconds."""

    version: str = ""
    join_storm_s: float = 0.0
    bytes_per_s: float = 0.0
    memory_mb: float = 0.0
    killed_s: list[float] = field(default_factory=list)
    healthy_failed: int = 0


class SerfSide:
    """One run of ``plan``. Raises ``RuntimeError`` when a step does not come to its end."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.figures = SerfFigures()
        self._agents: dict[int, asyncio.subprocess.Process] = {}
        self._knows: dict[int, set[int]] = {}
        self._failed: dict[int, dict[int, float]] = {}
        self._sent: dict[int, dict[str, float]] = {}
        self._changed = asyncio.Event()

    async def run(self) -> SerfFigures:
        """Run everything, and leave no agent behind."""
        version = subprocess.run(["serf", "version"], capture_output=True, text=True, check=True)
        self.figures.version = version.stdout.splitlines()[0]
        reading: list[asyncio.Task[None]] = []
        try:
            await self._form(reading)
            await self._idle()
            for victim in range(self._plan.serf_agents, 1, -1)[: self._plan.serf_kills]:
                await self._fell(victim)
            gone = set(range(self._plan.serf_agents, 0, -1)[: self._plan.serf_kills])
            self.figures.healthy_failed = sum(node not in gone for node in self._failed)
        finally:
            for agent in self._agents.values():
                with contextlib.suppress(ProcessLookupError):
                    agent.kill()
            await asyncio.gather(*reading, return_exceptions=True)
        return self.figures

    async def _form(self, reading: list[asyncio.Task[None]]) -> None:
        count = self._plan.serf_agents
        with contextlib.ExitStack() as stack:
            ports = [_free_port(stack) for _ in range(2 * count)]
        first = f"127.0.0.1:{ports[0]}"
        began_s = time.monotonic()
        for node in range(1, count + 1):
            bind, rpc = ports[2 * node - 2], ports[2 * node - 1]
            join = [] if node == 1 else ["-retry-join", first, "-retry-interval", "1s"]
            agent = await asyncio.create_subprocess_exec(
                "serf", "agent", "-node", f"n{node}", "-bind", f"127.0.0.1:{bind}",
                "-rpc-addr", f"127.0.0.1:{rpc}", "-profile", "lan", *join,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            self._agents[node] = agent
            self._knows[node] = set()
            self._sent[node] = {}
            reading.append(asyncio.ensure_future(self._read(node, agent)))
        await self._until(
            lambda: all(len(known) == count for known in self._knows.values()), _FORM_WITHIN_S
        )
        self.figures.join_storm_s = time.monotonic() - began_s
        note(f"serf: {count} agents know each other after {self.figures.join_storm_s:.2f} s")

    async def _idle(self) -> None:
        await asyncio.sleep(self._plan.idle_s / 2)
        await asyncio.sleep(self._plan.idle_s + 2 * _INTERVAL_S)
        for agent in self._agents.values():
            agent.send_signal(signal.SIGUSR1)
        await self._until(lambda: all(self._sent.values()), _KNOWN_WITHIN_S)
        await asyncio.sleep(1.0)  # a log is written in many pieces
        rates = []
        for sent in self._sent.values():
            whole = sorted(sent)[-1 - round(self._plan.idle_s / _INTERVAL_S) : -1]
            rates.append(sum(sent[at] for at in whole) / (_INTERVAL_S * max(len(whole), 1)))
        self.figures.bytes_per_s = sum(rates) / len(rates)
        memory = [_memory_mb(agent.pid) for agent in self._agents.values()]
        self.figures.memory_mb = sum(memory) / len(memory)
        note(f"serf: idle, {self.figures.bytes_per_s:.0f} bytes/s of UDP an agent")

    async def _fell(self, victim: int) -> None:
        agent = self._agents.pop(victim)
        self._knows.pop(victim)
        self._failed.setdefault(victim, {})
        began_s = time.monotonic()
        agent.kill()
        await self._until(
            lambda: all(node in self._failed[victim] for node in self._agents), _KNOWN_WITHIN_S
        )
        known_s = max(self._failed[victim].values()) - began_s
        self.figures.killed_s.append(known_s)
        note(f"serf: a crash known to all after {known_s:.2f} s")

    async def _read(self, node: int, agent: asyncio.subprocess.Process) -> None:
        assert agent.stdout is not None
        while line := await agent.stdout.readline():
            text = line.decode(errors="replace")
            if event := _EVENT.search(text):
                about = int(event[2])
                if event[1] == "Join":
                    self._knows.setdefault(node, set()).add(about)
                else:
                    self._failed.setdefault(about, {})[node] = time.monotonic()
                self._changed.set()
            elif sent := _SENT.match(text):
                self._sent[node][sent[1]] = float(sent[2])
                self._changed.set()
        await agent.wait()

    async def _until(self, holds: Callable[[], bool], within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise RuntimeError(f"serf: not complete within {within_s:.0f} s") from None


def available() -> bool:
    """Tell whether Serf is installed (Debian's package ``serf``)."""
    return shutil.which("serf") is not None


def _free_port(stack: contextlib.ExitStack) -> int:
    """Return a port that is free for TCP and UDP, held until ``stack`` is closed."""
    while True:
        tcp, udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        try:
            udp.bind(("127.0.0.1", port))
        except OSError:
            tcp.close()
            continue
        finally:
            stack.callback(udp.close)
        stack.callback(tcp.close)
        return port


def _memory_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0
