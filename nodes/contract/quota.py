"""Quota arithmetic: amounts, units, sums, limits, subdivision.

An amount is an integer: 1/125 byte for the byte units, 1/1000 piece for COUNT.  So three decimals
of a GB are exact (``0.7 GB`` ten times is ``7 GB``), no float ever decides, and the store can add
and compare amounts where a transaction is applied.  The unit a line was given in is for display.

A ticket's or project's document holds ``limits`` and ``usage`` as maps from *counter* to amount,
as the store's quota operation wants them.  The counter of a limited key is the key; that of a key
without limit (recorded, never refused) also carries its unit, which nothing else would remember.
Limits never change after creation, so a key's counter never does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from fabric.errors import QuotaError

#: Unit -> how many amounts make one.
SCALE: Final = {"GB": 125 << 30, "MB": 125 << 20, "KB": 125 << 10, "B": 125, "COUNT": 1000}

#: The store's integers end at 2**62: 32 PiB, or 4.6e15 pieces, in one line.
MAX_AMOUNT: Final = (1 << 62) - 1

#: Between key and unit in the counter of a key without limit. No key can hold it: see ``specs``.
_UNIT_MARK: Final = "\x1f"

SUBDIVIDE_KEY: Final = "subdivide.percent"


@dataclass(slots=True, frozen=True)
class QuotaLine:
    """One limit, usage or cost, shown in ``unit``."""

    key: str
    amount: int
    unit: str

    @property
    def value(self) -> int | float:
        """The number shown to people: an int where it is one."""
        exact = Fraction(self.amount, SCALE[self.unit])
        return int(exact) if exact.denominator == 1 else round(float(exact), 9)

    def __str__(self) -> str:
        return f"{self.key}, {self.value}, {self.unit}"


def amount_of(value: int | Decimal, unit: str) -> int:
    """Return ``value`` in ``unit`` as an amount, rounded to the nearest."""
    return round(Fraction(value) * SCALE[unit])


def limit_map(limits: Iterable[QuotaLine]) -> dict[str, int]:
    """Return the ``limits`` of a quota document."""
    return {line.key: line.amount for line in limits}


def costs(limits: Iterable[QuotaLine], cost: Iterable[QuotaLine], sign: int = 1) -> dict[str, int]:
    """Sum ``cost`` into the counters of a quota document with ``limits``; -1 gives it back."""
    limited = {line.key for line in limits}
    out: dict[str, int] = {}
    for line in cost:
        counter = line.key if line.key in limited else f"{line.key}{_UNIT_MARK}{line.unit}"
        out[counter] = out.get(counter, 0) + sign * line.amount
    return out


def usage_lines(limits: Iterable[QuotaLine], usage: Mapping[str, int]) -> tuple[QuotaLine, ...]:
    """Render the ``usage`` of a quota document: limited keys first, each in its limit's unit."""
    out = {line.key: QuotaLine(line.key, usage.get(line.key, 0), line.unit) for line in limits}
    for counter, amount in usage.items():
        key, mark, unit = counter.partition(_UNIT_MARK)
        if not mark:
            continue
        known = out.get(key)
        out[key] = (
            QuotaLine(key, amount, unit)
            if known is None
            else QuotaLine(key, known.amount + amount, known.unit)
        )
    return tuple(out.values())


def subdivide(limits: Iterable[QuotaLine], percent: int | Fraction) -> tuple[QuotaLine, ...]:
    """Return ``percent`` of each of the ticket's limits (of the limit, not of what is left)."""
    return tuple(
        QuotaLine(line.key, int(Fraction(line.amount) * percent / 100), line.unit)
        for line in limits
    )


def find(lines: Iterable[QuotaLine], key: str) -> QuotaLine | None:
    """Return the line of ``key``."""
    for line in lines:
        if line.key == key:
            return line
    return None


def check(lines: Iterable[QuotaLine], usage: Mapping[str, int], more: Mapping[str, int]) -> None:
    """Raise ``QuotaError`` if ``usage`` and ``more`` together exceed a limit (equal is fine)."""
    lines = tuple(lines)
    for line in lines:
        used, new = usage.get(line.key, 0), usage.get(line.key, 0) + more.get(line.key, 0)
        if new > line.amount and new > used:
            raise quota_error(lines, line.key, line.amount, used, new)


def quota_error(
    lines: Iterable[QuotaLine], key: str, limit: int, usage: int, new_usage: int
) -> QuotaError:
    """Tell which limit refused, in the contract's words and the limit's unit."""
    unit = next((line.unit for line in lines if line.key == key), "B")
    shown = [str(QuotaLine(key, amount, unit)) for amount in (limit, usage, new_usage)]
    return QuotaError(
        f"Not enough quota: Current Limit: {shown[0]}, desiredUsage {shown[2]}",
        {"limit": shown[0], "usage": shown[1], "newUsage": shown[2]},
    )
