"""The trace hash: the same everywhere, and sensitive to everything."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
import toy_machine
from toy_machine import ToyAck, ToyPeer, ToyPing

from fabric.errors import Unavailable
from fabric.machine import Contact, Message
from fabric.wire.common import Done, Failure, Request
from sim.engine import Engine, Node
from sim.faults import Crash, Cut, Lossy, schedule
from sim.trace import Fingerprints, Trace, _portable_hash, hash_ints, hash_text, hash_value

ROOT = Path(__file__).resolve().parents[2]


class Toys:
    """A world of toy peers, as far as faults need one."""

    def __init__(self, seed: int, hosts: int, fidelity: bool = False) -> None:
        self.engine = Engine(seed, fidelity=fidelity)
        streams = self.engine.streams
        self.contacts = [Contact(streams.number("id", i), f"sim://{i}") for i in range(hosts)]
        self.coordinator = None  # type: ignore[assignment]
        for i, contact in enumerate(self.contacts):
            self.engine.add_node(contact, streams.stream("clock", i).below(5_000))
        for node in self.engine.nodes:
            self.restart(node)

    def host(self, index: int) -> Node:
        return self.engine.nodes[index]

    def restart(self, node: Node) -> None:
        others = [c for c in self.contacts if c.address != node.address]
        stream = self.engine.streams.stream("toy", node.index * 1000 + node.generation)
        stored = node.disk.stored()
        node.start(lambda: ToyPeer(node.contact, others, stream, stored))

    def wipe(self, node: Node) -> None:
        node.disk.wipe()

    def fault_over(self) -> None:
        pass

    def fault_begins(self, fault: object) -> None:
        pass


def run_toys(seed: int, fidelity: bool = False) -> str:
    """Run twelve toy peers for twenty virtual seconds with crashes, cuts and loss."""
    world = Toys(seed, 12, fidelity)
    engine = world.engine
    stream = engine.streams.stream("plan")
    plan = [
        Crash(1_000_000 + stream.below(9_000_000), stream.below(12), 2_000_000) for _ in range(3)
    ]
    cut = Cut(stream.below(5_000_000), (0, 1, 2), 4_000_000, one_way=bool(seed % 2))
    schedule([*plan, cut, Lossy(8_000_000, 3_000_000, 50_000, 50_000)], world)
    for k in range(6):
        node = engine.nodes[stream.below(12)]
        ping = ToyPing(k + 1, node.contact, ())
        at = stream.below(15_000_000)
        engine.at(at, lambda node=node, ping=ping: engine.call(node, ping, lambda reply: None))
    engine.run(20_000_000)
    return engine.trace.hexdigest()


def test_same_seed_same_hash_another_seed_another_hash() -> None:
    assert run_toys(1) == run_toys(1)
    assert run_toys(1) != run_toys(2)


def test_encoding_every_hop_changes_nothing() -> None:
    assert run_toys(3) == run_toys(3, fidelity=True)


def hashes_of(python: list[str], hash_seed: str) -> list[str]:
    code = (
        "import sys; sys.path[:0] = ['tests/sim', '.'];"
        "from test_trace import run_toys; print(*[run_toys(s) for s in range(20)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [*python, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def test_twenty_seeds_with_faults_in_processes_with_other_hash_seeds() -> None:
    first = hashes_of([sys.executable], "1")
    assert len(set(first)) == 20
    assert first == hashes_of([sys.executable], "4242")


def test_one_byte_of_one_message_changes_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = run_toys(5)
    seen = 0

    def ack(round: int, note: str, news: tuple[int, ...]) -> Message:
        nonlocal seen
        seen += 1
        return ToyAck(round, "oj" if seen == 100 else note, news)

    monkeypatch.setattr(toy_machine, "ToyAck", ack)
    assert run_toys(5) != honest
    assert seen > 100


# --- fingerprints ---------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: int
    right: str


@dataclass(slots=True)
class Everything:
    number: int
    flag: bool
    text: str
    raw: bytes
    maybe: int | None
    many: tuple[int, ...]
    pairs: tuple[Pair, ...]
    fixed: tuple[int, str]
    inner: Failure
    body: object


BASE = Everything(
    1, True, "a", b"a", None, (1, 2), (Pair(1, "x"),), (1, "y"), Failure("c", "m"), Done()
)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 2},
        {"number": 1 << 60},
        {"flag": False},
        {"text": "b"},
        {"raw": b"b"},
        {"maybe": 0},
        {"many": (2, 1)},
        {"many": (1, 2, 0)},
        {"pairs": (Pair(1, "y"),)},
        {"pairs": (Pair(2, "x"),)},
        {"pairs": ()},
        {"fixed": (1, "z")},
        {"inner": Failure("c", "n")},
        {"inner": Failure("c", "m", (("k", "v"),))},
        {"body": Failure("c", "m")},
        {"body": Request(1, Contact(1, "a"), 2, Done())},
    ],
)
def test_every_field_counts(change: dict[str, object]) -> None:
    of = Fingerprints()[Everything]
    assert of(replace(BASE, **change), 1) != of(BASE, 1)  # type: ignore[arg-type]
    assert of(replace(BASE), 1) == of(BASE, 1)


def test_the_sender_counts() -> None:
    of = Fingerprints()[Everything]
    assert of(BASE, 1) != of(BASE, 2)


def test_known_values_stay() -> None:
    """These numbers are part of what makes seeds comparable between versions and machines."""
    assert hash_ints((1, 2, 3)) == 529344067295497451
    assert hash_text("fabric") == hash_text("fabric")
    assert hash_value(None) == 1852796517
    trace = Trace()
    trace.words.extend((1, 2, -3))
    assert trace.hexdigest() == "a630d987d435f48a4c806f11ae24de9c"


@pytest.mark.parametrize("items", [(), (0,), (-1,), (1 << 61, -5, 3), tuple(range(50))])
def test_the_portable_hash_is_what_cpython_computes(items: tuple[int, ...]) -> None:
    assert _portable_hash(items) == hash(items)


def test_exceptions_count_by_code_not_by_text() -> None:
    assert hash_value(Unavailable("a")) == hash_value(Unavailable("b"))
    assert hash_value(Unavailable("a")) != hash_value(KeyError("a"))


def test_without_hash_nothing_is_computed() -> None:
    engine = Engine(1, trace=Trace(enabled=False))
    assert engine.marks.of(BASE, 1) == 0
    assert engine.trace.hexdigest() == ""
