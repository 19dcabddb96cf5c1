"""How long 24 real peers take from the start of the first process to a formed tree.

``python -m benchmarks.formation [--quick] [--json]``.  Formed means: every host is in a leaf cell,
every cell has an owner, and the root's summary counts every host.  Interpreter starts and imports
are part of it: they are what a user waits for.  All connections are CurveZMQ; the same without keys
runs in turn, and ``without_keys_s`` is its time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from nodes.demo.fleet import Fleet
from nodes.demo.scene import Scene
from nodes.demo.story import STAGES, Story

PEERS: Final = 24
TARGET_S: Final = 10.0


async def form_once(peers: int, keys: bool) -> dict[str, Any]:
    """Form one fabric in a temporary directory, and let it go again."""
    with tempfile.TemporaryDirectory(prefix="fabric-formation-") as name:
        directory = Path(name)
        async with Fleet(directory) as fleet:
            story = Story(Scene(STAGES), fleet, directory, peers, 0, keys=keys)
            async with story.formed():
                pass
            fleet.kill_all()
    return story.figures


def main() -> int:
    """Run, print, and fail when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one run instead of three")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    options = parser.parse_args()
    runs, without = [], []
    for _ in range(1 if options.quick else 3):
        runs.append(asyncio.run(form_once(PEERS, keys=True)))
        without.append(asyncio.run(form_once(PEERS, keys=False)))
    times = [run["formed_s"] for run in runs]
    times_without = [run["formed_s"] for run in without]
    result = {
        "benchmark": "formation", "peers": PEERS, "depth": min(run["depth"] for run in runs),
        "formed_s": statistics.median(times), "runs_s": times, "target_s": TARGET_S,
        "without_keys_s": statistics.median(times_without), "runs_without_keys_s": times_without,
        "cores": os.cpu_count(), "ok": statistics.median(times) <= TARGET_S,
    }
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{PEERS} peers formed a tree of depth {result['depth']} in "
              f"{result['formed_s']:.2f} s (target {TARGET_S:.0f} s; runs: {times}; "
              f"without keys: {times_without})")
    return 0 if result["ok"] else 5


if __name__ == "__main__":
    sys.exit(main())
