"""All kinds of faults by the names that scenario files use."""

from __future__ import annotations

from typing import Any, Final

from sim.faults import Crash, Cut, Dethrone, Expire, Lossy, Outage, Slow
from sim.gray import Echo, Pause, Sever

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
}
