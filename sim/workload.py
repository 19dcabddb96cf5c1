"""What users do: place VMs at a rate, confirm them, let them live a while, release them.

Each placement goes through the front door of a random living host (a ``LocalCall`` with
``PlaceAsk``), as a worker would do it.  The workload remembers what it was promised, so that the
checkers can compare that with what the books hold.  Times and sizes of placement n come from a
stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fabric.errors import FabricError, Unavailable
from fabric.placement.request import Constraint, Placed, PlacementRequest
from fabric.stream import Stream
from fabric.units import SECOND
from fabric.wire.common import Done
from fabric.wire.placement import ConfirmAsk, PlaceAsk, Refusal, ReleaseAsk
from sim.vms import VmCallers

if TYPE_CHECKING:
    from sim.engine import Node
    from sim.world import SimWorld

#: Flavors: vCPUs, memory, disk.
FLAVORS: Final = ((1, 1024, 10_240), (1, 2048, 20_480), (2, 4096, 40_960), (4, 8192, 81_920))
#: Datastores of the hosts, where scenarios have requests that avoid one of them.
DATASTORES: Final = ("local", "spare")
#: How long a caller waits for a placement.
TIMEOUT_US: Final = 10 * SECOND
#: A release that found nobody is tried again after so long.
RETRY_US: Final = 5 * SECOND

# states of one placement
ASKED, PLACED, CONFIRMED, RELEASING, RELEASED, REFUSED, FAILED, DOUBTFUL, WITH_VM = range(9)
#: States in which a host may hold room for the placement and somebody still minds it.
UNDER_WAY: Final = frozenset({PLACED, CONFIRMED, RELEASING, DOUBTFUL, WITH_VM})


class Placing:
    """One placement, as its caller sees it."""

    __slots__ = (
        "asked_us", "changed_us", "key", "number", "placed", "request", "set_us", "state", "stream",
    )  # fmt: skip

    def __init__(self, number: int, request: PlacementRequest, stream: Stream, now: int) -> None:
        self.number = number
        self.key = request.key
        self.request = request
        #: Whatever is random about it: its size, whom it asks.
        self.stream = stream
        self.asked_us = now
        self.state = ASKED
        self.placed: Placed | None = None
        #: When the state was entered.
        self.changed_us = now
        #: How the clock of the host was set when it promised the room.
        self.set_us = 0


class Workload:
    """Places at a steady rate from the time the fabric first has a tree."""

    def __init__(self, world: SimWorld, rate: int, life_us: int) -> None:
        self._world = world
        self._engine = world.engine
        self._life_us = life_us
        self._rate = rate
        self._next = 0
        self._only = frozenset(world.scenario.placements)
        #: Placements that the checkers still want to know of, by key.
        self.open: dict[str, Placing] = {}
        self.placed = 0
        self.refused = 0
        self.unavailable = 0
        self.unanswered = 0
        #: Asked for before the fabric had formed; not counted among the others.
        self.latency_us: list[int] = []
        self.stopped = False
        self.vms = VmCallers(world, self, life_us)
        #: Told of each answer: a place, or that there is none.
        self.on_placed: Callable[[PlacementRequest, Placed], None] = lambda request, placed: None
        self.on_refused: Callable[[PlacementRequest, int], None] = lambda request, asked_us: None
        self.on_unavailable: Callable[[Placing], None] = lambda placing: None
        self.on_unconfirmed: Callable[[Placing, FabricError], None] = lambda placing, error: None

    def start(self) -> None:
        """Begin placing now."""
        if self._rate:
            self._tick()

    def _tick(self) -> None:
        """Issue what is due in this millisecond-or-more and come again."""
        if self.stopped:
            return
        engine = self._engine
        for _ in range(self._world.scenario.burst):
            self._place(self._next)
            self._next += 1
        engine.at(self._begin_us + self._next * SECOND // self._rate, self._tick)

    @property
    def _begin_us(self) -> int:
        return self._world.placing_since_us

    def _place(self, number: int) -> None:
        if self._only and number not in self._only:
            return
        engine = self._engine
        stream = engine.streams.stream("placement", number)
        cpu, memory_mb, disk_mb = FLAVORS[stream.below(len(FLAVORS))]
        scenario = self._world.scenario
        constraints: tuple[Constraint, ...] = ()
        if scenario.avoid_percent and stream.below(100) < scenario.avoid_percent:
            constraints = (Constraint("datastore", (DATASTORES[stream.below(2)],), negative=True),)
        packs = scenario.pack_percent and stream.below(100) < scenario.pack_percent
        policy = "pack" if packs else "spread"
        request = PlacementRequest(
            f"p{number}", f"vm{number}", cpu, memory_mb, disk_mb, constraints, policy
        )
        entry = self._entry(stream)
        if entry is None:
            self.unavailable += 1
            return
        placing = self.open[request.key] = Placing(number, request, stream, engine.now)
        self.ask(
            entry,
            PlaceAsk(request, TIMEOUT_US // 1000),
            lambda answer: self._answered(placing, answer),
            lambda: self._nobody(placing),
        )

    def _entry(self, stream: Stream) -> Node | None:
        """Return a living host that is not given up, at random."""
        hosts, abandoned = self._world.hosts, self._world.abandoned
        for _ in range(20):
            node = hosts[stream.below(len(hosts))]
            if node.alive and node.index not in abandoned:
                return node
        return None

    def ask(
        self, entry: Node, body: Any, done: Callable[[Any], None], nobody: Callable[[], None]
    ) -> None:
        """Call ``entry``; ``nobody`` is called instead of ``done`` if no reply comes in time."""
        engine = self._engine
        answered = False

        def reply(answer: Any) -> None:
            nonlocal answered
            if not answered:
                answered = True
                done(answer)

        call_id = engine.call(entry, body, reply)

        def give_up() -> None:
            nonlocal answered
            if not answered:
                answered = True
                engine.calls.pop(call_id, None)
                nobody()

        engine.at(engine.now + TIMEOUT_US + SECOND, give_up)

    # --- what comes back --------------------------------------------------------------------------

    def _set(self, placing: Placing, state: int) -> None:
        placing.state = state
        placing.changed_us = self._engine.now

    def _answered(self, placing: Placing, answer: Any) -> None:
        if isinstance(answer, Placed):
            placing.placed = answer
            host = self._engine.by_id.get(answer.host.node_id)
            placing.set_us = host.offset if host is not None else 0
            self.latency_us.append(self._engine.now - placing.changed_us)
            self._set(placing, PLACED)
            self.on_placed(placing.request, answer)
            self._confirm(placing)
        elif isinstance(answer, Refusal):
            self.refused += 1
            self._set(placing, REFUSED)
            self.on_refused(placing.request, placing.asked_us)
        elif isinstance(answer, Unavailable):
            self.on_unavailable(placing)
            self.unavailable += 1
            self._set(placing, FAILED)
        else:
            self._world.violation("placement-answer", (), f"{placing.key}: {answer!r:.200}")
            self._set(placing, FAILED)

    def _nobody(self, placing: Placing) -> None:
        """The entry died with our call, or never answered: the reservation, if any, expires."""
        self.unanswered += 1
        self._set(placing, FAILED)

    def _confirm(self, placing: Placing) -> None:
        assert placing.placed is not None
        entry = self._entry(placing.stream)
        if entry is None:
            self._doubt(placing)
            return
        self.ask(
            entry,
            ConfirmAsk(placing.placed, TIMEOUT_US // 1000),
            lambda answer: self._confirmed(placing, answer),
            lambda: self._doubt(placing),
        )

    def _confirmed(self, placing: Placing, answer: Any) -> None:
        if isinstance(answer, Done):
            self.placed += 1
            engine = self._engine
            if placing.number % 100 < self._world.scenario.vm_percent:
                self._set(placing, WITH_VM)
                self.vms.create(placing)
                return
            self._set(placing, CONFIRMED)
            engine.at(engine.now + self._life_us, lambda: self._release(placing))
        elif isinstance(answer, FabricError):
            self.on_unconfirmed(placing, answer)
            self._doubt(placing)
        else:
            self._world.violation("confirm-answer", (), f"{placing.key}: {answer!r:.200}")

    def _doubt(self, placing: Placing) -> None:
        """It may be confirmed or not: give it back until somebody says that it is gone."""
        self.unavailable += 1
        self._set(placing, DOUBTFUL)
        self._release(placing)

    def _release(self, placing: Placing) -> None:
        assert placing.placed is not None
        engine = self._engine
        if placing.state == CONFIRMED:
            self._set(placing, RELEASING)
        entry = self._entry(placing.stream)

        def again() -> None:
            engine.at(engine.now + RETRY_US, lambda: self._release(placing))

        if entry is None:
            again()
            return
        self.ask(
            entry,
            ReleaseAsk(placing.placed, TIMEOUT_US // 1000),
            lambda answer: self._released(placing) if isinstance(answer, Done) else again(),
            again,
        )

    def settled(self, placing: Placing) -> None:
        """The VM of a placement is gone, and with it the room that it held."""
        self._released(placing)

    def _released(self, placing: Placing) -> None:
        self._set(placing, RELEASED)
