"""Copied keys and data directories, both in use: one of the two stops and says why."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from pathlib import Path

import agent
import fabric
from fabric.errors import NodeIdInUse
from fabric.ids import format_id
from fabric.settings import Settings
from nodes.cli.output import Exit
from tests.real.processes import PATIENCE_S, eventually, keys_of, peers, result_of

SMALL = Settings(leaf_min=2, leaf_max=3, inner_min=2, inner_max=3)


async def test_of_two_peers_with_the_same_keys_the_later_one_stops(tmp_path: Path) -> None:
    def open_peer(keys: str, join: str = "") -> fabric.Fabric:
        return fabric.open(
            host=agent.simulated_host(), keys=keys_of(keys), join=[join] if join else (),
            settings=SMALL, candidate=not join,
            coordinator=None if join else str(tmp_path / "coordinator"),
        )  # fmt: skip

    async with open_peer("twins-1") as one:
        await one.ready(PATIENCE_S)
        async with open_peer("twins-2", one.contact.address) as two:
            await two.ready(PATIENCE_S)
            async with open_peer("twins-2", one.contact.address) as copy:
                assert copy.contact.node_id == two.contact.node_id
                async with asyncio.timeout(PATIENCE_S):
                    error = await copy.failed()
                assert isinstance(error, NodeIdInUse)
                assert error.data == {
                    "node_id": format_id(two.contact.node_id), "address": copy.contact.address,
                    "other_address": two.contact.address,
                }
            async with open_peer("twins-1", one.contact.address) as chairman:  # his keys, too
                async with asyncio.timeout(PATIENCE_S):
                    error = await chairman.failed()
                assert isinstance(error, NodeIdInUse)
            # they were there first, and keep their places, under their own addresses
            async with asyncio.timeout(PATIENCE_S):
                while {one.contact, two.contact} != set((await one.cell(0)).record.members):
                    await asyncio.sleep(0.05)
            assert await two.status()


def test_a_copied_data_directory_ends_the_process_with_an_error(tmp_path: Path) -> None:
    own, other, copied = (str(tmp_path / name) for name in ("own", "other", "copied"))
    with peers() as start:
        one = start("--candidate", "--host", "sim", "--data-dir", own)
        words = ("--join", one.address, "--host", "sim", "--keys", keys_of(other))
        two = start(*words, "--data-dir", other)
        two.end(signal.SIGTERM)
        shutil.copytree(other, copied)
        two = start(*words, "--data-dir", other)  # the same life as the copy's
        eventually(lambda: result_of("status", "--peer", two.address), lambda s: s["complete"])
        copy = start(*words, "--data-dir", copied)
        said, wrote = copy.process.communicate(timeout=PATIENCE_S)
        assert copy.process.returncode == Exit.MACHINE, wrote
        error = json.loads(said.splitlines()[-1])["error"]
        assert error["code"] == "NodeIdInUse"
        assert all(
            word in error["message"] for word in (two.node_id, two.address, copy.address)
        )
        assert result_of("status", "--peer", two.address)["node_id"] == two.node_id


async def test_a_copied_candidate_does_not_keep_the_chair_it_was_given(tmp_path: Path) -> None:
    """The coordinator knows candidates by their node ids, so the copy gets the same lease."""

    def candidate(*join: str) -> fabric.Fabric:
        return fabric.open(
            host=agent.simulated_host(), keys=keys_of("twins-3"), join=join, settings=SMALL,
            candidate=True, coordinator=str(tmp_path / "coordinator"),
        )  # fmt: skip

    async with candidate() as own:
        await own.ready(PATIENCE_S)
        for join in ((own.contact.address,), ()):
            async with candidate(*join) as copy:
                async with asyncio.timeout(PATIENCE_S):
                    assert isinstance(await copy.failed(), NodeIdInUse)
        async with asyncio.timeout(PATIENCE_S):
            while (own.contact,) != (await own.cell(0)).record.members:
                await asyncio.sleep(0.05)
        assert (await own.status()).chairman
