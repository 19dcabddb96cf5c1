"""Orders: what changes the fabric as a whole, and the right that it takes under keys.

Any node may ask what there is to know, place and release.  To publish a topology or to end a freeze
takes a certificate with the right to; the receiving peer looks at that of the connection, so nobody
can pass an order on in another's name.  Without keys there are no rights, and nobody from another
machine either.
"""

from __future__ import annotations

from typing import Any, Final

from fabric.errors import NotPermitted
from fabric.ids import format_id
from fabric.machine import Message
from fabric.wire.adoption import AdoptAsk
from fabric.wire.common import Request
from fabric.wire.seeing import ThawAsk, Through
from fabric.wire.trust import CANDIDATE, OPERATOR

#: Who may give which order: the certificate has at least one of these rights.
ORDERS: Final[dict[type[Any], int]] = {
    AdoptAsk: CANDIDATE | OPERATOR,
    ThawAsk: CANDIDATE | OPERATOR,
}


def refusal(sender: int, rights: int, message: Message) -> NotPermitted | None:
    """Return why a node with these ``rights`` may not send ``message``; ``None``: it may."""
    if message.__class__ is not Request:
        return None
    body = message.body
    while body.__class__ is Through:  # through a door, to another peer of the same process
        body = body.body
    needed = ORDERS.get(body.__class__)
    if needed is None or rights & needed:
        return None
    return NotPermitted(
        f"node {format_id(sender)} has no right to {body.__class__.__name__}: it takes keys of a "
        "candidate, or the operator's directory",
        {"node_id": format_id(sender), "needs": "candidate, operator"},
    )
