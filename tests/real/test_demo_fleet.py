"""The demo's child processes: what they say, how they die, and that none outlives the fleet."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from fabric.errors import CheckFailed
from nodes.demo.fleet import Fleet


def words(directory: Path) -> tuple[str, ...]:
    return ("peer", "--candidate", "--data-dir", str(directory), "--json")


async def test_a_child_says_who_it_is_dies_and_comes_back(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        child = await fleet.start("p1", words(tmp_path / "p1"))
        said = await fleet.ready(child)
        assert said["event"] == "ready" and child.running
        first_pid = child.pid
        fleet.strike("p1")
        assert await child.ended() == -signal.SIGKILL
        assert fleet.troubles() == []  # it was asked to
        again = await fleet.restart("p1", ("--listen", said["address"]))
        assert await fleet.ready(again) == said and again.pid != first_pid
    assert not child.running


async def test_a_child_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        child = await fleet.start("p1", ("peer", "--leaf-max", "1", "--json"))
        with pytest.raises(CheckFailed, match=r"p1 did not start: .*--leaf-max must be between"):
            await fleet.ready(child)


async def test_an_unasked_death_and_a_traceback_are_troubles(tmp_path: Path) -> None:
    async with Fleet(tmp_path) as fleet:
        for name in ("p1", "p2"):
            await fleet.ready(await fleet.start(name, words(tmp_path / name)))
        fleet.children["p1"].signal(signal.SIGKILL)
        await fleet.children["p1"].ended()
        with fleet.children["p2"].errors.open("a") as errors:
            errors.write("Traceback (most recent call last):\nValueError: no\n")
        died, logged = fleet.troubles()
        assert died.startswith("p1 died")
        assert logged.startswith("p2 logged an error") and logged.endswith("ValueError: no")


async def test_nobody_outlives_the_fleet_when_the_story_fails(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    with pytest.raises(RuntimeError):
        async with fleet:
            child = await fleet.start("p1", words(tmp_path / "p1"))
            await fleet.ready(child)
            raise RuntimeError("the story fails")
    assert not child.running
    fleet.kill_all()  # once more does no harm
