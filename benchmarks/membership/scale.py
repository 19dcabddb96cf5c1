"""What no real machine here can show, simulated: a million hosts, a storm of joins, one death.

*A million*: what a peer holds and sends in a tree of a million hosts, against one of ten thousand.
Both are sparse (see :mod:`sim.sparse`) and run the same code; every hop is encoded, so bytes are
those of a real wire.  The mean is over the hosts of the dense inner cell, whose surroundings are
complete.  State is what one peer's process would hold: all objects reachable from its machine.

*A storm*: hosts that start within one second, until every peer agrees with the written topology
and the root counts them all.  *A death*: what the chairman writes for one dead host.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from fabric.coordination.interface import Put
from fabric.machine import Message
from fabric.settings import Settings
from fabric.units import SECOND
from sim.engine import Engine, Node
from sim.fidelity import Fidelity
from sim.inspect import cells_of, owns, summary_of
from sim.run import Run
from sim.scenario import Scenario
from sim.sparse import SparseWorld, hosts_meant, hosts_there
from sim.world import SimWorld

TEN_THOUSAND: Final = (32, 32, 10)
MILLION: Final = (32, 32, 32, 32)
#: Owners are elected and summaries have gone up by then.
_SETTLED_S: Final = 30
_WINDOW_S: Final = 30
#: Of so many hosts the state is measured: it takes a while.
_WEIGHED: Final = 64
_STORM_WITHIN_S: Final = 40

_SHARED: Final = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, Settings)


class _Sent(Fidelity):
    """Counts by sender."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.messages: Counter[int] = Counter()
        self.bytes_of: Counter[int] = Counter()

    def hop(self, sender: Node, target: Node, message: Message, mark: int) -> Message:
        before = self.bytes
        arrived = super().hop(sender, target, message, mark)
        if target is not sender:
            self.messages[sender.node_id] += 1
            self.bytes_of[sender.node_id] += self.bytes - before
        return arrived


def measure(widths: tuple[int, ...]) -> dict[str, Any]:
    """Return means per peer of one sparse tree."""
    scenario = Scenario(
        hosts=hosts_there(widths), duration_s=_SETTLED_S + _WINDOW_S, seed=1,
        preformed=True, fidelity=True, trace=False, checkers=False,
    )  # fmt: skip
    world = SparseWorld(scenario, widths)
    sent = world.engine.fidelity = _Sent(world.engine)
    world.begin()
    world.engine.run(_SETTLED_S * SECOND)
    sent.messages.clear()
    sent.bytes_of.clear()
    world.engine.run(scenario.duration_s * SECOND)
    dense = world.dense
    weighed = [n for n in world.hosts if n.node_id in set(dense)][:: max(len(dense) // _WEIGHED, 1)]
    state = [_bytes_held(node.machine) for node in weighed]
    root = next(cells_of(n).paths.root for n in world.hosts)
    counted = [summary_of(n, root) for n in world.hosts if owns(n, root)]
    return {
        "hosts_meant": hosts_meant(widths),
        "hosts_there": scenario.hosts,
        "hosts_counted_by_the_root": counted[0].hosts if counted and counted[0] else 0,
        "depth": len(widths),
        "messages_per_s": sum(sent.messages[n] for n in dense) / len(dense) / _WINDOW_S,
        "bytes_per_s": sum(sent.bytes_of[n] for n in dense) / len(dense) / _WINDOW_S,
        "bytes_per_s_max": max(sent.bytes_of.values()) / _WINDOW_S,
        "state_kb": sum(state) / len(state) / 1024,
    }


def compare() -> dict[str, Any]:
    """Return both, and the ratios of their means."""
    small, large = measure(TEN_THOUSAND), measure(MILLION)
    ratios = {
        name: large[name] / small[name] for name in ("messages_per_s", "bytes_per_s", "state_kb")
    }
    return {"ten_thousand": small, "million": large, "ratios": ratios}


def storm(hosts: int) -> dict[str, Any]:
    """Return how long ``hosts`` that join within a second take to agree (virtual seconds)."""
    scenario = Scenario(hosts=hosts, start_s=1, duration_s=_STORM_WITHIN_S, seed=1, trace=False)
    result = Run(scenario).go(None)
    formed_s = None if result.converged_s is None else result.converged_s + scenario.start_s
    return {"hosts": hosts, "formed_s": formed_s, "violations": result.violations_total}


def death(hosts: int) -> dict[str, Any]:
    """Return what is written to the coordinator for one host's death."""
    scenario = Scenario(
        hosts=hosts, duration_s=_SETTLED_S + _WINDOW_S, seed=1,
        preformed=True, trace=False, checkers=False,
    )  # fmt: skip
    world = SimWorld(scenario)
    written: list[Put] = []
    world.begin()
    world.engine.run(_SETTLED_S * SECOND)
    world.coordinator.on_commit = lambda commit, holder: written.extend(commit.puts)
    world.hosts[hosts // 2].crash()
    world.engine.run(scenario.duration_s * SECOND)
    return {
        "hosts": hosts,
        "nodes_touched": len({put.path for put in written}),
        "bytes_written": sum(len(put.path) + len(put.value or b"") for put in written),
    }


def _bytes_held(root: object) -> int:
    """Return the size of all that ``root`` reaches; what all peers share counts for each."""
    seen: set[int] = set()
    total = 0
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, _SHARED):
            continue
        seen.add(id(thing))
        total += sys.getsizeof(thing)
        waiting.extend(gc.get_referents(thing))
    return total
