"""``fabric peer``: one peer in the foreground, until SIGTERM or Ctrl-C, both of which leave.

A second signal while leaving ends at once.  With ``--json`` the first line tells who the peer is
(``{"event": "ready", ...}``) and the last one that it left; when that output is a pipe and its
reader goes away, the peer leaves too, so that nobody's peers outlive him by accident.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import fabric
from fabric.errors import ConfigError, DataDirectoryError, EdgeError, FabricError, Unavailable
from fabric.ids import format_id, parse_id
from fabric.peer.notices import JoinRefusedNotice, OwnerNotice, PlaceNotice
from fabric.settings import Settings
from fabric.tree.chairman import ChairmanNotice
from nodes import logs
from nodes.cli.ask import ADDRESS_FILE
from nodes.cli.keys import own_keys
from nodes.cli.output import Exit, Output
from nodes.config import Config, check_loopback

if TYPE_CHECKING:
    from agent import HostSpec

#: Joining takes one or two seconds; whoever waits longer deserves a word.
_QUIET_S: Final = 5.0


def run(config: Config, out: Output) -> int:
    """Run a peer; 0 after SIGTERM, 130 after Ctrl-C."""
    logs.setup(config.text("log"), config.text("log_level"))
    return asyncio.run(_run(config, out))


def check(config: Config) -> None:
    """Refuse what each setting allows, but not together. Raises :class:`ConfigError`."""
    if not config.names("join") and not config.flag("candidate"):
        raise ConfigError(
            "a peer needs --join ADDRESS of a living peer, or --candidate to make a new topology",
            {"field": "join"},
        )
    if config.flag("candidate") and not (config.text("coordinator") or config.text("data_dir")):
        raise ConfigError(
            "a candidate needs --data-dir or --coordinator: the topology must outlive it",
            {"field": "coordinator"},
        )
    if config.text("metrics"):
        check_loopback(config.text("metrics").rpartition(":")[0].strip("[]"))
    for name in ("cpu", "memory_mb", "disk_mb", "zone", "rack", "networks", "tags"):
        if config.given(name) and not config.text("host"):
            raise ConfigError(
                f"{config.origins[name]} describes a host, and this peer is none: add --host sim",
                {"field": name},
            )


def host_of(config: Config) -> HostSpec | None:
    """Return the host that the settings describe."""
    if not config.text("host"):
        return None
    import agent

    return agent.simulated_host(
        cpu=config.number("cpu"), memory_mb=config.number("memory_mb"),
        datastores={"local": config.number("disk_mb")}, zone=config.text("zone"),
        networks=config.names("networks"), tags=config.names("tags"),
    )


def settings_of(config: Config) -> Settings:
    """Return the protocol settings."""
    return Settings(
        leaf_min=config.number("leaf_min"), leaf_max=config.number("leaf_max"),
        inner_min=config.number("inner_min"), inner_max=config.number("inner_max"),
    )


async def _run(config: Config, out: Output) -> int:
    check(config)
    data_dir = config.path("data_dir")
    node_id = config.text("node_id")
    peer = fabric.open(
        config.text("listen"), join=config.names("join"), data_dir=data_dir, host=host_of(config),
        candidate=config.flag("candidate"), coordinator=config.text("coordinator") or None,
        zone=config.text("zone"), rack=config.text("rack"),
        node_id=parse_id(node_id) if node_id else None,
        settings=settings_of(config), keys=own_keys(config),
    )
    async with stop_signals(out) as stopped, peer as fab, _metrics(config, fab) as metrics:
        node_id, address = format_id(fab.contact.node_id), fab.contact.address
        with recorded_address(data_dir, address):
            out.line(f"peer {node_id} at {address}"
                     + ("" if data_dir else "; it keeps nothing (no --data-dir)"))
            if metrics:
                out.line(f"metrics at {metrics}")
            out.object({"event": "ready", "node_id": node_id, "address": address,
                        "metrics": metrics or None})
            number = await _until_stopped(fab, stopped, out)
            out.line("leaving; again to end at once")
            await fab.leave()
    out.object({"event": "left", "node_id": node_id})
    return Exit.INTERRUPTED if number == signal.SIGINT else Exit.OK


@contextlib.asynccontextmanager
async def _metrics(config: Config, fab: fabric.Fabric) -> AsyncIterator[str]:
    """Serve the peer's metrics, if asked to, and give their URL."""
    if not config.text("metrics"):
        yield ""
        return
    # with aiohttp and prometheus_client, which a bare peer does not need
    from nodes.metrics import Exposition, MetricsServer

    exposition = Exposition()
    exposition.add_peer(fab)
    host, _, port = config.text("metrics").rpartition(":")
    async with MetricsServer(exposition, host.strip("[]"), int(port)) as server:
        yield server.url


async def _until_stopped(
    fab: fabric.Fabric, stopped: asyncio.Future[signal.Signals], out: Output
) -> signal.Signals:
    """Tell what happens until a signal comes. Raises what made the peer fail by itself."""
    tasks = [asyncio.create_task(work(fab, out)) for work in (_tell, _hint)]
    failed: asyncio.Future[FabricError | None] = asyncio.ensure_future(fab.failed())
    try:
        await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return stopped.result()
        raise failed.result() or EdgeError("the peer stopped by itself")
    finally:
        failed.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, failed, return_exceptions=True)


async def _hint(fab: fabric.Fabric, out: Output) -> None:
    """Say why nothing seems to happen."""
    try:
        await fab.ready(_QUIET_S)
    except Unavailable:
        out.note(f"no place in a tree after {_QUIET_S:g} s: do the peers to join live? trying on")


async def _tell(fab: fabric.Fabric, out: Output) -> None:
    """Print the few events that an operator wants to see of one peer."""
    async for notice in fab.notices():
        match notice:
            case PlaceNotice(path=path):
                out.line("place in the tree: cell " + " in ".join(map(str, path)))
            case OwnerNotice(cell=cell, owns=owns, term=term):
                out.line(f"owner of cell {cell}, term {term}" if owns else f"lost cell {cell}")
            case ChairmanNotice(what=what, detail=detail):
                out.line(f"chairman: {what} {detail}".rstrip())
            case JoinRefusedNotice(code=code, message=message):
                out.note(f"{code}: {message}")


@contextlib.asynccontextmanager
async def stop_signals(out: Output) -> AsyncIterator[asyncio.Future[signal.Signals]]:
    """Give a future of the first SIGTERM or SIGINT; the second one ends the process at once.

    A reader of our JSON that went away counts as SIGTERM.
    """
    loop = asyncio.get_running_loop()
    first: asyncio.Future[signal.Signals] = loop.create_future()
    numbers = (signal.SIGTERM, signal.SIGINT)
    pipe = _stdout_pipe() if out.as_json else None

    def arrived(number: signal.Signals) -> None:
        if pipe is not None:
            loop.remove_reader(pipe)
        if not first.done():
            first.set_result(number)
        for other in numbers:
            loop.remove_signal_handler(other)
            signal.signal(other, signal.SIG_DFL)

    for number in numbers:
        loop.add_signal_handler(number, arrived, number)
    if pipe is not None:  # the writing end becomes "readable" only when the reading end is closed
        loop.add_reader(pipe, arrived, signal.SIGTERM)
    try:
        yield first
    finally:
        if pipe is not None:
            loop.remove_reader(pipe)
        for number in numbers:
            loop.remove_signal_handler(number)


def _stdout_pipe() -> int | None:
    """The descriptor of stdout, if it is a pipe."""
    return 1 if stat.S_ISFIFO(os.fstat(1).st_mode) else None


@contextlib.contextmanager
def recorded_address(data_dir: Path | None, address: str) -> Iterator[None]:
    """Keep the peer's address in its data directory, for commands without ``--peer``."""
    if data_dir is None:
        yield
        return
    path = data_dir / ADDRESS_FILE
    try:
        path.write_text(address + "\n")
    except OSError as error:
        raise DataDirectoryError(
            f"cannot write {path}: {error.strerror}", {"directory": str(data_dir)}
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
