"""The run over ZeroMQ, and what was seen of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fabric
from benchmarks.membership.plan import CANDIDATES, Plan
from benchmarks.workers import Worker, Workers, known_ports
from fabric.client import Client
from fabric.errors import FabricError
from fabric.ids import format_id
from fabric.placement.request import Constraint, PlacementRequest
from fabric.survey import owner_of
from fabric.wire.peer import Status, StatusAsk

_LOOK_S: Final = 0.05
#: What takes longer than this has failed.
_FORM_WITHIN_S: Final = 120.0
_KNOWN_WITHIN_S: Final = 60.0
_BACK_WITHIN_S: Final = 150.0
#: A placement that waits for an owner is given up, and tried again, after so long.
_PLACE_WITHIN_S: Final = 1.0
_MAX_CANDIDATE_HOSTS: Final = 16


def note(text: str) -> None:
    """Tell the reader how far the run is."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class Figures:
    """What was measured. Times in seconds."""

    start_s: float = 0.0
    join_storm_s: float = 0.0
    depth: int = 0
    bytes_per_s: list[float] = field(default_factory=list)
    cpu_share: float = 0.0
    grown_mb: list[float] = field(default_factory=list)
    healthy_failed: int = 0
    healthy_failed_by_thawed: int = 0
    frozen_failed: int = 0
    frozen_back_s: float = 0.0
    killed_s: list[float] = field(default_factory=list)
    cut_off_s: list[float] = field(default_factory=list)
    takeover_s: list[float] = field(default_factory=list)
    takeover_alone_s: list[float] = field(default_factory=list)


class FabricSide:
    """One run of ``plan`` in ``directory``."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan = plan
        self._directory = directory
        self.figures = Figures()
        self._workers = Workers("benchmarks.membership.worker", self._take)
        self._home: dict[int, Worker] = {}
        self._alone: list[int] = []
        self._address: dict[int, str] = {}
        self._leaf: dict[int, int] = {}
        self._depth: dict[int, int] = {}
        self._owner: dict[int, int] = {}  # cell -> the node that said last that it owns it
        self._settled: dict[int, float] = {}
        self._knows: dict[int, dict[int, float]] = {}  # victim -> who knows, since when
        self._died: set[int] = set()
        self._gone: set[int] = set()
        self._counts: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    async def run(self) -> Figures:
        """Run everything; raises ``RuntimeError`` when a step does not come to its end."""
        async with self._workers:
            await self._form()
            await self._idle()
            await self._freeze()
            victims = self._alone[::-1]
            for number in range(self._plan.kills):
                await self._fell(victims.pop(), signal.SIGKILL, number)
            for number in range(self._plan.cutoffs):
                await self._fell(victims.pop(), signal.SIGSTOP, number)
            await self._take_over()
        return self.figures

    # --- the steps --------------------------------------------------------------------------------

    async def _form(self) -> None:
        began_s = time.monotonic()
        groups, candidates = self._groups()
        for group in groups:
            task = {"peers": group, "directory": str(self._directory), "candidates": candidates}
            worker = await self._workers.start(task)
            self._home.update((peer["node_id"], worker) for peer in group)
        begun_s = time.monotonic()
        self.figures.start_s = begun_s - began_s
        note(f"{self._plan.peers} peers in {len(groups)} processes, imported; they join")
        for worker in self._workers.all:
            worker.tell(begin=True)
        await self._until(
            lambda: len(self._settled) == self._plan.peers, _FORM_WITHIN_S, "the tree"
        )
        counted_s = await self._until_root_counts(self._hosts, _FORM_WITHIN_S)
        self.figures.join_storm_s = max(*self._settled.values(), counted_s) - begun_s
        self.figures.depth = max(self._depth.values())
        note(f"formed {self.figures.join_storm_s:.2f} s after that, depth {self.figures.depth}")

    async def _idle(self) -> None:
        await asyncio.sleep(self._plan.idle_s / 2)  # formation's news have died away by then
        before = await self._count()
        await asyncio.sleep(self._plan.idle_s)
        after = await self._count()
        for worker in self._workers.all:
            first, last = before[worker], after[worker]
            lasted_s = last["at"] - first["at"]
            self.figures.cpu_share += (last["cpu_s"] - first["cpu_s"]) / lasted_s
            for node, sent in last["counted"].items():
                self.figures.bytes_per_s.append((sent - first["counted"][node]) / lasted_s)
            if all(int(node) in self._alone for node in last["counted"]):
                self.figures.grown_mb.append(last["grown_mb"])
        note(f"idle: {_mean(self.figures.bytes_per_s):.0f} bytes/s of a peer")

    async def _freeze(self) -> None:
        frozen = self._alone
        for node in frozen:
            self._signal(node, signal.SIGSTOP)
        await asyncio.sleep(self._plan.frozen_s)
        for node in frozen:
            self._signal(node, signal.SIGCONT)
        thawed_s = time.monotonic()
        self.figures.frozen_back_s = (
            await self._until_root_counts(self._hosts, _BACK_WITHIN_S) - thawed_s
        )
        self.figures.frozen_failed = len(self._died)
        note(
            f"frozen: {len(frozen)} for {self._plan.frozen_s:.0f} s, {self.figures.frozen_failed} "
            f"found dead, {self.figures.healthy_failed} healthy ones; all back after "
            f"{self.figures.frozen_back_s:.1f} s"
        )
        await asyncio.sleep(self._plan.idle_s / 2)

    async def _fell(self, victim: int, how: signal.Signals, number: int) -> None:
        cell = self._leaf[victim]
        witnesses = [
            node for node, leaf in self._leaf.items()
            if leaf == cell and node != victim and node not in self._gone
        ]  # fmt: skip
        self._knows[victim] = {}
        for worker in dict.fromkeys(self._home[node] for node in witnesses):
            worker.tell(watch=victim, cell=cell)
        began_s = time.monotonic()
        self._signal(victim, how)
        self._gone.add(victim)
        counting = asyncio.ensure_future(self._until_root_counts(self._hosts, _KNOWN_WITHIN_S))
        try:
            await self._until(
                lambda: all(node in self._knows[victim] for node in witnesses),
                _KNOWN_WITHIN_S, "a death",
            )  # fmt: skip
            known_s = max(*self._knows[victim].values(), await counting) - began_s
        finally:
            counting.cancel()
        killed = how == signal.SIGKILL
        (self.figures.killed_s if killed else self.figures.cut_off_s).append(known_s)
        note(f"{'killed' if killed else 'cut off'} {number + 1}: known after {known_s:.2f} s")
        self._home[victim].kill()
        # at another moment of the probe rounds, and when the tree is at rest again
        await asyncio.sleep(2.0 + 0.37 * (number % 3))

    async def _take_over(self) -> None:
        alone = False
        for number in range(self._plan.takeovers):
            if number == self._plan.takeovers // 2:
                alone = True
                self._gate(True)
                note("the coordinator answers no longer")
            cells = sorted({leaf for node, leaf in self._leaf.items() if node not in self._gone})
            struck = [cell for cell in cells if self._may_strike(cell)]
            if not struck:
                break
            took_s = await self._strike(struck[number % len(struck)])
            (self.figures.takeover_alone_s if alone else self.figures.takeover_s).append(took_s)
            note(f"takeover {number + 1}: placements succeed after {took_s:.2f} s")
            await asyncio.sleep(4.0 + 0.37 * (number % 3))
        self._gate(False)

    def _may_strike(self, cell: int) -> bool:
        owner = self._owner.get(cell)
        if owner is None or owner in self._gone or owner in self._alone:
            return False
        return sum(1 for node in self._living_hosts() if self._leaf[node] == cell) > CANDIDATES + 1

    async def _strike(self, cell: int) -> float:
        owner = self._owner[cell]
        self._gone.add(owner)
        hosts = [format_id(n) for n in self._living_hosts() if self._leaf[n] == cell]
        entry = next(
            n for n in self._living_hosts() if self._leaf[n] != cell and n not in self._alone
        )
        only = (Constraint("host", tuple(hosts[:_MAX_CANDIDATE_HOSTS])),)
        async with fabric.connect(self._address[entry]) as client:
            await self._placed(client, only, f"{cell}-{owner}-before")
            self._home[owner].tell(strike=owner)
            began_s = time.monotonic()
            await self._placed(client, only, f"{cell}-{owner}-after")
            return time.monotonic() - began_s

    @staticmethod
    async def _placed(client: Client, only: tuple[Constraint, ...], key: str) -> None:
        """Return once a placement was made. Each try is a request of its own."""
        ends_s = time.monotonic() + _KNOWN_WITHIN_S
        for number in itertools.count():
            request = PlacementRequest(f"{key}-{number}", "vm", 1, 64, constraints=only)
            try:
                placed = await client.place(request, _PLACE_WITHIN_S)
            except FabricError as error:
                if time.monotonic() > ends_s:
                    raise RuntimeError(f"no placement into the cell of {key}") from error
                await asyncio.sleep(_LOOK_S)
            else:
                with contextlib.suppress(FabricError):
                    await client.release(placed)  # or it expires
                return

    # --- what peers say ---------------------------------------------------------------------------

    def _take(self, worker: Worker, said: dict[str, Any]) -> None:
        node = said.get("node", 0)
        if "leaf" in said:
            self._leaf[node] = said["leaf"]
        elif "owns" in said:
            if said["owns"]:
                self._owner[said["cell"]] = node
        elif "address" in said:
            self._address[node] = said["address"]
        elif "settled" in said:
            self._settled[node] = said["settled"]
            self._depth[node] = said["depth"]
        elif "knows" in said:
            self._knows[said["knows"]][node] = said["at"]
        elif "died" in said:
            self._took_for_dead(said["died"], said["by"])
        elif "counted" in said:
            self._counts.append({"worker": worker, **said})
        else:
            raise RuntimeError(said["failed"])
        self._changed.set()

    def _took_for_dead(self, node: int, by: int) -> None:
        """Somebody finds ``node`` dead. What peers say that were stopped themselves counts apart:

        to them the others fell silent, and those that removed them do not answer.
        """
        if node in self._gone or node in self._alone:
            self._died.add(node)
        elif by in self._alone:
            self.figures.healthy_failed_by_thawed += 1
        else:
            self.figures.healthy_failed += 1

    # --- asking and waiting -----------------------------------------------------------------------

    async def _until(self, holds: Callable[[], bool], within_s: float, what: str) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    if self._workers.failure is not None:
                        raise RuntimeError("a worker failed") from self._workers.failure
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise RuntimeError(f"{what}: not complete within {within_s:.0f} s") from None

    async def _until_root_counts(self, hosts: Callable[[], int], within_s: float) -> float:
        """Return when the root's owner counted ``hosts()``, no more and no less."""
        ends_s = time.monotonic() + within_s
        counted = None
        async with fabric.connect(self._address[self._candidate]) as client:
            while time.monotonic() < ends_s:
                with contextlib.suppress(FabricError):
                    status = await client.status(1.0)
                    counted = await self._root_counts(client, status)
                    if counted == hosts():
                        return time.monotonic()
                await asyncio.sleep(_LOOK_S)
        raise RuntimeError(f"the root counts {counted} hosts of {hosts()} after {within_s:.0f} s")

    @staticmethod
    async def _root_counts(client: Client, status: Status) -> int | None:
        root = None if status.topo is None else owner_of(status, status.topo.root)
        if root is None:
            return None
        answer = await client.call(root.contact, StatusAsk(), 1.0)
        if not isinstance(answer, Status) or answer.root_summary is None:
            return None
        return answer.root_summary.hosts

    async def _count(self) -> dict[Worker, dict[str, Any]]:
        self._counts.clear()
        for worker in self._workers.all:
            worker.tell(count=True)
        everybody = len(self._workers.all)
        await self._until(lambda: len(self._counts) == everybody, _KNOWN_WITHIN_S, "counting")
        return {count["worker"]: count for count in self._counts}

    # --- who is who -------------------------------------------------------------------------------

    @property
    def _candidate(self) -> int:
        return 1

    def _hosts(self) -> int:
        return self._plan.peers - CANDIDATES - len(self._gone)

    def _living_hosts(self) -> list[int]:
        return [n for n in sorted(self._leaf) if n > CANDIDATES and n not in self._gone]

    def _signal(self, node: int, number: signal.Signals) -> None:
        self._home[node].signal(number)

    def _gate(self, shut: bool) -> None:
        for node in range(1, CANDIDATES + 1):
            self._home[node].tell(gate=shut)

    def _groups(self) -> tuple[list[list[dict[str, Any]]], list[str]]:
        """Share the peers out over processes. Candidates have ports that are known before."""
        ports = known_ports(CANDIDATES)
        peers = [
            {
                "node_id": number, "candidate": number <= CANDIDATES, "creates": number == 1,
                "port": ports[number - 1] if number <= CANDIDATES else 0,
            }
            for number in range(1, self._plan.peers + 1)
        ]  # fmt: skip
        shared, alone = peers[CANDIDATES : -self._plan.alone], peers[-self._plan.alone :]
        self._alone = [peer["node_id"] for peer in alone]
        step = self._plan.processes
        # a process opens the coordinator's files once, so candidates have one each
        groups = [[peer] for peer in (*peers[:CANDIDATES], *alone)]
        groups += [shared[first::step] for first in range(step)]
        return groups, [f"tcp://127.0.0.1:{port}" for port in ports]


def quantile(values: list[float], share: float) -> float | None:
    """Return the smallest value that ``share`` of them do not exceed (nearest rank)."""
    if not values:
        return None
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
