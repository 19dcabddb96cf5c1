"""All kinds of faults by the names that scenario files use."""

from __future__ import annotations

from typing import Any, Final

from sim.abandon import Abandoned
from sim.coordinator_faults import Emptied, LostCommits, Restored, SlowCoordinator, StaleReads
from sim.disk_faults import BitRot, DiskError, LostSync, SlowDisk, TornWrite
from sim.faults import Crash, Cut, Dethrone, Expire, Lossy, Outage, Slow
from sim.gray import Echo, OnChairman, OnOwner, Pause, Sever
from sim.hypervisor_faults import Refusal, Stall
from sim.insiders import Forger, NewerVersion, OlderVersion, StaleSummaries
from sim.network_faults import (
    Bridged,
    BrokenLink,
    Flaky,
    Gray,
    GrayLink,
    Halves,
    Reordered,
    Swizzle,
)
from sim.process_faults import (
    ClockJump,
    Draining,
    Drift,
    Leaving,
    MassRestart,
    RackLoss,
    Rolling,
)

KINDS: Final[dict[str, type[Any]]] = {
    "crash": Crash,
    "dethrone": Dethrone,
    "cut": Cut,
    "lossy": Lossy,
    "slow": Slow,
    "outage": Outage,
    "expire": Expire,
    "pause": Pause,
    "sever": Sever,
    "echo": Echo,
    # these hold another one: fault = { kind = "crash", at_s = 0, host = 0, down_s = 5 }
    "on-owner": OnOwner,
    "on-chairman": OnChairman,
    "slow-disk": SlowDisk,
    "disk-error": DiskError,
    "lost-sync": LostSync,
    "torn-write": TornWrite,
    "bit-rot": BitRot,
    "slow-coordinator": SlowCoordinator,
    "stale-reads": StaleReads,
    "lost-commits": LostCommits,
    "emptied": Emptied,
    "restored": Restored,
    "bridged": Bridged,
    "halves": Halves,
    "broken-link": BrokenLink,
    "gray": Gray,
    "gray-link": GrayLink,
    "flaky": Flaky,
    "reordered": Reordered,
    "swizzle": Swizzle,
    "leaving": Leaving,
    "draining": Draining,
    "rack-loss": RackLoss,
    "rolling": Rolling,
    "mass-restart": MassRestart,
    "drift": Drift,
    "clock-jump": ClockJump,
    "stall": Stall,
    "refusal": Refusal,
    "abandoned": Abandoned,
    "forger": Forger,
    "stale-summaries": StaleSummaries,
    "newer-version": NewerVersion,
    "older-version": OlderVersion,
}
