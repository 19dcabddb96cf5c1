"""Messages and other records in one short line, for people."""

from __future__ import annotations

from typing import Any

from fabric.machine import Contact


def brief(thing: Any, width: int = 150) -> str:
    """Return a message or event as one short line: its class and its plain fields."""
    fields: Any = getattr(thing, "__dataclass_fields__", None) or getattr(thing, "_fields", ())
    pairs = []
    for name in fields:
        value = getattr(thing, name)
        if value is None or value == () or value == "":
            continue
        pairs.append(f"{name}={_short(value)}")
    text = f"{type(thing).__name__}({', '.join(pairs)})"
    return text if len(text) <= width else text[: width - 1] + "…"


def _short(value: Any) -> str:
    if isinstance(value, Contact):
        return value.address.rpartition("/")[2]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        if all(isinstance(item, int) for item in value):
            return "(" + ", ".join(str(item) for item in value[:8]) + ")"
        return f"{len(value)}×{type(value[0]).__name__}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if hasattr(value, "__dataclass_fields__"):
        return brief(value, 90)
    if isinstance(value, tuple):
        return "(" + ", ".join(_short(item) for item in value) + ")"
    return f"{value!r:.60}"
