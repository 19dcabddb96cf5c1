"""Run the demo, and leave nothing behind.

Everything lies in one temporary directory.  However the demo ends (well, badly, by Ctrl-C, by
SIGTERM, by a closed terminal), :func:`run` ends every process that it started, and removes the
directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fabric.errors import FabricError
from nodes.cli.output import Exit, Output
from nodes.config import Config
from nodes.demo.fleet import Fleet
from nodes.demo.scene import Scene, StageState
from nodes.demo.story import STAGES, Story
from nodes.demo.zookeepers import LocalEnsemble

#: After each act of the live view: the acts themselves are over in a blink.
_PAUSE_S: Final = 1.5

_NEXT: Final = """
Where to go next:
  fabric up --hosts 8 --accept-any-image     a small cloud with the REST API on 127.0.0.1:9080
  fabric peer --help                         real peers of your own; then: fabric tree, place
  fabric sim run --hosts 1000 --duration 120 --seed 7 --kill 5 --place-rate 20
  README.md, "Embedded": a peer of your own in ten lines of Python
"""


def run(config: Config, out: Output) -> int:
    """Run the demo; the exit code says whether everything that must hold did."""
    directory = Path(tempfile.mkdtemp(prefix="fabric-demo-"))
    fleet = Fleet(directory)
    scene = Scene(STAGES)
    servers: LocalEnsemble | None = None
    try:
        with _ended_by_signals():
            if config.flag("zookeeper"):
                servers = LocalEnsemble(directory)
                servers.start()
                out.line(f"three ZooKeeper servers are up: {servers.address()}")
            story = Story(
                scene, fleet, directory, config.number("peers"), config.number("sim_hosts"),
                coordinator="" if servers is None else _address(servers, directory),
            )
            with _view(scene, config, out):
                asyncio.run(_tell(story))
    finally:
        # Whatever happened, and even if Ctrl-C is pressed again meanwhile.
        with _signals_ignored():
            fleet.kill_all()
            if servers is not None:
                servers.kill()
            shutil.rmtree(directory, ignore_errors=True)
        _summarize(scene, out)
    out.line(_NEXT)
    out.object(story.figures)
    return Exit.OK


def _address(servers: LocalEnsemble, directory: Path) -> str:
    """Return the ensemble's address, with credentials made for this run alone."""
    secret = directory / "zookeeper.auth"
    secret.touch(mode=0o600)
    secret.write_text(f"demo:{secrets.token_hex(16)}\n")
    return servers.address("/fabric", auth_file=secret)


async def _tell(story: Story) -> None:
    async with story.fleet:
        try:
            await story.tell()
        except BaseException as error:
            failure = _first_failure(error)
            story.scene.break_off(StageState.FAILED if failure else StageState.STOPPED)
            if failure is None:
                raise
            for trouble in story.fleet.troubles():
                story.scene.say(f"   {trouble}")
            raise failure from None


def _first_failure(error: BaseException) -> FabricError | None:
    """Task groups wrap errors; people want to read one."""
    if isinstance(error, BaseExceptionGroup):
        found = map(_first_failure, error.exceptions)
        return next((failure for failure in found if failure is not None), None)
    return error if isinstance(error, FabricError) else None


@contextlib.contextmanager
def _view(scene: Scene, config: Config, out: Output) -> Iterator[None]:
    """Show the scene: live on a terminal, else line by line."""
    if sys.stdout.isatty() and not out.as_json and not config.flag("plain"):
        from rich.console import Console

        from nodes.demo.live import LiveView

        scene.pause_s = _PAUSE_S
        with LiveView(scene, Console()):
            yield
    else:
        scene.on_log = lambda at, text: out.line(f"{at:6.1f} s  {text}")
        yield


def _summarize(scene: Scene, out: Output) -> None:
    """Say how each stage ended; the live view is gone by now, plain lines were seen already."""
    if scene.on_log is None:
        for stage in scene.stages:
            out.line(f"{stage.state.value:<8} {stage.title}")
            if stage.result:
                out.line(f"{'':<8}   {stage.result}")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        signal.raise_signal(signal.SIGINT)

    with _handlers({signal.SIGTERM: interrupt, signal.SIGHUP: interrupt}):
        yield


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Nothing may interrupt the clearing up, which takes a moment."""
    ignored = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)
    with _handlers(ignored):
        yield


@contextlib.contextmanager
def _handlers(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
