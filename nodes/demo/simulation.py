"""The last act of the demo: the simulator as a child process, with its progress on the stage."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final

from fabric.errors import CheckFailed
from nodes.demo.fleet import Fleet
from nodes.demo.scene import Progress, Scene

SEED: Final = 7
DURATION_S: Final = 60
PLACE_RATE: Final = 100
#: A line of the simulator's progress: virtual seconds, and the rest.
_VIRTUAL_S: Final = re.compile(r"^ *([0-9.]+) s virtual(.*)$", re.MULTILINE)
_LOOK_S: Final = 0.5


async def simulate(fleet: Fleet, scene: Scene, hosts: int) -> dict[str, Any]:
    """Run the simulation from its JOINs on and return its JSON result."""
    words = ("sim", "run", "--hosts", str(hosts), "--duration", str(DURATION_S),
             "--seed", str(SEED), "--place-rate", str(min(PLACE_RATE, max(1, hosts // 10))),
             "--json")
    child = await fleet.start("simulation", words)
    progress = asyncio.create_task(_show_progress(fleet, scene))
    try:
        assert child.stdout is not None
        last = b""
        async for line in child.stdout:
            last = line.strip() or last
        code = await child.ended()
    finally:
        progress.cancel()
        scene.simulation = None
    child.expected_to_die = True
    try:
        result: dict[str, Any] = json.loads(last)
    except ValueError:
        raise CheckFailed(f"the simulation ended with {code}: {child.last_words()}") from None
    if code != 0 or result.get("violations"):
        raise CheckFailed(f"the simulation ended with {code}: {json.dumps(result)[:400]}")
    return result


async def _show_progress(fleet: Fleet, scene: Scene) -> None:
    """Show the last line of the simulator's progress, which it writes to stderr."""
    child = fleet.children["simulation"]
    while True:
        found = _VIRTUAL_S.findall(child.stderr())
        if found:
            seconds, rest = found[-1]
            scene.simulation = Progress(
                float(seconds) / DURATION_S, f"{float(seconds):.0f} s virtual  {rest.strip()}"
            )
        await asyncio.sleep(_LOOK_S)
