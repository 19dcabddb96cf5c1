"""Planted bugs in the store: log, votes, replication, reads."""

from __future__ import annotations

from typing import Final

from sim.mutants.mutant import STORE, Absent, Mutant, mutant

_SHARD: Final = "fabric/cloudstore/shard.py"
_FOLLOWING: Final = "fabric/cloudstore/following.py"
_REPLICATION: Final = "fabric/cloudstore/replication.py"
_ELECTION: Final = "fabric/cloudstore/election.py"
_EVALUATION: Final = "fabric/cloudstore/documents.py"

MUTANTS: Final[tuple[Mutant, ...]] = (
    mutant(
        "follower-acknowledges-early",
        "a follower answers for entries that its disk does not have yet",
        _FOLLOWING,
        "        return min(self._equal, self.log.durable)\n",
        "        return self._equal\n",
        STORE,
    ),
    mutant(
        "leader-counts-itself-early",
        "the leader counts entries that its own disk does not have yet",
        _REPLICATION,
        "        return self._majority(self.log.durable, [f.match",
        "        return self._majority(self.log.last_index, [f.match",
        STORE,
    ),
    mutant(
        "votes-twice-after-restart",
        "a restarted replica does not know for whom it voted",
        _SHARD,
        "        self.election.term, self.election.vote = self.log.restore(stored)\n",
        "        self.election.term, _ = self.log.restore(stored)\n",
        STORE,
    ),
    mutant(
        "vote-before-durable",
        "a vote is told before it is on disk",
        _SHARD,
        "            out.promise([election.hard_state()], asker, reply)\n",
        "            out.send(asker, reply)\n",
        STORE,
    ),
    mutant(
        "commits-older-term-by-counting",
        "entries of an earlier term are committed by counting their copies",
        _SHARD,
        "        if index > self.commit and self.log.term_at(index) == leading.term:\n",
        "        if index > self.commit:\n",
        STORE,
    ),
    mutant(
        "no-truncation",
        "a follower keeps entries that contradict its leader's",
        _FOLLOWING,
        "                writes = self.log.truncate(index, commit)\n            writes +=",
        "                continue\n            writes +=",
        STORE,
    ),
    mutant(
        "logs-not-compared",
        "a follower takes entries without looking at what comes before them",
        _FOLLOWING,
        "self.log.term_at(index) == message.prev_term:\n",
        "index <= self.log.last_index:\n",
        STORE,
    ),
    mutant(
        "read-without-quorum-round",
        "a leader answers reads without proving that it still leads",
        _REPLICATION,
        "        if reading is None or self.echoed_round() < reading.round:\n",
        "        if reading is None:\n",
        STORE,
    ),
    mutant(
        "read-before-own-term",
        "a new leader answers reads before an entry of its own term is committed",
        _REPLICATION,
        "        if self.log.term_at(commit) != self.term:  # the own",
        "        if self.log.term_at(commit) == -1:  # the own",
        STORE,
    ),
    mutant(
        "vote-for-a-shorter-log",
        "a candidate is elected whose log lacks what others have",
        _ELECTION,
        "        if (request.last_term, request.last_index) < (last_term, last_index):\n",
        "        if (request.last_term, request.last_index) < (0, 0):\n",
        STORE,
    ),
    mutant(
        "retry-is-carried-out-again",
        "a transaction repeated under its idempotency key is carried out again",
        _EVALUATION,
        "        if before is not None:\n            return before\n",
        "        if before is not None and before < 0:\n            return before\n",
        STORE,
    ),
    mutant(
        "failed-write-is-ignored",
        "after a failed write a replica goes on as if nothing had happened",
        _SHARD,
        "            self._stop(event.reason, out)\n\n    def _arm",
        "            pass\n\n    def _arm",
        STORE,
    ),
)

ABSENT: Final[tuple[Absent, ...]] = ()
