"""The words that the trace hash is made of, as the engine puts them down one by one.

Plain Python keeps them in a list, the cheapest thing that it has.  The compiled core has
``sim/native/words.py`` in the place of this module, where a word is a machine integer.
"""

from __future__ import annotations

from array import array
from typing import Final, TypeAlias

#: An int of 64 bits, with its sign.
Word: TypeAlias = int

_LITTLE: Final = array("H", [1]).tobytes()[0] == 1


class Words(list[int]):
    """Words in the order in which they were put down."""

    __slots__ = ()

    def drain(self) -> bytes:
        """Return all words as they are hashed, eight bytes each, and begin anew."""
        packed = array("q", self)
        if not _LITTLE:
            packed.byteswap()
        self.clear()
        return packed.tobytes()

    def numbers(self) -> list[int]:
        """Return all words as numbers."""
        return list(self)
