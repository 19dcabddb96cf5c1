"""Every bound of Fabric, each with its reason. Nothing else in the code is a bare limit."""

from __future__ import annotations

from typing import Final

# --- wire -----------------------------------------------------------------------------------------

#: One frame. Bulk data goes in chunks: a peer must never hold a loop for one message.
MAX_FRAME_BYTES: Final = 65536
#: Nesting of one message: the deepest real one (a request holding a cell record) needs 7.
MAX_NESTING: Final = 16
#: Ids and counters stay below 2**62, so that they are small ints in compiled code.
MAX_INT: Final = (1 << 62) - 1
#: Names, keys, codes.
MAX_TEXT: Final = 256
#: The id under which a request is followed through logs: a UUID fits.
MAX_TRACE: Final = 64
#: Free text meant for people (explanations, error messages).
MAX_LONG_TEXT: Final = 4096
#: ``tcp://[v6 address]:port`` and ``inproc://name`` fit with room.
MAX_ADDRESS: Final = 128
#: Names of zones and racks: two of them and a slash are one text, and a record names a few.
MAX_DOMAIN_NAME: Final = 63
#: Members of one cell: four times the default upper bound, so that bounds can be configured.
MAX_CELL_MEMBERS: Final = 128
#: Observers attached to one leaf cell.
MAX_OBSERVERS: Final = 64
#: Cells on one path to the root: 32**7 hosts are more than anyone has.
MAX_DEPTH: Final = 8
#: News items on one ping or ack; the rest waits for the next one.
MAX_NEWS: Final = 16
#: Seats of one cell: a majority of five survives two deaths.
MAX_SEATS: Final = 5

# --- transport ------------------------------------------------------------------------------------

#: Messages waiting for one contact; beyond that the newest is dropped and counted.
SEND_QUEUE: Final = 1000
#: Live outgoing connections of a peer; the longest idle one is closed first.
MAX_CONNECTIONS: Final = 512
#: Frames handled per wakeup before timers and others get their turn.
DRAIN_BUDGET: Final = 256
#: A message that waited this long for a connection is of no use to a protocol of 1 s rounds.
STALE_SEND_S: Final = 3.0
#: An outgoing connection unused for this long is closed: four rotations of a full cell.
IDLE_CONNECTION_S: Final = 128.0
#: Messages waiting inside one process for one peer; beyond that the newest is dropped.
INPROC_QUEUE: Final = 10_000

# --- keys -----------------------------------------------------------------------------------------

#: Void certificates on one list: it still fits into a frame. Expired ones drop out.
MAX_REVOKED: Final = 2048
#: Certificates that one peer has been shown and remembers: its cells, and callers from outside.
MAX_IDENTITIES: Final = 16384
#: Certificates checked in one second, 50 µs each: a flood of them must not hold the loop.
MAX_CHECKS_PER_S: Final = 1000
#: How long the old certificate of a node goes on after a rotation: time to bring the new one to it.
ROTATION_GRACE_S: Final = 600

# --- local calls ----------------------------------------------------------------------------------

#: Local and remote requests in flight at one peer; beyond that ``Overloaded``.
MAX_CALLS: Final = 4096
#: Notices that wait for one slow watcher; beyond that the newest is dropped.
MAX_NOTICES: Final = 1024
#: Events that a peer remembers: hours of a quiet fabric, a minute of the worst storm, about 1 MB.
MAX_EVENTS: Final = 4096
#: Events in one answer, and their bytes: a frame less its header.
MAX_EVENT_PAGE: Final = 100
MAX_EVENT_PAGE_BYTES: Final = 60_000
#: Numbers of one kind that a peer tells of itself: four times what there is.
MAX_METRICS: Final = 512
#: Characters of one event's text; what is longer ends in dots.
MAX_EVENT_TEXT: Final = 400
#: Questions about events that wait for the next one; beyond that they are answered at once.
MAX_EVENT_WAITERS: Final = 64
#: The longest that such a question waits: shorter than anybody's timeout of idle connections.
MAX_EVENT_WAIT_MS: Final = 30_000

# --- storage --------------------------------------------------------------------------------------

#: First size of a peer's database (address space only, the file is sparse); doubled when full.
MAP_BYTES: Final = 256 * 1024 * 1024
#: Where doubling ends: a peer's own records are far below; more means that something leaks.
MAX_MAP_BYTES: Final = 16 * 1024 * 1024 * 1024
#: Writes in one commit: bounds how long the first one waits for the last one.
COMMIT_BATCH: Final = 1024
#: Bytes of one coordinator record: a cell record with its seats and members needs about 3 KB.
MAX_RECORD_BYTES: Final = 65536

#: Bytes of one transaction of the coordinator: ZooKeeper takes messages below 1 MB.
MAX_TRANSACTION_BYTES: Final = 900_000
#: Instances of one registered service, and details of one instance: a list of them stays below a
#: frame.
MAX_SERVICE_INSTANCES: Final = 256
MAX_SERVICE_DETAILS: Final = 16
#: Cell records in one part of an adoption, beside the frame limit; and parts of one: together they
#: hold the largest tree that there is.
MAX_ADOPT_RECORDS: Final = 64
MAX_ADOPT_PARTS: Final = 65536
#: Requests that wait for the coordinator at one peer; a chairman has two under way.
MAX_COORDINATOR_WAITING: Final = 256

# --- summaries and placement ----------------------------------------------------------------------

#: A summary as it travels each second between levels.
MAX_SUMMARY_BYTES: Final = 1024
#: Classes of hosts told apart in one summary; more melt into one. Eight racks of one site fit.
MAX_SUMMARY_CLASSES: Final = 8
#: Histogram buckets of all classes together: seven bytes each, a third of a summary.
MAX_SUMMARY_BUCKETS: Final = 40
#: Bytes of labels of all classes together: half of a summary.
MAX_SUMMARY_LABEL_BYTES: Final = 500
#: Virtual CPUs of one host: the largest servers sold have about a thousand threads.
MAX_HOST_CPU: Final = 1 << 16
#: MB of memory of a host, or of one datastore: an exabyte, so sums over a million hosts stay small.
MAX_HOST_MB: Final = 1 << 40
#: Tags, networks or datastores of one host, each.
MAX_HOST_NAMES: Final = 64
#: Constraints of one request, and alternatives in one of them.
MAX_CONSTRAINTS: Final = 32
MAX_CONSTRAINT_VALUES: Final = 32
#: Conditions counted in one explanation: all constraints, the sizes and the states.
MAX_REASONS: Final = 64
#: VMs or reservations in one answer: 32 of each with the longest names fit in a frame.
HOST_PAGE: Final = 32
#: Live reservations of one host; a burst beyond that is refused and goes elsewhere.
MAX_RESERVATIONS: Final = 1024
#: How long a reservation waits for its confirmation: a task's retries fit, leaks do not last.
RESERVATION_LIFETIME_US: Final = 60_000_000
#: Placements and host calls in flight at one entry; beyond that ``Overloaded``.
MAX_ENTRY_JOBS: Final = 4096
#: Placements in flight at one cell owner; beyond that the asker hears ``Overloaded``.
MAX_ROUTING_JOBS: Final = 4096
#: Results kept at an entry, so that a key asked again gets the same answer; the oldest goes first.
MAX_FINISHED_KEYS: Final = 1024
#: How long a request waits for an owner to be known: a takeover takes less.
OWNER_WAIT_US: Final = 3_000_000
#: How long a host has to answer a reserve; a group commit and two hops take a tenth of it.
HOST_ANSWER_US: Final = 1_000_000
#: How long what was sent to a member counts as used there, unless a newer summary tells.
ASSUMED_US: Final = 2_000_000
#: Age of a summary, per level below, from which it proves nothing any more.
SUMMARY_STALE_US: Final = 3_000_000
#: Among how many of the best candidates the choice is drawn: one would herd, all would not spread.
CHOICE_WIDTH: Final = 4
#: Longest time that a placement may take: tasks retry after that under the same key.
MAX_PLACE_TIMEOUT_MS: Final = 600_000

# --- store ----------------------------------------------------------------------------------------

#: Shards are named by the first 12 bits of an id.
MAX_SHARDS: Final = 4096
#: Shards of a new store. Never changes afterwards, so the embedded store starts with as many.
DEFAULT_SHARDS: Final = 128
#: One document, encoded: a log entry that holds it still fits into a frame with room for others.
MAX_DOCUMENT_BYTES: Final = 32768
#: One transaction, encoded: one AppendEntries with a single entry must stay below a frame.
MAX_COMMAND_BYTES: Final = 49152
#: Operations of one transaction: a VM with its disks, task, quotas and names needs about 30.
MAX_OPERATIONS: Final = 64
#: LMDB keys end at 511 bytes; the parts of ours add up to less (see ``cloudstore/keys.py``).
MAX_KIND_BYTES: Final = 32
MAX_DOCUMENT_ID_BYTES: Final = 128
MAX_INDEXED_BYTES: Final = 280
MAX_SCOPE_BYTES: Final = 160
#: Index entries of one document: more would make one write touch too many pages.
MAX_INDEXED_VALUES: Final = 64
#: Results kept per tenant for retries under the same idempotency key; the oldest goes first.
MAX_RESULTS: Final = 1000
#: How long a result is kept at least, unless its tenant has had too many since.
RESULT_KEEP_US: Final = 3_600_000_000
#: Documents on one page of a list: one page is one read transaction, which must stay short.
MAX_PAGE: Final = 1000
#: Entries of one AppendEntries or one proposal, beside the frame limit.
MAX_BATCH: Final = 512
#: Bytes of entries in one AppendEntries: a frame less its header.
MAX_APPEND_BYTES: Final = 60000
#: Log kept behind what is applied, per shard: followers that lag less catch up from it.
LOG_KEEP_BYTES: Final = 262144
#: Transactions waiting in one shard; beyond that ``Overloaded``.
MAX_PROPOSALS: Final = 4096
#: Documents applied but not flushed; a disk that cannot keep up must slow the callers down.
MAX_OVERLAY_ROWS: Final = 200_000
#: Disk space that a store leaves free: below it writes are refused, reads go on.
STORE_RESERVE_BYTES: Final = 64 << 20
#: First size of a store's LMDB maps: address space, not disk; doubled when full.
STORE_MAP_BYTES: Final = 1 << 34
