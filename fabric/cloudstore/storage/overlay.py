"""Documents as a node reads them: what lies in the document environment, under what is newer.

Applying is cheap and happens at once, in memory (``_fresh``).  Each ~50 ms the node *freezes* what
came together, a thread writes it sorted, with each shard's applied index, as one commit; then it
is dropped.  Reads look into fresh, frozen and stored rows in this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from fabric.cloudstore.keys import applied_key
from fabric.cloudstore.storage.environment import Environment
from fabric.cloudstore.view import merge
from fabric.machine import Write
from fabric.wire.codec import decode_value, encode_value


class OverlaidDocuments:
    """The documents of all shards of a node."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._fresh: dict[bytes, bytes | None] = {}
        self._frozen: dict[bytes, bytes | None] = {}
        self._applied: dict[int, int] = {}

    @property
    def rows(self) -> int:
        """How many rows are not flushed."""
        return len(self._fresh) + len(self._frozen)

    @property
    def dirty(self) -> bool:
        return bool(self._applied)

    def get(self, key: bytes) -> bytes | None:
        for overlay in (self._fresh, self._frozen):
            if key in overlay:
                return overlay[key]
        return self._environment.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        overlay = self._fresh
        if self._frozen:
            overlay = {**self._frozen, **self._fresh}
        with closing(self._environment.iterate(prefix, after)) as stored:
            return merge(stored, overlay, prefix, after, limit)

    def apply(self, shard: int, index: int, writes: Sequence[Write]) -> None:
        self._applied[shard] = index
        self._fresh.update(writes)

    def applied(self, shard: int) -> int:
        """Return the index up to which a shard's documents were durable when it was opened."""
        stored = self._environment.get(applied_key(shard))
        return 0 if stored is None else int(decode_value(stored))

    def freeze(self) -> tuple[list[Write], dict[int, int]]:
        """Return what is to be written now, and the applied index of each shard in it."""
        assert not self._frozen, "one flush at a time"
        self._frozen, self._fresh = self._fresh, {}
        applied, self._applied = self._applied, {}
        writes = [Write(key, self._frozen[key]) for key in sorted(self._frozen)]
        writes += [Write(applied_key(s), encode_value(i)) for s, i in sorted(applied.items())]
        return writes, applied

    def thaw(self) -> None:
        """What was frozen is durable."""
        self._frozen = {}
