"""The comparison of real and simulated runs: figures, verdict, a table for people."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.fidelity.account import Account
from benchmarks.fidelity.plan import (
    CANDIDATES,
    END_S,
    FIRST_KILL_S,
    KILLS,
    LEAF_MAX,
    LEAF_MIN,
    PEERS,
    START_S,
    WINDOW_S,
)

#: How far the simulator may be off, in percent.
RATE_PERCENT: Final = 2.0
TIME_PERCENT: Final = 20.0
#: Types with fewer messages in all the real windows together do not decide: one more or less of
#: them would be half of what is allowed.
FEW: Final = 100
#: Simulated windows that stand against one real one.
MATCHES: Final = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both. ``allowed_percent`` is ``None`` where it is only told."""

    name: str
    unit: str
    real: float
    simulated: float
    allowed_percent: float | None

    @property
    def difference_percent(self) -> float:
        """Return how far the simulated figure is from the real one."""
        if not self.real:
            return 0.0 if not self.simulated else 100.0
        return 100 * (self.simulated - self.real) / self.real

    @property
    def ok(self) -> bool:
        """Tell whether that is near enough."""
        return self.allowed_percent is None or abs(self.difference_percent) <= self.allowed_percent

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        difference = round(self.difference_percent, 2)
        return {**asdict(self), "difference_percent": difference, "ok": self.ok}


class Comparison:
    """All rows, and what they were made from."""

    def __init__(self, real: Sequence[Account], simulated: Sequence[Account]) -> None:
        self.real = real
        self.simulated = simulated
        self.unmatched = 0
        self._pair()
        self.rates = self._rates()
        self.times = self._times()
        self.costs = self._costs()

    def _pair(self) -> None:
        """Find simulated windows of the same form for each real one."""
        self._windows: list[tuple[Account, list[Account]]] = []
        for account in self.real:
            alike = [other for other in self.simulated if other.form == account.form][:MATCHES]
            if alike:
                self._windows.append((account, alike))
            else:
                self.unmatched += 1

    def _rates(self) -> list[Row]:
        real: Counter[str] = Counter()
        simulated: dict[str, float] = {}
        for account, alike in self._windows:
            real.update(account.window.sent)
            for other in alike:
                for name, number in other.window.sent.items():
                    simulated[name] = simulated.get(name, 0.0) + number / len(alike)
        per = 1 / (PEERS * (WINDOW_S[1] - WINDOW_S[0]) * max(len(self._windows), 1))
        rows = []
        for name in sorted({*real, *simulated}, key=lambda name: (-real[name], name)):
            ours = simulated.get(name, 0.0)
            allowed = RATE_PERCENT if max(real[name], ours) >= FEW else None
            rows.append(Row(name, "1/s", real[name] * per, ours * per, allowed))
        total = Row(
            "all", "1/s", real.total() * per, sum(simulated.values()) * per, RATE_PERCENT
        )  # fmt: skip
        return [*rows, total]

    def _times(self) -> list[Row]:
        # one seed takes 7 to 9 s over ZeroMQ: races decide, not arrivals, so seeds are not paired
        formed = [_formed(self.real), _formed(self.simulated)]
        taken = [[t for a in side for t in a.takeovers_s] for side in (self.real, self.simulated)]
        rows = []
        for name, (ours, theirs) in (
            ("start to formed tree, median", formed),
            ("owner killed to the next one, p50", taken),
        ):
            if ours and theirs:
                median = statistics.median
                rows.append(Row(name, "s", median(ours), median(theirs), TIME_PERCENT))
        return rows

    def _costs(self) -> list[Row]:
        length = WINDOW_S[1] - WINDOW_S[0]
        real = [a.window for a, _ in self._windows]
        simulated = [other.window for _, alike in self._windows for other in alike]
        if not real:
            return []
        mean = statistics.fmean
        per = 1 / (PEERS * length)
        return [
            Row(
                "payload", "bytes/s", mean(w.bytes for w in real) * per,
                mean(w.bytes for w in simulated) * per, RATE_PERCENT,
            ),
            Row(
                "CPU", "ms/s", mean(w.cpu_s for w in real) * per * 1000,
                mean(w.cpu_s for w in simulated) * per * 1000, None,
            ),
        ]  # fmt: skip

    # --- the verdict ------------------------------------------------------------------------------

    def troubles(self) -> list[str]:
        """Return what is not as it should be; empty: the simulator is faithful."""
        found = [
            f"{row.name}: {row.difference_percent:+.1f} %, allowed are {row.allowed_percent:g} %"
            for row in (*self.rates, *self.times, *self.costs)
            if not row.ok
        ]
        if self.unmatched == len(self.real):
            found.append("no real tree had a form that a simulated one had: no rates to compare")
        for kind, side in (("real", self.real), ("simulated", self.simulated)):
            unformed = sum(a.formed_s is None for a in side)
            if unformed:
                found.append(f"{unformed} {kind} runs formed no tree")
            unfilled = sum(a.unfilled for a in side)
            if unfilled:
                found.append(f"{unfilled} {kind} cells got no other owner")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        real = self.real
        troubles = self.troubles()
        return {
            "benchmark": "fidelity",
            "peers": PEERS,
            "real_runs": len(real),
            "simulated_runs": len(self.simulated),
            "rates": [row.as_dict() for row in self.rates],
            "times": [row.as_dict() for row in self.times],
            "costs": [row.as_dict() for row in self.costs],
            "real_formed_s": [round(t, 2) for t in _formed(real)],
            "simulated_formed_s": [round(t, 2) for t in _formed(self.simulated)],
            "real_takeovers_s": [round(t, 2) for a in real for t in a.takeovers_s],
            "unmatched": self.unmatched,
            "real_lost": sum(a.window.sent.total() - a.window.received.total() for a in real),
            "real_dropped": sum(a.window.dropped for a in real),
            "seated_real": _seated(real),
            "seated_simulated": _seated(self.simulated),
            "troubles": troubles,
            "ok": not troubles,
        }


def _formed(side: Sequence[Account]) -> list[float]:
    return [a.formed_s for a in side if a.formed_s is not None]


def _seated(side: Sequence[Account]) -> float:
    """Return the share of owners that ask a seat of their own."""
    return round(sum(a.seated for a in side) / max(sum(a.cells for a in side), 1), 3)


def markdown(comparison: Comparison) -> str:
    """Return the page of the documentation."""
    real, simulated = comparison.real, comparison.simulated
    kills = [sum(len(a.takeovers_s) for a in side) for side in (real, simulated)]
    troubles = comparison.troubles()
    lines = [
        "# Fidelity: the simulator against real peers",
        "",
        "Made by `make fidelity`; do not edit. The same scenario on "
        f"{PEERS} peers over ZeroMQ ({len(real)} runs)",
        f"and in the simulator ({len(simulated)} runs): node ids, sizes, settings and arrival "
        "times are the same.",
        f"{PEERS - CANDIDATES} hosts and {CANDIDATES} candidates arrive within {START_S} s into "
        f"leaf cells of {LEAF_MIN} to {LEAF_MAX} hosts, idle, and from second {FIRST_KILL_S:.0f}",
        f"to {END_S:.0f} lose {KILLS} owners of leaf cells without goodbye. Both are watched by "
        "the same code (`benchmarks/fidelity/`).",
        "",
        "**" + ("Within the bounds." if not troubles else "Not within the bounds: ")
        + "; ".join(troubles) + "**",
        "",
        f"## Messages per peer and second, seconds {WINDOW_S[0]:.0f} to {WINDOW_S[1]:.0f}",
        "",
        *_table(comparison.rates),
        "",
        "Messages to oneself count. Timers of real peers are a few milliseconds late on a busy "
        "machine, which is why they",
        "send slightly less. Which member wins a cell is a race, and an owner that asks a seat of "
        "its own is granted its",
        "lease by it without a message. So each real window stands against simulated ones of the "
        "same form: cells of the",
        "same sizes, as many such owners. Their share in all runs: "
        f"{_seated(real):.2f} real, {_seated(simulated):.2f} simulated. Real windows without a "
        f"simulated one of their form, left out: {comparison.unmatched}.",
        "",
        "## Times",
        "",
        *_table(comparison.times),
        "",
        f"Takeovers: {kills[0]} real, {kills[1]} simulated. Formed: every peer knows its place and "
        "the owners above it,",
        "and the root counts all hosts.",
        "",
        "## What an idle peer costs, per second",
        "",
        *_table(comparison.costs),
        "",
        "Payload is what ZeroMQ is given; its framing, heartbeats and TCP come on top. CPU is the "
        "whole process,",
        "I/O threads included, divided by its peers; simulated, it includes encoding each message.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| what | unit | real | simulated | difference | allowed |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        allowed = "–" if row.allowed_percent is None else f"± {row.allowed_percent:g} %"
        lines.append(
            f"| {row.name} | {row.unit} | {row.real:.3f} | {row.simulated:.3f} "
            f"| {row.difference_percent:+.1f} % | {allowed} |"
        )
    return lines
