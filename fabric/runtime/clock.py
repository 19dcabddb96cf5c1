"""Time for machines: microseconds since the epoch at start, moved on by the monotonic clock.

So times may be persisted and compared after a restart, and no step of the system clock is seen
while a peer runs.
"""

from __future__ import annotations

import time

from fabric.units import SECOND


class Clock:
    """``clock()`` is now in microseconds; it never goes back."""

    __slots__ = ("_offset_ns",)

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __call__(self) -> int:
        return (time.monotonic_ns() + self._offset_ns) // 1000

    def loop_time(self, at: int) -> float:
        """Return the event loop's time (monotonic seconds) of the instant ``at``."""
        return (at * 1000 - self._offset_ns) / (SECOND * 1000)
