"""Where every random decision of a run comes from: one seed, one stream per purpose and entity.

``Streams(seed).stream("crash", 17)`` is always the same stream, whoever else draws what and when.
So removing one fault, or one host, does not reshuffle what happens to the others: that is what
makes shrinking a failing run work.  Streams are made lazily by hashing
``seed/purpose/entity`` with BLAKE2b and then stepped as cheap integers
(:class:`fabric.stream.Stream`).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from fabric.stream import Stream

_MASK62: Final = (1 << 62) - 1

#: The Lehmer generator of ``fabric.stream``, for places that step it inline.
MODULUS: Final = 2147483647
MULTIPLIER: Final = 48271


class Streams:
    """The keyed source of all randomness of one run."""

    __slots__ = ("_prefix",)

    def __init__(self, seed: int) -> None:
        self._prefix = f"{seed}/"

    def number(self, purpose: str, entity: int | str = 0) -> int:
        """Return 62 bits that depend on the seed, ``purpose`` and ``entity`` alone."""
        key = f"{self._prefix}{purpose}/{entity}".encode()
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") & _MASK62

    def stream(self, purpose: str, entity: int | str = 0) -> Stream:
        """Return a fresh stream that starts where ``purpose`` and ``entity`` say."""
        return Stream(self.number(purpose, entity))

    def state(self, purpose: str, entity: int | str = 0) -> int:
        """Return a start state for an inline Lehmer generator (1 .. MODULUS-1)."""
        return self.number(purpose, entity) % (MODULUS - 1) + 1
