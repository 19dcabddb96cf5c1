"""Faults of the store's replicas that need a plot: drawn at random they hardly ever come about.

* *Rivals*: two replicas that do not hear each other stand in the same term; the third crashes as it
  has voted for one, and then what the other asked arrives once more.
* *Figure eight* (Ongaro's thesis, figure 3.7): an entry of an old term comes to be on a majority,
  and a replica that lacks it may still be elected.
* *A disk that refuses*: writes are lost and the replica is told so.  It must stop at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fabric.machine import LocalCall, Message
from fabric.units import MS
from fabric.wire.store import Append, Campaign, VoteReply, VoteRequest

if TYPE_CHECKING:
    from tests.sim.store_cluster import Node, World


def rivals(world: World) -> None:
    """Two replicas campaign at once; the voter crashes at its first vote and is asked again."""
    if len(world.nodes) != 3:
        return
    world.restart_all()
    voter = world.nodes[world.faults.below(3)]
    voter.crash()
    voter.boot()  # it has heard of no leader: it will support anybody
    one, other = [node.contact.node_id for node in world.nodes if node is not voter]
    world.cut = {(one, other), (other, one)}
    asked: list[tuple[Node, VoteRequest]] = []

    def voted(sender: Node, message: Message) -> None:
        if isinstance(message, VoteRequest) and not message.pre:
            asked.append((sender, message))
        if sender is voter and isinstance(message, VoteReply) and message.granted:
            if message.pre:
                return
            world.on_send = None
            world.at(world.now, restart)

    def restart() -> None:
        if voter.up:
            voter.crash()
            voter.boot()
            for sender, message in asked:
                world.carry(sender.contact.node_id, voter.contact.node_id, message)

    world.on_send = voted
    for node in world.nodes:
        if node is not voter and node.up:
            if node.machine.leads:  # a leader campaigns for nothing
                node.crash()
                node.boot()
            node.handle(LocalCall(0, Campaign(node.machine.shard)))
    world.pause(20, 120)
    world.on_send = None
    world.cut = set()


def figure_eight(world: World) -> None:
    """Bring an entry of an old term onto a majority, then let one rule who lacks it."""
    if len(world.nodes) != 3:
        return
    world.restart_all()
    world.cut = set()
    first = _leader(world, world.nodes)
    if first is None:
        return
    world.blocked = Append  # what the first leader takes from clients from now on stays with it
    world.pause(40, 60)
    first.crash_after_its_disk()
    others = [node for node in world.nodes if node is not first]
    second = _leader(world, others)
    if second is not None:
        world.pause(5, 15)
        second.crash_after_its_disk()
        first.boot()
        third = next(node for node in others if node is not second)
        if _leader(world, [first, third]) is first:
            world.blocked = None
            reached = first.machine.log.last_index - 1
            world.run_until(world.now + 800 * MS, lambda: first.machine.commit >= reached)
            first.crash()
    world.blocked = None
    for node in others:
        if not node.up:
            node.boot()
    world.pause(400, 600)
    world.restart_all()


def refuse_writes(world: World, node: Node) -> None:
    """A write of ``node`` fails and is lost; what comes after it would work again."""
    if node.up:
        node.failing = 1 + world.faults.below(2)
        world.pause(50, 400)


def _leader(world: World, among: list[Node]) -> Node | None:
    """Wait until one of ``among`` leads."""

    def leads() -> Node | None:
        return next((n for n in among if n.up and n.machine.leads), None)

    world.run_until(world.now + 1500 * MS, lambda: leads() is not None)
    return leads()
