"""The store as its users see it: kinds, documents, operations, and one client for all of them.

    store = StoreClient(backend, [Kind("vm", indexes=("projectId", "name")), ...])
    vm = store.new_id(tenant_id)
    await store.transact(
        tenant_id,
        [Create("vm", vm, {...}), Debit("ticket", ticket_id, {"vm": 1})],
        key=request_id,
    )
    document = await store.get("vm", vm)

A *home* is the id of a tenant (or of anything in the same shard), or ``ROOT`` for kinds of no
tenant.  All of one transaction lies in the home's shard and happens wholly or not at all; its
conditions are judged when it is applied.  Reads are linearizable: they see every transaction that
was acknowledged before they began.

A transaction whose answer got lost may be repeated under the same home and ``key``: it happens
once, however often it is asked for (within an hour, and the last thousand keys of a home).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fabric.cloudstore import keys
from fabric.cloudstore.index import Catalog, Kind, check_text, fits
from fabric.cloudstore.keys import ROOT, ROOT_SHARD
from fabric.cloudstore.operations import (
    Claim,
    CompareAndSet,
    Create,
    Debit,
    Delete,
    Encoder,
    Free,
    Operation,
    Require,
    RequireNone,
)
from fabric.cloudstore.view import View
from fabric.errors import BadInput, NotBuiltYet, error_from_code
from fabric.limits import MAX_COMMAND_BYTES, MAX_DOCUMENT_ID_BYTES, MAX_OPERATIONS, MAX_PAGE
from fabric.wire import store as wire
from fabric.wire.codec import decode_record, decode_value, encode_record

__all__ = [
    "ROOT",
    "Claim",
    "Committed",
    "CompareAndSet",
    "Create",
    "Debit",
    "Delete",
    "Document",
    "Free",
    "Kind",
    "Operation",
    "Page",
    "Require",
    "RequireNone",
    "StoreBackend",
    "StoreClient",
]


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document. ``version`` rises with each change; times are epoch microseconds."""

    kind: str
    id: str
    version: int
    schema: int
    body: dict[str, Any]
    created_us: int
    updated_us: int


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list; ``cursor`` continues it, ``None`` at its end."""

    items: tuple[Document, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction is durable. Every document that it wrote has this version."""

    version: int


# --- the client -----------------------------------------------------------------------------------


class StoreBackend(Protocol):
    """What a client needs of a store: the node in this process, later a remote one."""

    @property
    def shards(self) -> int:
        """How many shards the store has, for ever."""

    def used_shards(self) -> Sequence[int]:
        """Return the shards that may hold documents, ascending."""

    def random128(self) -> int:
        """Return 128 random bits, for an id."""

    async def propose(self, shard: int, command: bytes) -> wire.Outcome:
        """Have ``command`` committed and applied; return what became of it."""

    async def view(self, shard: int) -> View:
        """Return a view that holds everything acknowledged before the call."""


class StoreClient:
    """Reads and transactions over the declared kinds. Stateless: make as many as you like."""

    def __init__(self, backend: StoreBackend, kinds: Iterable[Kind]) -> None:
        self._backend = backend
        self._catalog = Catalog(kinds, backend.shards)

    # --- ids --------------------------------------------------------------------------------------

    def new_id(self, home: str) -> str:
        """Return a new id in the shard of ``home``."""
        return keys.make_id(self._catalog.home_shard(home), self._backend.random128())

    def new_home(self) -> str:
        """Return a new id in a random shard other than the root shard: a tenant's."""
        random, shards = self._backend.random128(), self._backend.shards
        shard = 1 + (random >> 64) % (shards - 1) if shards > 1 else ROOT_SHARD
        return keys.make_id(shard, random)

    # --- reads ------------------------------------------------------------------------------------

    async def get(self, kind: str, object_id: str, *, home: str | None = None) -> Document | None:
        """Return a document, or ``None``. ``home`` is needed only if the id names no shard."""
        shard = self._catalog.shard(self._catalog.kind(kind), object_id, home)
        if shard is None or not fits(object_id, MAX_DOCUMENT_ID_BYTES):
            return None
        view = await self._backend.view(shard)
        data = view.get(keys.document_key(shard, kind, object_id))
        return None if data is None else _document(kind, object_id, data)

    async def list(
        self,
        kind: str,
        *,
        home: str | None = None,
        where: tuple[str, str] | None = None,
        prefix: str = "",
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Return documents in the order of shard and id.

        ``home`` restricts to its shard (without it, all shards are asked, one after the other);
        ``where`` to one value of a declared index; ``prefix`` to ids that begin so.  A page
        continues after the ``cursor`` of the one before, whatever changed in between.
        """
        declared = self._catalog.kind(kind)
        if where is not None and where[0] not in declared.indexes:
            raise BadInput(f"{kind} has no index on {where[0]}", {"kind": kind, "field": where[0]})
        if not 0 < limit <= MAX_PAGE:
            raise BadInput(f"limit must be between 1 and {MAX_PAGE} (was {limit})")
        at, after = _read_cursor(cursor)
        if home is not None or declared.root:
            shards: Sequence[int] = (
                ROOT_SHARD if home is None else self._catalog.home_shard(home),
            )
        else:
            shards = self._backend.used_shards()
        found: list[tuple[int, Document]] = []
        for shard in shards:
            if shard < at:
                continue
            view = await self._backend.view(shard)
            last = after if shard == at else ""
            page = _read_page(view, shard, kind, where, prefix, last, limit + 1 - len(found))
            found += [(shard, document) for document in page]
            if len(found) > limit:
                break
        items = tuple(document for _, document in found[:limit])
        if len(found) <= limit:
            return Page(items, None)
        return Page(items, f"{found[limit - 1][0]}.{items[-1].id}")

    async def list_all(
        self, kind: str, *, home: str | None = None, where: tuple[str, str] | None = None
    ) -> tuple[Document, ...]:
        """Return all pages of :meth:`list` together."""
        items: tuple[Document, ...] = ()
        cursor: str | None = None
        while True:
            page = await self.list(kind, home=home, where=where, cursor=cursor, limit=MAX_PAGE)
            items += page.items
            cursor = page.cursor
            if cursor is None:
                return items

    async def name_owner(self, home: str, scope: str, name: str) -> str | None:
        """Return who holds ``name`` in ``scope``, if anybody."""
        shard = self._catalog.home_shard(home)
        view = await self._backend.view(shard)
        owner = view.get(keys.name_key(shard, scope, name))
        return None if owner is None else owner.decode()

    async def watch(self, kind: str, version: int = 0) -> None:
        """Watch changes from a version on."""
        raise NotBuiltYet(f"watching {kind} from {version} is not built yet; list instead")

    # --- transactions -----------------------------------------------------------------------------

    async def transact(
        self, home: str, ops: Sequence[Operation], *, key: str | None = None
    ) -> Committed:
        """Do all of ``ops``, in order, or nothing. Raises the error of the first that fails."""
        if not 0 < len(ops) <= MAX_OPERATIONS:
            raise BadInput(f"a transaction has 1-{MAX_OPERATIONS} operations (was {len(ops)})")
        shard = self._catalog.home_shard(home)
        encode = Encoder(self._catalog, shard)
        encoded = tuple(encode(op) for op in ops)
        check_text("key", key or "", MAX_DOCUMENT_ID_BYTES)
        command = encode_record(wire.Command(home, key or "", encoded))
        if len(command) > MAX_COMMAND_BYTES:
            raise BadInput(f"transaction of {len(command)} bytes exceeds {MAX_COMMAND_BYTES}")
        outcome = await self._backend.propose(shard, command)
        if outcome.code:
            raise error_from_code(outcome.code, outcome.message, dict(outcome.data))
        return Committed(outcome.version)


def _read_cursor(cursor: str | None) -> tuple[int, str]:
    if cursor is None:
        return 0, ""
    head, dot, after = cursor.partition(".")
    if not dot or not head.isascii() or not head.isdigit() or len(head) > 4:
        raise BadInput("cursor is none that this store gave", {"field": "cursor"})
    return int(head), after


def _document(kind: str, object_id: str, data: bytes) -> Document:
    stored = decode_record(wire.StoredDocument, data)
    return Document(
        kind,
        object_id,
        stored.version,
        stored.schema,
        decode_value(stored.body),
        stored.created,
        stored.updated,
    )


def _read_page(
    view: View,
    shard: int,
    kind: str,
    where: tuple[str, str] | None,
    prefix: str,
    after: str,
    limit: int,
) -> list[Document]:
    """Return up to ``limit`` documents of one shard."""
    if where is None:
        space = keys.document_prefix(shard, kind)
    else:
        space = keys.index_prefix(shard, kind, *where)
    rows = view.scan(space + prefix.encode(), space + after.encode(), limit)
    items = []
    for key, value in rows:
        object_id = key[len(space) :].decode()
        data = value if where is None else view.get(keys.document_key(shard, kind, object_id))
        assert data is not None, "an index entry changes together with its document"
        items.append(_document(kind, object_id, data))
    return items
