"""One replica of one shard: the machine in which log, election, replication and documents meet.

Events
------
``Received``   ``VoteRequest``, ``VoteReply``, ``Append``, ``AppendReply`` of the other replicas
``LocalCall``  ``Propose`` -> ``Proposed``; ``ReadAt`` -> ``ReadReady``; ``Campaign``, ``Flushed``
``Persisted``  the log moved on disk: a follower tells the leader, a leader counts itself
``Woken``      heartbeats, election timeout, check-quorum

A proposal is answered when its entries are *applied*, that is after a majority had them durably.
A leader that steps down answers what still waits with ``OutcomeUnknown``: the entries may yet be
committed by its successor.  Reads are answered when everything acknowledged before them is
readable in ``documents``, from then on.

Writes go out in order, so whatever a replica says rests on writes that it put out before: an
answer to AppendEntries reports only what ``Persisted`` confirmed, a vote goes through ``promise``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fabric.cloudstore.documents import apply_entry
from fabric.cloudstore.election import CANDIDATE, Election
from fabric.cloudstore.following import Following
from fabric.cloudstore.log import Log
from fabric.cloudstore.proposals import Proposals
from fabric.cloudstore.replication import Progress, Replication
from fabric.cloudstore.view import Documents
from fabric.errors import (
    BadFrame,
    BadInput,
    CorruptData,
    FabricError,
    NotLeader,
    Overloaded,
    StorageError,
)
from fabric.limits import LOG_KEEP_BYTES, MAX_COMMAND_BYTES, MAX_PROPOSALS
from fabric.machine import (
    NEVER,
    Contact,
    Event,
    LocalCall,
    Message,
    Persisted,
    PersistFailed,
    Received,
    Sink,
    Woken,
)
from fabric.stream import Stream
from fabric.wire.codec import decode_record
from fabric.wire.store import (
    Append,
    AppendReply,
    Campaign,
    Entry,
    Flushed,
    Propose,
    ReadAt,
    ReadReady,
    VoteReply,
    VoteRequest,
)


class ShardMachine:
    """``others`` are the other replicas: none for an embedded store."""

    def __init__(
        self, shard: int, me: Contact, others: Sequence[Contact], stream: Stream, docs: Documents
    ) -> None:
        self.shard = shard
        self.me = me
        self.log = Log(shard)
        self.election = Election(shard, me.node_id, len(others) + 1, stream)
        self.documents = docs
        self.commit = 0
        self.stopped: str | None = None
        self._others = {contact.node_id: contact for contact in others}
        self._leading: Replication | None = None
        self._proposals = Proposals()
        self._token = 0
        self._persisted_token = 0
        self._vote_token = 0
        self._following = Following(self.log)
        self._flushed = 0

    # --- start ------------------------------------------------------------------------------------

    def start(
        self, stored: Iterable[tuple[bytes, bytes]], applied: int, now: int, out: Sink
    ) -> None:
        """Load what was durable: rows of the log, and up to where documents are applied."""
        self.election.term, self.election.vote = self.log.restore(stored)
        if not self.log.base_index <= applied <= self.log.last_index:
            raise CorruptData(
                f"shard {self.shard}: documents are at entry {applied}, but the log holds"
                f" {self.log.base_index}-{self.log.last_index}"
            )
        self.commit = self._flushed = applied
        self.election.rearm(now)
        self._arm(out)

    @property
    def leads(self) -> bool:
        return self._leading is not None

    # --- events -----------------------------------------------------------------------------------

    def handle(self, event: Event, now: int, out: Sink) -> None:
        if self.stopped is not None:
            if isinstance(event, LocalCall):
                out.reply(event.call_id, StorageError(self.stopped))
            return
        try:
            self._dispatch(event, now, out)
        except StorageError as error:  # corrupt documents, a log that contradicts what is committed
            self._stop(error.message, out)
        if self.stopped is None:
            self._arm(out)

    def _dispatch(self, event: Event, now: int, out: Sink) -> None:
        if isinstance(event, Persisted):
            self._persisted(event.token, now, out)
        elif isinstance(event, LocalCall):
            self._called(event, now, out)
        elif isinstance(event, Received):
            self._received(event.sender, event.message, now, out)
        elif isinstance(event, Woken):
            self._woken(now, out)
        elif isinstance(event, PersistFailed):
            self._stop(event.reason, out)

    def _arm(self, out: Sink) -> None:
        leading = self._leading
        if leading is None:
            out.wake(self.election.deadline)
        else:
            at = min(leading.due(), leading.resign_at())
            if at < NEVER:
                out.wake(at)

    def _received(self, sender: int, message: Message, now: int, out: Sink) -> None:
        contact = self._others.get(sender)
        if contact is None:
            return  # no replica of this shard
        if isinstance(message, Append):
            self._append(contact, message, now, out)
        elif isinstance(message, AppendReply):
            self._append_reply(sender, message, now, out)
        elif isinstance(message, VoteRequest):
            self._vote_request(contact, message, now, out)
        elif isinstance(message, VoteReply):
            self._vote_reply(sender, message, now, out)

    def _called(self, call: LocalCall, now: int, out: Sink) -> None:
        request = call.request
        if isinstance(request, Propose):
            self._propose(call.call_id, request, now, out)
        elif isinstance(request, ReadAt):
            self._read(call.call_id, now, out)
        elif isinstance(request, Flushed):
            self._flushed = max(self._flushed, request.index)
            self._trim(out)
        elif isinstance(request, Campaign):
            if self._leading is None and self._vote_token <= self._persisted_token:
                self._campaign(now, out)
        else:
            out.reply(call.call_id, BadInput(f"a shard takes no {type(request).__name__}"))

    def _woken(self, now: int, out: Sink) -> None:
        leading = self._leading
        if leading is None:
            if self._vote_token > self._persisted_token:
                self.election.rearm(now)  # our own vote is still on its way to the disk
            elif now >= self.election.deadline:
                self._campaign(now, out)
        elif now >= leading.resign_at():
            self._follow(self.election.term, out)
            self.election.rearm(now)
        elif now >= leading.due():
            for follower in leading.followers.values():
                self._send_append(leading, follower, now, out, heartbeat=True)

    def _persisted(self, token: int, now: int, out: Sink) -> None:
        self._persisted_token = token
        if token == self._vote_token and self.election.role == CANDIDATE:
            # only now that our vote for ourselves is durable do we count it, and ask for others'
            if self.election.count(self.me.node_id):
                self._win(now, out)
            else:
                self._ask_for_votes(out)
        if not self.log.persisted(token):
            return
        if self._leading is not None:
            self._advance(now, out)
        elif self.election.leader:
            self._acknowledge(self._others[self.election.leader], out)

    def _stop(self, reason: str, out: Sink) -> None:
        """A write failed: what is on disk is unknown, so this replica says nothing any more."""
        self._follow(self.election.term, out)
        self.stopped = reason

    def _next_token(self) -> int:
        self._token += 1
        return self._token

    # --- elections --------------------------------------------------------------------------------

    def _campaign(self, now: int, out: Sink) -> None:
        if self.election.ask_first(now):
            self._stand(now, out)
        else:
            self._ask_for_votes(out)

    def _stand(self, now: int, out: Sink) -> None:
        self.election.stand(now)
        self._vote_token = self._next_token()
        out.persist([self.election.hard_state()], self._vote_token)

    def _ask_for_votes(self, out: Sink) -> None:
        request = self.election.request(self.log.last_index, self.log.last_term)
        for contact in self._others.values():
            out.send(contact, request)

    def _vote_request(self, asker: Contact, request: VoteRequest, now: int, out: Sink) -> None:
        election = self.election
        if election.sticks(request, now):
            out.send(asker, VoteReply(self.shard, election.term, request.pre, False))
            return
        if not request.pre and request.term > election.term:
            self._follow(request.term, out)
        granted = election.support(request, asker.node_id, self.log.last_index, self.log.last_term)
        reply = VoteReply(
            self.shard, request.term if granted else election.term, request.pre, granted
        )
        if granted and not request.pre:
            election.rearm(now)
            out.promise([election.hard_state()], asker, reply)
        else:
            out.send(asker, reply)

    def _vote_reply(self, voter: int, reply: VoteReply, now: int, out: Sink) -> None:
        election = self.election
        if not reply.granted and reply.term > election.term:
            self._follow(reply.term, out)
        elif election.answers(reply) and election.count(voter):
            if reply.pre:
                self._stand(now, out)
            else:
                self._win(now, out)

    def _win(self, now: int, out: Sink) -> None:
        self.election.win(now)
        next_index = self.log.last_index + 1
        self._leading = Replication(
            self.election.term,
            self.election.quorum,
            self.log,
            {c.node_id: Progress(c, next_index, now) for c in self._others.values()},
        )
        # entries of earlier terms are committed only together with one of our own
        self._extend([b""], now, out)

    def _follow(self, term: int, out: Sink) -> None:
        """Step down, or back: whoever waits for this replica as leader is told."""
        if self.election.follow(term):
            out.persist([self.election.hard_state()], self._next_token())
        self._following.reset()
        leading, self._leading = self._leading, None
        self._proposals.abandon(out)
        if leading is not None:
            reading = leading.reading.calls if leading.reading is not None else []
            for call_id in (*reading, *leading.waiting_reads):
                out.reply(call_id, self._not_leader())

    def _not_leader(self) -> NotLeader:
        leader = self._others.get(self.election.leader)
        return NotLeader(
            f"another replica leads shard {self.shard}",
            {"leader": leader.address} if leader is not None else None,
        )

    # --- following --------------------------------------------------------------------------------

    def _append(self, leader: Contact, message: Append, now: int, out: Sink) -> None:
        election = self.election
        if message.term < election.term:
            out.send(leader, AppendReply(self.shard, election.term, False, 0, 0))
            return
        if message.term > election.term or election.leader != leader.node_id:
            self._follow(message.term, out)
        election.heard_leader(leader.node_id, now)
        hint = self._following.refuse(message, self.commit)
        if hint is not None:
            round_ = self._following.round
            out.send(leader, AppendReply(self.shard, election.term, False, hint, round_))
            return
        try:
            entries = [decode_record(Entry, blob) for blob in message.entries]
        except BadFrame:
            return  # a forged or broken entry: as if the message were lost
        token = self._next_token()
        writes = self._following.take(message.prev_index, entries, self.commit, token)
        if writes:
            out.persist(writes, token)
        self._apply(min(message.commit, self._following.equal), out)
        if not entries or self._following.match == self._following.equal:
            self._acknowledge(leader, out)  # otherwise when they are durable

    def _acknowledge(self, leader: Contact, out: Sink) -> None:
        following = self._following
        reply = AppendReply(self.shard, self.election.term, True, following.match, following.round)
        out.send(leader, reply)

    # --- leading ----------------------------------------------------------------------------------

    def _propose(self, call_id: int, request: Propose, now: int, out: Sink) -> None:
        refusal: FabricError | None = None
        if self._leading is None:
            refusal = self._not_leader()
        elif self._proposals.entries + len(request.commands) > MAX_PROPOSALS:
            refusal = Overloaded(f"shard {self.shard}: too many transactions wait")
        elif not request.commands:
            refusal = BadInput("a proposal has at least one transaction")
        elif not all(0 < len(command) <= MAX_COMMAND_BYTES for command in request.commands):
            refusal = BadInput(f"a transaction has 1-{MAX_COMMAND_BYTES} bytes")
        if refusal is not None:
            out.reply(call_id, refusal)
            return
        self._proposals.add(call_id, self.log.last_index + 1, len(request.commands))
        self._extend(request.commands, now, out)

    def _extend(self, commands: Sequence[bytes], now: int, out: Sink) -> None:
        """Append entries of the own term; the disk and the followers work at the same time."""
        leading = self._leading
        assert leading is not None
        at = max(now, self.log.last_now)
        token = self._next_token()
        entries = [Entry(leading.term, at, command) for command in commands]
        out.persist(self.log.append(entries, token), token)
        for follower in leading.followers.values():
            if leading.wants_entries(follower):
                self._send_append(leading, follower, now, out, heartbeat=False)

    def _send_append(
        self, leading: Replication, follower: Progress, now: int, out: Sink, *, heartbeat: bool
    ) -> None:
        out.send(follower.contact, leading.append_for(follower, self.commit, now, heartbeat))

    def _append_reply(self, sender: int, reply: AppendReply, now: int, out: Sink) -> None:
        if reply.term > self.election.term:
            self._follow(reply.term, out)
            self.election.rearm(now)
            return
        leading = self._leading
        if leading is None or reply.term != leading.term:
            return
        follower = leading.followers[sender]
        leading.note(follower, reply, now)
        self._advance(now, out)
        if leading.wants_entries(follower):
            self._send_append(leading, follower, now, out, heartbeat=False)

    def _advance(self, now: int, out: Sink) -> None:
        """Commit what a majority has, answer what that decides, let reads go on."""
        leading = self._leading
        assert leading is not None
        index = leading.committed()
        if index > self.commit and self.log.term_at(index) == leading.term:
            self._apply(index, out)
        self._following.everywhere = leading.everywhere()
        self._reads(leading, now, out)

    def _apply(self, upto: int, out: Sink) -> None:
        while self.commit < upto:
            index = self.commit + 1
            outcome = apply_entry(self.documents, self.shard, index, self.log.entry(index))
            self.commit = index
            self._proposals.settle(index, outcome, out)

    def _trim(self, out: Sink) -> None:
        upto = min(self._flushed, self._following.everywhere, self.commit)
        writes = self.log.trim(upto, LOG_KEEP_BYTES)
        if writes:
            out.persist(writes, self._next_token())

    # --- reads ------------------------------------------------------------------------------------

    def _read(self, call_id: int, now: int, out: Sink) -> None:
        leading = self._leading
        if leading is None:
            out.reply(call_id, self._not_leader())
        elif len(leading.waiting_reads) >= MAX_PROPOSALS:
            out.reply(call_id, Overloaded(f"shard {self.shard}: too many reads wait"))
        else:
            leading.waiting_reads.append(call_id)
            self._reads(leading, now, out)

    def _reads(self, leading: Replication, now: int, out: Sink) -> None:
        while True:
            done = leading.finish_reading()
            if done is not None:
                # commit never falls, and what is committed is applied: index is readable
                for call_id in done.calls:
                    out.reply(call_id, ReadReady(self.commit))
            if not leading.start_reading(self.commit):
                return
            for follower in leading.followers.values():
                self._send_append(leading, follower, now, out, heartbeat=False)
