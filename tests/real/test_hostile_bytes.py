"""A running peer under hostile input: random and mutated frames over ZeroMQ, garbage over TCP.

The peer is a process of its own, so that its memory can be watched from outside.  It must go on
answering, count what it refused, raise nothing, and not grow.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

import fabric
from fabric.limits import MAX_FRAME_BYTES
from fabric.wire.codec import encode_frame, registered
from fabric.wire.common import Done
from tests.messages import Messages
from tests.unit.test_codec import import_all_messages

import_all_messages()

FRAMES = 10_000
#: One kilobyte kept for each hostile frame would be more than this.
GROWTH_BYTES = 8 * 1024 * 1024

PEER = """
import asyncio, json, logging, sys
import agent, fabric
logging.basicConfig(level=logging.WARNING)
async def main():
    loop = asyncio.get_running_loop()
    async with fabric.open(host=agent.simulated_host(), candidate=True) as fab:
        await fab.ready()
        print(json.dumps(fab.contact), flush=True)
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(fab.counters.snapshot()), flush=True)
asyncio.run(main())
"""


class PeerProcess:
    """A peer, its counters and its memory."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PEER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.node_id, self.address = self._read()
        self.port = int(self.address.rsplit(":", 1)[1])

    def counters(self) -> dict[str, int]:
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        counters: dict[str, int] = self._read()
        return counters

    def memory(self) -> int:
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self) -> str:
        """End the peer by the end of its input; return what it logged."""
        try:
            _, logged = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert self.process.returncode == 0, logged
        return logged

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(f"the peer died: {self.process.stderr.read()}")
        return json.loads(line)


@pytest.fixture
def peer() -> Iterator[PeerProcess]:
    started = PeerProcess()
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


@contextlib.contextmanager
def dealer(peer: PeerProcess) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sock = context.socket(zmq.DEALER)
    sock.setsockopt(zmq.SNDTIMEO, 20_000)
    sock.connect(peer.address)
    yield sock
    sock.close(linger=10_000)
    context.term()


async def still_answers(peer: PeerProcess) -> None:
    async with fabric.connect(peer.address) as client:
        assert (await client.status(20)).contact.node_id == peer.node_id


def hostile_frames(peer: PeerProcess, number: int, rng: random.Random) -> Iterator[bytes]:
    """Noise, unharmed messages about things that exist, and messages mutated or cut off."""
    messages = Messages(rng, (peer.node_id,), (peer.address,))
    for i in range(number):
        if i % 4 == 0:
            yield rng.randbytes(rng.randrange(300))
            continue
        frame = bytearray(encode_frame(messages.number(), messages.any()))
        if i % 4 != 1:
            for _ in range(rng.randint(1, 5)):
                frame[rng.randrange(len(frame))] = rng.randrange(256)
        if i % 4 == 3:
            del frame[rng.randrange(len(frame)) :]
        yield bytes(frame)


async def test_hostile_frames_cost_counters_and_nothing_else(peer: PeerProcess) -> None:
    with dealer(peer) as sock:
        for frame in hostile_frames(peer, FRAMES, random.Random(1)):
            sock.send(frame)
        await still_answers(peer)
        memory, files = peer.memory(), peer.files()
        for frame in hostile_frames(peer, FRAMES, random.Random(2)):
            sock.send(frame)
        await still_answers(peer)
    counters = peer.counters()
    assert counters["bad_frames"] > FRAMES / 2
    reached = [name for name in counters if name.startswith("received.")]
    assert len(reached) > len(registered()) / 2  # unharmed and lightly harmed frames got through
    assert counters.get("machine_errors", 0) == 0, peer.stop()
    assert counters.get("receive_errors", 0) == 0
    assert peer.memory() - memory < GROWTH_BYTES
    assert peer.files() - files < 100
    assert "Traceback" not in peer.stop()


async def test_multiparts_and_oversize_frames_are_dropped(peer: PeerProcess) -> None:
    with dealer(peer) as sock:
        for _ in range(100):
            sock.send_multipart([b"x"] * 3)
        sock.send_multipart([b""] * 20_000)
        sock.send_multipart([encode_frame(1, Done()), b""])
        await still_answers(peer)
    with dealer(peer) as sock:
        sock.send(bytes(MAX_FRAME_BYTES + 1))
    await still_answers(peer)
    assert peer.counters()["bad_multiparts"] == 102


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    bytes.fromhex("160301020001000001fc0303") + bytes(500),
    bytes(1000),
    b"\xff" * 1000,
    b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL",  # half a ZMTP greeting
    b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48) + b"\x02\xff" + b"\xff" * 8,
    b"\xff\0\0\0\0\0\0\0\1\x7f\3\0PLAIN" + bytes(47) + b"\4\5READY",
]


async def test_garbage_over_tcp_harms_nobody(peer: PeerProcess) -> None:
    rng = random.Random(3)
    garbage = GARBAGE + [rng.randbytes(rng.randrange(2000)) for _ in range(200)]
    open_sockets = []
    for data in garbage:
        sock = socket.create_connection(("127.0.0.1", peer.port), timeout=20)
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
        if len(open_sockets) < 50:
            open_sockets.append(sock)  # stays half open
        else:
            sock.close()
    await still_answers(peer)
    memory = peer.memory()
    for data in garbage:
        with (
            socket.create_connection(("127.0.0.1", peer.port), timeout=20) as sock,
            contextlib.suppress(ConnectionError),
        ):
            sock.sendall(data)
    await still_answers(peer)
    for sock in open_sockets:
        sock.close()
    assert peer.memory() - memory < GROWTH_BYTES
    assert "Traceback" not in peer.stop()
