"""``fabric place`` and ``fabric release``: reserve room through any peer, and give it back."""

from __future__ import annotations

import secrets
import shlex

import fabric
from fabric.ids import format_id
from fabric.placement.request import PlacementRequest
from fabric.runtime.tracing import TRACE
from nodes.cli.ask import contact_object, with_peer
from nodes.cli.output import Exit, Output
from nodes.cli.placement_text import format_placement, parse_constraint, parse_placement
from nodes.config import Config


def place(config: Config, out: Output) -> int:
    """Reserve room for a VM, and confirm it if asked to."""
    vm_id = config.text("vm_id") or f"vm-{secrets.token_hex(6)}"
    request = PlacementRequest(
        key=config.text("key") or vm_id, vm_id=vm_id, cpu=config.number("cpu"),
        memory_mb=config.number("memory_mb"), disk_mb=config.number("disk_mb"),
        constraints=tuple(map(parse_constraint, config.names("constraint"))),
    )
    request.check()
    confirm = config.flag("confirm")

    async def work(client: fabric.Client, timeout_s: float) -> int:
        placed = await client.place(request, timeout_s)
        if confirm:
            await client.confirm(placed, timeout_s)
        text = format_placement(placed)
        state = "confirmed" if confirm else "reserved for 60 s"
        out.line(f"{vm_id} {state} on {format_id(placed.host.node_id)} at {placed.host.address}")
        out.line(f"give it back: fabric release {shlex.quote(text)}")
        out.object({
            "placement": text, "key": placed.key, "vm_id": vm_id,
            "host": contact_object(placed.host), "reservation_id": f"{placed.reservation_id:x}",
            "datastore": placed.datastore, "confirmed": confirm, "trace": TRACE.get(),
        })
        return Exit.OK

    return with_peer(config, work)


def release(config: Config, out: Output) -> int:
    """Give a reservation back. Released twice is released."""
    placed = parse_placement(config.text("placement"))

    async def work(client: fabric.Client, timeout_s: float) -> int:
        await client.release(placed, timeout_s)
        out.line(f"{placed.key} released at {placed.host.address}")
        out.object({"released": placed.key, "host": contact_object(placed.host)})
        return Exit.OK

    return with_peer(config, work)
