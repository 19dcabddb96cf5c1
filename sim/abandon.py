"""The liveness mode: a part heals, the rest stays broken for ever.

Healing everything hides livelocks: a host that is heard but hears nothing, or that answers pings
and nothing else, keeps others busy only while it lasts.  What :class:`Abandoned` breaks is never
mended; the others must come to agree among themselves all the same, and place (``cannot-place``).
Whether an abandoned peer is a member of anything is left open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from sim.faults import Hit, World
from sim.network import Partition
from sim.network_faults import only_pings

#: What is wrong with an abandoned peer: it is gone; nothing of it arrives anywhere, and nothing
#: arrives at it; only the former; only the latter; only pings pass; its disk hangs; it has a
#: hundred times the latency of others; its hypervisor hangs.
How: TypeAlias = Literal["dead", "cut", "mute", "deaf", "gray", "disk", "slow", "stalled"]
HOWS: Final[tuple[str, ...]] = get_args(How)
FOR_EVER: Final = 1 << 60
HANGS: Final = 4_000_000
SLOW: Final = 100


@dataclass(frozen=True, slots=True)
class Abandoned:
    """``hosts`` break in the way of ``how`` and are never mended."""

    at_us: int
    hosts: tuple[int, ...]
    how: How

    def hits(self) -> Hit:
        # whoever hears them may hold wrong things about others, too, for a while
        return self.hosts, FOR_EVER

    def begin(self, world: World) -> None:
        network = world.engine.network
        nodes = [world.host(host) for host in self.hosts]
        indexes = frozenset(node.index for node in nodes)
        for node in nodes:
            world.abandon(node)
            if self.how == "dead":
                node.crash()
            elif self.how == "gray":
                network.treat(only_pings(node))
            elif self.how == "disk":
                node.disk.slowed.append(HANGS)
            elif self.how == "slow":
                network.slow_down(node.index, SLOW)
            elif self.how == "stalled":
                world.hypervisors.stalled_until[node.index] = FOR_EVER
        if self.how in ("cut", "mute"):
            network.cut(Partition(indexes, one_way=self.how == "mute"))
        elif self.how == "deaf":
            others = [n.index for n in (*world.candidates, *world.hosts) if n.index not in indexes]
            network.cut(Partition(frozenset(others), one_way=True))
        network.changed()
