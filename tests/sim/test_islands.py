"""Parts of a fabric that were cut apart find each other again, with no operator and no chairman.

While they are apart the larger part removes the smaller one, which goes on by itself under the last
topology that it knew; the chairman that it knew is gone for good when the ways are mended.
"""

from __future__ import annotations

import pytest

from fabric.units import SECOND
from sim.faults import Crash, Cut, Fault, Outage
from sim.run import Run
from sim.scenario import Scenario

SMALL = {"leaf_min": 3, "leaf_max": 6, "inner_min": 3, "inner_max": 6}
APART_US, LASTS_US = 20 * SECOND, 130 * SECOND
FOR_GOOD_US = 10_000 * SECOND


@pytest.mark.parametrize(
    ("island", "coordinator_away", "restarted"),
    [(24, True, False), (24, False, True), (9, False, False), (4, True, True)],
)
def test_an_island_whose_chairman_is_gone_finds_the_others(
    island: int, coordinator_away: bool, restarted: bool
) -> None:
    faults: list[Fault] = [
        Cut(APART_US, tuple(range(island)), LASTS_US),
        Crash(APART_US + 100 * SECOND, -1, FOR_GOOD_US),  # whom the island knows as chairman
    ]
    if coordinator_away:
        faults.append(Outage(APART_US + LASTS_US - 10 * SECOND, 20 * SECOND))
    if restarted:  # only what the island's disks hold leads back
        faults += [Crash(APART_US + 80 * SECOND, host, 3 * SECOND) for host in range(island)]
    run = Run(Scenario(hosts=36, seed=island, duration_s=260, faults=tuple(faults), **SMALL))  # type: ignore[arg-type]
    result = run.go()
    # those on one side of a cut do hold the others for dead, which the checker does not know
    violated = {v["invariant"] for v in result.violations} - {"wrong-verdict"}
    assert not violated, (violated, result.notes)
    assert result.converged_s is not None and result.converged_s <= 45
