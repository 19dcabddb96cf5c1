"""What a committed command does: its operations, evaluated in order on a view of the documents.

Evaluation is a pure function of the view, the entry's position and the entry: every replica gets
the same writes and the same outcome.  Conditions (versions, names, quotas, emptiness) are judged
here and nowhere else, so a transaction is all or nothing even if the world changed between its
making and its commit.

A document's *version* is the position in its shard's log of the entry that last changed it.  It
rises with every change, also over delete and create, and one transaction gives all that it
writes the same version.

Idempotency: a transaction that succeeded under a key leaves its version in the result table; the
same key of the same home again answers that version and changes nothing (see ``results``).
Failures are not kept: they changed nothing, so evaluating them again is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from fabric.cloudstore import keys
from fabric.cloudstore.index import reindex
from fabric.cloudstore.results import recall, remember
from fabric.cloudstore.view import Documents, Draft
from fabric.errors import (
    AlreadyExists,
    BadInput,
    Conflict,
    ContainerNotEmpty,
    FabricError,
    NameTaken,
    NotFound,
    QuotaError,
    StorageError,
)
from fabric.limits import MAX_DOCUMENT_BYTES
from fabric.machine import Write
from fabric.wire.codec import decode_record, decode_value, encode_record, encode_value
from fabric.wire.store import (
    ClaimName,
    Command,
    DebitQuota,
    Entry,
    FreeName,
    Outcome,
    PutNew,
    PutOver,
    Remove,
    RequireDocument,
    RequireNone,
    StoredDocument,
)


def apply_entry(documents: Documents, shard: int, index: int, entry: Entry) -> Outcome:
    """Carry out the entry at ``index`` and say what became of it."""
    if not entry.command:  # a new leader's no-op
        documents.apply(shard, index, ())
        return Outcome(index)
    draft = Draft(documents)
    try:
        command = decode_record(Command, entry.command)
        version = _run(draft, shard, index, entry.now, command)
    except StorageError:
        raise  # not the command's fault: this replica must stop, not disagree with the others
    except FabricError as error:
        documents.apply(shard, index, ())
        return failed(error)
    documents.apply(shard, index, [Write(k, v) for k, v in draft.writes.items()])
    return Outcome(version)


def failed(error: FabricError) -> Outcome:
    """Return the outcome that tells of ``error``."""
    return Outcome(0, error.code, error.message, tuple(error.data.items()))


def _run(draft: Draft, shard: int, index: int, now: int, command: Command) -> int:
    if command.key:
        before = recall(draft, shard, command.home, command.key)
        if before is not None:
            return before
    for op in command.ops:
        run = _RUN.get(op.__class__)
        if run is None:
            raise BadInput(f"{op.__class__.__name__} is no operation")
        run(_At(draft, shard, index, now), op)
    if command.key:
        remember(draft, shard, command.home, command.key, index, now)
    return index


class _At:
    """Where an operation runs: on which draft, in which shard, at which position and time."""

    __slots__ = ("draft", "index", "now", "shard")

    def __init__(self, draft: Draft, shard: int, index: int, now: int) -> None:
        self.draft = draft
        self.shard = shard
        self.index = index
        self.now = now

    def load(self, kind: str, object_id: str) -> StoredDocument | None:
        data = self.draft.get(keys.document_key(self.shard, kind, object_id))
        return None if data is None else decode_record(StoredDocument, data)

    def existing(self, kind: str, object_id: str, version: int) -> StoredDocument:
        stored = self.load(kind, object_id)
        if stored is None:
            raise NotFound(f"no {kind} {object_id}", {"kind": kind, "id": object_id})
        if version not in (0, stored.version):
            raise Conflict(
                f"{kind} {object_id} has version {stored.version}, not {version}",
                {"kind": kind, "id": object_id, "version": str(stored.version)},
            )
        return stored

    def store(
        self, kind: str, object_id: str, old: StoredDocument | None, new: StoredDocument
    ) -> None:
        before: Iterable[tuple[str, str]] = () if old is None else old.indexed
        reindex(self.draft, self.shard, kind, object_id, before, new.indexed)
        self.draft.put(keys.document_key(self.shard, kind, object_id), encode_record(new))


def _put_new(at: _At, op: PutNew) -> None:
    if at.load(op.kind, op.id) is not None:
        raise AlreadyExists(f"{op.kind} {op.id} exists", {"kind": op.kind, "id": op.id})
    new = StoredDocument(at.index, op.schema, at.now, at.now, op.body, op.indexed)
    at.store(op.kind, op.id, None, new)


def _put_over(at: _At, op: PutOver) -> None:
    old = at.existing(op.kind, op.id, op.version)
    new = StoredDocument(at.index, op.schema, old.created, at.now, op.body, op.indexed)
    at.store(op.kind, op.id, old, new)


def _remove(at: _At, op: Remove) -> None:
    old = at.existing(op.kind, op.id, op.version)
    reindex(at.draft, at.shard, op.kind, op.id, old.indexed, ())
    at.draft.delete(keys.document_key(at.shard, op.kind, op.id))


def _claim_name(at: _At, op: ClaimName) -> None:
    key = keys.name_key(at.shard, op.scope, op.name)
    owner = at.draft.get(key)
    if owner is not None and owner != op.owner.encode():
        raise NameTaken(
            f"name '{op.name}' already taken",
            {"scope": op.scope, "name": op.name, "owner": owner.decode()},
        )
    at.draft.put(key, op.owner.encode())


def _free_name(at: _At, op: FreeName) -> None:
    key = keys.name_key(at.shard, op.scope, op.name)
    if at.draft.get(key) == op.owner.encode():  # else it is another's, or free already
        at.draft.delete(key)


def _debit_quota(at: _At, op: DebitQuota) -> None:
    old = at.existing(op.kind, op.id, 0)
    body = decode_value(old.body)
    limits = _counters(op, body, "limits")
    usage = _counters(op, body, "usage")
    for key, cost in op.costs:
        used = usage.get(key, 0)
        limit = limits.get(key)
        if cost > 0 and limit is not None and used + cost > limit:
            raise QuotaError(
                f"{key}: {used} used, {cost} more exceeds the limit of {limit}",
                {
                    "kind": op.kind,
                    "id": op.id,
                    "key": key,
                    "limit": str(limit),
                    "usage": str(used),
                    "newUsage": str(used + cost),
                },
            )
        usage[key] = used + cost
    encoded = encode_value({**body, "usage": usage})
    if len(encoded) > MAX_DOCUMENT_BYTES:
        raise BadInput(f"{op.kind} {op.id} would exceed {MAX_DOCUMENT_BYTES} bytes")
    new = StoredDocument(at.index, old.schema, old.created, at.now, encoded, old.indexed)
    at.store(op.kind, op.id, old, new)


def _counters(op: DebitQuota, body: Any, field: str) -> dict[str, int]:
    counters = body.get(field, {}) if isinstance(body, dict) else None
    if not isinstance(counters, dict) or not all(type(v) is int for v in counters.values()):
        raise BadInput(f"{op.kind} {op.id}: {field} must map keys to integers")
    return dict(counters)


def _require_document(at: _At, op: RequireDocument) -> None:
    at.existing(op.kind, op.id, op.version)


def _require_none(at: _At, op: RequireNone) -> None:
    prefix = keys.index_prefix(at.shard, op.kind, op.field, op.value)
    for key, _ in at.draft.scan(prefix, prefix, 1):
        found = key[len(prefix) :].decode()
        raise ContainerNotEmpty(
            f"{op.kind} {found} still has {op.field} {op.value}", {"kind": op.kind, "id": found}
        )


_RUN: Final[dict[type[Any], Callable[[_At, Any], None]]] = {
    PutNew: _put_new,
    PutOver: _put_over,
    Remove: _remove,
    ClaimName: _claim_name,
    FreeName: _free_name,
    DebitQuota: _debit_quota,
    RequireDocument: _require_document,
    RequireNone: _require_none,
}
