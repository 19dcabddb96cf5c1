"""The leader's side of replication: what each replica has, what to send it, what is committed.

* *Commit* by the median: the highest index that a majority has durably, if its entry is of the
  leader's own term (Ongaro 3.6.2).  The leader is one of the replicas: it counts for what *its*
  disk has, no more.
* *ReadIndex* (Ongaro 6.4): reads wait for a majority to echo a heartbeat round that began after
  they were asked; all reads that wait at its start share it.  No clock is trusted.
* *Check-quorum*: a leader that has not heard from a majority for an election timeout resigns.

All three are the same question, "what does a majority reach", asked of three numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fabric.cloudstore.election import ELECTION_MIN, HEARTBEAT
from fabric.cloudstore.log import Log
from fabric.limits import MAX_APPEND_BYTES, MAX_BATCH
from fabric.machine import NEVER, Contact
from fabric.wire.store import Append, AppendReply


@dataclass(slots=True)
class Progress:
    """What the leader knows of one follower."""

    contact: Contact
    next: int
    heard_at: int
    match: int = 0
    round: int = 0
    sent_at: int = -NEVER
    #: entries are under way; the next ones wait for the answer or the heartbeat
    in_flight: bool = False


@dataclass(slots=True)
class ReadBatch:
    """Reads that wait for ``round`` to be echoed; they see everything up to ``index``."""

    round: int
    index: int
    calls: list[int]


@dataclass(slots=True)
class Replication:
    """A leader's term, seen from replication. Made on winning, dropped on stepping down."""

    term: int
    quorum: int
    log: Log
    followers: dict[int, Progress]
    round: int = 0
    reading: ReadBatch | None = None
    waiting_reads: list[int] = field(default_factory=list)

    # --- what a majority reaches ------------------------------------------------------------------

    def _majority(self, own: int, others: list[int]) -> int:
        """Return the highest number that a majority of replicas reaches."""
        return sorted([own, *others], reverse=True)[self.quorum - 1]

    def committed(self) -> int:
        """Return the highest index that is durable on a majority."""
        return self._majority(self.log.durable, [f.match for f in self.followers.values()])

    def echoed_round(self) -> int:
        """Return the last round in which a majority still followed."""
        return self._majority(self.round, [f.round for f in self.followers.values()])

    def resign_at(self) -> int:
        """Return when to step down unless more is heard by then."""
        heard = self._majority(NEVER, [f.heard_at for f in self.followers.values()])
        return min(NEVER, heard + 2 * ELECTION_MIN)

    def everywhere(self) -> int:
        """Return the index up to which every replica has the log durably."""
        return min([self.log.durable, *(f.match for f in self.followers.values())])

    # --- sending ----------------------------------------------------------------------------------

    def due(self) -> int:
        """Return when the next heartbeat is due."""
        return min([f.sent_at + HEARTBEAT for f in self.followers.values()], default=NEVER)

    def append_for(self, follower: Progress, commit: int, now: int, heartbeat: bool) -> Append:
        """Build the next AppendEntries for ``follower`` and note it as sent.

        A heartbeat to a follower whose answer is overdue starts again from what it is known to
        have: the message or the answer was lost.
        """
        if heartbeat and follower.in_flight:
            follower.next = max(follower.match, self.log.base_index) + 1
            follower.in_flight = False
        log = self.log
        previous = follower.next - 1
        entries: tuple[bytes, ...] = ()
        if not follower.in_flight:
            entries = log.batch(follower.next, MAX_BATCH, MAX_APPEND_BYTES)
        if entries:
            follower.next += len(entries)
            follower.in_flight = True
        follower.sent_at = now
        previous_term = log.term_at(previous)
        assert previous_term is not None, "the log is trimmed only behind what every replica has"
        return Append(
            log.shard,
            self.term,
            previous,
            previous_term,
            commit,
            self.everywhere(),
            self.round,
            entries,
        )

    def wants_entries(self, follower: Progress) -> bool:
        return not follower.in_flight and follower.next <= self.log.last_index

    def note(self, follower: Progress, reply: AppendReply, now: int) -> None:
        """Take in a follower's answer of this term."""
        follower.heard_at = now
        follower.round = max(follower.round, reply.round)
        if reply.ok:
            follower.match = max(follower.match, min(reply.match, self.log.last_index))
            follower.next = max(follower.next, follower.match + 1)
            if follower.match >= follower.next - 1:
                follower.in_flight = False
            return
        again = max(follower.match, reply.match, self.log.base_index) + 1
        if again < follower.next:  # else it is old, or hopeless: leave it to the heartbeat
            follower.next = again
            follower.in_flight = False

    # --- reads ------------------------------------------------------------------------------------

    def start_reading(self, commit: int) -> bool:
        """Begin a round for the waiting reads, if one may begin. Returns whether it did."""
        if self.reading is not None or not self.waiting_reads:
            return False
        if self.log.term_at(commit) != self.term:  # the own no-op is not committed yet
            return False
        self.round += 1
        self.reading = ReadBatch(self.round, commit, self.waiting_reads)
        self.waiting_reads = []
        return True

    def finish_reading(self) -> ReadBatch | None:
        """Return the reads whose round has been echoed by a majority."""
        reading = self.reading
        if reading is None or self.echoed_round() < reading.round:
            return None
        self.reading = None
        return reading
