"""The scenario in the simulator."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.fidelity.account import Account, Window, settled
from benchmarks.fidelity.plan import (
    CANDIDATES,
    END_S,
    FIRST_KILL_S,
    KILL_STEP_S,
    KILLS,
    LOOK_S,
    LOOK_UNTIL_S,
    PEERS,
    WINDOW_S,
    TcpNamed,
    scenario,
)
from fabric.units import SECOND
from fabric.wire.peer import Members, MembersAsk, Status, StatusAsk
from sim.engine import Engine, Node
from sim.run import collector_at_rest
from sim.world import SimWorld


def run(seed: int) -> Account:
    """Run the scenario of ``seed`` and return what was seen."""
    world = TcpNamed(scenario(seed))
    watch = _Watch(world)
    world.begin()
    with collector_at_rest():
        world.engine.run(round(END_S * SECOND))
    return watch.account


class _Watch:
    """Looks at the peers, counts, and strikes, at the planned times."""

    def __init__(self, world: SimWorld) -> None:
        self.account = Account(PEERS, PEERS - CANDIDATES)
        self._world = world
        self._engine: Engine = world.engine
        self._began = Window()
        self._engine.on_notice = self._notice
        for number in range(1, round(LOOK_UNTIL_S / LOOK_S) + 1):
            self._at(number * LOOK_S, self._look)
        self._at(WINDOW_S[0], self._open)
        self._at(WINDOW_S[1], self._close)
        for number in range(KILLS):
            self._at(FIRST_KILL_S + number * KILL_STEP_S, self._strike)

    def _at(self, at_s: float, action: Any) -> None:
        self._engine.at(round(at_s * SECOND), action)

    @property
    def _now_s(self) -> float:
        return self._engine.now / SECOND

    def _notice(self, node: Node, notice: Any) -> None:
        self.account.notice(self._now_s, node.node_id, notice)

    def _look(self) -> None:
        for node in self._world.living():
            self._engine.call(node, StatusAsk(), lambda answer, node=node: self._said(node, answer))  # type: ignore[misc]

    def _said(self, node: Node, answer: Any) -> None:
        if isinstance(answer, Status):
            self.account.state(self._now_s, node.node_id, *settled(answer))

    def _read(self) -> Window:
        wire = self._engine.fidelity
        assert wire is not None
        sent = {cls.__name__: number for cls, number in wire.sent.items()}
        window = Window(bytes=wire.bytes, cpu_s=time.process_time(), dropped=self._engine.lost)
        window.sent.update(sent)
        window.received.update(sent)  # nothing gets lost between living nodes
        return window

    def _owns(self, node: Node, answer: Any) -> None:
        """Ask an owner for the records of its cells."""

        def told(members: Any) -> None:
            assert isinstance(members, Members)
            self.account.owns(node.contact, members.record)

        assert isinstance(answer, Status)
        for cell in answer.owns:
            self._engine.call(node, MembersAsk(cell), told)

    def _open(self) -> None:
        for node in self._world.living():
            self._engine.call(node, StatusAsk(), lambda answer, node=node: self._owns(node, answer))  # type: ignore[misc]
        self._began = self._read()

    def _close(self) -> None:
        self.account.window = self._read().since(self._began)
        self.account.quiet()

    def _strike(self) -> None:
        target = self.account.target()
        if target is not None:
            self.account.died(self._now_s, target)
            self._engine.by_id[target].crash()
