"""Store messages and records. Type ids: 80-99.

80-83 replicas among themselves, 84-89 callers and the driver, 90-97 operations as they stand in
the log.  Bodies of documents are opaque bytes here (one CBOR map each): only ``documents`` and
``client`` look inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fabric.limits import MAX_BATCH, MAX_INDEXED_VALUES, MAX_OPERATIONS
from fabric.wire.codec import Blob, Embedded, Int, LongText, Signed, Text, many, register

# --- replicas among themselves --------------------------------------------------------------------


@dataclass(slots=True)
class VoteRequest:
    """Would you (``pre``) or do you vote for me? Says how far the asker's log reaches.

    ``force``: the leader itself hands over, so do not stick to it.
    """

    shard: Int
    term: Int
    pre: bool
    last_index: Int
    last_term: Int
    force: bool = False


@dataclass(slots=True)
class VoteReply:
    """``term`` is the term asked for when granted, the voter's own when not."""

    shard: Int
    term: Int
    pre: bool
    granted: bool


@dataclass(slots=True)
class Append:
    """AppendEntries: ``entries`` follow ``prev_index``; without entries it is a heartbeat.

    ``everywhere``: every replica has the log durably up to here, so it may be trimmed.
    ``round`` counts heartbeat rounds: a majority that echoes a round proves that its sender
    still led when it was sent (ReadIndex).
    """

    shard: Int
    term: Int
    prev_index: Int
    prev_term: Int
    commit: Int
    everywhere: Int
    round: Int
    entries: Annotated[tuple[Blob, ...], many(MAX_BATCH)] = ()


@dataclass(slots=True)
class AppendReply:
    """``match``: up to where the replier's log equals the leader's *and is durable*.

    When ``ok`` is false, ``match`` is the highest index at which it is worth trying again.
    """

    shard: Int
    term: Int
    ok: bool
    match: Int
    round: Int


# --- callers and the driver -----------------------------------------------------------------------


@dataclass(slots=True)
class Propose:
    """Carry out these transactions, each an encoded :class:`Command`, in this order."""

    shard: Int
    commands: Annotated[tuple[Blob, ...], many(MAX_BATCH)]


@dataclass(slots=True)
class Outcome:
    """What became of one transaction: its version, or an error by code."""

    version: Int
    code: Text = ""
    message: LongText = ""
    data: tuple[tuple[Text, LongText], ...] = ()


@dataclass(slots=True)
class Proposed:
    """The outcomes, in the order of the commands."""

    outcomes: Annotated[tuple[Outcome, ...], many(MAX_BATCH)]


@dataclass(slots=True)
class ReadAt:
    """Answer when everything acknowledged before this call can be read here."""

    shard: Int


@dataclass(slots=True)
class ReadReady:
    """Now: the documents of this replica are at ``index`` or later."""

    index: Int


@dataclass(slots=True)
class Campaign:
    """Try to lead now instead of waiting for the election timeout (a hint from the driver)."""

    shard: Int


@dataclass(slots=True)
class Flushed:
    """From the driver: documents are durable up to ``index``; the log before it may go."""

    shard: Int
    index: Int


# --- what stands in the log -----------------------------------------------------------------------


@dataclass(slots=True)
class Entry:
    """A log entry: the term and time that its leader gave it, and a command (empty: no-op)."""

    term: Int
    now: Int
    command: Blob


Indexed = Annotated[tuple[tuple[Text, LongText], ...], many(MAX_INDEXED_VALUES)]


@dataclass(slots=True)
class PutNew:
    """Create; fails if the document exists. ``indexed``: the values of its declared indexes."""

    kind: Text
    id: Text
    schema: Int
    body: Blob
    indexed: Indexed


@dataclass(slots=True)
class PutOver:
    """Replace the body; fails unless the document has ``version`` (0: any)."""

    kind: Text
    id: Text
    version: Int
    schema: Int
    body: Blob
    indexed: Indexed


@dataclass(slots=True)
class Remove:
    """Delete; fails unless the document has ``version`` (0: any)."""

    kind: Text
    id: Text
    version: Int


@dataclass(slots=True)
class ClaimName:
    scope: Text
    name: LongText
    owner: Text


@dataclass(slots=True)
class FreeName:
    scope: Text
    name: LongText
    owner: Text


@dataclass(slots=True)
class DebitQuota:
    """Add ``costs`` to the usage in the document, unless a limit there would be exceeded."""

    kind: Text
    id: Text
    costs: Annotated[tuple[tuple[Text, Signed], ...], many(MAX_INDEXED_VALUES)]


@dataclass(slots=True)
class RequireDocument:
    """Fail unless the document exists and has ``version`` (0: any)."""

    kind: Text
    id: Text
    version: Int


@dataclass(slots=True)
class RequireNone:
    """Fail if any document of ``kind`` is indexed under ``field`` = ``value``."""

    kind: Text
    field: Text
    value: LongText


@dataclass(slots=True)
class Command:
    """One transaction: ``home`` is the tenant that bounds its idempotency keys."""

    home: Text
    key: Text
    ops: Annotated[tuple[Embedded, ...], many(MAX_OPERATIONS)]


@dataclass(slots=True)
class StoredDocument:
    """A document as it lies in the document environment."""

    version: Int
    schema: Int
    created: Int
    updated: Int
    body: Blob
    indexed: Indexed


register(80, VoteRequest)
register(81, VoteReply)
register(82, Append)
register(83, AppendReply)
register(84, Propose)
register(85, Proposed)
register(86, ReadAt)
register(87, ReadReady)
register(88, Campaign)
register(89, Flushed)
register(90, PutNew)
register(91, PutOver)
register(92, Remove)
register(93, ClaimName)
register(94, FreeName)
register(95, DebitQuota)
register(96, RequireDocument)
register(97, RequireNone)
