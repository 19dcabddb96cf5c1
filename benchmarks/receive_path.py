"""One peer's receive path through the whole driver, against a bare pyzmq loop.

    python -m benchmarks.receive_path [--quick] [--json]

Another process sends probe-sized messages as fast as it can over TCP on loopback.  They are
received in two ways, in turn, several rounds each:

* *bare*: a ROUTER and ``recv_multipart(NOBLOCK)`` until ``EAGAIN``, then ``poll``: what pyzmq gives
  a program that does nothing with the bytes;
* *driver*: a peer's runtime as it is: event loop, pump, decoding and checking, counters, the
  machine's ``handle`` (which counts).

Each of them once more with keys: *bare* as a CURVE server (encryption alone), *driver* with all
that keys bring (the ZAP handler, each frame's User-Id looked up).

The rate is messages per second from the first to the last message of a round.  The result is the
ratio of the medians, taken in one run, so that it says little about the machine; ``keys_ratio`` is
the same under CURVE, ``keys_cost`` the driver's rate with keys against that without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import zmq

from fabric.counters import Counters
from fabric.machine import Event, Received, Sink
from fabric.runtime.driver import Runtime
from fabric.storage.memory import MemoryStorage
from fabric.transport.authority import ClusterKeys
from fabric.transport.keys import NodeKeys
from fabric.transport.link import Curve
from fabric.transport.zmq import ZmqTransport
from fabric.wire.codec import Int, Small, encode_frame, many, register

GOAL: Final = 0.40
TYPE_ID: Final = 65_000


@dataclass(slots=True)
class News:
    """What a probe carries about one member."""

    node_id: Int
    incarnation: Int
    state: Small


@dataclass(slots=True)
class Probe:
    """A message of the size and shape of a gossip probe with one piece of news."""

    sequence: Int
    cell: Int
    digest: Int
    news: Annotated[tuple[News, ...], many(16)] = ()


register(TYPE_ID, Probe)
MESSAGE: Final = Probe(70_000, 1 << 60, 1 << 59, (News(1 << 61, 3, 1),))


@dataclass(frozen=True)
class Pair:
    """Keys of the receiver and of the sender."""

    receiver: NodeKeys
    sender: NodeKeys

    @property
    def curve(self) -> Curve:
        """What the sender's socket needs."""
        mine = self.sender
        return Curve(
            self.receiver.certificate.transport_key,
            mine.certificate.transport_key,
            mine.transport_secret,
        )


def send_all(address: str, number: int, frame: bytes, curve: Curve | None) -> None:
    """The sending process."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    if curve is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, curve.server)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, curve.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, curve.secret)
    socket.connect(address)
    for _ in range(number):
        socket.send(frame)
    socket.close(linger=-1)
    context.term()


def sender(
    address: str, number: int, frame: bytes, pair: Pair | None
) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(
        target=send_all, args=(address, number, frame, None if pair is None else pair.curve)
    )
    process.start()
    return process


def bare(number: int, frame: bytes, pair: Pair | None = None) -> float:
    """Return messages per second of a loop that only receives."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    if pair is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, pair.receiver.transport_secret)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    process = sender(f"tcp://127.0.0.1:{port}", number, frame, pair)
    socket.poll()
    start = time.perf_counter()
    received = 0
    while received < number:
        try:
            while True:
                socket.recv_multipart(zmq.NOBLOCK)
                received += 1
        except zmq.Again:
            if received < number:
                socket.poll()
    wall_s = time.perf_counter() - start
    process.join()
    socket.close(linger=0)
    context.term()
    return number / wall_s


class Counting:
    """The machine: it takes a probe and counts it."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.first_s = 0.0
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def start(self, now: int, out: Sink) -> None:
        pass

    def handle(self, event: Event, now: int, out: Sink) -> None:
        if isinstance(event, Received) and event.message.__class__ is Probe:
            if not self.first_s:
                self.first_s = time.perf_counter()
            self._left -= 1
            if self._left == 0:
                self.done.set_result(time.perf_counter() - self.first_s)


async def driver(number: int, frame: bytes, pair: Pair | None = None) -> float:
    """Return messages per second of a peer's runtime."""
    counters = Counters()
    keys = None if pair is None else pair.receiver
    transport = ZmqTransport("tcp://127.0.0.1:0", counters, keys)
    if pair is not None:
        transport.trust(pair.sender.signed)
    runtime = Runtime(transport, MemoryStorage(1), counters)
    await runtime.listen()
    machine = Counting(number)
    runtime.run(machine)
    process = sender(runtime.me.address, number, frame, pair)
    wall_s = await machine.done
    await asyncio.to_thread(process.join)
    await runtime.stop()
    return number / wall_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer messages and rounds")
    parser.add_argument("--json", action="store_true", help="last line is one JSON object")
    options = parser.parse_args()
    number, rounds = (100_000, 3) if options.quick else (400_000, 7)
    with tempfile.TemporaryDirectory(prefix="fabric-keys-") as name:
        keys = ClusterKeys.create(Path(name) / "keys", "benchmark")
        pair = Pair(keys.guest("receiver", 86_400), keys.guest("sender", 86_400))
    frame = encode_frame(pair.sender.node_id, MESSAGE)
    rates: dict[str, list[float]] = {"bare": [], "driver": [], "bare_keys": [], "driver_keys": []}
    for i in range(rounds):
        rates["bare"].append(bare(number, frame))
        rates["driver"].append(asyncio.run(driver(number, frame)))
        rates["bare_keys"].append(bare(number, frame, pair))
        rates["driver_keys"].append(asyncio.run(driver(number, frame, pair)))
        last = ", ".join(f"{name} {values[-1]:,.0f}/s" for name, values in rates.items())
        print(f"round {i + 1}: {last}", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "message_bytes": len(frame),
        "rounds": rounds,
        **{f"{name}_per_s": round(median) for name, median in medians.items()},
        "ratio": round(medians["driver"] / medians["bare"], 3),
        "keys_ratio": round(medians["driver_keys"] / medians["bare_keys"], 3),
        "keys_cost": round(medians["driver_keys"] / medians["driver"], 3),
        "goal": GOAL,
    }
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{key:>14}  {value}" for key, value in result.items()))
    return 0 if result["ratio"] >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
