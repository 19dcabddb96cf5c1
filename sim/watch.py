"""Looking over the shoulder of machines: a world whose nodes tell of each event and each output.

Only special runs use it (the story of a failure, the search for a divergence).  What stands around
a machine passes everything on unchanged, so a watched run does exactly what a normal one does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fabric.machine import Event
from sim.engine import Node, Process
from sim.scenario import Scenario
from sim.trace import Trace
from sim.world import SimWorld


class Watcher(Protocol):
    """Is told of what happens, right before it does (outputs) or is handled (events)."""

    def event(self, node: Node, event: Event | None) -> None:
        """``node`` gets ``event``; ``None``: its process starts."""

    def output(self, node: Node, kind: str, args: tuple[Any, ...]) -> None:
        """``node`` puts out something: the name of the sink's method, and its arguments."""


class WatchedWorld(SimWorld):
    """A world that tells ``watcher`` of everything."""

    def __init__(self, scenario: Scenario, watcher: Watcher, trace: Trace | None = None) -> None:
        super().__init__(scenario, trace)
        self._watcher = watcher

    def make_peer(self, node: Node) -> Process:
        return _Watched(super().make_peer(node), node, self._watcher)


class _Watched:
    """Stands around a machine; what checkers look at shows through."""

    def __init__(self, machine: Process, node: Node, watcher: Watcher) -> None:
        self._machine = machine
        self.peer = getattr(machine, "peer", machine)
        self._node = node
        self._watcher = watcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def start(self, now: int, out: Any) -> None:
        self._watcher.event(self._node, None)
        self._machine.start(now, _WatchedSink(self._node, out, self._watcher))

    def handle(self, event: Event, now: int, out: Any) -> None:
        self._watcher.event(self._node, event)
        self._machine.handle(event, now, _WatchedSink(self._node, out, self._watcher))


class _WatchedSink:
    """Stands before a node's sink, whatever methods that has."""

    __slots__ = ("_node", "_out", "_watcher")

    def __init__(self, node: Node, out: Any, watcher: Watcher) -> None:
        self._node = node
        self._out = out
        self._watcher = watcher

    def __getattr__(self, name: str) -> Callable[..., None]:
        method: Callable[..., None] = getattr(self._out, name)

        def told(*args: Any) -> None:
            self._watcher.output(self._node, name, args)
            method(*args)

        return told
