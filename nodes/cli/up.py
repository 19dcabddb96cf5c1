"""``fabric up`` and ``fabric front``: the REST API over a cloud of its own, or over real peers.

Both run until SIGTERM or Ctrl-C.  With ``--json`` the first line tells where the API is.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import fabric
from fabric.errors import ConfigError
from fabric.ids import format_id
from nodes import logs
from nodes.cli.keys import own_keys
from nodes.cli.output import Exit, Output
from nodes.cli.peer import recorded_address, stop_signals
from nodes.config import Config
from nodes.service import FrontOptions, Listen, run_front
from nodes.up import Ready, UpOptions, run_up

#: Stopping takes less; a front that still waits for its place in the tree does not stop by itself.
_STOP_S: Final = 5.0


def run(config: Config, out: Output) -> int:
    """Run a whole cloud in this process."""
    options = UpOptions(
        hosts=config.number("hosts"), data_dir=config.path("data_dir"),
        coordinator=config.text("coordinator") or None,
        accept_any_image=config.flag("accept_any_image"), listen=_listen(config),
        keys=own_keys(config),
    )

    with contextlib.ExitStack() as recorded:

        def ready(up: Ready) -> None:
            peer = up.hosts[0].door
            recorded.enter_context(recorded_address(options.data_dir, peer))
            out.line(f"{len(up.hosts)} hosts are up; the REST API is at {up.url}")
            out.line(f"try: curl {up.url}/tenants, or: fabric members --peer {peer}")
            out.object({"event": "ready", "http": up.url, "hosts": len(up.hosts), "peer": peer})

        logs.setup(config.text("log"), config.text("log_level"))
        return asyncio.run(_until_signal(lambda stop: run_up(options, stop, ready), out))


def front(config: Config, out: Output) -> int:
    """Join a fabric of real peers as an observer, and serve the REST API over it."""
    if not config.names("join"):
        raise ConfigError(
            "a front needs --join ADDRESS of a living peer", {"field": "join"}
        )
    data_dir = config.path("data_dir")
    options = FrontOptions(
        join=config.names("join"), data_dir=data_dir, listen=_listen(config),
        accept_any_image=config.flag("accept_any_image"), address=config.text("listen"),
        coordinator=config.text("coordinator") or None,
        keys=own_keys(config),
    )

    with contextlib.ExitStack() as recorded:

        def ready(url: str, contact: fabric.Contact) -> None:
            recorded.enter_context(recorded_address(data_dir, contact.address))
            node_id = format_id(contact.node_id)
            out.line(f"peer {node_id} at {contact.address}; the REST API is at {url}")
            out.object({
                "event": "ready", "http": url, "node_id": node_id, "address": contact.address
            })

        logs.setup(config.text("log"), config.text("log_level"))
        return asyncio.run(_until_signal(lambda stop: run_front(options, stop, ready), out))


def _listen(config: Config) -> Listen:
    host, _, port = config.text("http").rpartition(":")
    return Listen(host.strip("[]"), int(port))


async def _until_signal(work: Callable[[asyncio.Event], Awaitable[None]], out: Output) -> int:
    """Do ``work`` until a signal sets its event; work that does not heed it is cancelled."""
    stop = asyncio.Event()
    async with stop_signals(out) as stopped:
        working = asyncio.ensure_future(work(stop))
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            await working
            return Exit.OK
        stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(working, _STOP_S)
    out.object({"event": "left"})
    return Exit.INTERRUPTED if stopped.result() is signal.SIGINT else Exit.OK
