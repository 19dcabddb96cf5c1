"""Addresses of ZooKeeper ensembles, and nodes that somebody else wrote there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabric.coordination.ensemble import parse_ensemble
from fabric.coordination.layout import coordinator_id_of, encode_meta, line_of
from fabric.errors import ConfigError, ForeignData


def test_an_address_names_servers_and_a_path() -> None:
    parsed = parse_ensemble("zookeeper://127.0.0.1:21,localhost,[::1]:22/prod/dc1/?session_s=6")
    assert parsed.servers == "127.0.0.1:21,localhost:2181,[::1]:22"
    assert (parsed.chroot, parsed.session_s, parsed.credentials) == ("/prod/dc1", 6.0, "")
    assert parse_ensemble("zookeeper://127.0.0.1").chroot == "/fabric"
    assert str(parsed) == "zookeeper://127.0.0.1:21,localhost:2181,[::1]:22/prod/dc1"


def test_credentials_come_from_a_file_or_the_environment_and_are_never_shown(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "auth"
    secret.write_text("fabric:s3cret\n")
    secret.chmod(0o600)
    by_file = parse_ensemble(f"zookeeper://10.0.0.1,10.0.0.2?auth_file={secret}")
    by_name = parse_ensemble("zookeeper://10.0.0.1?auth_env=ZK", {"ZK": "fabric:s3cret"})
    for parsed in (by_file, by_name):
        assert parsed.credentials == "fabric:s3cret"
        assert "s3cret" not in f"{parsed} {parsed!r}"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("zookeeper://", "HOST:PORT"),
        ("zookeeper://:2181", "HOST:PORT"),
        ("zookeeper://a b:1", "HOST:PORT"),
        ("zookeeper://::1:21", "HOST:PORT"),
        ("zookeeper://127.0.0.1:0", "port"),
        ("zookeeper://127.0.0.1:99999", "port"),
        ("zookeeper://127.0.0.1:²", "port"),
        ("zookeeper://127.0.0.1,", "HOST:PORT"),
        ("zookeeper://" + ",".join(["127.0.0.1"] * 40), "40 servers"),
        ("zookeeper://127.0.0.1/a//b", "impossible path"),
        ("zookeeper://127.0.0.1/zookeeper/x", "impossible path"),
        ("zookeeper://127.0.0.1/../x", "impossible path"),
        ("zookeeper://127.0.0.1?session_s=0.5", "between 1 and 60"),
        ("zookeeper://127.0.0.1?session_s=x", "between 1 and 60"),
        ("zookeeper://127.0.0.1?sesion_s=5", "not known"),
        ("zookeeper://127.0.0.1?session_s=5&session_s=6", "twice"),
        ("zookeeper://127.0.0.1?auth_file=", "no usable value"),
        ("zookeeper://127.0.0.1?auth_file=/nowhere", "cannot be read"),
        ("zookeeper://127.0.0.1?auth_env=UNSET", "not set"),
        ("zookeeper://127.0.0.1?auth_env=EMPTY", "user:password"),
        ("zookeeper://127.0.0.1?auth_env=EMPTY&auth_file=x", "exclude"),
        ("zookeeper://127.0.0.1?tls_cert=x&tls_key=y", "tls_ca"),
        ("zookeeper://127.0.0.1?tls_ca=/nowhere", "no file"),
        ("zookeeper://10.0.0.1:2181", "needs credentials"),
        ("zookeeper://zk.example:2181", "needs credentials"),
        ("zookeeper://user:pw@127.0.0.1", "must not hold a password"),
        ("zookeeper://" + "a" * 3000, "longer"),
    ],
)
def test_impossible_addresses_say_why(address: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        parse_ensemble(address, {"EMPTY": ""})
    assert "pw" not in str(caught.value)


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "auth"
    secret.write_text("fabric:s3cret")
    secret.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        parse_ensemble(f"zookeeper://10.0.0.1?auth_file={secret}")


def test_the_meta_node_keeps_the_id() -> None:
    assert coordinator_id_of("/f/meta", encode_meta(77)) == 77


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "not the JSON object"),
        (b"\xff\xfe", "not the JSON object"),
        (b"[" * 4000, "not the JSON object"),
        (b"1" * 4000, "not the JSON object"),
        (b"[]", "not the JSON object"),
        (b" " * 5000, "not the JSON object"),
        (b"{}", "names no format"),
        (b'{"format": true, "id": "0000000000000001"}', "names no format"),
        (b'{"format": 2, "id": "0000000000000001"}', "newer version of Fabric"),
        (b'{"format": 1, "id": 1}', "no id"),
        (b'{"format": 1, "id": "000000000000001g"}', "no id"),
        (b'{"format": 1, "id": "0000000000000000"}', "impossible id"),
        (b'{"format": 1, "id": "ffffffffffffffff"}', "impossible id"),
    ],
)
def test_a_meta_node_that_fabric_did_not_write_is_named(value: bytes, why: str) -> None:
    with pytest.raises(ForeignData, match=rf"^coordinator node /f/meta .*{why}"):
        coordinator_id_of("/f/meta", value)


def test_the_line_is_ordered_by_number_and_knows_strangers() -> None:
    late, early = f"{1:016x}-0000000010", f"{9:016x}-0000000009"
    assert [c.node_id for c in line_of([late, early], "/f/chair")] == [9, 1]
    with pytest.raises(ForeignData, match="/f/chair/lock-1 is no candidate's node"):
        line_of([late, "lock-1"], "/f/chair")
