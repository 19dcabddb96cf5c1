"""Ids as people see them. Inside, a node or cell id is an int below 2**62 (fast, compact)."""

from __future__ import annotations

from fabric.errors import BadInput
from fabric.limits import MAX_INT


def format_id(value: int) -> str:
    """Return the 16 hexadecimal digits under which people know a node."""
    return f"{value:016x}"


def parse_id(text: str) -> int:
    """Read what :func:`format_id` wrote. Raises :class:`BadInput`."""
    try:
        value = int(text, 16)
    except ValueError:
        raise BadInput(
            f"id must be hexadecimal digits (was {text!r:.80})", {"field": "id"}
        ) from None
    if not 0 < value <= MAX_INT:
        raise BadInput(f"id must be between 1 and {MAX_INT:x} (was {text!r:.80})", {"field": "id"})
    return value
