"""Placements and constraints as people type them.

A placement is ``KEY:ATTEMPT:RESERVATION:NODE@ADDRESS``: what ``fabric place`` prints and
``fabric release`` takes.  It is read from the right, so a key may hold colons.  A constraint is
written as explanations write it: ``zone=z1|z2``, ``tag!=ssd``.
"""

from __future__ import annotations

from fabric.errors import BadInput
from fabric.ids import format_id, parse_id
from fabric.machine import Contact
from fabric.placement.request import KINDS, Constraint, Placed
from nodes.config import check_address


def format_placement(placed: Placed) -> str:
    """Return the text under which people know ``placed``."""
    return (f"{placed.key}:{placed.attempt}:{placed.reservation_id:x}:"
            f"{format_id(placed.host.node_id)}@{placed.host.address}")


def parse_placement(text: str) -> Placed:
    """Read what :func:`format_placement` wrote. Raises :class:`BadInput`."""
    try:
        rest, at, address = text.rpartition("@")
        key, attempt, reservation, node = rest.rsplit(":", 3)
        if not at or not key:
            raise ValueError("it has no key or no address")
        contact = Contact(parse_id(node), check_address(address))
        return Placed(key, int(attempt), contact, int(reservation, 16), 0)
    except (ValueError, BadInput) as error:
        raise BadInput(
            f"PLACEMENT must be as `fabric place` printed it: {error} (was {text!r:.100})",
            {"field": "placement", "value": text[:100]},
        ) from None


def parse_constraint(text: str) -> Constraint:
    """Read ``zone=z1|z2`` or ``tag!=ssd``. Raises :class:`BadInput`."""
    kind, equals, values = text.partition("=")
    negative = kind.endswith("!")
    kind = kind.removesuffix("!").strip()
    names = tuple(value.strip() for value in values.split("|") if value.strip())
    if not equals or not names or kind not in KINDS:
        raise BadInput(
            f"--constraint must look like zone=z1|z2 or tag!=ssd, with one of the kinds "
            f"{', '.join(KINDS)} (was {text!r:.100})",
            {"field": "constraint", "value": text[:100]},
        )
    return Constraint(kind, names, negative)
