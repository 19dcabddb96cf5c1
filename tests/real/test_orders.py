"""Orders take a right: a node without it is told so, the operator and candidates go on."""

from __future__ import annotations

from pathlib import Path

import pytest

import agent
import fabric
from fabric import adopting
from fabric.errors import Conflict, NotPermitted
from fabric.machine import Contact
from fabric.transport.authority import ClusterKeys
from fabric.transport.keys import NodeKeys
from fabric.transport.orders import ORDERS, refusal
from fabric.wire.common import Request
from fabric.wire.peer import StatusAsk
from fabric.wire.seeing import ThawAsk, Through
from fabric.wire.trust import CANDIDATE, OPERATOR
from tests.real.keyed import PATIENCE_S, cluster, issue


@pytest.fixture
def keys(tmp_path: Path) -> ClusterKeys:
    return cluster(tmp_path / "keys")


async def orders(address: str, keys: NodeKeys | None) -> None:
    """Give each order once; with the right to, one is carried out and one is in vain."""
    async with fabric.connect(address, keys=keys) as client:
        assert not (await client.thaw()).frozen
        with pytest.raises(Conflict, match="not halted"):
            await adopting.adopt(client)


async def test_only_candidates_and_the_operator_give_orders(
    keys: ClusterKeys, tmp_path: Path
) -> None:
    async with fabric.open(
        host=agent.simulated_host(), candidate=True, keys=issue(keys, "chairman"),
        coordinator=str(tmp_path / "coordinator"),
    ) as peer:  # fmt: skip
        await peer.ready(PATIENCE_S)
        address = peer.contact.address
        async with fabric.connect(address, keys=issue(keys, "plain", rights=0)) as client:
            assert await client.status()  # asking is free
            with pytest.raises(NotPermitted, match="no right to ThawAsk"):
                await client.thaw()
            with pytest.raises(NotPermitted, match="no right to AdoptAsk"):
                await adopting.adopt(client)
        assert peer.counters["refused_orders"] == 2
        await orders(address, issue(keys, "candidate"))
        await orders(address, keys.guest("operator", 60))
        assert not (await peer.thaw()).frozen  # its own


async def test_without_keys_there_are_no_rights(tmp_path: Path) -> None:
    async with fabric.open(
        host=agent.simulated_host(), candidate=True, coordinator=str(tmp_path / "coordinator")
    ) as peer:
        await peer.ready(PATIENCE_S)
        await orders(peer.contact.address, None)


def test_an_order_through_a_door_is_an_order() -> None:
    inner = Contact(9, "inproc://inner")
    order = Request(1, Contact(7, ""), 1000, Through(inner, ThawAsk()))
    assert isinstance(refusal(7, 0, order), NotPermitted)
    assert refusal(7, CANDIDATE, order) is None and refusal(7, OPERATOR, order) is None
    assert refusal(7, 0, Request(1, Contact(7, ""), 1000, StatusAsk())) is None
    assert all(rights for rights in ORDERS.values())
