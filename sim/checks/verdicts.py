"""Who is held for alive, suspect or dead, all along and not only in a calm.

* ``status-fell``: what is held of a member's status or load never goes back to older news.
* ``healthy-failed``: nobody holds a member for dead that no fault has touched, while two more
  sound members of the cell live: no single one, forging or not, may bring that about.
* ``cheap-verdict``: a verdict has as many witnesses as are needed, each another member.
* ``blind-verdict``: whoever hears nobody, and is heard by nobody, judges nobody.
* ``hasty-verdict``: a member is not held for dead under an incarnation that it has only just
  begun to speak under: the time to refute is counted from there.
* ``death-unnoticed``: whoever died is held for dead by those that could watch in peace.

Looks at all tables each second; fabrics of more than :data:`MANY` hosts are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fabric.gossip.cell import CellGossip
from fabric.gossip.members import REFUTATION_BITS, Member
from fabric.gossip.suspicion import WITNESSES
from fabric.peer.notices import MemberNotice
from fabric.units import SECOND
from fabric.wire.gossip import DEAD
from sim.inspect import cells_of
from sim.network import Partition

if TYPE_CHECKING:
    from sim.engine import Node
    from sim.world import SimWorld

#: With more hosts than these looking each second costs too much.
MANY: Final = 500
#: No fault touched it for so long: what was said of it before is settled.
SOUND_US: Final = 15 * SECOND
#: A dead member is probed in its turn, then tried through others by members whose own health may
#: be bad (up to seven times the patience), then suspected; single witnesses take three times as
#: long.
UNNOTICED_US: Final = 30 * SECOND

#: Whoever was cut off so long ago cannot think any more that it has just heard of somebody beyond
#: its cell.  (A chairman needs to hear of nobody: it is whom others ask.)
BLIND_US: Final = 12 * SECOND

#: What is held of one member: its row if that is its own word (hearsay gives way to that),
#: (incarnation, state), (life, sequence number).
Held = tuple[Member | None, tuple[int, int], tuple[int, int]]


class VerdictChecks:
    """Looks each second, and at each verdict."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._looked_us = 0
        #: When messages were last lost, doubled or held back for all.
        self._unreliable_us = 0
        #: Node index -> its start, and what it held of each (cell, member).
        self._held: dict[int, tuple[int, dict[tuple[int, int], Held]]] = {}
        #: Node index -> its leaf cell and since when it is there.
        self._cell: dict[int, tuple[int, int]] = {}
        #: (node id, cell) -> the highest incarnation that it has spoken under there.
        self._spoken: dict[tuple[int, int], int] = {}
        #: Node index -> what cuts it off from everybody, and since when.
        self._alone: dict[int, tuple[Partition, int]] = {}
        #: Node index -> since when it does not run.
        self._down_us: dict[int, int] = {}
        #: Who holds whom for dead: (node index, its start, cell, member).
        self._buried: set[tuple[int, int, int, int]] = set()

    # --- each second ------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare all tables with what they held before, and with who lives."""
        world = self._world
        if len(world.hosts) > MANY:
            return
        now = self._looked_us = world.engine.now
        if world.engine.network.unreliable:
            self._unreliable_us = now
        before = self._alone
        self._alone = {
            index: before[index] if index in before and before[index][0] is cut else (cut, now)
            for cut in world.engine.network.partitions
            if isinstance(cut, Partition) and not cut.one_way and len(cut.side) == 1
            for index in cut.side
        }
        gone: dict[int, int] = {}
        leaves: list[tuple[Node, CellGossip]] = []
        for node in world.hosts:
            if not node.alive:
                gone[node.node_id] = self._down_us.setdefault(node.index, now)
                self._held.pop(node.index, None)
                continue
            self._down_us.pop(node.index, None)
            self._compare(node)
            gossip = cells_of(node).leaf_gossip
            if gossip is None:
                self._cell.pop(node.index, None)
                continue
            leaves.append((node, gossip))
            if self._cell.get(node.index, (0, 0))[0] != gossip.cell:
                self._cell[node.index] = (gossip.cell, now)
            key = (node.node_id, gossip.cell)
            spoken = gossip.news.incarnation
            self._spoken[key] = max(self._spoken.get(key, 0), spoken)
        if gone:
            for node, gossip in leaves:
                self._look_for_dead(node, gossip, gone)

    def _compare(self, node: Node) -> None:
        """News are joined: no row may ever say less than it said."""
        generation, before = self._held.get(node.index, (0, {}))
        if generation != node.generation:
            before = {}
        held: dict[tuple[int, int], Held] = {}
        for gossip in cells_of(node).gossip.values():
            for key, member in gossip.members.items():
                news = member.news
                status = (news.incarnation, news.state)
                load = (news.incarnation >> REFUTATION_BITS, news.seq)
                held[gossip.cell, key] = (member if member.sworn else None, status, load)
                row = before.get((gossip.cell, key))
                if row is not None and row[0] is member and (status < row[1] or load < row[2]):
                    detail = f"cell {gossip.cell}, member {key:x}: from {row[1:]} to"
                    self._world.violation("status-fell", (node,), f"{detail} {(status, load)}")
        self._held[node.index] = (node.generation, held)

    def _look_for_dead(self, node: Node, gossip: CellGossip, gone: dict[int, int]) -> None:
        world = self._world
        now = world.engine.now
        cell, since = self._cell[node.index]
        watched = min(now - since, now - self._unreliable_us, world.undisturbed_us(node))
        if watched < UNNOTICED_US:
            return
        for node_id, down_us in gone.items():
            member = gossip.members.get(node_id)
            if member is not None and member.alive and now - down_us > UNNOTICED_US:
                dead = world.engine.by_id[node_id]
                detail = f"cell {cell}: {dead.role.name} is down for {(now - down_us) // SECOND} s"
                world.violation("death-unnoticed", (node, dead), detail)

    # --- at each verdict --------------------------------------------------------------------------

    def notice(self, node: Node, notice: object) -> None:
        """A peer changed its mind about another: judged when it holds it for dead."""
        if not isinstance(notice, MemberNotice):
            return
        row = (node.index, node.generation, notice.cell, notice.key)
        if notice.state != DEAD:
            self._buried.discard(row)
            return
        if row in self._buried:
            return  # dead it was; others say so of a later incarnation
        self._buried.add(row)
        world = self._world
        ours = cells_of(node).gossip.get(notice.cell)
        if ours is None or len(world.hosts) > MANY:
            return
        needed = min(WITNESSES, ours.living + 1)
        if len(set(notice.accusers)) < needed:
            detail = f"cell {notice.cell}: {notice.key:x} is held for dead on the word of"
            detail += f" {len(notice.accusers)}, {needed} are needed"
            world.violation("cheap-verdict", (node,), detail)
        other = world.engine.by_id.get(notice.key)
        if other is None or not other.alive:
            return
        cut = self._alone.get(node.index)
        blind = (
            cut is not None
            and cut[0] in world.engine.network.partitions
            and world.engine.now - cut[1] > BLIND_US
        )
        if blind and len(notice.accusers) == 1 and node not in world.candidates:
            detail = f"cell {notice.cell}: hears nobody, and holds {other.role.name} for dead"
            world.violation("blind-verdict", (node, other), detail)
        theirs = cells_of(other).leaf_gossip
        if theirs is None or theirs.cell != notice.cell:
            return
        spoken = theirs.news.incarnation
        known = self._spoken.get((notice.key, notice.cell))
        just_now = world.engine.now - self._looked_us <= SECOND
        held = ours.members[notice.key].news.incarnation
        if known is not None and known < spoken == held and just_now:
            detail = f"holds {other.role.name} for dead, which refuted less than a second ago"
            world.violation("hasty-verdict", (node, other), detail)
        if self._sound(node, notice.cell) and self._sound(other, notice.cell):
            others = [m.key for m in ours.members.values() if m.key != notice.key]
            nodes = [world.engine.by_id[key] for key in others if key in world.engine.by_id]
            if sum([self._sound(n, notice.cell) for n in nodes]) >= 2:
                detail = f"cell {notice.cell}: holds {other.role.name} for dead, which is well"
                world.violation("healthy-failed", (node, other), detail)

    def _sound(self, node: Node, cell: int) -> bool:
        """Whether ``node`` has long been in ``cell``, and no fault has touched it meanwhile."""
        now = self._world.engine.now
        there, since = self._cell.get(node.index, (0, 0))
        return (
            node.alive
            and node.index not in self._world.abandoned
            and there == cell
            and min(now - since, now - self._unreliable_us) >= SOUND_US
            and self._world.undisturbed_us(node) >= SOUND_US
        )
