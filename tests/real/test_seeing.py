"""What operators see of real peers: events as they happen."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[PeerProcess]]:
    """Five hosts in two leaf cells; the first is the chairman. No test of this module ends them
    but the last."""
    directory = tmp_path_factory.mktemp("five")
    with peers() as start:
        one = start("--candidate", "--host", "sim", "--data-dir", str(directory / "p1"),
                    *SMALL_CELLS)
        others = [
            start("--join", one.address, "--host", "sim", "--data-dir",
                  str(directory / f"p{number}"), *SMALL_CELLS)
            for number in range(2, 6)
        ]
        eventually(lambda: whole_tree(one), lambda tree: len(hosts_of(tree)) == 5)
        yield [one, *others]


def whole_tree(peer: PeerProcess) -> dict[str, Any]:
    done = fabric("tree", "--peer", peer.address, "--timeout-s", "2", "--json")
    return json.loads(done.stdout)["root"] if done.returncode == 0 else {}


def hosts_of(cell: dict[str, Any]) -> dict[str, str]:
    """Node id of each host in the tree -> its state."""
    if not cell or cell.get("error"):
        return {}
    if cell["leaf"]:
        return {row["key"]: row["state"] for row in cell["members"] if not row["observer"]}
    return {key: state for child in cell["cells"] for key, state in hosts_of(child).items()}


def events_of(peer: PeerProcess, *words: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = result_of("events", "--peer", peer.address, *words)["events"]
    return told


def test_the_chairman_tells_what_became_of_the_tree(five: list[PeerProcess]) -> None:
    told = events_of(five[0])
    joined = {e["node_id"] for e in told if e["event"] == "join" and "joined cell" in e["text"]}
    assert joined == {peer.node_id for peer in five}
    assert {"chairman", "place", "root", "seats"} <= {e["event"] for e in told}
    assert [e["number"] for e in told] == list(range(1, len(told) + 1))


def test_only_the_kinds_asked_for(five: list[PeerProcess]) -> None:
    assert {e["event"] for e in events_of(five[1], "--kind", "place,owner")} <= {"place", "owner"}
    done = fabric("events", "--peer", five[1].address, "--kind", "deaths")
    assert done.returncode == Exit.USAGE
    assert "--kind must be of: alarm, chairman, death" in done.stderr


def test_a_follower_sees_a_death_as_it_happens(five: list[PeerProcess]) -> None:
    """The last test of this module: it kills a host."""
    cells = whole_tree(five[0])["cells"]
    cell = next(c for c in cells if any(row["key"] == five[4].node_id for row in c["members"]))
    neighbour = next(
        peer for peer in five[:4] if any(row["key"] == peer.node_id for row in cell["members"])
    )
    follower = subprocess.Popen(
        [sys.executable, "-m", "nodes", "events", "--follow", "--kind", "suspect,death", "--json",
         "--peer", neighbour.address],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        five[4].end(signal.SIGKILL)
        assert follower.stdout is not None
        seen = []
        for line in follower.stdout:
            seen.append(json.loads(line))
            if seen[-1]["event"] == "death":
                break
        assert {e["node_id"] for e in seen} == {five[4].node_id}
        assert "on the word of" in seen[-1]["text"]
        follower.send_signal(signal.SIGINT)
        assert follower.wait(PATIENCE_S) == Exit.INTERRUPTED
    finally:
        follower.kill()
        follower.communicate()
    eventually(
        lambda: events_of(five[0], "--kind", "remove"),
        lambda told: [e["node_id"] for e in told] == [five[4].node_id],
    )
