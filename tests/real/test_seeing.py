"""What operators see of real peers: events, the topology and why it is so, the tree as it moves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent import simulated_host
from fabric import Settings, connect, open
from fabric.errors import NotFound
from nodes.cli.output import Exit
from nodes.service import Listen
from nodes.tree import is_whole
from nodes.up import UpOptions, up
from tests.real.processes import (
    PATIENCE_S,
    SMALL_CELLS,
    PeerProcess,
    cluster,
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


@contextlib.contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on until it is ended, with its JSON to be read line by line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nodes", *words, "--json"],
        env=environment() | {"FABRIC_KEYS": str(cluster().directory)},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


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
    events = {e["event"] for e in told}
    assert {"chairman", "place"} <= events
    assert events & {"owner", "takeover"}  # whoever won the election: it, or another
    assert [e["number"] for e in told] == list(range(1, len(told) + 1))


def test_only_the_kinds_asked_for(five: list[PeerProcess]) -> None:
    assert {e["event"] for e in events_of(five[1], "--kind", "place,owner")} <= {"place", "owner"}
    done = fabric("events", "--peer", five[1].address, "--kind", "deaths")
    assert done.returncode == Exit.USAGE
    assert "--kind must be of: alarm, chairman, death" in done.stderr


def test_the_topology_as_it_is_written(five: list[PeerProcess]) -> None:
    told = result_of("topology", "show", "--peer", five[3].address)
    chairman = told["chairman"]
    assert chairman["node_id"] == five[0].node_id
    assert (chairman["presides"], chairman["frozen"], chairman["hosts"]) == (True, False, 5)
    assert told["silent"] == []
    cells = {cell["cell"]: cell for cell in told["cells"]}
    leaves = [cell for cell in cells.values() if cell["level"] == 0]
    assert {m["node_id"] for leaf in leaves for m in leaf["members"]} == {
        peer.node_id for peer in five
    }
    for leaf in leaves:
        assert cells[leaf["parent"]]["level"] == 1
        assert leaf["owner"]["node_id"] in {m["node_id"] for m in leaf["members"]}
        assert leaf["owner"]["term"] > leaf["term_floor"]
    text = fabric("topology", "show", "--peer", five[3].address).stdout
    assert "freeze      none" in text and all(str(cell) in text for cell in cells)


def test_why_a_host_is_where_it_is_and_why_its_cell_has_its_owner(five: list[PeerProcess]) -> None:
    told = result_of("topology", "explain", five[2].node_id, "--peer", five[4].address)
    why, cell = told["why"], told["cell"]
    assert why["node_id"] == five[2].node_id and why["reason"] in ("joined", "split", "moved")
    assert why["chairman"]["node_id"] == five[0].node_id
    assert why["path"][0]["cell"] == cell["cell"]
    assert why["node_id"] in {row["key"] for row in cell["ranks"]}
    granted = [seat for seat in cell["seats"] if seat.get("grantee") == cell["owner"]["node_id"]]
    assert len(granted) > len(cell["seats"]) // 2
    assert cell["lease_us"] > 0 and cell["won"] is not None
    root = result_of("topology", "show", "--peer", five[4].address)["root"]
    text = fabric("topology", "explain", str(root), "--peer", five[1].address).stdout
    assert text.startswith(f"inner cell {root}, the root: 2 cells")


@pytest.mark.parametrize(
    ("subject", "code", "message"),
    [
        ("999999", Exit.REFUSED, "NotFound: there is no cell 999999 in the tree"),
        ("00000000000000ff", Exit.REFUSED, "NotFound: no host or observer 00000000000000ff"),
        ("root", Exit.USAGE, "InvalidConfig: NODE|CELL must be a node id"),
        ("0", Exit.USAGE, "InvalidConfig: NODE|CELL must be a node id"),
    ],
)
def test_what_cannot_be_explained(
    subject: str, code: Exit, message: str, five: list[PeerProcess]
) -> None:
    done = fabric("topology", "explain", subject, "--peer", five[0].address)
    assert done.returncode == code
    assert done.stderr.startswith(f"fabric: {message}")


def test_thawing_what_is_not_frozen_changes_nothing(five: list[PeerProcess]) -> None:
    told = result_of("topology", "thaw", "--peer", five[3].address)
    assert told == {"was_frozen": False, "gone": 0}


def test_members_tell_boots_and_ages(five: list[PeerProcess]) -> None:
    leaf = result_of("members", "--peer", five[0].address)["cells"][0]
    assert {row["boot"] for row in leaf["members"]} == {1}
    assert {row["state"] for row in leaf["members"]} == {"alive"}
    assert [row["accusers"] for row in leaf["members"]] == [[]] * len(leaf["members"])


async def test_metrics_of_a_peer_and_of_a_whole_cloud(tmp_path: Path) -> None:
    with peers() as start:
        one = start("--candidate", "--host", "sim", "--data-dir", str(tmp_path / "p1"),
                    "--metrics", "127.0.0.1:0")
        eventually(lambda: whole_tree(one), lambda tree: len(hosts_of(tree)) == 1)
        found = await scrape(one.said["metrics"])
        assert found["fabric_chairman"] == found["fabric_placed"] == 1
        assert found["fabric_commit_seconds_count"] > 0
        assert found["fabric_dropped_full_total"] == 0
    async with up(UpOptions(3, listen=Listen(port=0))) as ready:
        found = await scrape(f"{ready.url}/metrics")
        assert found["fabric_topology_hosts"] == 3
        assert found["fabric_received_messages_total"] > 0


async def scrape(url: str) -> dict[str, float]:
    """Every sample there, added up over its labels."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        text = await answer.text()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_metrics_are_not_served_to_other_machines(tmp_path: Path) -> None:
    done = fabric("peer", "--candidate", "--data-dir", str(tmp_path), "--metrics", "0.0.0.0:9100")
    assert done.returncode == Exit.USAGE
    assert "--metrics must be a loopback address" in done.stderr


async def test_the_whole_tree_is_seen_through_one_door() -> None:
    small = Settings(leaf_min=2, leaf_max=3, inner_min=2, inner_max=3)
    async with (
        up(UpOptions(7, listen=Listen(port=0), settings=small)) as ready,
        connect(ready.hosts[0].door) as client,
    ):
        async with asyncio.timeout(PATIENCE_S):
            while not is_whole(await client.tree(), 7):
                await asyncio.sleep(0.1)
        contact, chairman = await client.chairman()
        assert contact == ready.hosts[0].contact and chairman.hosts == 7
        far = ready.hosts[-1].contact
        assert (await client.why(far.node_id)).contact == far
        assert (await client.cell_story(0, far)).record.level == 0
        with pytest.raises(NotFound):
            await client.why(12345)


async def test_the_operator_ends_a_freeze() -> None:
    async with contextlib.AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(
                open(
                    f"inproc://frozen-{number}", host=simulated_host(), candidate=number == 0,
                    join=["inproc://frozen-0"] if number else [],
                    door=None if number else "tcp://127.0.0.1:0",
                )
            )
            for number in range(10)
        ]
        first = hosts[0]
        await asyncio.gather(*(host.ready() for host in hosts))
        client = await stack.enter_async_context(connect(first.door))
        async with asyncio.timeout(PATIENCE_S):
            # five seats, one at a time: then five more hosts that may go without an election
            while len((await client.cell()).record.seats) < 5 or not is_whole(
                await client.tree(), 10
            ):
                await asyncio.sleep(0.2)
            seats = {seat.node_id for seat in (await client.cell()).record.seats}
            going = [host for host in hosts[1:] if host.contact.node_id not in seats][:4]
            for host in going:
                await host.close()  # as good as a crash
            while not (await client.chairman())[1].frozen:
                await asyncio.sleep(0.2)
            status = (await client.chairman())[1]
            assert status.gone + status.removed > status.mark == 3
            assert 6 < status.hosts <= 10 and status.thaws_in_us > 0
            thawed = await client.thaw()
            assert thawed.frozen and thawed.gone > 0
            while (await client.chairman())[1].hosts > 6:
                await asyncio.sleep(0.2)
        kinds = [row.kind for row in (await first.history()).rows]
        assert kinds.count("remove") == 4
        last = len(kinds) - 1 - kinds[::-1].index("remove")
        assert kinds.index("freeze") < kinds.index("thaw") < last


def victim_and_neighbour(five: list[PeerProcess]) -> tuple[PeerProcess, PeerProcess]:
    """Two peers of the leaf that has three: one may die there and leave a majority of seats."""
    def wanted() -> list[PeerProcess]:
        for leaf in leaves_of(whole_tree(five[0])):
            keys = {row["key"] for row in leaf["members"]}
            if len(keys) == len(leaf["seats"]) == 3:
                return [peer for peer in five[1:] if peer.node_id in keys]
        return []

    found = eventually(wanted, lambda peers: len(peers) >= 2)
    return found[0], found[1]


def leaves_of(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """The leaf cells of a tree, those that could be read."""
    if not cell or cell.get("error"):
        return []
    return [cell] if cell["leaf"] else [leaf for it in cell["cells"] for leaf in leaves_of(it)]


def test_a_death_as_watchers_and_followers_see_it(five: list[PeerProcess]) -> None:
    """The last test of this module: it kills a host."""
    victim, neighbour = victim_and_neighbour(five)
    following = ("events", "--follow", "--kind", "suspect,death", "--peer", neighbour.address)
    watching = ("tree", "--watch", "--interval-s", "0.2", "--peer", five[0].address)
    with running(*watching) as watcher, running(*following) as follower:
        assert watcher.stdout is not None and follower.stdout is not None
        assert len(hosts_of(json.loads(watcher.stdout.readline())["root"])) == 5
        victim.end(signal.SIGKILL)
        seen = []
        for line in follower.stdout:
            seen.append(json.loads(line))
            if (seen[-1]["event"], seen[-1]["node_id"]) == ("death", victim.node_id):
                break
        assert "suspect" in {e["event"] for e in seen}
        assert "on the word of" in seen[-1]["text"]
        for line in watcher.stdout:
            if victim.node_id not in hosts_of(json.loads(line)["root"]):
                break
        for process in (watcher, follower):
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == Exit.INTERRUPTED
    eventually(
        lambda: events_of(five[0], "--kind", "remove"),
        lambda told: victim.node_id in {e["node_id"] for e in told},
    )
