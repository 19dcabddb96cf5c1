"""What an operator may set about the protocols. Every default says why it is what it is."""

from __future__ import annotations

from dataclasses import dataclass

from fabric.errors import ConfigError
from fabric.limits import MAX_CELL_MEMBERS
from fabric.units import MS, SECOND


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in microseconds, sizes in members. All peers of a fabric should agree on them."""

    #: One probe round: everybody in a cell is probed once in it.
    probe_us: int = 1 * SECOND
    #: A direct probe unanswered for so long is tried through others: ten times a slow LAN round
    #: trip, so that a busy interpreter is not taken for a dead one.
    ack_timeout_us: int = 300 * MS
    #: How long the indirect probes may take on top.
    indirect_timeout_us: int = 400 * MS
    #: Once a suspicion has all the witnesses that a removal needs, it is decided so long after it
    #: began: time for the suspect to refute.
    suspicion_us: int = 1200 * MS
    #: Tables are compared so often, to mend what gossip lost.
    anti_entropy_us: int = 10 * SECOND
    #: A seat's grant. An owner that dies is replaced one lease later at the latest.
    lease_us: int = 2 * SECOND
    #: Renewal: three tries fit into a lease.
    renew_us: int = 600 * MS
    #: Unanswered lease questions go to the other seats after so long.
    late_answer_us: int = 150 * MS
    #: Standby k waits k times this long, so that they do not split the seats' votes.
    standby_step_us: int = 150 * MS
    #: Owners send their cell's summary upwards when it changed, at most so often.
    summary_us: int = 1 * SECOND
    #: The chairman gathers joins and reports for so long into one transaction.
    batch_us: int = 500 * MS
    #: The chair lease in the coordinator, renewed each third of it.
    chair_lease_us: int = 3 * SECOND
    #: A joiner asks again after so long.
    join_retry_us: int = 1 * SECOND
    #: A cell without owner for so long gets an inquest and, where needed, a new electorate.
    ownerless_us: int = 15 * SECOND
    #: Leaf cells split above the upper bound and merge below the lower one.
    leaf_min: int = 12
    leaf_max: int = 32
    #: The same for inner cells, counted in child cells.
    inner_min: int = 12
    inner_max: int = 32

    def __post_init__(self) -> None:
        for low, high in (("leaf_min", "leaf_max"), ("inner_min", "inner_max")):
            smallest, largest = getattr(self, low), getattr(self, high)
            if not smallest >= 1:
                raise ConfigError(f"{low} must be at least 1 (was {smallest})", {"field": low})
            if not 2 <= largest <= MAX_CELL_MEMBERS:
                raise ConfigError(
                    f"{high} must be between 2 and {MAX_CELL_MEMBERS} (was {largest})",
                    {"field": high},
                )
            if largest < 2 * smallest - 1:
                raise ConfigError(
                    f"{high} must be at least twice {low} less one, or a split would leave a "
                    f"half below {low} (was {largest}, {low} is {smallest})",
                    {"field": high},
                )
        for name in ("probe_us", "ack_timeout_us", "lease_us", "renew_us", "batch_us"):
            if getattr(self, name) < 10 * MS:
                raise ConfigError(
                    f"{name} must be at least 10 ms (was {getattr(self, name)} µs)",
                    {"field": name},
                )
        if self.renew_us * 2 > self.lease_us:
            raise ConfigError(
                f"renew_us must be at most half of lease_us (was {self.renew_us})",
                {"field": "renew_us"},
            )
