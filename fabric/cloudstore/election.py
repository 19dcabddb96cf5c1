"""Who leads a shard: terms, votes, pre-vote and stickiness (Ongaro's thesis, chapters 3.4 and 9.6).

* A replica that has not heard of a leader for 150-300 ms first asks whether it *could* win
  (pre-vote).  That promises nothing and raises no term, so a replica behind a broken link cannot
  disturb the others.
* With a majority of such answers it raises the term, votes for itself and asks for votes.  A vote
  is durable before it is told, one's own before it is counted.
* *Stickiness*: whoever heard of a leader less than 150 ms ago supports nobody else, unless the
  leader itself handed over (``force``).
* A vote goes only to a candidate whose log reaches at least as far as the voter's.

This module decides; ``shard`` puts out what follows.
"""

from __future__ import annotations

from typing import Final

from fabric.cloudstore.keys import hard_state_key
from fabric.machine import Write
from fabric.stream import Stream
from fabric.units import MS
from fabric.wire.codec import encode_value
from fabric.wire.store import VoteReply, VoteRequest

HEARTBEAT: Final = 50 * MS
ELECTION_MIN: Final = 150 * MS
ELECTION_SPREAD_MS: Final = 150

FOLLOWER: Final = "follower"
PRE_CANDIDATE: Final = "pre-candidate"
CANDIDATE: Final = "candidate"
LEADER: Final = "leader"


class Election:
    """The term of one replica, its role in it, its vote, and the votes for it."""

    def __init__(self, shard: int, node_id: int, voters: int, stream: Stream) -> None:
        self.shard = shard
        self.node_id = node_id
        self.quorum = voters // 2 + 1
        self.term = 0
        self.vote = 0
        self.role = FOLLOWER
        self.leader = 0
        self.heard_at = -ELECTION_MIN
        self.deadline = 0
        self._stream = stream
        self._granted: dict[int, None] = {}

    def rearm(self, now: int) -> None:
        """Wait a fresh, random time for a leader."""
        self.deadline = now + ELECTION_MIN + self._stream.below(ELECTION_SPREAD_MS) * MS

    def hard_state(self) -> Write:
        """Return the write that makes term and vote durable."""
        return Write(hard_state_key(self.shard), encode_value([self.term, self.vote]))

    def heard_leader(self, leader: int, now: int) -> None:
        self.leader = leader
        self.heard_at = now
        self.rearm(now)

    def follow(self, term: int) -> bool:
        """Be a follower in ``term``. Returns whether the term rose (and must be persisted)."""
        rose = term > self.term
        if rose:
            self.term = term
            self.vote = 0
        self.role = FOLLOWER
        self.leader = 0
        self._granted.clear()
        return rose

    # --- being elected ----------------------------------------------------------------------------

    def ask_first(self, now: int) -> bool:
        """Become pre-candidate. Returns whether one's own support is a majority already."""
        self.role = PRE_CANDIDATE
        self.leader = 0
        self._granted = {self.node_id: None}
        self.rearm(now)
        return len(self._granted) >= self.quorum

    def stand(self, now: int) -> None:
        """Raise the term and vote for oneself; counts once it is durable (:meth:`count`)."""
        self.role = CANDIDATE
        self.term += 1
        self.vote = self.node_id
        self._granted = {}
        self.rearm(now)

    def request(self, last_index: int, last_term: int) -> VoteRequest:
        pre = self.role == PRE_CANDIDATE
        return VoteRequest(self.shard, self.term + pre, pre, last_index, last_term)

    def answers(self, reply: VoteReply) -> bool:
        """Whether ``reply`` grants what is being asked for right now."""
        if not reply.granted:
            return False
        if self.role == PRE_CANDIDATE:
            return reply.pre and reply.term == self.term + 1
        return self.role == CANDIDATE and not reply.pre and reply.term == self.term

    def count(self, voter: int) -> bool:
        """Count a granted vote. Returns whether that makes a majority."""
        self._granted[voter] = None
        return len(self._granted) >= self.quorum

    def win(self, now: int) -> None:
        self.role = LEADER
        self.leader = self.node_id
        self.heard_at = now

    # --- voting -----------------------------------------------------------------------------------

    def sticks(self, request: VoteRequest, now: int) -> bool:
        """Whether a living leader forbids supporting anybody else."""
        if request.force:
            return False
        return self.role == LEADER or now < self.heard_at + ELECTION_MIN

    def support(self, request: VoteRequest, asker: int, last_index: int, last_term: int) -> bool:
        """Whether ``asker`` gets what it asks for; notes the vote if one is given."""
        if (request.last_term, request.last_index) < (last_term, last_index):
            return False
        if request.pre:
            return request.term > self.term
        if request.term != self.term or self.vote not in (0, asker):
            return False
        self.vote = asker
        return True
