"""One shard's log: the entries that a replica holds in memory, and how far they are durable.

Positions (*indexes*) count from 1.  The log begins after its *base*: everything up to the base is
applied, durable as documents, and trimmed away.  Changes are returned as the writes that make
them durable; the machine puts them out under a token, and :meth:`Log.persisted` moves
:attr:`Log.durable` when the disk has them.  A replica vouches for nothing beyond ``durable``.

Truncation replaces entries of a deposed leader that were never committed.  Truncating what is
committed would be a broken promise: it raises, whatever the cause, and the replica stops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from fabric.cloudstore.keys import entry_key, entry_prefix, hard_state_key, log_base_key
from fabric.errors import CorruptData, StorageError
from fabric.machine import Write
from fabric.wire.codec import decode_record, decode_value, encode_record, encode_value
from fabric.wire.store import Entry


class Log:
    """Entries ``base_index + 1 .. last_index``."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.base_index = 0
        self.base_term = 0
        self._base_now = 0
        self.durable = 0
        self.bytes = 0
        self._entries: list[Entry] = []
        self._blobs: list[bytes] = []
        #: (token, last index of the write), oldest first
        self._pending: deque[tuple[int, int]] = deque()

    # --- reading ----------------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base_term

    @property
    def last_now(self) -> int:
        """The time of the last entry; a leader gives none that is earlier."""
        return self._entries[-1].now if self._entries else self._base_now

    def entry(self, index: int) -> Entry:
        return self._entries[index - self.base_index - 1]

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry at ``index``, ``None`` if it is not here."""
        if index == self.base_index:
            return self.base_term
        if self.base_index < index <= self.last_index:
            return self._entries[index - self.base_index - 1].term
        return None

    def first_of_term(self, index: int) -> int:
        """Return the first index here of the term that the entry at ``index`` has."""
        term = self.term_at(index)
        while index > self.base_index + 1 and self.term_at(index - 1) == term:
            index -= 1
        return index

    def batch(self, start: int, max_entries: int, max_bytes: int) -> tuple[bytes, ...]:
        """Return encoded entries from ``start`` on: at least one if there is one."""
        first = start - self.base_index - 1
        size = count = 0
        for blob in self._blobs[first : first + max_entries]:
            size += len(blob) + 8
            if count and size > max_bytes:
                break
            count += 1
        return tuple(self._blobs[first : first + count])

    # --- changing ---------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry], token: int) -> list[Write]:
        """Add entries at the end. The writes become durable under ``token``."""
        writes = []
        for entry in entries:
            blob = encode_record(entry)
            self._entries.append(entry)
            self._blobs.append(blob)
            self.bytes += len(blob)
            writes.append(Write(entry_key(self.shard, self.last_index), blob))
        self._pending.append((token, self.last_index))
        return writes

    def truncate(self, index: int, committed: int) -> list[Write]:
        """Remove the entries from ``index`` on."""
        if index <= max(committed, self.base_index):
            raise StorageError(
                f"shard {self.shard}: entry {index} is committed and must not be replaced"
            )
        keep = index - self.base_index - 1
        writes = [Write(entry_key(self.shard, i), None) for i in range(index, self.last_index + 1)]
        self.bytes -= sum(len(blob) for blob in self._blobs[keep:])
        del self._entries[keep:], self._blobs[keep:]
        self.durable = min(self.durable, index - 1)
        self._pending = deque((token, min(last, index - 1)) for token, last in self._pending)
        return writes

    def persisted(self, token: int) -> bool:
        """Note that the writes up to ``token`` are durable. Returns whether that moved anything."""
        before = self.durable
        while self._pending and self._pending[0][0] <= token:
            self.durable = max(self.durable, self._pending.popleft()[1])
        return self.durable > before

    def trim(self, upto: int, keep_bytes: int) -> list[Write]:
        """Forget old entries, none after ``upto``, once there are more than ``keep_bytes``."""
        if self.bytes <= keep_bytes:
            return []
        dropped = 0
        while self.bytes > keep_bytes // 2 and self.base_index + dropped < min(upto, self.durable):
            self.bytes -= len(self._blobs[dropped])
            dropped += 1
        if not dropped:
            return []
        first = self.base_index + 1
        self.base_term = self._entries[dropped - 1].term
        self._base_now = self._entries[dropped - 1].now
        self.base_index += dropped
        del self._entries[:dropped], self._blobs[:dropped]
        base = encode_value([self.base_index, self.base_term, self._base_now])
        return [
            Write(log_base_key(self.shard), base),
            *(Write(entry_key(self.shard, i), None) for i in range(first, self.base_index + 1)),
        ]

    # --- restart ----------------------------------------------------------------------------------

    def restore(self, rows: Iterable[tuple[bytes, bytes]]) -> tuple[int, int]:
        """Load what was durable; ``rows`` are in key order. Returns the stored term and vote.

        A gap or a broken entry may be one that was acknowledged: nothing is truncated away, the
        replica does not start.
        """
        term = vote = 0
        prefix = entry_prefix(self.shard)
        for key, value in rows:
            if key == log_base_key(self.shard):
                self.base_index, self.base_term, self._base_now = decode_value(value)
            elif key == hard_state_key(self.shard):
                term, vote = decode_value(value)
            elif key.startswith(prefix):
                index = int.from_bytes(key[len(prefix) :], "big")
                if index != self.last_index + 1:
                    raise CorruptData(
                        f"shard {self.shard}: log entry {self.last_index + 1} is missing"
                    )
                self._entries.append(decode_record(Entry, value))
                self._blobs.append(value)
                self.bytes += len(value)
        self.durable = self.last_index
        return term, vote
