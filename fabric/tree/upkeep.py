"""Upkeep: what the chairman puts right of its own accord, step by step.

* Seats: one change per cell and lease, leaf cells first.  So an electorate is known to those who
  serve under it before it changes again.
* Fault domains: where all is calm, hosts in another zone's cell move to cells of their own.
"""

from __future__ import annotations

from typing import Final

from fabric.machine import NEVER
from fabric.tree.departures import Departures
from fabric.tree.planner import Plan
from fabric.units import SECOND

#: Hosts move to cells of their own zone no oftener than this: each move edits two records.
ZONES_US: Final = 5 * SECOND


class Upkeep:
    """When each cell's seats changed last, and whether hosts may sit in other zones' cells."""

    __slots__ = ("lease_us", "seats_changed_at", "zones_at", "zones_unsettled")

    def __init__(self, lease_us: int) -> None:
        self.lease_us = lease_us
        self.seats_changed_at: dict[int, int] = {}
        self.zones_at = 0  # when hosts may move to their own zone's cells next
        self.zones_unsettled = False  # whether there may be some

    def settle_zones(self, plan: Plan, now: int) -> None:
        """All is calm: move some hosts, unless others moved a short while ago."""
        if self.zones_unsettled and now >= self.zones_at:
            self.zones_at = now + ZONES_US
            self.zones_unsettled = plan.settle_zones()

    def fix_seats(self, plan: Plan, departures: Departures, now: int) -> None:
        """One change per cell and lease; leaf cells first, since inner seats build on theirs."""
        wrong = sorted((plan.cells[c].level, c) for c in plan.seats_wrong)
        for _, cell_id in wrong:
            cell = plan.cells[cell_id]
            since = now - self.seats_changed_at.get(cell_id, -NEVER)
            if plan.seats_lost(cell) and not cell.new:
                # Nobody could elect anyone. Seats that said goodbye grant nothing any more, so
                # their electorate ends with them; for silent ones there is the inquest.
                if all(s in departures.left for s in plan.seats_gone(cell)):
                    plan.new_electorate(cell, plan.hosts_of(cell))
                    self.seats_changed_at[cell_id] = now
                continue
            if not cell.seats or since >= self.lease_us:
                plan.fix_seats(cell)
                self.seats_changed_at[cell_id] = now
