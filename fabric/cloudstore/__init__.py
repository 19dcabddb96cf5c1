"""CloudStore: documents in shards, each shard a log replicated by quorum writes.

How a transaction travels
-------------------------
``client`` (checks it, encodes it as one *command*) -> ``shard`` (the leader's machine stamps it
with term and time, appends it to its ``log``, hands it to the disk and, by ``replication``, to
the followers) -> a majority has it durably: committed -> ``documents`` (evaluates the operations
on a view of the stored documents; the same everywhere) -> the answer.  ``election`` says who
leads.  ``storage`` is the edge: two LMDB environments, the committer, and :class:`StoreNode`, the
asyncio driver.

Everything outside ``storage`` is sans-I/O and deterministic.  There is no branch on the number of
replicas: an embedded store is the same machine with a quorum of one.

What is built: terms, votes, pre-vote, check-quorum, leader stickiness, log matching and
truncation, commit by the median durable index of the own term, ReadIndex, transactions with
conditions, unique names, quotas, declared indexes, the idempotency table, one node without
sockets (N = 1), and the same machine with N = 3 in the simulator.

What is not built yet (asking for it raises ``NotBuiltYet``): replicas on several real nodes, joint
consensus and learners, snapshots (a follower whose log tail was trimmed away cannot catch up,
so a leader trims only what all replicas have), watch, expiry, version history, audits,
coalesced heartbeats, backup.
"""
