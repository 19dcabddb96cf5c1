"""What a run shows: live progress on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from sim.result import Result

#: Plain lines come this often (wall seconds); a terminal is redrawn four times a second.
PLAIN_EVERY_S: Final = 5.0
LIVE_EVERY_S: Final = 0.25


class Snapshot:
    """What there is to say of a run at one moment."""

    __slots__ = ("alive", "converged", "events", "placements", "violations", "virtual_s", "wall_s")

    def __init__(
        self,
        virtual_s: float,
        wall_s: float,
        events: int,
        alive: int,
        placements: int,
        violations: int,
        converged: bool,
    ) -> None:
        self.virtual_s = virtual_s
        self.wall_s = wall_s
        self.events = events
        self.alive = alive
        self.placements = placements
        self.violations = violations
        self.converged = converged

    def line(self) -> str:
        """Return it as one line of text."""
        speed = self.virtual_s / self.wall_s if self.wall_s else 0.0
        tree = "converged" if self.converged else "converging"
        return (
            f"{self.virtual_s:7.1f} s virtual  {speed:6.2f}x  {self.alive:,} peers  "
            f"{self.events:,} events  {self.placements:,} placed  "
            f"{self.violations} violations  {tree}"
        )


class Display:
    """Progress of one run. ``stream`` is stderr where stdout belongs to JSON."""

    def __init__(self, duration_s: float, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._duration_s = duration_s
        self._next = 0.0
        self._bar: Any = None
        self._task: Any = None
        if self._stream.isatty():
            self._start_bar()

    def _start_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("[bold]simulating"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[line]}"),
            TimeRemainingColumn(),
            console=Console(file=self._stream),
            auto_refresh=False,  # no second thread beside the simulation
        )
        self._task = self._bar.add_task("run", total=self._duration_s, line="")
        self._bar.start()

    def due(self) -> bool:
        """Tell whether it is time to show something."""
        return time.monotonic() >= self._next

    def show(self, snapshot: Snapshot) -> None:
        """Show where the run is."""
        live = self._bar is not None
        self._next = time.monotonic() + (LIVE_EVERY_S if live else PLAIN_EVERY_S)
        if live:
            self._bar.update(self._task, completed=snapshot.virtual_s, line=snapshot.line())
            self._bar.refresh()
        else:
            print(snapshot.line(), file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def table(self, result: Result) -> None:
        """Print the result for people."""
        rows = _rows(result)
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"  {name.ljust(width)}  {value}", file=self._stream)
        for note in result.notes:
            print(f"  {note}", file=self._stream)
        for violation in result.violations[:20]:
            where = ", ".join(violation["nodes"]) or "-"
            print(
                f"  ! {violation['invariant']} at {violation['at_s']:.3f} s ({where}): "
                f"{violation['detail']}",
                file=self._stream,
            )
            for message in violation["messages"]:
                print(f"      {message}", file=self._stream)
        hidden = result.violations_total - min(len(result.violations), 20)
        if hidden > 0:
            print(f"  ! and {hidden} more", file=self._stream)
        self._stream.flush()


def _rows(result: Result) -> Sequence[tuple[str, str]]:
    speed = result.virtual_s / result.cpu_s if result.cpu_s else 0.0
    per_host = result.messages / max(result.hosts * result.virtual_s, 1e-9)
    converged = "no" if result.converged_s is None else f"after {result.converged_s:.2f} s"
    formed = "preformed topology" if result.preformed else "formed from joins"
    rows = [
        ("hosts", f"{result.hosts:,} ({formed}), depth {result.depth}"),
        ("seed", f"{result.seed}"),
        ("virtual time", f"{result.virtual_s:.1f} s" + (" (interrupted)" * result.interrupted)),
        ("cost", f"{result.wall_s:.1f} s wall, {result.cpu_s:.1f} s CPU, {speed:.2f}x real time"),
        ("events", f"{result.events:,} ({result.messages:,} messages, {per_host:.2f}/host/s)"),
        ("memory", f"{result.max_rss_mb:,} MB at most"),
        ("converged", converged),
        (
            "placements",
            f"{result.placements:,} placed, {result.refused:,} refused, "
            f"{result.unavailable:,} unavailable",
        ),
        ("faults", f"{result.faults:,}"),
        ("violations", f"{result.violations_total}"),
        ("trace hash", result.trace_hash or "(off)"),
    ]
    return rows
