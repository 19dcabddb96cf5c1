"""The transports: delivery, what waits, what is dropped, and errors that name the address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from fabric import limits
from fabric.counters import Counters
from fabric.errors import AddressInUse, BadInput
from fabric.machine import Contact, Message
from fabric.transport.both import BothTransport
from fabric.transport.inproc import InprocTransport
from fabric.transport.interface import Transport
from fabric.transport.zmq import ZmqTransport
from fabric.wire.codec import encode_frame
from fabric.wire.common import Done, Failure, Request, Response

Start = Callable[..., "asyncio.Future[Peer]"]


class Peer:
    """A transport and what it delivered."""

    def __init__(self, transport: Transport, counters: Counters) -> None:
        self.transport = transport
        self.counters = counters
        self.got: asyncio.Queue[tuple[int, Message]] = asyncio.Queue()

    async def start(self, node_id: int) -> Peer:
        await self.transport.start(node_id, lambda s, m: self.got.put_nowait((s, m)))
        return self

    async def next(self) -> tuple[int, Message]:
        async with asyncio.timeout(10):
            return await self.got.get()


def zmq_peer(address: str = "tcp://127.0.0.1:0") -> Peer:
    counters = Counters()
    return Peer(ZmqTransport(address, counters), counters)


def inproc_peer(name: str, **options: bool) -> Peer:
    counters = Counters()
    return Peer(InprocTransport(f"inproc://{name}", counters, **options), counters)


@pytest.fixture
async def open_peers() -> AsyncIterator[list[Peer]]:
    peers: list[Peer] = []
    yield peers
    for peer in peers:
        await peer.transport.close()


@pytest.mark.parametrize("kind", ["zmq", "inproc", "inproc-encoded"])
async def test_messages_arrive_in_order_with_their_sender(
    kind: str, open_peers: list[Peer]
) -> None:
    for number in (1, 2):
        if kind == "zmq":
            peer = zmq_peer()
        else:
            peer = inproc_peer(f"p{number}", encode=kind.endswith("encoded"))
        open_peers.append(await peer.start(number))
    a, b = open_peers
    for i in range(500):
        assert a.transport.send(b.transport.address, Failure("C", str(i)))
    for i in range(500):
        assert await b.next() == (1, Failure("C", str(i)))
    b.transport.send(a.transport.address, Done())
    assert await a.next() == (2, Done())
    if kind == "zmq":
        assert b.counters["sent_bytes"] == len(encode_frame(2, Done()))


async def test_lockstep_traffic_both_ways_never_stalls(open_peers: list[Peer]) -> None:
    a, b = [await zmq_peer().start(1), await zmq_peer().start(2)]
    open_peers += [a, b]
    for _ in range(3000):
        a.transport.send(b.transport.address, Done())
        await b.next()
        b.transport.send(a.transport.address, Done())
        await a.next()


async def test_a_raising_receiver_does_not_kill_the_reader(open_peers: list[Peer]) -> None:
    counters = Counters()
    got: list[str] = []
    all_there = asyncio.Event()

    def deliver(sender: int, message: Message) -> None:
        got.append(message.message)
        if len(got) == 1000:
            all_there.set()
        if len(got) % 5 == 0:
            raise ValueError("every fifth")

    b = Peer(ZmqTransport("tcp://127.0.0.1:0", counters), counters)
    await b.transport.start(2, deliver)
    a = await zmq_peer().start(1)
    open_peers += [a, b]
    for i in range(1000):
        a.transport.send(b.transport.address, Failure("C", str(i)))
        if i % 100 == 0:
            await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await all_there.wait()
    assert counters["receive_errors"] == 200


async def test_frames_wait_for_a_peer_that_starts_later(open_peers: list[Peer]) -> None:
    probe = await zmq_peer().start(9)
    address = probe.transport.address
    await probe.transport.close()
    a = await zmq_peer().start(1)
    open_peers.append(a)
    for i in range(10):
        assert a.transport.send(address, Failure("C", str(i)))
    b = await zmq_peer(address).start(2)
    open_peers.append(b)
    assert [(await b.next())[1].message for _ in range(10)] == [str(i) for i in range(10)]


async def test_the_queue_for_a_dead_peer_is_bounded(open_peers: list[Peer]) -> None:
    a = await zmq_peer().start(1)
    open_peers.append(a)
    sent = [a.transport.send("tcp://127.0.0.1:1", Done()) for _ in range(limits.SEND_QUEUE + 5)]
    assert sent.count(False) == 5
    assert a.counters["dropped_full"] == 5


async def test_an_answer_over_the_frame_limit_becomes_a_failure(open_peers: list[Peer]) -> None:
    a, b = [await zmq_peer().start(1), await zmq_peer().start(2)]
    open_peers += [a, b]
    huge = Failure("C", "m", (("k", "x" * limits.MAX_FRAME_BYTES),))
    assert not a.transport.send(b.transport.address, huge)
    assert a.transport.send(b.transport.address, Response(5, huge))
    _, response = await b.next()
    assert (response.request_id, response.body.code) == (5, "EdgeError")
    assert a.counters["oversize_frames"] == 2


async def test_connections_are_bounded(
    open_peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.transport.zmq.MAX_CONNECTIONS", 3)
    counters = Counters()
    transport = ZmqTransport("tcp://127.0.0.1:0", counters)
    a = await Peer(transport, counters).start(1)
    open_peers.append(a)
    for port in range(1, 8):
        transport.send(f"tcp://127.0.0.1:{port}", Done())
    assert transport.connections == 3
    assert counters["links_evicted"] == 4


async def test_what_was_sent_before_closing_arrives(open_peers: list[Peer]) -> None:
    b = await zmq_peer().start(2)
    open_peers.append(b)
    a = await zmq_peer().start(1)
    a.transport.send(b.transport.address, Done())
    await b.next()  # connected
    for _ in range(50):
        a.transport.send(b.transport.address, Done())
    await a.transport.close()
    for _ in range(50):
        await b.next()


async def test_a_port_in_use_is_told(open_peers: list[Peer]) -> None:
    a = await zmq_peer().start(1)
    open_peers.append(a)
    with pytest.raises(AddressInUse, match=a.transport.address):
        await zmq_peer(a.transport.address).start(2)
    b = await inproc_peer("x").start(1)
    open_peers.append(b)
    with pytest.raises(AddressInUse, match="inproc://x"):
        await inproc_peer("x").start(2)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://0.0.0.0:0",
        "tcp://*:0",
        "tcp://192.168.1.5:7000",
        "tcp://example.org:1",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:-1",
        "127.0.0.1:7000",
        "ipc:///tmp/x",
        "",
        "tcp://[::]:0",
    ],
)
def test_addresses_that_cannot_be_bound_are_named(address: str) -> None:
    with pytest.raises(BadInput) as caught:
        ZmqTransport(address, Counters())
    assert caught.value.data["value"] == address
    assert repr(address) in caught.value.message


async def test_hostile_reply_addresses_are_counted_not_dialled(open_peers: list[Peer]) -> None:
    a = await zmq_peer().start(1)
    open_peers.append(a)
    for address in ("tcp://10.0.0.1:80", "inproc://x", "\0", "tcp://127.0.0.1:0"):
        assert not a.transport.send(address, Done())
    assert a.counters["bad_addresses"] == 4


async def test_a_peer_listens_in_process_and_outside(open_peers: list[Peer]) -> None:
    counters = Counters()
    both = BothTransport(
        InprocTransport("inproc://both", counters), ZmqTransport("tcp://127.0.0.1:0", counters)
    )
    a = await Peer(both, counters).start(1)
    b = await inproc_peer("b").start(2)
    c = await zmq_peer().start(3)
    open_peers += [a, b, c]
    b.transport.send("inproc://both", Done())
    assert await a.next() == (2, Done())
    c.transport.send(both.outer_address, Request(1, Contact(3, c.transport.address), 5, Done()))
    sender, request = await a.next()
    assert sender == 3
    both.send(request.reply_to.address, Done())
    assert await c.next() == (1, Done())
