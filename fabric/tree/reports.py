"""What owners and members report to the chairman, and what it makes of that.

* Members that are gone: those are put to others first (:mod:`fabric.tree.hearing`), unless they
  were found gone a short while ago.
* A cell without owner, or one that its parent cell does not hear: an inquest asks its hosts
  (:mod:`fabric.tree.inquest`), whose silence counts only while the fabric hears us
  (:mod:`fabric.tree.touch`).  Where most seats are silent the cell gets a new electorate.
* Each report says who owns the cell: whoever reports as an owner that was followed by another is
  told of that one, and a former member that still rules its past that it is none any more.

Who is found gone goes on the list of :mod:`fabric.tree.departures`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from fabric.machine import Contact, Sink
from fabric.settings import Settings
from fabric.tree.arrivals import Arrivals
from fabric.tree.departures import Departures
from fabric.tree.hearing import Hearings
from fabric.tree.inquest import Inquests
from fabric.tree.planner import Plan
from fabric.tree.roster import Cell
from fabric.wire.tree import NotMember, Opinion, Owner, Path, Report


class Reports:
    """The open hearings and inquests, and the owners that reported.

    Methods that may find somebody gone, or change the plan, return whether there is something to
    write now.
    """

    __slots__ = ("arrivals", "departures", "hearings", "inquests", "owners")

    def __init__(
        self, me: Contact, settings: Settings, arrivals: Arrivals, departures: Departures
    ) -> None:
        self.arrivals = arrivals
        self.departures = departures
        self.inquests = Inquests(me, settings)
        self.hearings = Hearings(me)
        self.owners: dict[int, Owner] = {}  # the newest owner of each cell that reported

    @property
    def due(self) -> int:
        return min(self.inquests.due, self.hearings.due)

    def take(self, sender: int, msg: Report, plan: Plan, now: int, out: Sink) -> bool:
        """Take a report. Returns whether somebody new is gone for sure."""
        cell = plan.cells.get(msg.owner.cell)
        if cell is None or cell.cell not in plan.path(sender):
            if msg.owner.contact.node_id == sender:  # removed while cut off, and ruling its past
                out.send(msg.owner.contact, NotMember(msg.owner.cell))
            return False
        if not msg.ownerless and self._outdated(sender, msg.owner, plan, out):
            return False
        gone = [
            n
            for n in msg.gone
            if plan.home.get(n) == cell.cell and not self.arrivals.lately(n, now)
        ]
        found = self._hear(gone, sender, cell, plan, now, out)
        if msg.ownerless:
            self.inquests.open(cell.cell, _asked(plan, cell), now, out)
        for child_id in msg.silent:
            child = plan.cells.get(child_id)
            if child is not None and child.parent == cell.cell:
                self.inquests.open(child_id, _asked(plan, child), now, out)
        return found

    def _hear(
        self, gone: list[int], reporter: int, cell: Cell, plan: Plan, now: int, out: Sink
    ) -> bool:
        """Members were reported gone: count those whom others have found so, ask about the rest."""
        if not gone:
            return False
        known = [n for n in gone if n in self.departures.gone and self.hearings.stands(n, now)]
        found = self.departures.count(known, now)
        out_of_court = {*gone, *self.departures.gone, reporter}
        others = [plan.contacts[n] for n in cell.members if n not in out_of_court]
        for node_id in gone:
            if node_id not in known:
                self.hearings.ask(plan.contacts[node_id], cell.cell, others, now, out)
        return found

    def _outdated(self, sender: int, owner: Owner, plan: Plan, out: Sink) -> bool:
        """Whether a newer owner of the cell has reported already; the sender is told of it."""
        newest = self.owners.get(owner.cell)
        if newest is None or (owner.electorate, owner.term) >= (newest.electorate, newest.term):
            self.owners[owner.cell] = owner
            return False
        out.send(plan.contacts[sender], Path(None, (), (newest,)))
        return True

    def on_opinion(self, sender: int, msg: Opinion, presides: bool, now: int) -> bool:
        """Somebody says whether a member that was reported is gone."""
        gone = self.hearings.answered(sender, msg, now)
        if not gone or not presides:
            return False
        self.departures.count([gone], now)
        return True

    def close(self, plan: Plan, presides: bool, may_judge: bool, now: int) -> bool:
        """Decide where time is up; the silence of a cell's hosts counts if we ``may_judge``."""
        found = False
        for cell_id, living, silent in self.inquests.close(now):
            cell = plan.cells.get(cell_id)
            if cell is not None and may_judge:
                self._judge(cell, living, silent, plan, now)
                found = True
        gone = [n for n in self.hearings.close(now) if not self.arrivals.lately(n, now)]
        if gone and presides:
            self.departures.count(gone, now)
            found = True
        return found

    def _judge(
        self, cell: Cell, living: Sequence[int], silent: Sequence[int], plan: Plan, now: int
    ) -> None:
        """An inquest on ``cell`` is over."""
        if cell.level == 0:
            self.departures.count([n for n in silent if plan.home.get(n) == cell.cell], now)
        # seats that moved to another cell answer, and yet cannot serve this one any more
        moved = plan.seats_gone(cell)
        sitting = sum(1 for s in cell.seats if s in living and s not in moved)
        if sitting < len(cell.seats) // 2 + 1:
            plan.new_electorate(cell, living)

    def tidy(self, cells: Container[int]) -> None:
        """Forget the owners of cells that are no more."""
        self.owners = {c: o for c, o in self.owners.items() if c in cells}


def _asked(plan: Plan, cell: Cell) -> list[Contact]:
    """Whom an inquest on ``cell`` asks: its hosts, or the seats in and below an inner cell."""
    nodes = dict.fromkeys(cell.seats)
    if cell.level == 0:
        nodes.update(dict.fromkeys(cell.members))
    else:
        for child in cell.members:
            nodes.update(dict.fromkeys(plan.cells[child].seats))
    return [plan.contacts[n] for n in nodes if n in plan.contacts]
