"""A seat grants the lease of a leaf cell to none but hosts of it; others get the record."""

from __future__ import annotations

from typing import Any

import pytest

from fabric.machine import Contact, ListSink, Received
from fabric.peer.compose import Peer
from fabric.settings import Settings
from fabric.stream import Stream
from fabric.units import SECOND
from fabric.wire.tree import (
    CellRecord,
    LeaseAsk,
    LeaseDeny,
    LeaseGrant,
    Order,
    Path,
    Topo,
)

SEAT, HOST, OBSERVER, OUTSIDER = (Contact(n, f"inproc://{n}") for n in (1, 2, 3, 9))
LEAF, ROOT = 4, 1
NOW = 100 * SECOND
ORDER = Order(1, 1, 5)
INNER = (Contact(LEAF, ""), Contact(LEAF + 1, ""))


def seat_peer() -> Peer:
    """A peer that sits in its leaf cell and in the root above it."""
    peer = Peer(Settings(), SEAT, 1, Stream(1))
    leaf = CellRecord(LEAF, 0, ROOT, ORDER, ORDER, 0, (SEAT, HOST), (OBSERVER,), (SEAT, HOST))
    root = CellRecord(ROOT, 1, 0, ORDER, ORDER, 0, INNER, (), (SEAT, HOST))
    news = Path(Topo(ORDER, 7, HOST, ROOT, 6), (leaf, root), ())
    peer.start(NOW, ListSink())
    peer.handle(Received(HOST.node_id, news), NOW, ListSink())
    return peer


def answers(peer: Peer, asker: Contact, cell: int, pre: bool) -> list[Any]:
    sink = ListSink()
    ask = LeaseAsk(cell, ORDER, 1, 77, pre, asker, ())
    peer.handle(Received(asker.node_id, ask), NOW, sink)
    sent = {"send": lambda a: a, "promise": lambda a: a[1:]}
    return [sent[kind](args)[1] for kind, args in sink.take()
            if kind in sent and sent[kind](args)[0] == asker]


@pytest.mark.parametrize("pre", [True, False])
def test_a_host_of_the_cell_is_granted_its_lease(pre: bool) -> None:
    assert answers(seat_peer(), HOST, LEAF, pre) == [LeaseGrant(LEAF, 1, 77, pre)]


@pytest.mark.parametrize("pre", [True, False])
@pytest.mark.parametrize("asker", [OUTSIDER, OBSERVER])
def test_nobody_else_is_and_gets_the_record(asker: Contact, pre: bool) -> None:
    peer = seat_peer()
    record = peer.record_of(LEAF)
    assert record is not None
    assert answers(peer, asker, LEAF, pre) == [
        LeaseDeny(LEAF, 0, 77, ORDER, None, 0),
        Path(peer.paths.topo, (record,), ()),
    ]
    assert answers(peer, HOST, LEAF, pre) == [LeaseGrant(LEAF, 1, 77, pre)]  # it was no vote


def test_which_host_speaks_for_a_child_cell_a_seat_above_cannot_tell() -> None:
    assert answers(seat_peer(), OUTSIDER, ROOT, False) == [LeaseGrant(ROOT, 1, 77, False)]
