"""``fabric place`` and ``fabric release``: reserve room through any peer, and give it back."""

from __future__ import annotations

import secrets

from fabric.errors import Refused
from fabric.ids import format_id
from fabric.placement.request import Placed, PlacementRequest
from fabric.wire.placement import ConfirmAsk, PlaceAsk, Refusal, ReleaseAsk
from nodes.cli.ask import Asking, contact_object, with_peer
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
    timeout_ms = round(config.seconds("timeout_s") * 1000)

    async def work(ask: Asking) -> int:
        placed = await ask(PlaceAsk(request, timeout_ms))
        if isinstance(placed, Refusal):
            raise _refused(placed)
        assert isinstance(placed, Placed)
        if config.flag("confirm"):
            await ask(ConfirmAsk(placed, timeout_ms))
        text = format_placement(placed)
        state = "confirmed" if config.flag("confirm") else "reserved for 60 s"
        out.line(f"{vm_id} {state} on {format_id(placed.host.node_id)} at {placed.host.address}")
        out.line(f"give it back: fabric release '{text}'")
        out.object({
            "placement": text, "key": placed.key, "vm_id": vm_id,
            "host": contact_object(placed.host),
            "reservation_id": f"{placed.reservation_id:x}", "datastore": placed.datastore,
            "confirmed": config.flag("confirm"),
        })
        return Exit.OK

    return with_peer(config, work)


def _refused(refusal: Refusal) -> Refused:
    explanation = refusal.explanation
    counts = ", ".join(f"{name}: {count}" for name, count in explanation.counts)
    return Refused(
        f"none of {explanation.hosts} hosts can take it ({counts})",
        {"hosts": str(explanation.hosts)} | {name: str(n) for name, n in explanation.counts},
    )


def release(config: Config, out: Output) -> int:
    """Give a reservation back. Released twice is released."""
    placed = parse_placement(config.text("placement"))
    timeout_ms = round(config.seconds("timeout_s") * 1000)

    async def work(ask: Asking) -> int:
        await ask(ReleaseAsk(placed, timeout_ms))
        out.line(f"{placed.key} released at {placed.host.address}")
        out.object({"released": placed.key, "host": contact_object(placed.host)})
        return Exit.OK

    return with_peer(config, work)
