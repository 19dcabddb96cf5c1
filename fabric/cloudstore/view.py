"""Views of stored documents: what the machine reads from, and overlays on top of it.

A :class:`View` is an ordered map from keys to values, read synchronously.  The simulator's is a
dictionary; the real one is an LMDB snapshot under an overlay of what is applied but not yet
flushed.  A :class:`Draft` is such an overlay for one transaction: its operations see each other's
writes, and a transaction that fails is forgotten by dropping the draft.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from fabric.machine import Write


class View(Protocol):
    """Reads of an ordered map."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under ``key``. Raises ``CorruptData`` if it fails its checksum."""

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to ``limit`` pairs whose key begins with ``prefix`` and is above ``after``."""


class Documents(View, Protocol):
    """A view that takes what commands change."""

    def apply(self, shard: int, index: int, writes: Sequence[Write]) -> None:
        """Make ``writes``, the effect of entry ``index`` of a shard's log, readable.

        They become durable some time later, together with ``index``, and never before the entry.
        """


def merge(
    below: Iterable[tuple[bytes, bytes]],
    overlay: Mapping[bytes, bytes | None],
    prefix: bytes,
    after: bytes,
    limit: int,
) -> list[tuple[bytes, bytes]]:
    """Return the scan ``below`` (in key order) as changed by ``overlay`` (``None`` deletes)."""
    changed = sorted(k for k in overlay if k > after and k.startswith(prefix))
    result: list[tuple[bytes, bytes]] = []
    position = 0
    for key, value in below:
        while position < len(changed) and changed[position] < key:
            own = overlay[changed[position]]
            position += 1
            if own is not None:
                result.append((changed[position - 1], own))
        if position < len(changed) and changed[position] == key:
            continue  # the overlay's word on this key comes in the next turn, or below
        if len(result) >= limit:
            return result[:limit]
        result.append((key, value))
    for key in changed[position:]:
        own = overlay[key]
        if own is not None:
            result.append((key, own))
    return result[:limit]


class Draft:
    """One transaction's writes on top of a view."""

    __slots__ = ("_below", "writes")

    def __init__(self, below: View) -> None:
        self._below = below
        self.writes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        if key in self.writes:
            return self.writes[key]
        return self._below.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.writes[key] = value

    def delete(self, key: bytes) -> None:
        self.writes[key] = None

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        # each deleted key may hide one of the pairs below
        hidden = sum(v is None for v in self.writes.values())
        below = self._below.scan(prefix, after, limit + hidden)
        return merge(below, self.writes, prefix, after, limit)
