"""Declared kinds and their secondary indexes.

A :class:`Kind` says which fields of a body are indexed.  The values are taken from the body where
a transaction is made, and travel in it: replicas need not agree on declarations to stay equal.
An index entry is a key without value; it changes in the same entry as its document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fabric.cloudstore.keys import ROOT, ROOT_SHARD, index_key, shard_of
from fabric.cloudstore.view import Draft
from fabric.errors import BadInput
from fabric.limits import MAX_INDEXED_BYTES, MAX_INDEXED_VALUES, MAX_KIND_BYTES

IndexedValues = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document.

    ``indexes`` are top-level fields of the body that hold text or a list of texts (absent or
    ``None``: not indexed).  ``root`` kinds belong to no tenant and live in the root shard.
    """

    name: str
    indexes: tuple[str, ...] = ()
    schema: int = 1
    root: bool = False

    def __post_init__(self) -> None:
        for text in (self.name, *self.indexes):
            if not 0 < len(text.encode()) <= MAX_KIND_BYTES:
                raise BadInput(f"names of kinds and indexes have 1-{MAX_KIND_BYTES} bytes: {text}")

    def indexed(self, body: Mapping[str, Any]) -> IndexedValues:
        """Return the (field, value) pairs under which ``body`` is found."""
        pairs: dict[tuple[str, str], None] = {}
        for field in self.indexes:
            value = body.get(field)
            if value is None:
                continue
            for one in value if isinstance(value, list | tuple) else [value]:
                if not isinstance(one, str) or not fits(one, MAX_INDEXED_BYTES):
                    raise BadInput(
                        f"{self.name}.{field} is indexed: text of up to {MAX_INDEXED_BYTES} bytes",
                        {"kind": self.name, "field": field},
                    )
                pairs[field, one] = None
        if len(pairs) > MAX_INDEXED_VALUES:
            raise BadInput(f"a {self.name} has more than {MAX_INDEXED_VALUES} indexed values")
        return tuple(pairs)


class Catalog:
    """The declared kinds, and the shard in which each document of theirs lives."""

    def __init__(self, kinds: Iterable[Kind], shards: int) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self._shards = shards

    def kind(self, name: str) -> Kind:
        kind = self._kinds.get(name)
        if kind is None:
            raise BadInput(f"unknown kind {name!r:.80}", {"kind": name[:80]})
        return kind

    def home_shard(self, home: str) -> int:
        if home == ROOT:
            return ROOT_SHARD
        shard = shard_of(home, self._shards)
        if shard is None:
            raise BadInput(f"home must be an id made by this store (was {home!r:.80})")
        return shard

    def shard(self, kind: Kind, object_id: str, home: str | None) -> int | None:
        """Return the shard of a document; ``None`` if neither its id nor ``home`` says."""
        if kind.root:
            return ROOT_SHARD
        if home is not None:
            return self.home_shard(home)
        return shard_of(object_id, self._shards)


def fits(text: str, limit: int) -> bool:
    """Whether ``text`` can be stored in ``limit`` bytes."""
    try:
        return len(text.encode()) <= limit
    except UnicodeEncodeError:
        return False


def check_text(field: str, text: str, limit: int) -> None:
    """Raise :class:`BadInput` if ``text`` does not fit."""
    if not fits(text, limit):
        raise BadInput(
            f"{field} must be text of up to {limit} bytes (was {text[:40]!r})", {"field": field}
        )


def reindex(
    draft: Draft,
    shard: int,
    kind: str,
    object_id: str,
    old: Iterable[tuple[str, str]],
    new: Iterable[tuple[str, str]],
) -> None:
    """Move the index entries of one document from its old values to its new ones."""
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    for field, value in before:
        if (field, value) not in after:
            draft.delete(index_key(shard, kind, field, value, object_id))
    for field, value in after:
        if (field, value) not in before:
            draft.put(index_key(shard, kind, field, value, object_id), b"")
