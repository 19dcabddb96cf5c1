"""The parts of the store that the machine is made of: views, results, logs, replication, keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.cloudstore import keys
from fabric.cloudstore.election import ELECTION_MIN
from fabric.cloudstore.index import Kind
from fabric.cloudstore.log import Log
from fabric.cloudstore.replication import Progress, Replication
from fabric.cloudstore.results import recall, remember
from fabric.cloudstore.storage.environment import (
    Environment,
    LmdbEnvironment,
    MemoryEnvironment,
)
from fabric.cloudstore.storage.overlay import OverlaidDocuments
from fabric.cloudstore.view import Draft
from fabric.errors import BadInput, StorageError
from fabric.limits import (
    MAX_DOCUMENT_ID_BYTES,
    MAX_INDEXED_BYTES,
    MAX_KIND_BYTES,
    MAX_SCOPE_BYTES,
    RESULT_KEEP_US,
)
from fabric.machine import NEVER, Contact, Write
from fabric.wire.store import AppendReply, Entry

ROWS = st.dictionaries(
    st.binary(min_size=1, max_size=3), st.one_of(st.none(), st.binary(max_size=2)), max_size=12
)


def _writes(rows: dict[bytes, bytes | None]) -> list[Write]:
    return [Write(k, v) for k, v in rows.items()]


# --- views ----------------------------------------------------------------------------------------


@given(ROWS, ROWS, ROWS, ROWS, st.binary(max_size=2), st.binary(max_size=3), st.integers(1, 9))
def test_layers_of_documents_read_as_one_map(
    stored: dict[bytes, bytes | None],
    frozen: dict[bytes, bytes | None],
    fresh: dict[bytes, bytes | None],
    drafted: dict[bytes, bytes | None],
    prefix: bytes,
    after: bytes,
    limit: int,
) -> None:
    environment = MemoryEnvironment()
    environment.commit(_writes(stored))
    documents = OverlaidDocuments(environment)
    documents.apply(0, 1, _writes(frozen))
    writes, applied = documents.freeze()
    documents.apply(0, 2, _writes(fresh))
    draft = Draft(documents)
    draft.writes.update(drafted)
    merged = {**stored, **frozen, **fresh, **drafted}
    model = {k: v for k, v in merged.items() if v is not None}
    expected = sorted((k, v) for k, v in model.items() if k.startswith(prefix) and k > after)
    assert draft.scan(prefix, after, limit) == expected[:limit]
    assert all(draft.get(k) == model.get(k) for k in merged)
    environment.commit(writes[:-1])
    documents.thaw()
    assert draft.scan(prefix, after, limit) == expected[:limit]
    environment.commit(writes[-1:])
    assert applied == {0: 1} and documents.applied(0) == 1


@settings(max_examples=20, deadline=None)
@given(st.lists(ROWS, max_size=4), st.binary(max_size=2), st.binary(max_size=3))
def test_both_environments_are_the_same_map(
    tmp_path_factory: pytest.TempPathFactory,
    commits: list[dict[bytes, bytes | None]],
    prefix: bytes,
    after: bytes,
) -> None:
    path: Path = tmp_path_factory.mktemp("environment")
    lasting, memory = LmdbEnvironment(path, 1 << 20), MemoryEnvironment()
    environments: list[Environment] = [lasting, memory]
    for rows in commits:
        for environment in environments:
            environment.commit(_writes(rows))
    assert list(lasting.iterate(prefix, after)) == list(memory.iterate(prefix, after))
    lasting.close()


# --- keys and kinds -------------------------------------------------------------------------------


@given(st.integers(0, 4095), st.integers(0, (1 << 128) - 1))
def test_made_ids_name_their_shard(shard: int, random128: int) -> None:
    made = keys.make_id(shard, random128)
    assert keys.shard_of(made, 4096) == shard
    assert keys.shard_of(made, shard) is None  # a store with fewer shards made no such id


def test_ids_from_elsewhere_name_no_shard() -> None:
    for other in ("", "vm-1", "x" * 36, "+1f" + "0" * 33, "٣٣٣" + "0" * 33):
        assert keys.shard_of(other, 4096) is None


def test_the_longest_keys_fit_into_lmdb() -> None:
    kind, value, object_id = "k" * MAX_KIND_BYTES, "v" * MAX_INDEXED_BYTES, "i" * 128
    longest = [
        keys.index_key(4095, kind, kind, value, object_id),
        keys.name_key(4095, "s" * MAX_SCOPE_BYTES, value),
        keys.result_key(4095, "h" * 36, "k" * MAX_DOCUMENT_ID_BYTES),
    ]
    assert max(len(key) for key in longest) <= 511


def test_keys_of_different_parts_never_meet() -> None:
    assert not keys.document_key(0, "vmx", "1").startswith(keys.document_prefix(0, "vm"))
    assert keys.index_key(0, "a", "b", "cd", "e") != keys.index_key(0, "a", "b", "c", "de")
    assert keys.name_key(0, "ab", "c") != keys.name_key(0, "a", "bc")


def test_kinds_take_index_values_from_bodies() -> None:
    kind = Kind("vm", indexes=("name", "tags"))
    assert kind.indexed({"name": "a", "tags": ["x", "y", "x"], "other": 1}) == (
        ("name", "a"),
        ("tags", "x"),
        ("tags", "y"),
    )
    assert kind.indexed({"name": None}) == ()
    many = [str(n) for n in range(99)]
    bodies: list[dict[str, Any]] = [{"name": 1}, {"tags": [1]}, {"name": {}}, {"tags": many}]
    for bad in bodies:
        with pytest.raises(BadInput):
            kind.indexed(bad)
    with pytest.raises(BadInput):
        Kind("k" * 40)


# --- results --------------------------------------------------------------------------------------


def test_results_expire_by_log_time() -> None:
    documents = OverlaidDocuments(MemoryEnvironment())

    def keep(home: str, key: str, index: int, now: int) -> None:
        draft = Draft(documents)
        remember(draft, 0, home, key, index, now)
        documents.apply(0, index, _writes(draft.writes))

    for index in range(1, 6):
        keep("old", f"k{index}", index, index)
    later = RESULT_KEEP_US + 3
    keep("new", "a", 6, later)
    assert [recall(Draft(documents), 0, "old", f"k{n}") for n in range(1, 6)] == [
        None,
        None,
        3,
        4,
        5,
    ]
    keep("new", "b", 7, later)  # k3 is due now, k4 not yet
    keep("new", "c", 8, 2 * later)
    keep("new", "d", 9, 2 * later)
    keep("new", "e", 10, 4 * later)
    keep("new", "f", 11, 4 * later)
    keep("new", "g", 12, 4 * later)
    left = documents.scan(b"", b"", 99)
    assert len(left) == 3 * 3 + 1  # e, f, g, each with three rows, and one count
    assert recall(Draft(documents), 0, "new", "g") == 12


# --- log and replication --------------------------------------------------------------------------


def _log(*terms: int) -> Log:
    log = Log(0)
    for token, term in enumerate(terms, 1):
        log.append([Entry(term, 0, b"x")], token)
    return log


def test_durable_follows_the_disk_and_falls_with_truncation() -> None:
    log = _log(1, 1, 2)
    assert log.persisted(2) and log.durable == 2
    log.truncate(2, 1)
    assert (log.last_index, log.durable) == (1, 1)
    log.append([Entry(3, 0, b"y")], 4)
    assert not log.persisted(3)  # the old entry 3 reached the disk; nobody may rely on it
    assert log.durable == 1
    assert log.persisted(4) and log.durable == 2
    with pytest.raises(StorageError):
        log.truncate(1, 1)


def test_batches_are_bounded_but_never_empty() -> None:
    log = _log(*([1] * 10))
    assert len(log.batch(1, 100, 1)) == 1
    assert len(log.batch(1, 3, 10_000)) == 3
    assert len(log.batch(9, 100, 10_000)) == 2
    assert log.batch(11, 100, 10_000) == ()


def _leading(matches: list[int], durable: int) -> Replication:
    log = _log(*([1] * 9))
    log.durable = durable
    followers = {
        n: Progress(Contact(n, ""), 10, heard_at=n * 1000, match=match)
        for n, match in enumerate(matches, 2)
    }
    return Replication(1, (len(matches) + 1) // 2 + 1, log, followers)


@pytest.mark.parametrize(
    ("matches", "durable", "committed"),
    [([], 7, 7), ([0, 5], 3, 3), ([4, 5], 0, 4), ([1, 2, 8, 9], 5, 5), ([0, 0, 8, 9], 0, 0)],
)
def test_the_median_durable_index_is_committed(
    matches: list[int], durable: int, committed: int
) -> None:
    assert _leading(matches, durable).committed() == committed


def test_a_leader_counts_how_long_a_majority_was_silent() -> None:
    assert _leading([], 0).resign_at() == NEVER
    assert _leading([0, 0], 0).resign_at() == 3000 + 2 * ELECTION_MIN  # itself and the last heard
    assert _leading([0, 0, 0, 0], 0).resign_at() == 4000 + 2 * ELECTION_MIN


def test_late_and_doubled_answers_take_nothing_back() -> None:
    leading = _leading([0, 0], 9)
    follower = leading.followers[2]
    leading.note(follower, AppendReply(0, 1, True, 8, 4), 5)
    leading.note(follower, AppendReply(0, 1, True, 3, 2), 6)
    leading.note(follower, AppendReply(0, 1, False, 1, 1), 7)
    assert (follower.match, follower.round, follower.next) == (8, 4, 9)
    leading.note(follower, AppendReply(0, 1, True, 1 << 40, 4), 8)  # more than there is
    assert follower.match == 9
