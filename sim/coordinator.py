"""The virtual coordinator: what ZooKeeper or the embedded one does, in virtual time.

It answers the requests of ``fabric.coordination.interface``: the chair lease with rising epochs,
versioned records, and transactions that check both.  A request is carried out half-way between
question and answer, so one whose asker dies in between may well have happened.

Faults: an *outage* (questions are answered :class:`Lost` after a while and not carried out),
*lost answers* (carried out, and yet answered ``Lost``), expiry of the chair lease, emptying, and
restoring an old copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fabric.coordination.interface import (
    Campaign,
    Chair,
    Commit,
    CommitRefused,
    Committed,
    CoordinatorAnswer,
    CoordinatorRequest,
    Epoch,
    Load,
    Loaded,
    Lost,
    Record,
    Resign,
    Resigned,
)

if TYPE_CHECKING:
    from sim.engine import Engine, Node

#: Time from the question to its being carried out, and the same again back.
HALF_MIN_US: Final = 1_000
HALF_SPREAD_US: Final = 3_000
#: When nobody answers, the client says so after this long.
LOST_AFTER_US: Final = 2_000_000

#: What :meth:`VirtualCoordinator.copy` returns and :meth:`VirtualCoordinator.restore` takes.
Copy = dict[str, Record]


class VirtualCoordinator:
    """One coordinator for all nodes of a run. It is always the newest truth: there is no lag."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stream = engine.streams.stream("coordinator")
        self.coordinator_id = engine.streams.number("coordinator-id") | 1
        self.generation = 1
        self._leases = 0
        self._epoch = Epoch(0, 0)
        self._holder = 0
        self._expires_us = -1
        self._records: dict[str, Record] = {}
        #: No question is answered while this is on.
        self.down = False
        #: Carried out, but the asker learns nothing: so many of the next requests.
        self.lose_answers = 0
        self.requests = 0
        self.commits = 0

    # --- the engine's side ------------------------------------------------------------------------

    def ask(self, node: Node, request: CoordinatorRequest, token: int) -> None:
        """Take a node's question."""
        self.requests += 1
        engine = self._engine
        there = HALF_MIN_US + self._stream.below(HALF_SPREAD_US)
        back = HALF_MIN_US + self._stream.below(HALF_SPREAD_US)
        generation = node.generation

        def arrive() -> None:
            if self.down:
                answer: CoordinatorAnswer = Lost("outage")
                delay = LOST_AFTER_US
            else:
                answer = self.carry_out(request)
                delay = back
                if self.lose_answers:
                    self.lose_answers -= 1
                    answer, delay = Lost("answer lost"), LOST_AFTER_US
            if node.generation == generation:
                engine.answer(delay, node, token, answer)

        engine.at(engine.now + there, arrive)

    def carry_out(self, request: CoordinatorRequest) -> CoordinatorAnswer:
        """Do what ``request`` says, now."""
        if isinstance(request, Campaign):
            return self._campaign(request)
        if isinstance(request, Resign):
            if self._holds(request.epoch):
                self._expires_us = -1
                self._holder = 0
            return Resigned()
        if isinstance(request, Load):
            return Loaded(tuple(self._records.values()), self.coordinator_id)
        if isinstance(request, Commit):
            return self._commit(request)
        raise TypeError(f"no coordinator request: {type(request).__name__}")

    def _holds(self, epoch: Epoch) -> bool:
        return epoch == self._epoch and self._engine.now < self._expires_us

    def _campaign(self, request: Campaign) -> Chair:
        now = self._engine.now
        if now >= self._expires_us:
            self._leases += 1
            self._epoch = Epoch(self.generation, self._leases)
            self._holder = request.node_id
        held = self._holder == request.node_id
        if held:
            self._expires_us = now + request.lease_us
        return Chair(held, self._holder, self._epoch, self.coordinator_id)

    def _commit(self, request: Commit) -> Committed | CommitRefused:
        if not self._holds(request.epoch):
            return CommitRefused("lease")
        records = self._records
        for put in request.puts:
            record = records.get(put.path)
            if put.version != (0 if record is None else record.version):
                return CommitRefused("version")
        versions = []
        for put in request.puts:
            if put.value is None:
                records.pop(put.path, None)
                versions.append(0)
            else:
                records[put.path] = Record(put.path, put.version + 1, put.value)
                versions.append(put.version + 1)
        self.commits += 1
        return Committed(tuple(versions))

    # --- what faults and checkers do --------------------------------------------------------------

    @property
    def chairman(self) -> int:
        """Return the node id of the chair's holder, 0 if the lease ran out."""
        return self._holder if self._engine.now < self._expires_us else 0

    def expire(self) -> None:
        """End the chair lease, as when the holder's session expires."""
        self._expires_us = -1

    def copy(self) -> Copy:
        """Return all records as they are now."""
        return dict(self._records)

    def restore(self, copy: Copy) -> None:
        """Put an old copy (or nothing) in the place of all records."""
        self._records = dict(copy)
        self.expire()
