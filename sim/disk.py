"""A virtual disk: durable records, group commit, and what a crash leaves of a commit under way.

Writes reach the disk in the order in which they were put out.  While one commit is under way, what
comes in waits and goes into the next one, as with the real committer thread.  What hangs on a
write (a promised message, a ``Persisted`` event) leaves when it is durable, not before.

A crash loses what waits.  The commit under way becomes durable or not, as a whole: LMDB writes its
pages, syncs, and then flips one meta page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fabric.machine import Contact, Message, Persisted, Write
from sim.trace import hash_ints

if TYPE_CHECKING:
    from sim.engine import Node

#: How long one commit takes: a data-centre SSD with its cache off is about there.
FSYNC_MIN_US: Final = 500
FSYNC_SPREAD_US: Final = 2_000


class _Pending(NamedTuple):
    writes: tuple[Write, ...]
    token: int
    to: Contact | None  # with a message: the write was promised
    message: Message


class Disk:
    """The disk of one node."""

    __slots__ = ("_commit", "_node", "_stream", "_waiting", "commits", "records")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stream = node.engine.streams.stream("disk", node.index)
        #: What a restart will find.
        self.records: dict[bytes, bytes] = {}
        self._waiting: list[_Pending] = []
        self._commit: list[_Pending] = []
        self.commits = 0

    def write(
        self, writes: tuple[Write, ...], token: int, to: Contact | None, message: Message
    ) -> None:
        """Make ``writes`` durable; then send ``message``, or deliver ``Persisted(token)``."""
        self._waiting.append(_Pending(writes, token, to, message))
        if not self._commit:
            self._begin()

    def stored(self) -> list[tuple[bytes, bytes]]:
        """Return all records in the order of their keys, as LMDB does."""
        return sorted(self.records.items())

    def _begin(self) -> None:
        self._commit, self._waiting = self._waiting, []
        delay = FSYNC_MIN_US + self._stream.below(FSYNC_SPREAD_US)
        self._node.engine.after(delay, self._node, self._done)

    def _done(self) -> None:
        node = self._node
        batch, self._commit = self._commit, []
        self._apply(batch)
        if self._waiting:
            self._begin()
        engine = node.engine
        for pending in batch:
            if pending.to is not None:
                message = pending.message
                mark = engine.fingerprints[message.__class__](message, node.node_id)
                node.carry(pending.to, message, mark)
            else:
                node.deliver(Persisted(pending.token), hash_ints((pending.token,)))
                if not node.alive:
                    return

    def _apply(self, batch: list[_Pending]) -> None:
        self.commits += 1
        records = self.records
        for pending in batch:
            for key, value in pending.writes:
                if value is None:
                    records.pop(key, None)
                else:
                    records[key] = value

    def crash(self) -> None:
        """Lose what is not durable; the commit under way may just have made it."""
        if self._commit and self._stream.below(2):
            self._apply(self._commit)
        self._commit = []
        self._waiting = []

    def wipe(self) -> None:
        """Lose everything, as with a replaced disk."""
        self.records.clear()
