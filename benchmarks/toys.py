"""One toy on three engines: ours, SimPy's, and asyncio under virtual time.

Every node pings its right neighbour each second and is answered; a hop takes one to two
milliseconds: three events per node and second (timer, ping, ack).  All do the same work per event
and nothing else, so what is compared is what an engine costs per event.

* SimPy as its guide has it: a node is a process that reads messages from its ``Store``.
* SimPy and asyncio at their cheapest: messages are bare callbacks, no stores, queues or tasks.  Our
  engine carries sender, crash generation and trace along with each message; these carry nothing.

``python -m benchmarks.toys`` prints events per CPU second.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import time
from collections.abc import Callable, Generator
from typing import Any, Final

import simpy

from fabric.machine import WOKEN, Contact, Event, Machine, Received
from fabric.stream import Stream
from fabric.units import MS, SECOND
from fabric.wire.gossip import ProbeAnswer, SyncAsk
from sim.engine import Engine
from sim.trace import Trace

NODES: Final = 10_000
VIRTUAL_S: Final = 10
#: Each figure is the best of so many runs.
REPEATS: Final = 3


class _Toy(Machine):
    """The toy as a machine of ours; the messages are any small ones that the fabric has."""

    def __init__(self, right: Contact, left: Contact, first_at: int) -> None:
        self.right = right
        self.left = left
        self.first_at = first_at
        self.answers = 0

    def start(self, now: int, out: Any) -> None:
        out.wake(now + self.first_at)

    def handle(self, event: Event, now: int, out: Any) -> None:
        if event is WOKEN:
            out.send(self.right, SyncAsk(1, 2))
            out.wake(now + SECOND)
        elif isinstance(event, Received):
            if event.message.__class__ is SyncAsk:
                out.send(self.left, ProbeAnswer(1, 2))
            else:
                self.answers += 1


def on_our_engine() -> int:
    """Run on our engine, without a trace hash: the others have none. Returns the answers."""
    engine = Engine(seed=1, trace=Trace(enabled=False))
    stream = Stream(1)
    contacts = [Contact(i + 1, f"10.0.0.{i}") for i in range(NODES)]
    toys = []
    for i, contact in enumerate(contacts):
        toy = _Toy(contacts[(i + 1) % NODES], contacts[i - 1], stream.below(SECOND))
        toys.append(toy)
        engine.add_node(contact).start(lambda toy=toy: toy)  # type: ignore[misc]
    engine.run(VIRTUAL_S * SECOND)
    return sum(toy.answers for toy in toys)


class _Plain:
    """The toy as an object that is called: for SimPy and asyncio."""

    __slots__ = ("answers", "left", "right")
    left: _Plain
    right: _Plain

    def __init__(self) -> None:
        self.answers = 0

    def answered(self) -> None:
        self.answers += 1


def _ring() -> list[_Plain]:
    toys = [_Plain() for _ in range(NODES)]
    for i, toy in enumerate(toys):
        toy.left, toy.right = toys[i - 1], toys[(i + 1) % NODES]
    return toys


def on_simpy() -> int:
    """Run on SimPy: per node a process for its rounds, and one that reads its inbox."""
    env = simpy.Environment()
    stream = Stream(1)
    inboxes = [simpy.Store(env) for _ in range(NODES)]
    answers = 0

    def hop(inbox: simpy.Store, is_ping: bool) -> Generator[Any, Any, None]:
        yield env.timeout((MS + stream.below(MS)) / SECOND)
        inbox.put(is_ping)

    def rounds(right: simpy.Store, first_s: float) -> Generator[Any, Any, None]:
        yield env.timeout(first_s)
        while True:
            env.process(hop(right, True))
            yield env.timeout(1.0)

    def reader(inbox: simpy.Store, left: simpy.Store) -> Generator[Any, Any, None]:
        nonlocal answers
        while True:
            if (yield inbox.get()):
                env.process(hop(left, False))
            else:
                answers += 1

    for i, inbox in enumerate(inboxes):
        env.process(rounds(inboxes[(i + 1) % NODES], stream.below(SECOND) / SECOND))
        env.process(reader(inbox, inboxes[i - 1]))
    env.run(until=VIRTUAL_S)
    return answers


def on_bare_simpy() -> int:
    """Run on SimPy: a process per node, a timeout with a callback per message."""
    env = simpy.Environment()
    stream = Stream(1)
    toys = _ring()

    def send(deliver: Callable[[Any], None]) -> None:
        callbacks = env.timeout((MS + stream.below(MS)) / SECOND).callbacks
        assert callbacks is not None
        callbacks.append(deliver)

    def rounds(toy: _Plain, first_s: float) -> Generator[Any, Any, None]:
        yield env.timeout(first_s)
        while True:
            send(lambda _: send(lambda _: toy.answered()))
            yield env.timeout(1.0)

    for toy in toys:
        env.process(rounds(toy, stream.below(SECOND) / SECOND))
    env.run(until=VIRTUAL_S)
    return sum(toy.answers for toy in toys)


class _Jump(selectors.SelectSelector):
    """Instead of waiting, moves the clock: virtual time for an asyncio loop, at no system call."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout:
            self.now += timeout
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, jump: _Jump) -> None:
        self._jump = jump
        super().__init__(jump)

    def time(self) -> float:
        return self._jump.now


def on_asyncio() -> int:
    """Run on an asyncio loop under virtual time: a task per node, ``call_later`` per message."""
    loop = _VirtualLoop(_Jump())
    stream = Stream(1)
    toys = _ring()

    def send(deliver: Callable[[], None]) -> None:
        loop.call_later((MS + stream.below(MS)) / SECOND, deliver)

    async def rounds(toy: _Plain, first_s: float) -> None:
        await asyncio.sleep(first_s)
        while True:
            send(lambda: send(toy.answered))
            await asyncio.sleep(1.0)

    async def main() -> None:
        tasks = [loop.create_task(rounds(toy, stream.below(SECOND) / SECOND)) for toy in toys]
        await asyncio.sleep(VIRTUAL_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return sum(toy.answers for toy in toys)


TOYS: Final = {
    "engine": on_our_engine,
    "simpy": on_simpy,
    "bare_simpy": on_bare_simpy,
    "asyncio": on_asyncio,
}


def measure() -> dict[str, float]:
    """Return events per CPU second of each, and how many times faster ours is."""
    rates: dict[str, float] = {}
    for name, toy in TOYS.items():
        for _ in range(REPEATS):
            began = time.process_time()
            answers = toy()
            cpu_s = time.process_time() - began
            expected = NODES * VIRTUAL_S
            assert expected * 0.99 < answers <= expected, f"{name} lost pings: {answers}"
            rates[name] = max(rates.get(name, 0.0), 3 * answers / cpu_s)
    figures: dict[str, float] = {f"toy_{n}_events_per_cpu_s": round(r) for n, r in rates.items()}
    for name in ("simpy", "bare_simpy", "asyncio"):
        figures[f"toy_engine_vs_{name}"] = round(rates["engine"] / rates[name], 2)
    return figures


if __name__ == "__main__":
    print(json.dumps(measure()), flush=True)
