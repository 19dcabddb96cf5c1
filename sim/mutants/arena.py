"""One process of the hunt: runs seeds on whatever code it finds, until something is violated.

``python -m sim.mutants.arena decrees 0 40`` prints one line of JSON per seed: what was violated
first (or ``null``).  It ends after the first violation.  It imports what it runs only here, from
the directory in which it was started: a scratch copy with a bug in it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple


class Finding(NamedTuple):
    """What was violated first in one run."""

    invariant: str
    detail: str
    at_s: float | None = None
    """Virtual time, where the run knows it."""


def fabric_run(arena: str) -> Callable[[int], Finding | None]:
    """Return what runs the scenario that ``arena`` (of ``sim.mutants.arenas``) draws of a seed."""
    from sim.mutants.arenas import ARENAS
    from sim.run import run

    scenario = ARENAS[arena]

    def one(seed: int) -> Finding | None:
        result = run(scenario(seed))
        if not result.violations:
            return None
        first = result.violations[0]
        where = "".join([f"{name}: " for name in first["nodes"][:1]])
        return Finding(first["invariant"], f"{where}{first['detail']}", first["at_s"])

    return one


def go(run: Callable[[int], Finding | None], first: int, end: int) -> None:
    """Run seeds from ``first`` to before ``end``, one line each, until something is violated."""
    for seed in range(first, end):
        began = time.process_time()
        finding = run(seed)
        line = {
            "seed": seed,
            "invariant": None if finding is None else finding.invariant,
            "detail": "" if finding is None else finding.detail[:300],
            "at_s": None if finding is None else finding.at_s,
            "cpu_s": round(time.process_time() - began, 2),
        }
        print(json.dumps(line), flush=True)
        if finding is not None:
            return


if __name__ == "__main__":
    go(fabric_run(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
