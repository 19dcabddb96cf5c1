"""The virtual coordinator: the rule book of the embedded one, in virtual time, with faults.

A request takes a while to arrive, is carried out, and its answer takes a while back; so one whose
asker dies in between may well have happened.  Each asker is answered in the order in which it
asked.

Faults: an *outage* (questions are answered :class:`Lost` after a while and not carried out),
*lost answers* (carried out, and yet answered ``Lost``), expiry of the chair lease, slowness, stale
readings, emptying, and restoring an old copy.  While it knows less than it once did, whoever writes
into it would bury what peers know: a violation (``buried-topology``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from fabric.coordination.interface import (
    Commit,
    Committed,
    CoordinatorAnswer,
    CoordinatorRequest,
    Epoch,
    Load,
    Loaded,
    Lost,
    Record,
)
from fabric.coordination.rules import carry_out, chair_of, create, end_chair, epoch_of
from fabric.stream import Stream
from fabric.tree.topology import newest_order
from fabric.wire.codec import decode_record
from fabric.wire.tree import NO_ORDER, Topo
from sim.inspect import paths_of

if TYPE_CHECKING:
    from sim.engine import Engine, Node

#: Time from the question to its being carried out, and the same again back.
HALF_MIN_US: Final = 1_000
HALF_SPREAD_US: Final = 3_000
#: When nobody answers, the client says so after this long.
LOST_AFTER_US: Final = 2_000_000

#: Where the head of the topology is among the rows, behind how many bytes of its version.
TOPO_ROW: Final = b"record/topo"
VERSION_BYTES: Final = 8

#: What :meth:`VirtualCoordinator.copy` returns and :meth:`VirtualCoordinator.restore` takes.
Copy: TypeAlias = dict[bytes, bytes]


class _Rows(dict[bytes, bytes]):
    """A dictionary as the rule book's table."""

    def put(self, key: bytes, value: bytes) -> None:
        self[key] = value

    def delete(self, key: bytes) -> None:
        self.pop(key, None)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(row for row in self.items() if row[0].startswith(prefix)))


class VirtualCoordinator:
    """One coordinator for all nodes of a run. It is always the newest truth: there is no lag."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams: dict[int, Stream] = {}
        self._rows = _Rows()
        create(self._rows, engine.streams.number("coordinator-id") | 1)
        self._arrival: dict[int, int] = {}
        #: Outages that are on: no question is answered while there is one.
        self.outages = 0
        #: Indexes of nodes that cannot reach it.
        self.severed: list[int] = []
        #: Told of each commit that was carried out, and of who held the chair then.
        self.on_commit: Callable[[Commit, Epoch | None], None] = lambda commit, holder: None
        #: When the chair was last taken from its holder by a fault.
        self.expired_us = -LOST_AFTER_US
        #: Told when an old copy has taken the place of everything.
        self.on_restored: Callable[[], None] = lambda: None
        #: Carried out, but the asker learns nothing: so many of the next requests.
        self.lose_answers = 0
        #: The same for commits alone.
        self.lose_commits = 0
        #: Factors on the time that a question takes there and back; the worst counts.
        self.slowed: list[int] = []
        #: What readings are answered from while its replicas lag; ``None``: from the truth.
        self.lagging: Copy | None = None
        #: The newest state, while what is stored is an older one or nothing.
        self.newest: Copy | None = None
        self.requests = 0
        #: Rises whenever a record changes.
        self.changes = 0

    # --- the engine's side ------------------------------------------------------------------------

    def ask(self, node: Node, request: CoordinatorRequest, token: int) -> None:
        """Take a node's question."""
        self.requests += 1
        engine = self._engine
        stream = self._streams.get(node.index)
        if stream is None:  # one for each asker: what others ask changes nothing for it
            stream = self._streams[node.index] = engine.streams.stream("coordinator", node.index)
        slow = max(self.slowed, default=1)
        there = (HALF_MIN_US + stream.below(HALF_SPREAD_US)) * slow
        back = (HALF_MIN_US + stream.below(HALF_SPREAD_US)) * slow
        generation = node.generation

        def arrive() -> None:
            if self.outages or node.index in self.severed:
                answer: CoordinatorAnswer = Lost("outage")
                delay = LOST_AFTER_US
            else:
                answer, delay = self._answer(node, request), back
                if self._loses(request):
                    answer, delay = Lost("answer lost"), LOST_AFTER_US
            if node.generation == generation:
                done = max(engine.now + delay, self._arrival.get(node.index, 0))
                self._arrival[node.index] = done
                engine.answer(done - engine.now, node, token, answer)

        arrival = max(engine.now + there, self._arrival.get(-node.index, 0))
        self._arrival[-node.index] = arrival
        engine.at(arrival, arrive)

    def _answer(self, node: Node, request: CoordinatorRequest) -> CoordinatorAnswer:
        if isinstance(request, Load) and self.lagging is not None:
            return carry_out(_Rows(self.lagging), request, self._engine.now, "")
        if self.newest is None or not isinstance(request, Commit):
            return self.carry_out(request)
        behind = self._is_behind()
        answer = self.carry_out(request)
        if isinstance(answer, Committed):
            if behind:
                detail = "a topology is written over one that the coordinator has lost"
                self._engine.on_violation("buried-topology", (node,), detail)
            self.newest = None  # from here it goes on; to put the other state back would lose this
        return answer

    def _is_behind(self) -> bool:
        """Tell whether some living peer knows of a newer topology than is stored.

        What nobody knows of (its writer never learned that it was carried out) cannot be missed.
        """
        stored = self._rows.get(TOPO_ROW)
        order = NO_ORDER if stored is None else decode_record(Topo, stored[VERSION_BYTES:]).order
        living = [node for node in self._engine.nodes if node.alive]
        return any(newest_order(paths_of(node).newest()) > order for node in living)

    def _loses(self, request: CoordinatorRequest) -> bool:
        if isinstance(request, Commit) and self.lose_commits:
            self.lose_commits -= 1
            return True
        if self.lose_answers:
            self.lose_answers -= 1
            return True
        return False

    def carry_out(self, request: CoordinatorRequest) -> CoordinatorAnswer:
        """Do what ``request`` says, now."""
        holder = epoch_of(self._rows, self._engine.now, "")
        answer = carry_out(self._rows, request, self._engine.now, "")
        if isinstance(request, Commit) and isinstance(answer, Committed):
            self.changes += 1
            self.on_commit(request, holder)
        return answer

    # --- what faults and checkers do --------------------------------------------------------------

    @property
    def chairman(self) -> int:
        """Return the node id of the chair's holder, 0 if nobody holds it."""
        return chair_of(self._rows, self._engine.now, "")

    def records(self) -> tuple[Record, ...]:
        """Return all records as they are now."""
        loaded = self.carry_out(Load())
        assert isinstance(loaded, Loaded)
        return loaded.records

    def expire(self) -> None:
        """End the chair lease, as when the holder's session expires."""
        end_chair(self._rows)
        self.expired_us = self._engine.now

    def copy(self) -> Copy:
        """Return everything that is stored now."""
        return dict(self._rows)

    def empty(self) -> None:
        """Lose everything, as with a wiped data directory: it is another coordinator now."""
        self.newest = self.newest or self.copy()
        self._rows.clear()
        create(self._rows, self._engine.streams.number("coordinator-id", self.changes) | 1)
        self.changes += 1
        self.expired_us = self._engine.now

    def fall_back(self, copy: Copy) -> None:
        """Hold an old copy in the place of everything, as after a restore from backup."""
        newest = self.newest or self.copy()
        if records_of(copy) != records_of(newest):
            self.newest = newest
        self.restore(copy)

    def mend(self) -> None:
        """The operator finds the newest state after all."""
        if self.newest is not None:
            self.restore(self.newest)
            self.newest = None

    def restore(self, copy: Copy) -> None:
        """Put an old copy in the place of everything."""
        self._rows.clear()
        self._rows.update(copy)
        self.expire()
        self.changes += 1
        self.on_restored()


def records_of(copy: Copy) -> Copy:
    """Return what of ``copy`` is topology, without the lease."""
    return {key: value for key, value in copy.items() if key.startswith(b"record/")}
