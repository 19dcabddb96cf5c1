"""What both sides do, and when. Everything is drawn from the seed, by the simulator's own world."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from fabric.units import MS, SECOND
from sim.scenario import Scenario
from sim.world import FIRST_HOST_US, Role, SimWorld

PEERS: Final = 50
CANDIDATES: Final = 3
#: Arrivals are spread over this: starting peers costs a busy machine more than running them.
START_S: Final = 5
#: Small cells, so that there are several of them: owners to strike, and inner messages to count.
LEAF_MIN: Final = 6
LEAF_MAX: Final = 16
#: The quiet window in which messages are counted: 50 renewals, 30 probe rounds, 3 comparisons of
#: tables. A window that is no multiple of a period counts one more or less of it by chance.
WINDOW_S: Final = (40.0, 70.0)
#: Owners are struck from here on. The step is no multiple of any period of the protocols, or each
#: kill would meet a lease at the same age.
FIRST_KILL_S: Final = 72.0
KILL_STEP_S: Final = 6.37
KILLS: Final = 8
END_S: Final = FIRST_KILL_S + KILLS * KILL_STEP_S
#: How often each peer is asked whether it has settled, and until when.
LOOK_S: Final = 0.05
LOOK_UNTIL_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """One peer. ``cpu`` is 0 for candidates, which are no hosts."""

    name: str
    node_id: int
    at_s: float
    candidate: bool
    #: The first candidate creates the topology, the others join.
    creates: bool
    cpu: int
    memory_mb: int
    #: Where it listens; 0: any free port.
    port: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        return asdict(self)


def scenario(seed: int) -> Scenario:
    """Return the scenario as the simulator runs it."""
    return Scenario(
        hosts=PEERS - CANDIDATES,
        candidates=CANDIDATES,
        duration_s=round(END_S) + 1,
        seed=seed,
        start_s=START_S,
        leaf_min=LEAF_MIN,
        leaf_max=LEAF_MAX,
        fidelity=True,
        trace=False,
        checkers=False,
    )


class TcpNamed(SimWorld):
    """The simulator's world, its addresses as long as real ones: leases carry them."""

    def address_of(self, role: Role) -> str:
        number = role.host if role.host >= 0 else 1_000 + role.candidate
        return f"tcp://127.0.0.1:{40_000 + number}"


def peers(world: SimWorld) -> list[PeerPlan]:
    """Return the peers of ``world`` as they are to be started for real."""
    planned = []
    for node in (*world.candidates, *world.hosts):
        role: Role = node.role
        spec = role.spec
        if spec is None:
            at_us = role.candidate * 100 * MS
        else:
            streams = world.engine.streams
            at_us = FIRST_HOST_US + (streams.number("arrival", role.host) % world.scenario.start_us)
        planned.append(
            PeerPlan(
                name=role.name,
                node_id=node.node_id,
                at_s=at_us / SECOND,
                candidate=spec is None,
                creates=role.candidate == 0,
                cpu=spec.cpu if spec is not None else 0,
                memory_mb=spec.memory_mb if spec is not None else 0,
            )
        )
    return planned
