"""The virtual network: latency with a tail, loss, partitions, duplicates, slow links.

The usual path is cheap: one random number per message picks a latency from a table of 1,024
quantiles and, by its high end, whether the message is lost.  Only while a fault is on
(:attr:`Network.rough`) is each message looked at more closely.  Latencies differ from message to
message, so messages overtake each other at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from fabric.machine import Message, Received
from fabric.stream import Stream
from sim.streams import MODULUS

if TYPE_CHECKING:
    from sim.engine import Engine, Node

_QUANTILES: Final = 1024


def latency_table(low_us: int, high_us: int, tail_us: int, tick_us: int) -> list[int]:
    """Return latencies in ticks: even between low and high, the slowest 1 % up to ``tail_us``."""
    table = []
    body = _QUANTILES - _QUANTILES // 100
    for i in range(_QUANTILES):
        if i < body:
            us = low_us + (high_us - low_us) * i // body
        else:
            rank = i - body + 1  # the tail grows as a square: 200 ms is rare even within it
            us = high_us + (tail_us - high_us) * rank * rank // (_QUANTILES - body) ** 2
        table.append(max(-(-us // tick_us), 1))
    return table


class Partition:
    """Messages from ``side`` to the others are lost; without ``one_way`` those back as well."""

    __slots__ = ("one_way", "side")

    def __init__(self, side: frozenset[int], one_way: bool = False) -> None:
        self.side = side
        self.one_way = one_way

    def cuts(self, source: int, target: int) -> bool:
        """Tell whether a message between these two node indexes is lost."""
        inside = source in self.side
        if inside == (target in self.side):
            return False
        return inside or not self.one_way


class Bridge:
    """Like a whole :class:`Partition`, but one node reaches both sides and is reached by them."""

    __slots__ = ("bridge", "side")

    def __init__(self, side: frozenset[int], bridge: int) -> None:
        self.side = side
        self.bridge = bridge

    def cuts(self, source: int, target: int) -> bool:
        """Tell whether a message between these two node indexes is lost."""
        if self.bridge in (source, target):
            return False
        return (source in self.side) != (target in self.side)


class Link:
    """What one node sends to another is lost; without ``one_way`` what that sends back as well."""

    __slots__ = ("one_way", "source", "target")

    def __init__(self, source: int, target: int, one_way: bool = False) -> None:
        self.source = source
        self.target = target
        self.one_way = one_way

    def cuts(self, source: int, target: int) -> bool:
        """Tell whether a message between these two node indexes is lost."""
        if (source, target) == (self.source, self.target):
            return True
        return not self.one_way and (target, source) == (self.source, self.target)


class Cutting(Protocol):
    """Something that loses messages by where they come from and where they go."""

    def cuts(self, source: int, target: int) -> bool:
        """Tell whether a message between these two node indexes is lost."""


#: Looks at each message and returns the one that goes on: another one, or ``None`` if it is lost.
Handling: TypeAlias = "Callable[[Node, Node, Message], Message | None]"


class Network:
    """What lies between all nodes."""

    def __init__(
        self,
        low_us: int = 200,
        high_us: int = 2_000,
        tail_us: int = 20_000,
        loss_ppm: int = 0,
        duplicate_ppm: int = 0,
    ) -> None:
        self._shape_us = (low_us, high_us, tail_us)
        #: Latencies in ticks by ten random bits.
        self.latency: list[int] = []
        self.loss_ppm = loss_ppm
        self.duplicate_ppm = duplicate_ppm
        self.lost_below = 0
        self.partitions: list[Cutting] = []
        #: What happens to messages because of what they are.
        self.handlings: list[Handling] = []
        #: Chance that a message is overtaken, and by how much at most.
        self.late_ppm = 0
        self.late_us = 0
        #: Node index -> factor on the latency of all that it sends or gets.
        self.slow: dict[int, int] = {}
        self._slowed: dict[int, list[int]] = {}
        #: Whether :meth:`shape` must see each message.
        self.rough = False
        self.duplicated = 0
        #: Chance that a copy arrives much later, and how much at most.
        self.echo_ppm = 0
        self.echo_late_us = 0
        self._engine: Engine | None = None
        #: Node index -> what is random about duplicates of its messages.
        self._streams: dict[int, Stream] = {}

    def bind(self, engine: Engine) -> None:
        """Take the engine's tick; called once by it."""
        from sim.engine import TICK_US

        self._engine = engine
        self._tick_us = TICK_US
        self.latency = latency_table(*self._shape_us, TICK_US)
        self.changed()

    def changed(self) -> None:
        """Recompute what the fast path reads; call after changing any setting."""
        self.lost_below = self.loss_ppm * MODULUS // 1_000_000
        self.rough = bool(
            self.partitions
            or self.slow
            or self.duplicate_ppm
            or self.echo_ppm
            or self.late_ppm
            or self.handlings
        )

    def cut(self, partition: Cutting) -> Callable[[], None]:
        """Begin a partition; the returned function heals it."""
        self.partitions.append(partition)
        self.changed()

        def heal() -> None:
            self.partitions.remove(partition)
            self.changed()

        return heal

    @property
    def unreliable(self) -> bool:
        """Whether messages may be lost, cut off, repeated late or handled now."""
        return bool(self.loss_ppm or self.partitions or self.echo_ppm or self.handlings)

    def slow_down(self, index: int, factor: int) -> Callable[[], None]:
        """Slow a node down; the returned function ends that. Of several factors the worst counts.

        (Multiplied, a few of them would stop it for longer than any run.)
        """
        factors = self._slowed.setdefault(index, [])

        def apply() -> None:
            if factors:
                self.slow[index] = max(factors)
            else:
                self.slow.pop(index, None)
            self.changed()

        def end() -> None:
            factors.remove(factor)
            apply()

        factors.append(factor)
        apply()
        return end

    def treat(self, handling: Handling) -> Callable[[], None]:
        """Have ``handling`` look at each message; the returned function ends that."""
        self.handlings.append(handling)
        self.changed()

        def end() -> None:
            self.handlings.remove(handling)
            self.changed()

        return end

    def treated(self, source: Node, target: Node, message: Message) -> Message | None:
        """Return what becomes of ``message`` on its way."""
        on: Message | None = message
        for handling in self.handlings:
            if on is not None:
                on = handling(source, target, on)
        return on

    def shape(self, source: Node, target: Node, tick: int, message: Any, mark: int) -> int:
        """Return the tick at which a message arrives under the faults that are on; -1: never."""
        for partition in self.partitions:
            if partition.cuts(source.index, target.index):
                return -1
        engine = self._engine
        assert engine is not None
        if self.slow:
            factor = max(self.slow.get(source.index, 1), self.slow.get(target.index, 1))
            tick = engine.tick + (tick - engine.tick) * factor
        if self.late_ppm and self._faults(source).chance(self.late_ppm):
            tick += self._faults(source).below(max(self.late_us // self._tick_us, 1))
        if self.duplicate_ppm and self._faults(source).chance(self.duplicate_ppm):
            self.duplicated += 1
            again = tick + 1 + self._faults(source).below(200)
            engine.put(again, (target, target.generation, message, mark, source.contact))
        if self.echo_ppm and self._faults(source).chance(self.echo_ppm):
            late = Received(source.node_id, message)
            # whoever lives at the address then gets it, as from a queue on the way
            engine.at(
                engine.now + self._faults(source).below(self.echo_late_us),
                lambda: target.deliver(late, mark),
            )
        return tick

    def _faults(self, source: Node) -> Stream:
        stream = self._streams.get(source.index)
        if stream is None:
            streams = source.engine.streams
            stream = self._streams[source.index] = streams.stream("network-faults", source.index)
        return stream
