"""Keys on real sockets: who comes in, who is refused, who is cut off, and what is told of it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import socket
from pathlib import Path as FilePath

import pytest
import zmq

from fabric.errors import (
    AddressInUse,
    BadInput,
    CertificateExpired,
    CertificateRevoked,
    KeyFileError,
)
from fabric.machine import Contact
from fabric.transport.authority import ClusterKeys
from fabric.transport.keys import NodeKeys, load_node
from fabric.transport.zmq import ZmqTransport
from fabric.wire import codec
from fabric.wire.codec import encode_frame, encode_record
from fabric.wire.common import Done, Failure
from fabric.wire.tree import Join, Order, Path, Topo
from fabric.wire.trust import CARD, Card, Revocations
from tests.real.keyed import KeyedPeer, cluster, issue, until


@pytest.fixture
def keys(tmp_path: FilePath) -> ClusterKeys:
    return cluster(tmp_path / "keys")


def dealer(peer: KeyedPeer, public: bytes = b"", secret: bytes = b"") -> zmq.Socket[bytes]:
    """A stranger's socket, with a CURVE key of its own or (without ``secret``) with none."""
    sock: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    if secret:
        sock.setsockopt(zmq.CURVE_SERVERKEY, peer.keys.certificate.transport_key)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, public)
        sock.setsockopt(zmq.CURVE_SECRETKEY, secret)
    sock.connect(peer.address)
    return sock


def as_node(peer: KeyedPeer, keys: NodeKeys) -> zmq.Socket[bytes]:
    """A socket under a node's own key, for an insider that sends what it likes."""
    return dealer(peer, keys.certificate.transport_key, keys.transport_secret)


async def test_nodes_of_one_cluster_talk_and_are_who_they_are(keys: ClusterKeys) -> None:
    async with KeyedPeer(issue(keys, "a")) as a, KeyedPeer(issue(keys, "b")) as b:
        for i in range(500):
            assert a.send(b, Failure("C", str(i)))
        for i in range(500):
            assert await b.next() == (a.node_id, Failure("C", str(i)))
        b.transport.send(a.address, Done())  # as a joiner does, who knows no node id yet
        assert await a.next() == (b.node_id, Done())


async def test_strangers_are_refused(keys: ClusterKeys) -> None:
    async with KeyedPeer(issue(keys, "a")) as a, KeyedPeer(issue(keys, "b")) as b:
        public, secret = zmq.curve_keypair()
        strangers = dealer(a, public, secret), dealer(a)
        for sock in strangers:
            sock.send(encode_frame(b.node_id, Done()))
        await until(lambda: a.counters["refused_keys"] >= 1)
        b.send(a, Failure("C", "honest"))
        assert await a.next() == (b.node_id, Failure("C", "honest"))
        assert a.got.empty()
        for sock in strangers:
            sock.close()


async def test_the_claimed_sender_must_be_the_authenticated_one(keys: ClusterKeys) -> None:
    insider = issue(keys, "insider")
    async with KeyedPeer(issue(keys, "a")) as a, KeyedPeer(issue(keys, "b")) as b:
        async with KeyedPeer(insider) as honest:
            honest.send(a, Done())
            await a.next()
        sock = as_node(a, insider)
        sock.send(encode_frame(b.node_id, Done()))
        sock.send(encode_frame(insider.node_id, Failure("C", "mine")))
        assert await a.next() == (insider.node_id, Failure("C", "mine"))
        assert a.counters["forged_senders"] == 1
        sock.close()


async def test_what_an_insider_says_in_anothers_name_is_not_delivered(keys: ClusterKeys) -> None:
    """Its key is good, its claims are not; what a candidate sealed comes through, also from it."""
    chairman, insider = issue(keys, "chairman"), issue(keys, "insider", rights=0)
    topo = Topo(Order(1, 1, 5), 9, Contact(chairman.node_id, "tcp://127.0.0.1:1"), 7, 8)
    forged = dataclasses.replace(
        topo, order=Order(1, 1, 6), chairman=Contact(insider.node_id, "tcp://127.0.0.1:2")
    )
    stranger = Contact(5, "tcp://127.0.0.1:2")
    async with (
        KeyedPeer(issue(keys, "a")) as a, KeyedPeer(chairman) as honest, KeyedPeer(insider) as bad,
    ):  # fmt: skip
        honest.send(bad, Path(topo, (), ()))
        await bad.next()
        bad.send(a, Path(forged, (), ()))
        bad.send(a, Join(stranger, 1, 0, "", 0, 1))
        bad.send(a, Path(topo, (), ()))
        assert await a.next() == (insider.node_id, Path(topo, (), ()))
        assert a.counters["unproven_claims"] == 2


async def test_a_revoked_node_is_cut_off_while_it_is_connected(keys: ClusterKeys) -> None:
    bad = issue(keys, "bad")
    async with (
        KeyedPeer(issue(keys, "a")) as a,
        KeyedPeer(issue(keys, "b")) as b,
        KeyedPeer(bad) as revoked,
    ):
        for one, other in ((revoked, a), (a, revoked), (revoked, b), (b, revoked), (a, b)):
            one.send(other, Done())
            await other.next()
        sock = as_node(a, bad)  # a connection that will not end by itself
        events = sock.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        sock.send(encode_frame(bad.node_id, Done()))
        await a.next()
        keys.revoke("bad")
        await until(lambda: revoked.troubles and b.counters["cut_connections"])
        assert events.poll(10_000), "the connection is still there"
        assert (revoked.codes(), revoked.troubles[0][1]) == ({"CertificateRevoked"}, True)
        sock.send(encode_frame(bad.node_id, Done()))
        revoked.send(a, Done())
        a.send(b, Failure("C", "go on"))
        assert await b.next() == (a.node_id, Failure("C", "go on"))
        assert a.got.empty()
        sock.disable_monitor()
        sock.close()
        with pytest.raises(CertificateRevoked):
            KeyedPeer(load_node(keys.directory / "bad"))


async def test_the_word_of_a_revocation_spreads_by_itself(keys: ClusterKeys) -> None:
    """Only the operator's own keys bring the list; no peer reads it from a file."""
    nodes = [keys.guest(f"n{number}", 3600) for number in range(4)]
    async with (
        KeyedPeer(nodes[0]) as a, KeyedPeer(nodes[1]) as b, KeyedPeer(nodes[2]) as c,
        KeyedPeer(issue(keys, "bad")) as bad,
    ):  # fmt: skip
        for one, other in ((a, b), (b, c), (c, bad), (bad, c)):
            one.send(other, Done())
            await other.next()
        keys.revoke("bad")
        async with KeyedPeer(keys.guest("operator", 60)) as operator:
            operator.send(a, Done())
            await until(lambda: c.counters["cut_connections"])
        assert bad.codes() == {"CertificateRevoked"}


async def test_a_forged_or_old_revocation_list_changes_nothing(
    keys: ClusterKeys, tmp_path: FilePath
) -> None:
    other = cluster(tmp_path / "other", "test")
    issue(other, "x")
    other.revoke("x")
    old = keys.revocations()[1]
    issue(keys, "bad")
    async with KeyedPeer(issue(keys, "a")) as a, KeyedPeer(keys.guest("b", 60)) as b:
        keys.revoke("bad")
        b.send(a, Revocations(other.revocations()[1]))
        b.send(a, Revocations(old))
        b.send(a, Done())
        assert await a.next() == (b.node_id, Done())
        assert a.counters["forged_revocations"] == 1
        assert a.transport._guard is not None
        assert a.transport._guard.trust.version in (0, 1)  # 1: from the file, meanwhile


async def test_another_clusters_key_is_told_so(keys: ClusterKeys, tmp_path: FilePath) -> None:
    """The same name does not help: the key decides. A name alone is enough to be refused."""
    for name in ("test", "elsewhere"):
        other = cluster(tmp_path / f"other-{name}", name)
        async with KeyedPeer(issue(keys, name)) as a, KeyedPeer(issue(other, "x")) as x:
            x.send(a, Done())
            await until(lambda x=x: "OtherCluster" in x.codes())
            assert "does not accept our certificate" in x.troubles[0][0].message
            assert not x.troubles[0][1]
            assert a.got.empty() and a.counters["refused_cards"] >= 1


async def test_an_incompatible_version_is_told_so(
    keys: ClusterKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with KeyedPeer(issue(keys, "a")) as a, KeyedPeer(issue(keys, "b")) as b:
        monkeypatch.setattr("fabric.transport.guard.WIRE_VERSION", codec.WIRE_VERSION + 2)
        show = b.transport._guard.show  # type: ignore[union-attr]

        def show_newer(*words: object) -> None:
            show(*words)  # type: ignore[arg-type]
            monkeypatch.undo()

        monkeypatch.setattr(b.transport._guard, "show", show_newer)
        b.send(a, Done())
        await until(lambda: "IncompatibleVersion" in b.codes())
        assert a.got.empty() or a.counters["refused_cards"] == 1


async def test_at_anothers_address_only_the_node_that_is_meant_is_served(
    keys: ClusterKeys,
) -> None:
    async with KeyedPeer(issue(keys, "a")) as a:
        async with KeyedPeer(issue(keys, "gone")) as gone:
            a.send(gone, Done())
            await gone.next()
            address = gone.address
        async with KeyedPeer(issue(keys, "new"), address) as new:
            a.transport.send(address, Failure("C", "for the old one"), gone.node_id)
            await until(lambda: "Untrusted" in a.codes())
            a.send(new, Failure("C", "for the new one"))
            assert await new.next() == (a.node_id, Failure("C", "for the new one"))
            assert new.got.empty()


async def test_a_restarted_peer_is_found_again(keys: ClusterKeys) -> None:
    again = issue(keys, "b")
    async with KeyedPeer(issue(keys, "a")) as a:
        async with KeyedPeer(again) as b:
            a.send(b, Failure("C", "1"))
            await b.next()
            address = b.address
        async with KeyedPeer(again, address) as b:  # it has forgotten whom it let in

            def answered() -> bool:  # what went into the dying connection is lost: ask again
                a.send(b, Failure("C", "2"))
                return not b.got.empty()

            await until(answered)
            assert await b.next() == (a.node_id, Failure("C", "2"))


async def test_hostile_cards_cost_a_counter(keys: ClusterKeys) -> None:
    async with KeyedPeer(issue(keys, "a")) as a, KeyedPeer(issue(keys, "b")) as b:
        port = int(a.address.rsplit(":", 1)[1])
        forged = Card(CARD, codec.WIRE_VERSION, 7, port, 0, b.keys.signed)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for data in (b"", b"\xff" * 2000, secrets.token_bytes(300), encode_record(forged),
                         encode_record(Card(9, 1, 1, 1, 1, None))):
                udp.sendto(data, ("127.0.0.1", port))
        await until(lambda: a.counters["bad_cards"] == 3)
        b.send(a, Done())
        assert await a.next() == (b.node_id, Done())


async def test_a_port_taken_for_udp_is_named(keys: ClusterKeys) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressInUse, match=address):
            async with KeyedPeer(issue(keys, "a"), address):
                pass


async def test_an_expired_certificate_ends_the_peer(keys: ClusterKeys) -> None:
    with pytest.raises(CertificateExpired):
        KeyedPeer(issue(keys, "past", valid_s=-1))
    async with KeyedPeer(issue(keys, "soon", valid_s=2)) as soon:
        await until(lambda: soon.troubles)
        assert (soon.codes(), soon.troubles[0][1]) == ({"CertificateExpired"}, True)


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://224.0.0.1:5"])
def test_a_wildcard_is_no_address_with_keys_either(keys: ClusterKeys, address: str) -> None:
    with pytest.raises(BadInput, match="no address at which others reach one peer"):
        KeyedPeer(issue(keys, "a"), address)


def test_with_keys_other_machines_are_allowed(keys: ClusterKeys) -> None:
    KeyedPeer(issue(keys, "a"), "tcp://192.0.2.7:7000")  # not started: nothing is bound


# --- key files ------------------------------------------------------------------------------------


def test_key_files_are_the_owners_alone(keys: ClusterKeys) -> None:
    node = issue(keys, "a")
    assert node.directory is not None
    for path in [keys.directory, *keys.directory.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    os.chmod(node.directory / "node.key", 0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_node(node.directory)


def test_no_secret_shows(keys: ClusterKeys) -> None:
    node = issue(keys, "a")
    for secret in (node.transport_secret, node.signing_secret):
        assert repr(secret) not in repr(node) and secret.hex() not in repr(node)


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b'{"cluster": 5}'])
def test_a_damaged_key_file_is_named(keys: ClusterKeys, damage: bytes) -> None:
    node = issue(keys, "a")
    assert node.directory is not None
    (node.directory / "node.key").write_bytes(damage)
    with pytest.raises(KeyFileError, match=r"node\.key is damaged"):
        load_node(node.directory)


def test_one_node_id_has_one_certificate(keys: ClusterKeys) -> None:
    node = issue(keys, "a")
    for name, node_id in (("a", None), ("b", node.node_id)):
        with pytest.raises(BadInput, match="rotate it, or revoke it first"):
            issue(keys, name, node_id=node_id)
    keys.revoke("a")
    assert issue(keys, "a", node_id=node.node_id).node_id == node.node_id


def test_a_transport_without_keys_stays_on_this_machine() -> None:
    from fabric.counters import Counters

    with pytest.raises(BadInput, match="needs keys"):
        ZmqTransport("tcp://192.0.2.7:7000", Counters())


async def test_the_loop_is_free_while_nobody_answers(keys: ClusterKeys) -> None:
    """Knocking at a dead address costs a datagram now and then, not a loop."""
    async with KeyedPeer(issue(keys, "a")) as a:
        assert a.transport.send("tcp://127.0.0.1:1", Done(), 5)
        await asyncio.sleep(0)
        guard = a.transport._guard
        assert guard is not None
        await until(lambda: not guard.links._knocks)  # the frame went stale: nothing is wanted
        assert a.counters["dropped_stale"] == 1
