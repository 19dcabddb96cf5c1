"""What the demo shows, as plain data: the story writes it, the views read it.

A :class:`Scene` holds the stages of the story, the peers, the tree as last seen, counters and the
log.  It knows nothing of terminals; :mod:`nodes.demo.live` paints it, and in plain mode its log is
printed line by line.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

#: Log lines that the live view can show at most.
_LOG_LINES: Final = 12


class StageState(Enum):
    """How far a stage is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(slots=True)
class Stage:
    """One act of the story."""

    title: str
    state: StageState = StageState.WAITING
    result: str = ""
    started: float = 0.0


class PeerState(Enum):
    """What became of a peer's process."""

    STARTING = "starting"
    ALIVE = "alive"
    KILLED = "killed"


@dataclass(slots=True)
class PeerView:
    """One peer process as the demo knows it. ``vms`` and ``load`` come from its summary."""

    name: str
    node_id: int = 0
    address: str = ""
    pid: int = 0
    state: PeerState = PeerState.STARTING
    vms: int = 0
    load: float = 0.0


@dataclass(slots=True)
class CellView:
    """One cell as the tree call told it. ``members`` are node ids (leaf) or cell ids (inner)."""

    cell_id: int
    parent: int
    is_leaf: bool
    owner: int
    members: tuple[int, ...]
    depth: int = 0


@dataclass(slots=True)
class Counters:
    """Placements through the library."""

    wanted: int = 0
    confirmed: int = 0
    in_flight: int = 0
    retried: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def median_ms(self) -> float:
        """Median time from asking to confirmed."""
        ordered = sorted(self.latencies_ms)
        return ordered[len(ordered) // 2] if ordered else 0.0


@dataclass(slots=True)
class Progress:
    """How far something long has come (0 to 1), and what it says itself."""

    done: float
    text: str


class Scene:
    """Everything on the stage. ``on_log`` hears each log line as it is written."""

    def __init__(self, titles: tuple[str, ...]) -> None:
        self.started = time.monotonic()
        self.stages = [Stage(title) for title in titles]
        self.peers: dict[str, PeerView] = {}
        self.cells: dict[int, CellView] = {}
        self.chairman = 0
        self.counters = Counters()
        self.simulation: Progress | None = None
        self.log: deque[tuple[float, str]] = deque(maxlen=_LOG_LINES)
        self.on_log: Callable[[float, str], None] | None = None
        self.pause_s = 0.0  # between the acts, for those who watch

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo started."""
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """Write a log line."""
        at = self.elapsed_s
        self.log.append((at, text))
        if self.on_log is not None:
            self.on_log(at, text)

    def begin(self, number: int) -> Stage:
        """Begin a stage."""
        stage = self.stages[number]
        stage.state = StageState.RUNNING
        stage.started = time.monotonic()
        self.say(f"-- {stage.title}")
        return stage

    def end(self, stage: Stage, result: str) -> None:
        """End a stage with what came out of it."""
        stage.state = StageState.DONE
        stage.result = result
        self.say(f"   {result}")

    def break_off(self, state: StageState) -> None:
        """Mark what was running as failed or stopped."""
        for stage in self.stages:
            if stage.state is StageState.RUNNING:
                stage.state = state

    def name_of(self, node_id: int) -> str:
        """The demo's name of a node."""
        for peer in self.peers.values():
            if peer.node_id == node_id:
                return peer.name
        return f"{node_id:016x}"[-6:] if node_id else "-"

    def peer_of(self, node_id: int) -> PeerView | None:
        """The peer with this node id."""
        return next((p for p in self.peers.values() if p.node_id == node_id), None)
