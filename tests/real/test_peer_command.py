"""``fabric peer`` as real processes, and the commands that ask them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.cli.output import Exit
from tests.real.processes import (
    PATIENCE_S,
    SMALL_CELLS,
    PeerProcess,
    environment,
    eventually,
    fabric,
    peers,
    result_of,
)

Start = Callable[..., PeerProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    with peers() as starter:
        yield starter


def first(start: Start, directory: Path, *words: str) -> PeerProcess:
    return start("--candidate", "--host", "sim", "--data-dir", str(directory), *SMALL_CELLS, *words)


def join(start: Start, other: PeerProcess, directory: Path, *words: str) -> PeerProcess:
    return start("--join", other.address, "--host", "sim", "--data-dir", str(directory),
                 *SMALL_CELLS, *words)


def three(start: Start, directory: Path) -> tuple[PeerProcess, PeerProcess, PeerProcess]:
    """Three hosts, so that three seats vote and one of them may go."""
    one = first(start, directory / "p1")
    two, other = (join(start, one, directory / f"p{number}") for number in (2, 3))
    eventually(lambda: tree_of(one), lambda t: len(t["root"].get("seats", ())) == 3)
    return one, two, other


def hosts_in(tree: dict[str, Any]) -> set[str]:
    """Node ids of the living hosts in the leaf cells of a ``fabric tree --json``."""
    if tree.get("error"):
        return set()
    if tree["leaf"]:
        return {row["key"] for row in tree["members"]
                if row["state"] == "alive" and not row["observer"]}
    return set().union(*map(hosts_in, tree["cells"]))


def tree_of(peer: PeerProcess) -> dict[str, Any]:
    done = fabric("tree", "--peer", peer.address, "--timeout-s", "2", "--json")
    if done.returncode != 0:
        return {"root": {"error": "not yet"}, "depth": 0}
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_peers_form_a_tree_that_any_of_them_tells(start: Start, tmp_path: Path) -> None:
    one = first(start, tmp_path / "p1")
    others = [join(start, one, tmp_path / f"p{number}") for number in range(2, 6)]
    everybody = {peer.node_id for peer in (one, *others)}
    told = eventually(lambda: tree_of(others[-1]), lambda t: hosts_in(t["root"]) == everybody)
    assert told["depth"] == 2  # five hosts, at most three in a leaf cell
    text = fabric("tree", "--peer", one.address).stdout
    assert text.startswith("root cell") and all(node in text for node in everybody)

    status = result_of("status", FABRIC_PEER=others[0].address)
    assert status["node_id"] == others[0].node_id
    assert status["chairman"]["node_id"] == one.node_id

    members = result_of("members", "--data-dir", str(tmp_path / "p1"))
    assert one.node_id in {row["key"] for row in members["cells"][0]["members"]}


def free_cpu(peer: PeerProcess) -> int:
    root = tree_of(peer)["root"]
    return root["summary"]["cpu_free"] if root.get("summary") else -1


def test_place_confirm_and_release_through_any_peer(start: Start, tmp_path: Path) -> None:
    one, two, other = three(start, tmp_path)
    size = ("--cpu", "2", "--memory-mb", "4096")
    placed = result_of("place", "--peer", two.address, *size, "--vm-id", "web", "--confirm")
    assert placed["host"]["node_id"] in {one.node_id, two.node_id, other.node_id}
    again = result_of("place", "--peer", two.address, *size, "--vm-id", "web")
    assert again["placement"] == placed["placement"]  # one key, one placement
    elsewhere = result_of("place", "--peer", other.address, *size, "--vm-id", "db",
                          "--constraint", f"host!={placed['host']['node_id']}")
    assert elsewhere["host"]["node_id"] != placed["host"]["node_id"]
    eventually(lambda: free_cpu(one), lambda cpu: cpu == 3 * 16 - 4)
    for taken in (placed, elsewhere):
        assert result_of("release", taken["placement"], "--peer", one.address)
    eventually(lambda: free_cpu(one), lambda cpu: cpu == 3 * 16)

    refusal = fabric("place", "--peer", one.address, "--cpu", "17", "--json")
    assert refusal.returncode == Exit.REFUSED
    error = json.loads(refusal.stdout)["error"]
    assert error["code"] == "NoSuchResource" and "3 by cpu" in error["message"]


def test_sigterm_leaves_and_the_others_know_at_once(start: Start, tmp_path: Path) -> None:
    one, two, other = three(start, tmp_path)
    assert (tmp_path / "p2" / "address").read_text().strip() == two.address
    code, last = two.end(signal.SIGTERM)
    assert (code, last["event"]) == (Exit.OK, "left")
    assert not (tmp_path / "p2" / "address").exists()
    eventually(lambda: tree_of(one), lambda t: hosts_in(t["root"]) == {one.node_id, other.node_id})


def test_ctrl_c_leaves_too_and_says_so(start: Start, tmp_path: Path) -> None:
    code, last = first(start, tmp_path / "p1").end(signal.SIGINT)
    assert (code, last["event"]) == (Exit.INTERRUPTED, "left")


def test_a_peer_leaves_when_the_reader_of_its_output_has_gone(
    start: Start, tmp_path: Path
) -> None:
    one = first(start, tmp_path / "p1")
    assert one.process.stdout is not None
    one.process.stdout.close()
    one.process.stdout = None
    assert one.process.wait(PATIENCE_S) == Exit.OK


def test_an_observer_is_seen_and_counted_nowhere(start: Start, tmp_path: Path) -> None:
    one = first(start, tmp_path / "p1")
    observer = start("--join", one.address, *SMALL_CELLS)

    def rows() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = tree_of(one)["root"].get("members", [])
        return told

    eventually(rows, lambda seen: {row["key"] for row in seen} == {one.node_id, observer.node_id})
    assert {row["key"]: row["observer"] for row in rows()} == {
        one.node_id: False, observer.node_id: True
    }
    assert hosts_in(tree_of(observer)["root"]) == {one.node_id}
    assert result_of("status", "--peer", observer.address)["role"] == "observer"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_front_that_waits_for_its_place_can_be_stopped(
    number: signal.Signals, tmp_path: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        waiting = subprocess.Popen(
            [sys.executable, "-m", "nodes", "front", "--join", address, "--http", "127.0.0.1:0",
             "--data-dir", str(tmp_path / "front")],
            env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        eventually(lambda: (tmp_path / "front" / "peer").exists(), bool)
        waiting.send_signal(number)
        stderr = waiting.communicate(timeout=PATIENCE_S)[1]
    assert waiting.returncode == (Exit.INTERRUPTED if number is signal.SIGINT else Exit.OK), stderr
    assert "Traceback" not in stderr


def test_a_killed_peer_comes_back_as_itself(start: Start, tmp_path: Path) -> None:
    one, two, other = three(start, tmp_path)
    two.end(signal.SIGKILL)
    again = join(start, one, tmp_path / "p2")
    assert again.node_id == two.node_id
    everybody = {one.node_id, two.node_id, other.node_id}
    eventually(lambda: tree_of(again), lambda t: hosts_in(t["root"]) == everybody)


# --- what cannot be -------------------------------------------------------------------------------


def refused(*words: str) -> str:
    """Run ``fabric peer``, expect one clear line, and return it."""
    done = fabric("peer", *words)
    assert done.returncode == Exit.MACHINE, done.stderr
    assert done.stderr.startswith("fabric: ") and done.stderr.count("\n") == 1
    return done.stderr


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        line = refused("--listen", address, "--candidate", "--data-dir", str(tmp_path / "p"))
    assert "AddressInUse" in line and address in line


def test_a_data_directory_in_use(start: Start, tmp_path: Path) -> None:
    first(start, tmp_path / "p1")
    line = refused("--candidate", "--data-dir", str(tmp_path / "p1"))
    assert "DataDirectoryError" in line and "in use by another peer" in line


def test_a_data_directory_of_another_node(start: Start, tmp_path: Path) -> None:
    first(start, tmp_path / "p1").end(signal.SIGTERM)
    line = refused("--candidate", "--data-dir", str(tmp_path / "p1"), "--node-id", "2a")
    assert "belongs to node" in line and "not 000000000000002a" in line


def test_an_unwritable_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # as root only a file in the way cannot be written into
    line = refused("--candidate", "--data-dir", str(tmp_path / "file" / "p"))
    assert "DataDirectoryError" in line and "Not a directory" in line
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere: only the file in the way was tried")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "Permission denied" in refused("--candidate", "--data-dir", str(closed / "p"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "a peer needs --join ADDRESS of a living peer, or --candidate"),
        (("--candidate",), "a candidate needs --data-dir or --coordinator"),
        (("--join", "tcp://127.0.0.1:1", "--cpu", "2"), "--cpu describes a host"),
        (("--join", "tcp://10.0.0.1:7001"), "reachable from other machines, which needs keys"),
        (("--listen", "tcp://0.0.0.0:0", "--join", "tcp://127.0.0.1:1"), "needs keys"),
    ],
)
def test_impossible_flags(words: tuple[str, ...], message: str) -> None:
    done = fabric("peer", *words)
    assert done.returncode == Exit.USAGE, done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_asking_where_nobody_is() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    done = fabric("status", "--peer", address, "--timeout-s", "0.5")
    assert done.returncode == Exit.UNAVAILABLE
    assert done.stderr.startswith(f"fabric: DeadlineExceeded: no answer from {address}")


def test_no_peer_to_ask(tmp_path: Path) -> None:
    done = fabric("members", "--data-dir", str(tmp_path))
    assert done.returncode == Exit.USAGE
    assert f"no peer runs on {tmp_path}" in done.stderr
    done = fabric("members")
    assert done.returncode == Exit.USAGE
    assert "give --peer ADDRESS or --data-dir DIR, or set FABRIC_PEER" in done.stderr


def test_output_into_a_closed_pipe_is_no_traceback() -> None:
    from tests.real import processes

    command = f"{processes.sys.executable} -m nodes --help | true"
    done = subprocess.run(
        command, shell=True, env=processes.environment(), capture_output=True, text=True,
        check=False, timeout=processes.PATIENCE_S,
    )
    assert "Traceback" not in done.stderr
