"""A virtual disk: durable records, group commit, and what a crash leaves of a commit under way.

Writes reach the disk in the order in which they were put out.  While one commit is under way, what
comes in waits and goes into the next one, as with the real committer thread.  What hangs on a
write (a promised message, a ``Persisted`` event) leaves when it is durable, not before.

A crash loses what waits.  The commit under way becomes durable or not, as a whole: LMDB writes its
pages, syncs, and then flips one meta page; a torn meta page is seen and the older one counts.

What faults do to a disk (``sim.disk_faults`` switches it on and off):

* *slow*: a commit takes many times as long.
* *failing*: a commit ends with an error.  As under the real driver, what hung on it is never
  promised and the process ends; it is not tried again, since pages may be marked clean.
* *lying*: commits are confirmed and not durable.  A crash then leaves any older state, or an
  unreadable file; from then on the disk has *broken promises*, which checkers have to know.
* *unreadable*: found at the next start (records carry checksums); only a new disk helps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from fabric.machine import Contact, Message, Persisted, PersistFailed, Write
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

    __slots__ = (
        "_commit", "_honest", "_node", "_stream", "_unsynced", "_waiting", "broke_promises",
        "commits", "failing", "failures", "on_commit", "records", "slowed", "unreadable",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stream = node.engine.streams.stream("disk", node.index)
        #: What a restart will find.
        self.records: dict[bytes, bytes] = {}
        self._waiting: list[_Pending] = []
        self._commit: list[_Pending] = []
        self.commits = 0
        #: Factors on the time that a commit takes; the worst counts.
        self.slowed: list[int] = []
        #: Why commits fail: an errno's name, or nothing.
        self.failing = ""
        self.failures = 0
        #: Called once, when the next commit is under way.
        self.on_commit: Callable[[], None] | None = None
        #: While it lies: what was durable before, and what was confirmed since.
        self._honest: dict[bytes, bytes] | None = None
        self._unsynced: list[list[_Pending]] = []
        self.broke_promises = False
        self.unreadable = False

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

    def lie(self, on: bool) -> None:
        """Confirm from now on what is not durable; or, all at once, make it so."""
        self._honest = dict(self.records) if on else None
        self._unsynced = []

    def _begin(self) -> None:
        self._commit, self._waiting = self._waiting, []
        delay = (FSYNC_MIN_US + self._stream.below(FSYNC_SPREAD_US)) * max(self.slowed, default=1)
        self._node.engine.after(delay, self._node, self._done)
        if self.on_commit is not None:
            hook, self.on_commit = self.on_commit, None
            hook()

    def _done(self) -> None:
        node = self._node
        batch, self._commit = self._commit, []
        if self.failing:
            self._fail(batch)
            return
        self._apply(batch)
        if self._waiting:
            self._begin()
        engine = node.engine
        for pending in batch:
            if pending.to is not None:
                message = pending.message
                mark = engine.marks.of(message, node.node_id)
                node.carry(pending.to, message, mark)
            else:
                node.deliver(Persisted(pending.token), hash_ints((pending.token,)))
                if not node.alive:
                    return

    def _fail(self, batch: list[_Pending]) -> None:
        """The commit came back with an error; whether it is durable nobody can say."""
        self.failures += 1
        if self.failing == "EIO" and self._stream.below(2):
            self._apply(batch)
        node, first = self._node, batch[0]
        if first.to is None:
            node.deliver(PersistFailed(first.token, self.failing), hash_ints((first.token,)))
        node.crash()

    def _apply(self, batch: list[_Pending]) -> None:
        self.commits += 1
        if self._honest is not None:
            self._unsynced.append(batch)
        _write(self.records, batch)

    def crash(self) -> None:
        """Lose what is not durable; the commit under way may just have made it."""
        if self._commit and self._stream.below(2):
            self._apply(self._commit)
        self._commit = []
        self._waiting = []
        self.on_commit = None
        if self._honest is not None and self._unsynced:
            self._lose()

    def _lose(self) -> None:
        """The lie comes out: any older state is left, or none that can be read."""
        assert self._honest is not None
        kept = self._stream.below(len(self._unsynced) + 1)
        for batch in self._unsynced[:kept]:
            _write(self._honest, batch)
        self.broke_promises = self.broke_promises or kept < len(self._unsynced)
        self.unreadable = kept < len(self._unsynced) and self._stream.below(4) == 0
        self.records = self._honest
        self.lie(True)

    def wipe(self) -> None:
        """Lose everything, as with a replaced disk."""
        self.records.clear()
        self.unreadable = False
        if self._honest is not None:
            self.lie(True)


def _write(records: dict[bytes, bytes], batch: list[_Pending]) -> None:
    for pending in batch:
        for key, value in pending.writes:
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value
