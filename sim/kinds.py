"""All kinds of faults by the names that scenario files use."""

from __future__ import annotations

from typing import Any, Final

from sim.faults import Crash, Cut, Dethrone, Expire, Lossy, Outage, Slow
from sim.gray import Echo, OnChairman, OnOwner, Pause, Sever

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
}
