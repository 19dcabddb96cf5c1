"""Time inside Fabric is integer microseconds; these are the only conversions."""

from __future__ import annotations

from typing import Final

US: Final = 1
MS: Final = 1_000
SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND


def seconds(us: int) -> float:
    """Microseconds as seconds, for people. Never used in a decision."""
    return us / SECOND
