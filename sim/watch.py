"""Looking over the shoulder of machines: a world whose nodes tell of each event and each output.

Only special runs use it (the story of a failure, the search for a divergence).  What stands around
a machine passes everything on unchanged, so a watched run does exactly what a normal one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from fabric.machine import Contact, Event, Machine, Message, Sink, Write
from sim.engine import Node
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

    def make_peer(self, node: Node) -> Machine:
        return _Watched(super().make_peer(node), node, self._watcher)


class _Watched(Machine):
    """Stands around a machine; what checkers look at shows through."""

    def __init__(self, machine: Machine, node: Node, watcher: Watcher) -> None:
        self._machine = machine
        self.peer = getattr(machine, "peer", machine)
        self._node = node
        self._watcher = watcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def start(self, now: int, out: Sink) -> None:
        self._watcher.event(self._node, None)
        self._machine.start(now, _WatchedSink(self._node, out, self._watcher))

    def handle(self, event: Event, now: int, out: Sink) -> None:
        self._watcher.event(self._node, event)
        self._machine.handle(event, now, _WatchedSink(self._node, out, self._watcher))


class _WatchedSink(Sink):
    """Stands before a node's sink."""

    __slots__ = ("_node", "_out", "_watcher")

    def __init__(self, node: Node, out: Sink, watcher: Watcher) -> None:
        self._node = node
        self._out = out
        self._watcher = watcher

    def _tell(self, kind: str, *args: Any) -> None:
        self._watcher.output(self._node, kind, args)
        getattr(self._out, kind)(*args)

    def send(self, to: Contact, message: Message) -> None:
        self._tell("send", to, message)

    def wake(self, at: int) -> None:
        self._tell("wake", at)

    def rest(self, until: int) -> None:
        self._tell("rest", until)

    def persist(self, writes: Sequence[Write], token: int) -> None:
        self._tell("persist", writes, token)

    def promise(self, writes: Sequence[Write], to: Contact, message: Message) -> None:
        self._tell("promise", writes, to, message)

    def coordinate(self, request: Any, token: int) -> None:
        self._tell("coordinate", request, token)

    def drive(self, call: Any, token: int) -> None:
        self._tell("drive", call, token)

    def reply(self, call_id: int, result: Any) -> None:
        self._tell("reply", call_id, result)

    def notify(self, notice: Any) -> None:
        self._tell("notify", notice)
