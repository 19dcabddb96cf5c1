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
from fabric.gossip.members import REFUTATION_BITS
from fabric.machine import Message
from fabric.units import MS, SECOND
from fabric.wire.gossip import ALIVE, DEAD, Ack, News, Ping, Suspect, Sync
from fabric.wire.tree import HandOver, Owner, Path, Vacant
from sim.faults import EVERYBODY, NOBODY, Hit, World, end_after
from sim.inspect import cells_of, paths_of

if TYPE_CHECKING:
    from sim.engine import Node

#: What a forger lies about.
Lie: TypeAlias = Literal["suspicions", "deaths", "acks", "lives", "owners", "loads"]
LIES: Final[tuple[str, ...]] = get_args(Lie)
LIE_EVERY_US: Final = 200 * MS
#: From one life of a member to its next.
LIFE: Final = 1 << REFUTATION_BITS


@dataclass(frozen=True, slots=True)
class Forger:
    """``host`` lies to the other members of its leaf cell, five times a second.

    It accuses others, tells of their deaths or of new lives of theirs, answers for them, says that
    it owns a cell, or tells loads of others that they do not have.
    """

    at_us: int
    host: int
    lasts_us: int
    lie: Lie

    def hits(self) -> Hit:
        if self.lie in ("owners", "loads"):
            return EVERYBODY, self.lasts_us + 10 * SECOND  # placements may be led astray by it
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
                if self.lie == "owners":
                    world.pretenders.add(node.node_id)
                    message = claim(node, stream.below)
                else:
                    message = forged(self.lie, gossip, victim, stream.below)
                for listener in others:
                    if listener is not victim or self.lie == "owners":
                        node.send(listener.contact, message)
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
    if lie == "lives":  # it has started anew, it seems
        reborn = dataclasses.replace(victim, incarnation=victim.incarnation + LIFE, summary=None)
        return Ack(gossip.cell, gossip.key, below(1 << 20), gossip.path, (reborn,))
    if lie == "loads":
        news = dataclasses.replace(
            victim, seq=victim.seq + 1 + below(3), summary=gossip.news.summary
        )
        return Ack(gossip.cell, gossip.key, below(1 << 20), gossip.path, (news,))
    alive = dataclasses.replace(victim, state=ALIVE, summary=None)
    return Ack(gossip.cell, victim.key, below(64), gossip.path, (alive,))


def claim(forger: Node, below: Callable[[int], int]) -> Message:
    """Return the news that ``forger`` owns one of the cells on its path, under a newer term."""
    paths = paths_of(forger)
    cell = paths.path[below(len(paths.path))]
    held = paths.owners.get(cell)
    term = (held.term if held is not None else paths.records[cell].term_floor) + 1 + below(3)
    electorate = paths.records[cell].electorate
    return Path(None, (), (Owner(cell, electorate, term, forger.contact),))


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
        gossip = cells_of(liar).leaf_gossip
        if gossip is None:
            return
        heal = engine.network.treat(_telling(liar, gossip.news))

        def end() -> None:
            heal()
            world.fault_over()

        engine.at(engine.now + self.lasts_us, end)


def _telling(liar: Node, told: News) -> Callable[[Node, Node, Message], Message]:
    def old(news: News) -> News:
        same_life = news.incarnation >> REFUTATION_BITS == told.incarnation >> REFUTATION_BITS
        if news.key != liar.node_id or not same_life:
            return news
        return dataclasses.replace(news, seq=told.seq, summary=told.summary)

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


#: What peers of the version before do not know: hints without which all goes on, only later.
NEW_TYPES: Final = (HandOver, Vacant)
#: Fields with a default that the first version had: a host that ignored this one would give back
#: what was confirmed.
FIRST_FIELDS: Final = frozenset({"unconfirmed"})


@dataclass(frozen=True, slots=True)
class OlderVersion:
    """``host`` runs the version before.

    What it sends and what it understands lacks the fields that have a default, as new fields must,
    and messages of :data:`NEW_TYPES`; in fidelity runs its frames carry the older number.
    """

    at_us: int
    host: int
    lasts_us: int

    def hits(self) -> Hit:
        return NOBODY

    def begin(self, world: World) -> None:
        engine, old = world.engine, world.host(self.host)
        numbered = engine.fidelity.older if engine.fidelity is not None else []
        numbered.append(old.index)

        def treat(source: Node, target: Node, message: Message) -> Message | None:
            if old not in (source, target) or source is target:
                return message
            return None if isinstance(message, NEW_TYPES) else without_new_fields(message)

        heal = engine.network.treat(treat)

        def end() -> None:
            heal()
            numbered.remove(old.index)

        end_after(world, self.lasts_us, end)


def without_new_fields(message: Any) -> Any:
    """Return ``message``, and what it embeds, as a peer that knows no field with default has it."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if field.default is not dataclasses.MISSING and field.name not in FIRST_FIELDS:
            if value != field.default:
                changes[field.name] = field.default
        elif field.name == "body" and dataclasses.is_dataclass(value):
            body = without_new_fields(value)
            if body is not value:
                changes["body"] = body
    return dataclasses.replace(message, **changes) if changes else message
