"""The operations of a transaction, and their translation into what stands in the log.

What people write (:class:`Create`, :class:`Debit`, ...) holds bodies as mappings; what the log
holds (``fabric.wire.store``) has them encoded, with the values of the declared indexes beside.
:class:`Encoder` checks everything that can be checked without reading the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from fabric.cloudstore.index import Catalog, Kind, check_text
from fabric.errors import BadInput
from fabric.limits import (
    MAX_DOCUMENT_BYTES,
    MAX_DOCUMENT_ID_BYTES,
    MAX_INDEXED_BYTES,
    MAX_SCOPE_BYTES,
)
from fabric.wire import store as wire
from fabric.wire.codec import decode_value, encode_value


@dataclass(frozen=True, slots=True)
class Create:
    """Store a new document; ``AlreadyExists`` if it is there."""

    kind: str
    id: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CompareAndSet:
    """Replace the body of a document of this version; else ``Conflict`` (or ``NotFound``)."""

    kind: str
    id: str
    version: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a document of this version (``None``: of any); else ``Conflict`` or ``NotFound``."""

    kind: str
    id: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Make ``name`` unique in ``scope`` for ``owner``; ``NameTaken`` if it is another's."""

    scope: str
    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Free:
    """Give up what :class:`Claim` took; nothing happens if it is not ``owner``'s."""

    scope: str
    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Debit:
    """Add ``costs`` to ``body["usage"]`` of a document; negative costs give back.

    ``QuotaError`` if a positive cost takes a usage above ``body["limits"]``.  Both map keys to
    integers; keys without a limit are counted only.
    """

    kind: str
    id: str
    costs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Require:
    """Fail unless the document exists (``NotFound``) and has this version (``Conflict``)."""

    kind: str
    id: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class RequireNone:
    """``ContainerNotEmpty`` if a document of ``kind`` is indexed under ``field`` = ``value``."""

    kind: str
    field: str
    value: str


Operation: TypeAlias = (
    Create | CompareAndSet | Delete | Claim | Free | Debit | Require | RequireNone
)


class Encoder:
    """Turns the operations of one transaction into their form in the log, checking each."""

    def __init__(self, catalog: Catalog, shard: int) -> None:
        self._catalog = catalog
        self._shard = shard

    def __call__(self, op: Operation) -> Any:
        encode = _ENCODE.get(op.__class__)
        if encode is None:
            raise BadInput(f"{op!r:.80} is no operation")
        return encode(self, op)

    def _place(self, kind: str, object_id: str) -> Kind:
        """Check that a document belongs into this transaction."""
        declared = self._catalog.kind(kind)
        if not object_id:
            raise BadInput(f"a {kind} needs an id", {"kind": kind})
        check_text("id", object_id, MAX_DOCUMENT_ID_BYTES)
        shard = self._catalog.shard(declared, object_id, None)
        if shard is not None and shard != self._shard:
            raise BadInput(
                f"{kind} {object_id} lives in shard {shard}, the transaction in {self._shard}:"
                " one transaction changes one shard",
                {"kind": kind, "id": object_id},
            )
        return declared

    def _body(self, kind: str, body: Mapping[str, Any]) -> bytes:
        try:
            data = encode_value(dict(body))
            decode_value(data)
        except (BadInput, ValueError, TypeError) as error:
            raise BadInput(f"a {kind} holds plain values only: {error}") from None
        if len(data) > MAX_DOCUMENT_BYTES:
            raise BadInput(f"{kind} of {len(data)} bytes exceeds {MAX_DOCUMENT_BYTES}")
        return data

    def create(self, op: Create) -> wire.PutNew:
        kind = self._place(op.kind, op.id)
        body = self._body(op.kind, op.body)
        return wire.PutNew(op.kind, op.id, kind.schema, body, kind.indexed(op.body))

    def compare_and_set(self, op: CompareAndSet) -> wire.PutOver:
        kind = self._place(op.kind, op.id)
        if op.version < 1:
            raise BadInput(f"version must be one that was read (was {op.version})")
        body = self._body(op.kind, op.body)
        return wire.PutOver(op.kind, op.id, op.version, kind.schema, body, kind.indexed(op.body))

    def delete(self, op: Delete) -> wire.Remove:
        self._place(op.kind, op.id)
        return wire.Remove(op.kind, op.id, op.version or 0)

    def claim(self, op: Claim) -> wire.ClaimName:
        return wire.ClaimName(*_named(op))

    def free(self, op: Free) -> wire.FreeName:
        return wire.FreeName(*_named(op))

    def debit(self, op: Debit) -> wire.DebitQuota:
        self._place(op.kind, op.id)
        for name, cost in op.costs.items():
            if type(cost) is not int:
                raise BadInput(f"cost of {name} must be an integer (was {cost!r:.40})")
        return wire.DebitQuota(op.kind, op.id, tuple(op.costs.items()))

    def require(self, op: Require) -> wire.RequireDocument:
        self._place(op.kind, op.id)
        return wire.RequireDocument(op.kind, op.id, op.version or 0)

    def require_none(self, op: RequireNone) -> wire.RequireNone:
        kind = self._catalog.kind(op.kind)
        if op.field not in kind.indexes:
            raise BadInput(f"{op.kind} has no index on {op.field}")
        check_text(op.field, op.value, MAX_INDEXED_BYTES)
        return wire.RequireNone(op.kind, op.field, op.value)


_ENCODE: dict[type[Any], Callable[[Encoder, Any], Any]] = {
    Create: Encoder.create,
    CompareAndSet: Encoder.compare_and_set,
    Delete: Encoder.delete,
    Claim: Encoder.claim,
    Free: Encoder.free,
    Debit: Encoder.debit,
    Require: Encoder.require,
    RequireNone: Encoder.require_none,
}


def _named(op: Claim | Free) -> tuple[str, str, str]:
    check_text("scope", op.scope, MAX_SCOPE_BYTES)
    check_text("name", op.name, MAX_INDEXED_BYTES)
    check_text("owner", op.owner, MAX_DOCUMENT_ID_BYTES)
    return op.scope, op.name, op.owner
