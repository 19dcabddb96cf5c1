"""``fabric.stream`` as mypyc compiles it: the same numbers from machine integers."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

_MODULUS: Final[i64] = 2147483647
_MULTIPLIER: Final[i64] = 48271
_MASK: Final[i64] = 2305843009213693951
# the factors of ``fabric.stream.mix``, as 64 bits with a sign
_A: Final[i64] = -7046029254386353131
_B: Final[i64] = -4417276706812531889
_C: Final[i64] = 1609587929392839161
_D: Final[i64] = -4658895280553007687
_E: Final[i64] = -7723592293110705685


class Stream:
    """A small deterministic stream of integers."""

    __slots__ = ("state",)

    def __init__(self, seed: int) -> None:
        self.state: i64 = mix(seed, 0x5EED) % (_MODULUS - 1) + 1

    def below(self, bound: i64) -> i64:
        """Return an integer in ``0 <= x < bound`` (``bound`` up to 2**31)."""
        self.state = state = self.state * _MULTIPLIER % _MODULUS
        return state * bound // _MODULUS

    def chance(self, parts_per_million: i64) -> bool:
        """Return true ``parts_per_million`` times in a million."""
        return self.below(1_000_000) < parts_per_million

    def bits62(self) -> int:
        """Return 62 bits, for ids."""
        return (self.below(1 << 31) << 31) | self.below(1 << 31)


def mix(a: int, b: int) -> int:
    """Mix two non-negative integers into 61 bits. Products wrap at 64 bits; 61 are kept."""
    x: i64 = (i64(a) * _A + i64(b) * _B + _C) & _MASK
    x = ((x ^ (x >> 30)) * _D) & _MASK
    x = ((x ^ (x >> 27)) * _E) & _MASK
    return x ^ (x >> 31)
