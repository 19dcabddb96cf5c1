"""``fabric topology adopt``: publish what the fabric knows to a coordinator that lost it."""

from __future__ import annotations

import fabric
from nodes.cli.ask import with_peer
from nodes.cli.output import Exit, Output
from nodes.config import Config


def run(config: Config, out: Output) -> int:
    """Collect the cell records from their owners and have the halted chairman write them."""

    async def work(client: fabric.Client, timeout_s: float) -> int:
        done = await client.adopt(config.flag("partial"), timeout_s)
        order = done.order
        out.line(
            f"adopted: {done.cells} cells with {done.hosts} hosts, as generation "
            f"{order.generation}, version {order.version}"
        )
        out.object({
            "cells": done.cells, "hosts": done.hosts, "generation": order.generation,
            "version": order.version,
        })
        return Exit.OK

    return with_peer(config, work)
