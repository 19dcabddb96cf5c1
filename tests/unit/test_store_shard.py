"""The replicated-log machine, rule by rule. Each transcript reads as documentation.

A transcript says what a replica puts out, in order: ``disk`` lines must be durable before
``then`` lines that stand behind them; ``2 <- ...`` is a message to replica 2.
"""

from __future__ import annotations

from typing import Any

import pytest

import fabric.cloudstore.shard as shard_module
from fabric.cloudstore import keys
from fabric.cloudstore.shard import ShardMachine
from fabric.errors import BadInput, CorruptData, FabricError, NotLeader, StorageError
from fabric.machine import (
    WOKEN,
    Contact,
    Event,
    ListSink,
    LocalCall,
    Persisted,
    PersistFailed,
    Received,
    Write,
)
from fabric.stream import Stream
from fabric.units import MS, SECOND
from fabric.wire.codec import decode_record, decode_value, encode_record, encode_value
from fabric.wire.store import (
    Append,
    AppendReply,
    Campaign,
    Command,
    Entry,
    Flushed,
    Outcome,
    Propose,
    Proposed,
    PutNew,
    ReadAt,
    ReadReady,
    VoteReply,
    VoteRequest,
)

T0 = 1000 * SECOND
CONTACTS = {n: Contact(n, f"sim://{n}") for n in range(1, 6)}


class Rows:
    """Documents in a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def scan(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = sorted(k for k in self.rows if k.startswith(prefix) and k > after)
        return [(k, self.rows[k]) for k in found[:limit]]

    def apply(self, shard: int, index: int, writes: Any) -> None:
        for key, value in writes:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value


class Replica:
    """A machine, what it has put out, and a disk that confirms when told to."""

    def __init__(self, node_id: int = 1, voters: int = 3, stored: Any = (), applied: int = 0):
        self.out = ListSink()
        self.now = T0
        self.rows = dict(stored)
        self.documents = Rows()
        others = [CONTACTS[n] for n in range(1, voters + 1) if n != node_id]
        self.machine = ShardMachine(0, CONTACTS[node_id], others, Stream(node_id), self.documents)
        self.machine.start(sorted(self.rows.items()), applied, self.now, self.out)
        self.unconfirmed: list[int] = []
        self.take()

    def take(self) -> list[str]:
        """Return the transcript since the last call."""
        lines = []
        for kind, args in self.out.take():
            if kind == "persist":
                lines.append("disk " + "; ".join(_write(w) for w in args[0]))
                self.unconfirmed.append(args[1])
                self._store(args[0])
            elif kind == "promise":
                lines.append("disk " + "; ".join(_write(w) for w in args[0]))
                lines.append(f"then {args[1].node_id} <- {_message(args[2])}")
                self._store(args[0])
            elif kind == "send":
                lines.append(f"{args[0].node_id} <- {_message(args[1])}")
            elif kind == "reply":
                lines.append(f"call {args[0]}: {_answer(args[1])}")
        return lines

    def _store(self, writes: Any) -> None:
        for key, value in writes:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def event(self, event: Event) -> list[str]:
        self.machine.handle(event, self.now, self.out)
        return self.take()

    def hears(self, sender: int, message: Any) -> list[str]:
        return self.event(Received(sender, message))

    def calls(self, call_id: int, request: Any) -> list[str]:
        return self.event(LocalCall(call_id, request))

    def disk_confirms(self) -> list[str]:
        """All writes so far are durable."""
        lines = []
        tokens, self.unconfirmed = self.unconfirmed, []
        for token in tokens:
            lines += self.event(Persisted(token))
        return lines

    def waits(self, milliseconds: int) -> list[str]:
        self.now += milliseconds * MS
        return self.event(WOKEN)


def _write(write: Write) -> str:
    letter, rest = write.key[2:3], write.key[3:]
    if letter == b"H":
        term, vote = decode_value(write.value or b"")
        return f"term {term} vote {vote}"
    if letter == b"B":
        return "base {}/{}".format(*decode_value(write.value or b"")[:2])
    index = int.from_bytes(rest, "big")
    return (
        f"-{index}" if write.value is None else f"{index}/{decode_record(Entry, write.value).term}"
    )


def _message(m: Any) -> str:
    if isinstance(m, VoteRequest):
        return f"{'pre' if m.pre else 'vote'} {m.term}? log {m.last_index}/{m.last_term}"
    if isinstance(m, VoteReply):
        return f"{'pre' if m.pre else 'vote'} {m.term}: {'yes' if m.granted else 'no'}"
    if isinstance(m, Append):
        terms = ",".join(str(decode_record(Entry, e).term) for e in m.entries)
        text = f"append {m.term}: after {m.prev_index}/{m.prev_term} [{terms}] commit {m.commit}"
        return text + (f" round {m.round}" if m.round else "")
    assert isinstance(m, AppendReply)
    text = f"{'match' if m.ok else 'no, try after'} {m.match} in {m.term}"
    return text + (f" round {m.round}" if m.round else "")


def _answer(answer: Any) -> str:
    if isinstance(answer, Proposed):
        return " ".join(o.code or str(o.version) for o in answer.outcomes)
    return answer.code if isinstance(answer, FabricError) else f"read at {answer.index}"


def _create(name: str) -> bytes:
    op = PutNew("thing", name, 1, encode_value({}), ())
    return encode_record(Command("", "", (op,)))


def _append(term: int, after: tuple[int, int], terms: tuple[int, ...], commit: int = 0) -> Append:
    entries = tuple(encode_record(Entry(t, T0, b"")) for t in terms)
    return Append(0, term, after[0], after[1], commit, 0, 0, entries)


def _leader(voters: int = 3) -> Replica:
    """Replica 1, leading term 1, its no-op (entry 1) committed."""
    r = Replica(voters=voters)
    r.calls(0, Campaign(0))
    for other in range(2, voters + 1):
        r.hears(other, VoteReply(0, 1, True, True))
    r.disk_confirms()
    for other in range(2, voters + 1):
        r.hears(other, VoteReply(0, 1, False, True))
    r.disk_confirms()
    for other in range(2, voters + 1):
        r.hears(other, AppendReply(0, 1, True, 1, 0))
    assert r.machine.leads and r.machine.commit == 1
    r.take()
    return r


# --- elections ------------------------------------------------------------------------------------


def test_an_election() -> None:
    r = Replica()
    assert r.waits(149) == []
    assert r.waits(200) == ["2 <- pre 1? log 0/0", "3 <- pre 1? log 0/0"]
    assert r.hears(2, VoteReply(0, 1, True, True)) == ["disk term 1 vote 1"]
    assert r.disk_confirms() == ["2 <- vote 1? log 0/0", "3 <- vote 1? log 0/0"]
    assert r.hears(3, VoteReply(0, 1, False, True)) == [
        "disk 1/1",
        "2 <- append 1: after 0/0 [1] commit 0",
        "3 <- append 1: after 0/0 [1] commit 0",
    ]
    assert r.machine.leads


def test_ones_own_vote_counts_only_when_durable() -> None:
    r = Replica()
    r.calls(0, Campaign(0))
    r.hears(2, VoteReply(0, 1, True, True))
    assert not r.machine.leads
    assert r.waits(1000) == []  # nor is another term begun while the disk is slow
    r.disk_confirms()
    assert not r.machine.leads  # two of three, and one has not answered
    r.hears(2, VoteReply(0, 1, False, True))
    assert r.machine.leads


def test_a_quorum_of_one_needs_no_answer() -> None:
    r = Replica(voters=1)
    assert r.calls(0, Campaign(0)) == ["disk term 1 vote 1"]
    assert r.disk_confirms() == ["disk 1/1"]
    assert r.machine.leads and r.machine.commit == 0
    r.disk_confirms()
    assert r.machine.commit == 1


def test_a_vote_is_durable_before_it_is_told_and_given_once() -> None:
    r = Replica()
    assert r.hears(2, VoteRequest(0, 3, False, 0, 0)) == [
        "disk term 3 vote 0",
        "disk term 3 vote 2",
        "then 2 <- vote 3: yes",
    ]
    assert r.hears(3, VoteRequest(0, 3, False, 9, 2)) == ["3 <- vote 3: no"]
    assert r.hears(2, VoteRequest(0, 3, False, 0, 0))[-1] == "then 2 <- vote 3: yes"
    again = Replica(stored=r.rows)
    assert again.hears(3, VoteRequest(0, 3, False, 9, 2)) == ["3 <- vote 3: no"]
    assert again.hears(3, VoteRequest(0, 2, False, 9, 2)) == ["3 <- vote 3: no"]


def test_only_a_log_that_reaches_as_far_gets_a_vote() -> None:
    r = Replica()
    r.hears(2, _append(2, (0, 0), (1, 2)))
    r.now += SECOND
    assert r.hears(3, VoteRequest(0, 3, True, 9, 1)) == ["3 <- pre 2: no"]
    assert r.hears(3, VoteRequest(0, 3, True, 1, 2)) == ["3 <- pre 2: no"]
    assert r.hears(3, VoteRequest(0, 3, True, 2, 2)) == ["3 <- pre 3: yes"]
    assert r.machine.election.term == 2  # a pre-vote promises nothing


def test_a_living_leader_is_stuck_to_unless_it_hands_over() -> None:
    r = Replica()
    r.hears(2, _append(1, (0, 0), ()))
    assert r.hears(3, VoteRequest(0, 2, True, 0, 0)) == ["3 <- pre 1: no"]
    assert r.hears(3, VoteRequest(0, 2, False, 0, 0)) == ["3 <- vote 1: no"]
    assert r.machine.election.term == 1
    forced = VoteRequest(0, 2, False, 0, 0, True)
    assert r.hears(3, forced)[-1] == "then 3 <- vote 2: yes"


def test_a_leader_that_hears_from_no_majority_resigns() -> None:
    r = _leader()
    r.calls(7, Propose(0, (_create("a"),)))
    r.calls(8, ReadAt(0))
    for _ in range(5):
        assert "append" in r.waits(50)[0]
    r.waits(49)
    assert r.machine.leads
    assert r.waits(1) == ["call 7: OutcomeUnknown", "call 8: NotLeader"]
    assert not r.machine.leads


def test_a_higher_term_ends_leading() -> None:
    r = _leader()
    assert r.hears(3, AppendReply(0, 5, False, 0, 0)) == ["disk term 5 vote 0"]
    assert not r.machine.leads


# --- replication ----------------------------------------------------------------------------------


def test_a_write_is_acknowledged_when_a_majority_has_it_durably() -> None:
    r = _leader()
    assert r.calls(7, Propose(0, (_create("a"), _create("a")))) == [
        "disk 2/1; 3/1",
        "2 <- append 1: after 1/1 [1,1] commit 1",
        "3 <- append 1: after 1/1 [1,1] commit 1",
    ]
    assert r.hears(2, AppendReply(0, 1, True, 3, 0)) == []  # one of three: our disk has it not
    assert r.disk_confirms() == ["call 7: 2 AlreadyExists"]


def test_two_followers_may_commit_before_the_leaders_disk() -> None:
    r = _leader()
    r.calls(7, Propose(0, (_create("a"),)))
    assert r.hears(2, AppendReply(0, 1, True, 2, 0)) == []
    assert r.hears(3, AppendReply(0, 1, True, 2, 0)) == ["call 7: 2"]


def test_a_follower_answers_when_its_disk_has_it() -> None:
    r = Replica()
    assert r.hears(2, _append(1, (0, 0), (1, 1))) == ["disk term 1 vote 0", "disk 1/1; 2/1"]
    assert r.hears(2, _append(1, (2, 1), ())) == ["2 <- match 0 in 1"]  # a heartbeat meanwhile
    assert r.disk_confirms() == ["2 <- match 2 in 1"]
    assert r.hears(2, _append(1, (2, 1), (), commit=2)) == ["2 <- match 2 in 1"]
    assert r.machine.commit == 2


def test_logs_are_compared_and_what_contradicts_is_replaced() -> None:
    r = Replica()
    r.hears(2, _append(1, (0, 0), (1, 1, 1)))
    r.disk_confirms()
    # a new leader whose entry 3 is of term 2: first it learns where to try, then it replaces
    assert r.hears(3, _append(3, (5, 3), ()))[-1] == "3 <- no, try after 3 in 3"
    assert r.hears(3, _append(3, (3, 2), ())) == ["3 <- no, try after 0 in 3"]
    assert r.hears(3, _append(3, (1, 1), (2, 2))) == ["disk -2; -3; 2/2; 3/2"]
    assert r.disk_confirms() == ["3 <- match 3 in 3"]
    # what is there already is not written again
    assert r.hears(3, _append(3, (0, 0), (1, 2))) == ["3 <- match 3 in 3"]


def test_a_deposed_leader_is_told_so() -> None:
    r = Replica()
    r.hears(3, _append(4, (0, 0), ()))
    assert r.hears(2, _append(3, (0, 0), (3,))) == ["2 <- no, try after 0 in 4"]


def test_what_is_committed_is_never_replaced() -> None:
    r = Replica()
    r.hears(2, _append(1, (0, 0), (1, 1), commit=2))
    assert r.machine.commit == 2
    r.hears(3, _append(2, (1, 1), (2,)))
    assert r.machine.stopped is not None and "committed" in r.machine.stopped
    assert r.calls(5, ReadAt(0)) == ["call 5: StorageError"]


def test_entries_of_earlier_terms_are_committed_only_with_one_of_the_own() -> None:
    r = Replica()
    r.hears(2, _append(1, (0, 0), (1, 1)))
    r.disk_confirms()
    r.now += SECOND
    r.calls(0, Campaign(0))
    r.hears(3, VoteReply(0, 2, True, True))
    r.disk_confirms()
    r.hears(3, VoteReply(0, 2, False, True))
    assert r.machine.leads
    r.hears(3, AppendReply(0, 2, True, 2, 0))  # a majority has both old entries
    assert r.machine.commit == 0
    r.hears(3, AppendReply(0, 2, True, 3, 0))
    r.disk_confirms()
    assert r.machine.commit == 3


def test_a_lost_append_is_sent_again_with_the_heartbeat() -> None:
    r = _leader()
    r.calls(7, Propose(0, (_create("a"),)))
    assert r.calls(8, Propose(0, (_create("b"),))) == ["disk 3/1"]  # one message under way
    assert r.waits(50)[0] == "2 <- append 1: after 1/1 [1,1] commit 1"


def test_a_follower_that_lags_is_found_where_it_is() -> None:
    r = _leader()
    r.calls(7, Propose(0, (_create("a"),)))
    # a refusal never takes back what is known to match
    assert r.hears(2, AppendReply(0, 1, False, 0, 0)) == ["2 <- append 1: after 1/1 [1] commit 1"]
    lagging = Replica()
    lagging.hears(2, _append(1, (0, 0), (1,)))
    lagging.disk_confirms()
    lagging.now += SECOND
    lagging.calls(0, Campaign(0))
    lagging.hears(3, VoteReply(0, 2, True, True))
    lagging.disk_confirms()
    lagging.hears(3, VoteReply(0, 2, False, True))
    assert lagging.hears(3, AppendReply(0, 2, False, 0, 0)) == [
        "3 <- append 2: after 0/0 [1,2] commit 0"
    ]


# --- reads ----------------------------------------------------------------------------------------


def test_reads_wait_for_a_round_and_share_it() -> None:
    r = _leader()
    assert r.calls(7, ReadAt(0)) == [
        "2 <- append 1: after 1/1 [] commit 1 round 1",
        "3 <- append 1: after 1/1 [] commit 1 round 1",
    ]
    assert r.calls(8, ReadAt(0)) == []  # asked after the round began: the next one
    assert r.calls(9, ReadAt(0)) == []
    assert r.hears(2, AppendReply(0, 1, True, 1, 0)) == []  # an answer to something older
    assert r.hears(2, AppendReply(0, 1, True, 1, 1))[0] == "call 7: read at 1"
    assert r.hears(3, AppendReply(0, 1, True, 1, 2)) == ["call 8: read at 1", "call 9: read at 1"]


def test_no_read_before_the_own_no_op_is_committed() -> None:
    r = Replica()
    r.calls(0, Campaign(0))
    r.hears(2, VoteReply(0, 1, True, True))
    r.disk_confirms()
    r.hears(2, VoteReply(0, 1, False, True))
    assert r.machine.leads
    assert r.calls(7, ReadAt(0)) == []
    r.disk_confirms()
    assert "round 1" in r.hears(2, AppendReply(0, 1, True, 1, 0))[0]
    assert r.hears(3, AppendReply(0, 1, True, 1, 1)) == ["call 7: read at 1"]


def test_followers_send_callers_away() -> None:
    r = Replica()
    assert r.calls(6, ReadAt(0)) == ["call 6: NotLeader"]
    r.hears(2, _append(1, (0, 0), ()))
    r.machine.handle(LocalCall(7, Propose(0, (_create("a"),))), r.now, r.out)
    (refusal,) = [output.args[1] for output in r.out.take() if output.kind == "reply"]
    assert isinstance(refusal, NotLeader)
    assert refusal.data == {"leader": "sim://2"}


# --- the rest -------------------------------------------------------------------------------------


def test_one_replica_commits_reads_and_needs_no_timer() -> None:
    r = _leader(voters=1)
    assert r.calls(7, Propose(0, (_create("a"),))) == ["disk 2/1"]
    assert r.calls(8, ReadAt(0)) == ["call 8: read at 1"]
    assert r.disk_confirms() == ["call 7: 2"]
    r.machine.handle(LocalCall(9, ReadAt(0)), r.now, r.out)
    assert [output.kind for output in r.out.take()] == ["reply"]


def test_after_a_restart_the_log_is_replayed_behind_the_documents() -> None:
    r = _leader(voters=1)
    r.calls(7, Propose(0, (_create("a"), _create("b"))))
    r.disk_confirms()
    again = Replica(voters=1, stored=r.rows, applied=2)
    assert again.machine.commit == 2
    again.calls(0, Campaign(0))
    again.disk_confirms()
    assert again.machine.commit == 2  # nothing is known to be committed before the own no-op
    again.disk_confirms()
    assert again.machine.commit == 4
    assert list(again.documents.rows) == [keys.document_key(0, "thing", "b")]


def test_the_log_is_trimmed_behind_flushed_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "LOG_KEEP_BYTES", 100)
    r = _leader(voters=1)
    for n in range(4):
        r.calls(n, Propose(0, (_create(f"n{n}"),)))
    r.disk_confirms()
    assert r.calls(0, Flushed(0, 3)) == ["disk base 3/1; -1; -2; -3"]
    again = Replica(voters=1, stored=r.rows, applied=3)
    assert (again.machine.log.base_index, again.machine.log.last_index) == (3, 5)
    with pytest.raises(CorruptData):  # documents older than the log begins
        Replica(voters=1, stored=r.rows, applied=2)
    with pytest.raises(CorruptData):  # documents newer than the log ends
        Replica(voters=1, stored=r.rows, applied=9)


def test_a_hole_in_the_log_is_no_end_of_the_log() -> None:
    r = _leader(voters=1)
    r.calls(7, Propose(0, (_create("a"), _create("b"))))
    del r.rows[keys.entry_key(0, 2)]
    with pytest.raises(CorruptData):
        Replica(voters=1, stored=r.rows)


def test_a_failed_write_ends_the_replica() -> None:
    r = _leader()
    r.calls(7, Propose(0, (_create("a"),)))
    assert r.event(PersistFailed(99, "EIO")) == ["call 7: OutcomeUnknown"]
    assert r.calls(8, ReadAt(0)) == ["call 8: StorageError"]
    assert r.hears(2, VoteRequest(0, 9, False, 99, 9)) == []


def test_bad_proposals_and_strangers() -> None:
    r = _leader()
    assert r.calls(5, Propose(0, ())) == ["call 5: InvalidEntity"]
    assert r.calls(6, Propose(0, (b"",))) == ["call 6: InvalidEntity"]
    assert r.calls(7, Propose(0, (b"x" * 50_000,))) == ["call 7: InvalidEntity"]
    assert r.calls(8, VoteReply(0, 1, True, True)) == ["call 8: InvalidEntity"]
    assert r.hears(77, VoteRequest(0, 99, False, 99, 99, True)) == []
    r.calls(9, Propose(0, (b"no command", encode_record(Command("", "", (ReadAt(0),))))))
    r.hears(2, AppendReply(0, 1, True, 3, 0))
    assert r.disk_confirms() == ["call 9: BadFrame InvalidEntity"]  # the same on every replica


def test_too_much_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "MAX_PROPOSALS", 2)
    r = _leader()
    r.calls(5, Propose(0, (_create("a"),)))
    assert r.calls(6, Propose(0, (_create("b"), _create("c")))) == ["call 6: Overloaded"]


def test_answers_are_of_the_right_types() -> None:
    r = _leader(voters=1)
    r.machine.handle(LocalCall(1, Propose(0, (_create("a"),))), r.now, r.out)
    token = next(o.args[1] for o in r.out.take() if o.kind == "persist")
    r.machine.handle(Persisted(token), r.now, r.out)
    r.machine.handle(LocalCall(2, ReadAt(0)), r.now, r.out)
    replies = {o.args[0]: o.args[1] for o in r.out.take() if o.kind == "reply"}
    assert replies == {1: Proposed((Outcome(2),)), 2: ReadReady(2)}
    assert issubclass(StorageError, FabricError) and issubclass(BadInput, FabricError)
