"""``sim.words`` as mypyc compiles it: a word is a machine integer, put straight into a buffer."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final, TypeAlias

from librt.strings import BytesWriter, write_i64_le
from mypy_extensions import i64

Word: TypeAlias = i64

_LITTLE: Final = array("H", [1]).tobytes()[0] == 1


class Words:
    """Words in the order in which they were put down."""

    __slots__ = ("_count", "_writer")

    def __init__(self) -> None:
        self._writer = BytesWriter()
        self._count: i64 = 0

    def append(self, word: i64) -> None:
        """Put down one word."""
        write_i64_le(self._writer, word)
        self._count += 1

    def extend(self, words: Iterable[int]) -> None:
        """Put down some words."""
        for word in words:
            self.append(word)

    def __len__(self) -> int:
        return self._count

    def drain(self) -> bytes:
        """Return all words as they are hashed, eight bytes each, and begin anew."""
        packed = self._writer.getvalue()
        self._writer.truncate(0)
        self._count = 0
        return packed

    def numbers(self) -> list[int]:
        """Return all words as numbers."""
        numbers = array("q", self._writer.getvalue())
        if not _LITTLE:
            numbers.byteswap()
        return numbers.tolist()
