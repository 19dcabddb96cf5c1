"""Peers that say what is not so: forgers, tellers of old loads, peers of another version.

A forger has a valid identity and goes on working; beside that it tells lies in its own name, since
transports vouch for senders.  No single one may have a healthy host removed or capacity oversold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from fabric.gossip.cell import CellGossip
from fabric.machine import Message
from fabric.units import MS
from fabric.wire.gossip import ALIVE, DEAD, Ack, News, Ping, Suspect, Sync
from sim.faults import NOBODY, Hit, World
from sim.inspect import cells_of

if TYPE_CHECKING:
    from fabric.tree.summary import Summary
    from sim.engine import Node

#: What a forger lies about.
Lie: TypeAlias = Literal["suspicions", "deaths", "acks"]
LIES: Final[tuple[str, ...]] = get_args(Lie)
LIE_EVERY_US: Final = 200 * MS


@dataclass(frozen=True, slots=True)
class Forger:
    """``host`` accuses others, tells of their deaths, or answers for them, five times a second."""

    at_us: int
    host: int
    lasts_us: int
    lie: Lie

    def hits(self) -> Hit:
        return NOBODY  # nothing that it says may change what becomes of others

    def begin(self, world: World) -> None:
        engine, node = world.engine, world.host(self.host)
        stream = engine.streams.stream("forger", f"{self.host}/{self.at_us}")
        until = engine.now + self.lasts_us

        def lie() -> None:
            gossip = cells_of(node).leaf_gossip if node.alive else None
            others = [] if gossip is None else [m.news for m in gossip.members.values()]
            if gossip is not None and len(others) > 1:
                victim = others[stream.below(len(others))]
                for listener in others:
                    if listener is not victim:
                        node.send(listener.contact, forged(self.lie, gossip, victim, stream.below))
            if engine.now < until:
                engine.at(engine.now + LIE_EVERY_US, lie)
            else:
                world.fault_over()

        lie()


def forged(lie: Lie, gossip: CellGossip, victim: News, below: Callable[[int], int]) -> Message:
    """Return a lie about ``victim`` for another member of its cell."""
    if lie == "suspicions":
        return Suspect(gossip.cell, victim.key, victim.incarnation, bool(below(2)))
    if lie == "deaths":
        dead = dataclasses.replace(victim, state=DEAD, summary=None)
        return Ack(gossip.cell, gossip.key, below(1 << 20), gossip.path, (dead,))
    alive = dataclasses.replace(victim, state=ALIVE, summary=None)
    return Ack(gossip.cell, victim.key, below(64), gossip.path, (alive,))


@dataclass(frozen=True, slots=True)
class StaleSummaries:
    """``host`` goes on telling the load that it had when this began."""

    at_us: int
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return (self.host,), self.lasts_us

    def begin(self, world: World) -> None:
        engine, liar = world.engine, world.host(self.host)
        if not liar.alive:
            return
        summary = cells_of(liar).duties.host_summary
        heal = engine.network.treat(_telling(liar, summary))

        def end() -> None:
            heal()
            world.fault_over()

        engine.at(engine.now + self.lasts_us, end)


def _telling(liar: Node, summary: Summary | None) -> Callable[[Node, Node, Message], Message]:
    def old(news: News) -> News:
        if news.key != liar.node_id or news.summary is None or summary is None:
            return news
        return dataclasses.replace(news, summary=summary)

    def treat(source: Node, target: Node, message: Any) -> Message:
        if source is liar and isinstance(message, Ping | Ack):
            return dataclasses.replace(message, news=tuple([old(n) for n in message.news]))
        if source is liar and isinstance(message, Sync):
            return dataclasses.replace(message, table=tuple([old(n) for n in message.table]))
        return message

    return treat


@dataclass(frozen=True, slots=True)
class NewerVersion:
    """``host`` runs the next version: each of its messages ends with a field unknown to others.

    Only in fidelity runs, which encode.
    """

    at_us: int
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        engine = world.engine
        if engine.fidelity is None:
            return
        newer, index = engine.fidelity.newer, world.host(self.host).index
        newer.append(index)

        def end() -> None:
            newer.remove(index)
            world.fault_over()

        engine.at(engine.now + self.lasts_us, end)
