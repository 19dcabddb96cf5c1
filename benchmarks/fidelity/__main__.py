"""``python -m benchmarks.fidelity``: run both sides, compare, say so."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Final

from benchmarks.fidelity import real, virtual
from benchmarks.fidelity.plan import END_S
from benchmarks.fidelity.report import Comparison, markdown

RUNS: Final = 3
SIMULATED: Final = 40
#: More seeds are simulated, up to so many in all, while a real tree has a form not yet seen.
MOST_SIMULATED: Final = 100


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run, print, and fail when the simulator is off by more than allowed."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.fidelity", description="The simulator against real peers."
    )
    parser.add_argument("--quick", action="store_true", help="one real run instead of three")
    parser.add_argument("--runs", type=int, metavar="N", help="real runs, two minutes each")
    parser.add_argument("--write", action="store_true", help="write sim/FIDELITY.md")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    options = parser.parse_args()
    runs = options.runs or (1 if options.quick else RUNS)
    if runs < 1:
        parser.error("--runs must be at least 1")

    _note(f"{SIMULATED} simulated runs of {END_S:.0f} s")
    simulated = [virtual.run(seed) for seed in range(1, SIMULATED + 1)]
    accounts = []
    for seed in range(1, runs + 1):
        load = os.getloadavg()[0]
        _note(f"real run {seed} of {runs}: {END_S:.0f} s (load {load:.1f} on {os.cpu_count()})")
        accounts.append(real.run(seed))
    comparison = Comparison(accounts, simulated)
    while comparison.unmatched and len(simulated) < MOST_SIMULATED:
        simulated.append(virtual.run(len(simulated) + 1))
        comparison = Comparison(accounts, simulated)
    page = markdown(comparison)
    if options.write:
        target = Path(__file__).resolve().parents[2] / "sim" / "FIDELITY.md"
        target.write_text(page, encoding="utf-8")
    result = comparison.as_dict()
    print(json.dumps(result) if options.json else page, flush=True)
    return 0 if result["ok"] else 5


if __name__ == "__main__":
    sys.exit(main())
