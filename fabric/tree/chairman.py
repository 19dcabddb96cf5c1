"""The chairman: the one candidate that holds the chair, and the only writer of the topology.

Theory of operation
-------------------
    FOLLOWING ──(chair won)──▶ LOADING ──(loaded)──▶ PRESIDING ──(chair lost, write refused)──▶ …

* It gathers joins and reports for ``batch_us``, changes its :class:`~fabric.tree.planner.Plan`,
  and writes the touched records in one transaction that checks its lease and the versions it read.
* Only when that is committed does it tell anybody: those that moved get their whole path, other
  members of a changed cell its record, the seats of a changed inner cell that cell's.  Gossip does
  the rest.
* Whatever goes wrong with a write (refused, or its outcome unknown) is answered by reading
  everything again: the coordinator is the truth, the plan only a copy.
* A new chairman rewrites nothing that is right: only ``topo``, to say who it is.
* The first bootstrap is an explicit act of creation.  A chairman that finds no topology and was not
  told to create one writes nothing and says so.
* A coordinator that knows less than the peers was emptied, or restored from an old copy.  Then the
  chairman is HALTED: it writes nothing, alarms, and reads again every second.  What the peers know
  is heard from witnesses (:mod:`fabric.tree.witnesses`).  An operator may have the chairman publish
  what the fabric knows: :mod:`fabric.tree.adoption`.

Its rooms
---------
:mod:`~fabric.tree.chair` holds the lease, :mod:`~fabric.tree.records` reads and makes transactions,
:mod:`~fabric.tree.telling` tells what was written, :mod:`~fabric.tree.touch` says whether the
fabric hears us.  Who is found gone (:mod:`~fabric.tree.reports`) waits in
:mod:`~fabric.tree.departures`, who joins in :mod:`~fabric.tree.arrivals`, and whoever was gone
before has to pass :mod:`~fabric.tree.readmission`; :mod:`~fabric.tree.upkeep` puts all that into
the plan at each write.  The rooms decide what; this module says when.
"""

from __future__ import annotations

from typing import Any, Final

from fabric.coordination.interface import (
    Chair,
    CommitRefused,
    Committed,
    Epoch,
    Load,
    Loaded,
    Severed,
    Vacated,
)
from fabric.errors import BadFrame, Conflict, FabricError, Unavailable
from fabric.ids import format_id
from fabric.machine import NEVER, Contact, Sink
from fabric.settings import Settings
from fabric.tree import telling
from fabric.tree.adoption import Adoption
from fabric.tree.arrivals import Arrivals
from fabric.tree.chair import ChairLease, ChairmanNotice
from fabric.tree.chronicle import Chronicle
from fabric.tree.departures import Departures
from fabric.tree.planner import Plan
from fabric.tree.readmission import NO_CELL, Readmission
from fabric.tree.records import Records
from fabric.tree.reports import Reports
from fabric.tree.roster import Cell
from fabric.tree.touch import ABSTAIN_US, Touch
from fabric.tree.upkeep import Upkeep
from fabric.tree.witnesses import Witnesses
from fabric.units import SECOND
from fabric.wire.adoption import AdoptAsk
from fabric.wire.common import Done
from fabric.wire.tree import (
    NO_ORDER,
    Here,
    Join,
    JoinRefused,
    Leave,
    Opinion,
    Order,
    Report,
)

FOLLOWING: Final = 0
LOADING: Final = 1
PRESIDING: Final = 2
#: The coordinator holds no topology, or one older than the peers', or one that we cannot read:
#: alarmed, writing nothing.
HALTED: Final = 3
#: Publishing, at an operator's wish, what the coordinator lost.
ADOPTING: Final = 4
#: How long a halted chairman waits before it reads again: the operator may have mended it, or what
#: was read was only stale.
HALTED_READ_US: Final = 1 * SECOND
#: How long a chairman that knows less than the coordinator waits for those who may know more.
WITNESS_US: Final = SECOND // 2


class Chairman:
    """Composed into every peer that is configured as candidate."""

    def __init__(self, me: Contact, settings: Settings, create: bool, now: int) -> None:
        self.me = me
        self.settings = settings
        self.create = create
        self.lease = ChairLease(me.node_id, settings, now)
        self.state = FOLLOWING
        self.plan = Plan(settings)
        self.records = Records()
        self.arrivals = Arrivals()
        self.departures = Departures()
        self.reports = Reports(me, settings, self.arrivals, self.departures)
        self.readmission = Readmission(me)
        self.upkeep = Upkeep(settings, self.arrivals, self.departures, self.readmission)
        self.elected_at = 0
        self.touch = Touch()
        self.chronicle = Chronicle()
        self.adoption = Adoption()
        self.writing: tuple[list[Cell], list[int]] | None = None  # cells, who moved
        self.token = 0
        self.write_token = 0
        self.next_batch = NEVER
        self.witnesses = Witnesses(me)
        self.halted_for = ""
        self.cut_off = ""  # why the coordinator gave no answer

    # --- time ------------------------------------------------------------------------------------

    @property
    def due(self) -> int:
        return min(self.lease.due, self.next_batch, self.reports.due, self.touch.due)

    def tick(self, now: int, out: Sink) -> None:
        if self.lease.tick(now, self.next_token(), out):
            self._stop(out)
        if now >= self.reports.due:
            self._close_cases(now, out)
        if now >= self.touch.due:
            self._keep_in_touch(now, out)
        if now >= self.next_batch:
            self.next_batch = NEVER
            if self.state in (HALTED, LOADING) and not self.write_token:
                self._load(out)
            else:
                self._write(now, out)
        out.wake(self.due)

    def next_token(self) -> int:
        self.token += 1
        return self.token

    def presides(self, now: int) -> bool:
        """Whether we are chairman, with a plan, and may act."""
        return self.state == PRESIDING and self.lease.holds(now)

    # --- the coordinator -------------------------------------------------------------------------

    def coordinated(self, token: int, answer: Any, now: int, out: Sink) -> None:
        """Take the coordinator's answer to what was asked under ``token``, or its news."""
        if isinstance(answer, Severed):
            self.lease.epoch = None
            self._stop(out)
        elif isinstance(answer, Vacated):
            self.lease.hurry(now)
        elif isinstance(answer, Chair):
            if token != self.lease.pending:
                return
            had = self.state != FOLLOWING
            self.cut_off = ""
            if self.lease.answered(answer, now):
                self._load(out)
            elif had and self.lease.epoch is None:
                self._stop(out)
        elif token == self.lease.pending:
            self.lease.pending = 0  # lost: the deadline decides how long we go on
            if answer.reason != self.cut_off:
                self.cut_off = answer.reason
                out.notify(ChairmanNotice("unreachable", answer.reason))
        elif token == self.write_token:
            self.write_token = 0
            self._read_or_written(answer, now, out)
        out.wake(self.due)

    def _load(self, out: Sink) -> None:
        self.state = LOADING
        self.next_batch = NEVER
        self.writing = None
        self.write_token = self.next_token()
        out.coordinate(Load(), self.write_token)

    def _stop(self, out: Sink) -> None:
        if self.state == PRESIDING:
            out.notify(ChairmanNotice("lost"))
        self.state = FOLLOWING
        self.touch.end()
        self.adoption.fail(Unavailable("the chair was lost meanwhile; adopt again"))
        self.writing = None
        self.write_token = 0
        self.arrivals.forget()
        self.departures.forget()
        self.reports.hearings.end()
        self.next_batch = NEVER

    def _read_or_written(self, answer: Any, now: int, out: Sink) -> None:
        if not self.lease.holds(now):
            self._stop(out)
        elif self.state == ADOPTING:
            self._adopted(answer, now, out)
        elif isinstance(answer, Loaded):
            self._loaded(answer, now, out)
        elif isinstance(answer, Committed):
            self._committed(answer, now, out)
        elif isinstance(answer, CommitRefused) and answer.reason == "lease":
            self.lease.epoch = None
            self._stop(out)
        else:  # what was read is stale, or nobody answers: not again at once, it may be so still
            self.state = LOADING
            self.writing = None
            self.next_batch = now + self.settings.batch_us

    def _loaded(self, loaded: Loaded, now: int, out: Sink) -> None:
        epoch = self.lease.epoch
        assert epoch is not None
        self.plan = Plan(self.settings)
        try:
            topo, records = self.records.read(loaded)
        except BadFrame as error:
            self._halt(error.message, now, out)
            return
        if topo is None and not self.create:
            why = "the coordinator holds no topology, and this peer may not make one"
            self._halt(why, now, out)
            if self.witnesses.newest == NO_ORDER:
                # to the candidate that may, which campaigns oftener than once a lease
                self._leave_the_chair(2 * self.settings.chair_lease_us, now, out)
            return
        held = NO_ORDER if topo is None else topo.order
        newest = self.witnesses.newest
        if newest > held:
            why = f"peers hold topology {tuple(newest)}, the coordinator only {tuple(held)}"
            self._halt(why, now, out)
            return
        self.records.go_on_from(topo, records)
        if topo is not None:
            self.plan.load(records, topo.root, topo.next_cell)
            epoch = Epoch(max(topo.order.generation, epoch.generation), epoch.lease)
        self.chronicle.begin(self.plan)
        self.upkeep.begin(self.plan)
        if self.witnesses.ask(held, self.lease.epoch, self.plan, out):
            self.next_batch = now + WITNESS_US
            return
        self.state = PRESIDING
        self.halted_for = ""
        self.elected_at = now
        if self.touch.due == NEVER:
            self.touch.begin(now)
        out.notify(ChairmanNotice("elected", f"epoch {epoch.generation}.{epoch.lease}"))
        telling.remind(self.plan, out)
        self._write(now, out, announce=True)

    def _halt(self, why: str, now: int, out: Sink) -> None:
        self.state = HALTED
        self.next_batch = now + HALTED_READ_US
        if why != self.halted_for:
            self.halted_for = why
            out.notify(ChairmanNotice("halted", why))

    # --- adoption --------------------------------------------------------------------------------

    def adopt(self, ask: AdoptAsk, now: int, out: Sink) -> Done | FabricError | None:
        """Take a part of what the fabric knows, to publish it. ``None``: the answer comes later,
        as :attr:`Adoption.outcome`."""
        epoch = self.lease.epoch
        if epoch is None or not self.lease.holds(now):
            holder = format_id(self.lease.holder)
            return Conflict("this candidate does not hold the chair", {"holder": holder})
        if self.state == ADOPTING:
            return Conflict("an adoption is under way already")
        if self.state == PRESIDING or not self.halted_for:
            return Conflict("the chairman is not halted: nothing is to be adopted")
        try:
            if not self.adoption.take(ask):
                return Done()
            coordinator_id, newest = self.lease.coordinator_id, self.witnesses.newest
            self.adoption.begin(epoch, coordinator_id, self.me, newest, self.records.versions)
        except FabricError as error:
            return error
        self.state = ADOPTING
        self.next_batch = NEVER
        self._publish(out)
        return None

    def _publish(self, out: Sink) -> None:
        assert self.lease.epoch is not None
        commit = self.adoption.next_commit(self.lease.epoch)
        if commit is None:
            self._load(out)
        else:
            self.write_token = self.next_token()
            out.coordinate(commit, self.write_token)

    def _adopted(self, answer: Any, now: int, out: Sink) -> None:
        if isinstance(answer, Committed):
            self._publish(out)
            return
        self.adoption.fail(Unavailable("the coordinator did not take a write; adopt again"))
        self.state = HALTED
        self.next_batch = now + HALTED_READ_US

    # --- is the coordinator the newest? ----------------------------------------------------------

    def witness(self, order: Order, now: int, out: Sink, stored: bool = False) -> None:
        """Somebody holds a topology, or a cell, of ``order``: the coordinator held it once."""
        if self.witnesses.say(order, stored) and self.state == PRESIDING and not self.write_token:
            self._doubt_what_was_read(out)

    def _doubt_what_was_read(self, out: Sink) -> None:
        topo = self.records.topo
        if topo is not None and self.witnesses.newest > topo.order:
            self._load(out)  # it is as new, and we are chairman no more, or it lost something

    # --- what others want ------------------------------------------------------------------------

    def on_join(self, msg: Join, now: int, out: Sink) -> None:
        if not self.presides(now):
            return
        ours = self.lease.coordinator_id
        if msg.coordinator_id and msg.coordinator_id != ours:
            reason = f"this fabric's coordinator is {ours:016x}, yours {msg.coordinator_id:016x}"
            out.send(msg.contact, JoinRefused("WrongCoordinator", reason))
            return
        node_id = msg.contact.node_id
        if node_id in self.departures.gone or node_id in self.readmission.removed:
            # what is being written may be refused: nobody may hear of it yet
            written = self.records.topo if self.writing is None else None
            self.readmission.ask(msg, written, out)
        else:
            self._admit(msg, now, out)

    def _admit(self, msg: Join, now: int, out: Sink) -> None:
        node_id = msg.contact.node_id
        self.arrivals.heard(node_id, now)
        known = self.plan.contacts.get(node_id)
        if node_id in self.plan.home and known is not None and known != msg.contact:
            out.send(known, msg)  # whoever still lives there has a twin, and sees to that
        if node_id in self.plan.home and known == msg.contact and self.writing is None:
            telling.tell_path(self.plan, self.records.topo, node_id, out)
        elif self.arrivals.wait(msg):
            self._soon(now, out)

    def on_leave(self, msg: Leave, now: int, out: Sink) -> None:
        if self.presides(now) and msg.contact.node_id in self.plan.home:
            self.arrivals.said_goodbye(msg.contact.node_id)
            self.departures.said_goodbye(msg.contact.node_id, now)
            self._soon(now, out)

    def on_report(self, sender: int, msg: Report, now: int, out: Sink) -> None:
        self.witness(msg.owner.electorate, now, out)
        if not self.presides(now):
            return
        if self.reports.take(sender, msg, self.plan, now, out):
            self._soon(now, out)
        out.wake(self.due)

    def on_opinion(self, sender: int, msg: Opinion, now: int, out: Sink) -> None:
        """Somebody says whether a member that was reported is gone."""
        if self.reports.on_opinion(sender, msg, self.presides(now), now):
            self._soon(now, out)

    def on_here(self, sender: int, msg: Here, now: int, out: Sink) -> None:
        self.touch.answered(sender, now)
        if msg.cell != NO_CELL:
            self.reports.inquests.answered(sender, msg)
            return
        join = self.readmission.answered(sender, msg)
        if join is None or not self.presides(now):
            return
        self.departures.came_back(sender, now)
        self._admit(join, now, out)

    def _soon(self, now: int, out: Sink) -> None:
        if self.next_batch == NEVER:
            self.next_batch = now + self.settings.batch_us
            out.wake(self.next_batch)

    def _keep_in_touch(self, now: int, out: Sink) -> None:
        if not self.touch.lost(now):
            self.touch.ask(self.me.node_id, self.plan, now, out)
            return
        self.touch.resign(now)
        self._leave_the_chair(ABSTAIN_US, now, out)

    def _leave_the_chair(self, for_us: int, now: int, out: Sink) -> None:
        """Give it to the others, and let them try."""
        self._stop(out)
        self.lease.resign(self.next_token(), out)
        self.lease.next_campaign = now + for_us
        out.wake(self.due)

    # --- who is gone -----------------------------------------------------------------------------

    def _close_cases(self, now: int, out: Sink) -> None:
        presides = self.presides(now)
        if self.reports.close(self.plan, presides, presides and self.touch.may_judge(), now):
            self._soon(now, out)

    def thaw(self, now: int, out: Sink) -> int:
        """The operator ends a freeze; returns how many are gone and may be removed now."""
        if not self.departures.frozen:
            return 0
        self.departures.thaw(now, out)
        self.next_batch = now
        out.wake(now)
        return len(self.departures.gone)

    # --- writing ---------------------------------------------------------------------------------

    def _write(self, now: int, out: Sink, announce: bool = False) -> None:
        """Put all that is waiting into the plan and its records into one transaction."""
        if not self.presides(now):
            return
        if self.writing is not None or self.write_token:
            self._soon(now, out)
            return
        self.upkeep.change(self.plan, now, out)
        self.reports.hearings.tidy(now)
        topo = self.records.topo
        root_changed = topo is not None and topo.root != self.plan.root
        if not self.plan.touched and not announce and not root_changed:
            self._come_back(now, out)
            return
        self._commit(now, out)

    def _come_back(self, now: int, out: Sink) -> None:
        """There may be more to do later."""
        again = self.upkeep.again_at(self.plan, now)
        if again < self.next_batch:
            self.next_batch = again
            out.wake(again)

    def _commit(self, now: int, out: Sink) -> None:
        epoch = self.lease.epoch
        assert epoch is not None
        commit, cells, deleted = self.records.commit(
            self.plan, epoch, self.lease.coordinator_id, self.me
        )
        assert self.records.topo is not None
        order = self.records.topo.order
        moved = self.plan.take_moved()
        removed = self.upkeep.take_removed()
        self.chronicle.writing(self.plan, cells, deleted, moved, removed, order, now)
        self.writing = (cells, moved)
        self.write_token = self.next_token()
        out.coordinate(commit, self.write_token)

    def _committed(self, answer: Committed, now: int, out: Sink) -> None:
        assert self.writing is not None
        cells, moved = self.writing
        self.writing = None
        self.reports.tidy(self.plan.cells)
        self.records.committed(answer)
        for deed in self.chronicle.committed():
            out.notify(deed)
        topo = self.records.topo
        assert topo is not None
        telling.spread(self.plan, topo, self.me, cells, moved, out)
        self._come_back(now, out)
        self.witnesses.say(topo.order)  # we are one ourselves
        self._doubt_what_was_read(out)


__all__ = ["FOLLOWING", "HALTED", "LOADING", "PRESIDING", "Chairman", "ChairmanNotice"]
