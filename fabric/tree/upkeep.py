"""Upkeep: what changes in the plan at each write of the chairman, and when there is more to do.

In this order:

* Who is gone is removed, unless removals are frozen.
* Who waits to join is placed.
* Seats: one change per cell and lease, leaf cells first.  So an electorate is known to those who
  serve under it before it changes again.
* Fault domains: where all is calm, hosts in another zone's cell move to cells of their own.
"""

from __future__ import annotations

from typing import Final

from fabric.machine import NEVER, Sink
from fabric.settings import Settings
from fabric.tree.arrivals import Arrivals
from fabric.tree.departures import Departures
from fabric.tree.planner import Plan
from fabric.tree.readmission import Readmission
from fabric.units import SECOND

#: Hosts move to cells of their own zone no oftener than this: each move edits two records.
ZONES_US: Final = 5 * SECOND


class Upkeep:
    """When each cell's seats changed last, and whether hosts may sit in other zones' cells."""

    __slots__ = (
        "arrivals", "departures", "readmission", "removed", "seats_changed_at", "settings",
        "zones_at", "zones_unsettled",
    )  # fmt: skip

    def __init__(
        self,
        settings: Settings,
        arrivals: Arrivals,
        departures: Departures,
        readmission: Readmission,
    ) -> None:
        self.settings = settings
        self.arrivals = arrivals
        self.departures = departures
        self.readmission = readmission
        self.removed: list[int] = []  # since the last write
        self.seats_changed_at: dict[int, int] = {}
        self.zones_at = 0  # when hosts may move to their own zone's cells next
        self.zones_unsettled = False  # whether there may be some

    def begin(self, plan: Plan) -> None:
        """``plan`` was read anew."""
        self.removed = []
        self.zones_unsettled = bool(plan.domain)

    def change(self, plan: Plan, now: int, out: Sink) -> None:
        """Put all that is waiting into ``plan``."""
        self._remove(plan, now, out)
        if self.arrivals.take_into(plan):
            self.zones_unsettled = True
        self._fix_seats(plan, now)
        self._settle_zones(plan, now)
        self.departures.tidy()
        self.arrivals.tidy(now)

    def take_removed(self) -> list[int]:
        """Return who was removed since this was asked last."""
        removed, self.removed = self.removed, []
        return removed

    def again_at(self, plan: Plan, now: int) -> int:
        """Return when there is more to do: joins over the batch, zones, seats that wait, a thaw."""
        if self.arrivals.waiting:
            return now + self.settings.batch_us
        if self.zones_unsettled and not plan.seats_wrong and not self.departures.pending:
            return max(self.zones_at, now + self.settings.batch_us)
        if plan.seats_wrong or self.departures.pending:
            return now + self.settings.lease_us
        return NEVER

    def _remove(self, plan: Plan, now: int, out: Sink) -> None:
        removed = [n for n in self.departures.take(len(plan.home), now, out) if n in plan.home]
        if removed:
            plan.remove(removed)
            self.zones_unsettled = bool(plan.domain)
            self.readmission.note(removed)
            self.removed += removed
            self.departures.removed(len(removed), now)

    def _settle_zones(self, plan: Plan, now: int) -> None:
        """Where all is calm, hosts in another zone's cell move to their own, one by one."""
        busy = plan.touched or plan.seats_wrong or self.departures.pending or self.arrivals.waiting
        if self.zones_unsettled and not busy and now >= self.zones_at:
            self.zones_at = now + ZONES_US
            self.zones_unsettled = plan.settle_zones()

    def _fix_seats(self, plan: Plan, now: int) -> None:
        """One change per cell and lease; leaf cells first, since inner seats build on theirs."""
        wrong = sorted((plan.cells[c].level, c) for c in plan.seats_wrong)
        for _, cell_id in wrong:
            cell = plan.cells[cell_id]
            since = now - self.seats_changed_at.get(cell_id, -NEVER)
            if plan.seats_lost(cell) and not cell.new:
                # Nobody could elect anyone. Seats that said goodbye grant nothing any more, so
                # their electorate ends with them; for silent ones there is the inquest.
                if all(s in self.departures.left for s in plan.seats_gone(cell)):
                    plan.new_electorate(cell, plan.hosts_of(cell))
                    self.seats_changed_at[cell_id] = now
                continue
            if not cell.seats or since >= self.settings.lease_us:
                plan.fix_seats(cell)
                self.seats_changed_at[cell_id] = now
