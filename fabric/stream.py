"""Seeded randomness and hashing that never change with the hash seed or the Python version.

Machines get a :class:`Stream`; whoever makes them (runtime: from the OS, simulator: from the run's
seed, keyed by purpose and entity) decides where it starts.  Quality is that of a Lehmer generator
(Park and Miller, 1988): enough to spread choices, useless for secrets.
"""

from __future__ import annotations

from typing import Final

_MODULUS: Final = 2147483647  # 2**31 - 1: products stay below 2**62, so no big integers
_MULTIPLIER: Final = 48271
_MASK: Final = (1 << 61) - 1


class Stream:
    """A small deterministic stream of integers."""

    __slots__ = ("state",)

    def __init__(self, seed: int) -> None:
        self.state = mix(seed, 0x5EED) % (_MODULUS - 1) + 1

    def below(self, bound: int) -> int:
        """Return an integer in ``0 <= x < bound`` (``bound`` up to 2**31)."""
        self.state = state = self.state * _MULTIPLIER % _MODULUS
        return state * bound // _MODULUS

    def chance(self, parts_per_million: int) -> bool:
        """Return true ``parts_per_million`` times in a million."""
        return self.below(1_000_000) < parts_per_million

    def bits62(self) -> int:
        """Return 62 bits, for ids."""
        return (self.below(1 << 31) << 31) | self.below(1 << 31)


def mix(a: int, b: int) -> int:
    """Mix two non-negative integers into 61 bits: rendezvous ranks, digests, stream seeds.

    The steps are those of splitmix64's finalizer (Steele, Lea, Flood, 2014), cut to 61 bits.
    """
    x = (a * 0x9E3779B97F4A7C15 + b * 0xC2B2AE3D27D4EB4F + 0x165667B19E3779F9) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
