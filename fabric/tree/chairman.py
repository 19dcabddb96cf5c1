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
  it hears from its own peer (:meth:`Chairman.witness`), from the reports of owners and, where its
  own peer is behind what it read (it just started), by asking the root's seats first.  An operator
  may have it publish what the fabric knows: :mod:`fabric.tree.adoption`.
* Who is reported gone is put to others first: :mod:`fabric.tree.hearing`.
* Who is gone, and when so many are that removals freeze: :mod:`fabric.tree.departures`.
"""

from __future__ import annotations

from typing import Any, Final

from fabric.coordination.interface import (
    Chair,
    Commit,
    CommitRefused,
    Committed,
    Epoch,
    Load,
    Loaded,
    Put,
    Severed,
    Vacated,
)
from fabric.errors import BadFrame, Conflict, FabricError, Unavailable
from fabric.ids import format_id
from fabric.machine import NEVER, Contact, Sink
from fabric.settings import Settings
from fabric.tree import telling
from fabric.tree.adoption import Adoption
from fabric.tree.chair import ChairLease, ChairmanNotice
from fabric.tree.chronicle import Chronicle
from fabric.tree.departures import Departures
from fabric.tree.hearing import Hearings
from fabric.tree.inquest import Inquests
from fabric.tree.planner import Plan
from fabric.tree.readmission import NO_CELL, Readmission
from fabric.tree.roster import Cell
from fabric.tree.soundness import fault_in
from fabric.tree.touch import ABSTAIN_US, Touch
from fabric.units import SECOND
from fabric.wire.adoption import AdoptAsk
from fabric.wire.codec import decode_record, encode_record
from fabric.wire.common import Done
from fabric.wire.tree import (
    NO_ORDER,
    OBSERVER,
    CellRecord,
    Here,
    Join,
    JoinRefused,
    Leave,
    NotMember,
    Opinion,
    Order,
    Owner,
    Path,
    Report,
    Topo,
    TopoAsk,
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

#: Joins taken into one transaction: about a hundred cell records, well below 1 MB.
MAX_JOINS_PER_BATCH: Final = 2000
#: Joins that wait; joiners ask again, so the rest is dropped.
MAX_JOINS_WAITING: Final = 20_000
#: Hosts move to cells of their own zone no oftener than this: each move edits two records.
ZONES_US: Final = 5 * SECOND
#: A host that just joined is not removed on an older report.
JOIN_GRACE_US: Final = 5 * SECOND
#: Joins of one host protect it from removal no oftener than this.
JOIN_AGAIN_US: Final = 60 * SECOND


class Chairman:
    """Composed into every peer that is configured as candidate."""

    def __init__(self, me: Contact, settings: Settings, create: bool, now: int) -> None:
        self.me = me
        self.settings = settings
        self.create = create
        self.lease = ChairLease(me.node_id, settings, now)
        self.state = FOLLOWING
        self.plan = Plan(settings)
        self.versions: dict[str, int] = {}  # coordinator path -> version read or written
        self.version = 0  # the topology's write counter
        self.topo: Topo | None = None
        self.joins: dict[int, Join] = {}
        self.joined_at: dict[int, int] = {}
        self.departures = Departures()
        self.elected_at = 0
        self.seats_changed_at: dict[int, int] = {}
        self.owners: dict[int, Owner] = {}  # the newest owner of each cell that reported
        self.zones_at = 0  # when hosts may move to their own zone's cells next
        self.zones_unsettled = False  # whether there may be some
        self.inquests = Inquests(me, settings)
        self.hearings = Hearings(me)
        self.readmission = Readmission(me)
        self.touch = Touch()
        self.chronicle = Chronicle()
        self.removing: list[int] = []  # taken out by the write that comes next
        self.adoption = Adoption()
        self.writing: tuple[list[Cell], list[int], list[int]] | None = None
        self.token = 0
        self.write_token = 0
        self.next_batch = NEVER
        self.seen = NO_ORDER  # the newest topology that anybody is known to hold
        self.heard: Epoch | None = None  # our epoch under which we asked what others hold
        self.halted_for = ""
        self.cut_off = ""  # why the coordinator gave no answer

    # --- time ------------------------------------------------------------------------------------

    @property
    def due(self) -> int:
        return min(
            self.lease.due, self.next_batch, self.inquests.due, self.hearings.due, self.touch.due
        )

    def tick(self, now: int, out: Sink) -> None:
        if self.lease.tick(now, self.next_token(), out):
            self._stop(out)
        if now >= self.inquests.due:
            self._judge(now, out)
        if now >= self.hearings.due:
            self._close_hearings(now, out)
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
        self.joins = {}
        self.departures.forget()
        self.hearings.end()
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
        self.versions = {r.path: r.version for r in loaded.records}
        self.plan = Plan(self.settings)
        try:
            topo, records = self._decode(loaded)
        except BadFrame as error:
            self._halt(f"the topology cannot be read: {error.message}", now, out)
            return
        if topo is not None and (fault := fault_in(topo, records)):
            self._halt(f"the topology makes no tree: coordinator node {fault}", now, out)
            return
        if topo is None and not self.create:
            why = "the coordinator holds no topology, and this peer may not make one"
            self._halt(why, now, out)
            if self.seen == NO_ORDER:
                # to the candidate that may, which campaigns oftener than once a lease
                self._leave_the_chair(2 * self.settings.chair_lease_us, now, out)
            return
        held = NO_ORDER if topo is None else topo.order
        if self.seen > held:
            why = f"peers hold topology {tuple(self.seen)}, the coordinator only {tuple(held)}"
            self._halt(why, now, out)
            return
        self.version = max([topo.order.version if topo else 0, *[r.order.version for r in records]])
        if topo is not None:
            self.plan.load(records, topo.root, topo.next_cell)
            self.zones_unsettled = bool(self.plan.domain)
            epoch = Epoch(max(topo.order.generation, epoch.generation), epoch.lease)
        self.topo = topo
        self.chronicle.begin(self.plan)
        self.removing = []
        if self.seen < held and self.heard != self.lease.epoch:
            self.heard = self.lease.epoch
            self._ask_witnesses(now, out)
            return
        self.state = PRESIDING
        self.halted_for = ""
        self.elected_at = now
        if self.touch.due == NEVER:
            self.touch.begin(now)
        out.notify(ChairmanNotice("elected", f"epoch {epoch.generation}.{epoch.lease}"))
        telling.remind(self.plan, out)
        self._write(now, out, announce=True)

    def _decode(self, loaded: Loaded) -> tuple[Topo | None, list[CellRecord]]:
        """Read the records. Raises :class:`BadFrame`, naming the one that is none."""
        topo = None
        records = []
        for record in loaded.records:
            try:
                if record.path == "topo":
                    topo = decode_record(Topo, record.value)
                elif record.path.startswith("cell/"):
                    cell = decode_record(CellRecord, record.value)
                    if record.path != f"cell/{cell.cell}":
                        raise BadFrame(f"it is the record of cell {cell.cell}")
                    records.append(cell)
            except BadFrame as error:
                raise BadFrame(f"coordinator node {record.path}: {error.message}") from None
        return topo, records

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
            coordinator_id = self.lease.coordinator_id
            self.adoption.begin(epoch, coordinator_id, self.me, self.seen, self.versions)
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

    def witness(self, order: Order, now: int, out: Sink) -> None:
        """Somebody holds a topology, or a cell, of ``order``: the coordinator held it once."""
        if order <= self.seen:
            return
        self.seen = order
        if self.state == PRESIDING and not self.write_token:
            self._doubt_what_was_read(out)

    def _doubt_what_was_read(self, out: Sink) -> None:
        if self.topo is not None and self.seen > self.topo.order:
            self._load(out)  # it is as new, and we are chairman no more, or it lost something

    def _ask_witnesses(self, now: int, out: Sink) -> None:
        """Our own peer is behind what we read: others may be ahead of it. Then read again."""
        self.next_batch = now + WITNESS_US
        root = self.plan.cells.get(self.plan.root)
        for node_id in root.seats if root is not None else ():
            if node_id != self.me.node_id:
                out.send(self.plan.contacts[node_id], TopoAsk(self.me))

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
            written = self.topo if self.writing is None else None
            self.readmission.ask(msg, written, out)
        else:
            self._admit(msg, now, out)

    def _admit(self, msg: Join, now: int, out: Sink) -> None:
        node_id = msg.contact.node_id
        if now - self.joined_at.get(node_id, -NEVER) >= JOIN_AGAIN_US:
            self.joined_at[node_id] = now  # not each time: whoever asks often may be deaf
        known = self.plan.contacts.get(node_id)
        if node_id in self.plan.home and known == msg.contact and self.writing is None:
            telling.tell_path(self.plan, self.topo, node_id, out)
            return
        if len(self.joins) < MAX_JOINS_WAITING:
            self.joins[node_id] = msg
            self._soon(now, out)

    def on_leave(self, msg: Leave, now: int, out: Sink) -> None:
        if self.presides(now) and msg.contact.node_id in self.plan.home:
            self.joins.pop(msg.contact.node_id, None)
            self.joined_at.pop(msg.contact.node_id, None)
            self.departures.said_goodbye(msg.contact.node_id, now)
            self._soon(now, out)

    def on_report(self, sender: int, msg: Report, now: int, out: Sink) -> None:
        self.witness(msg.owner.electorate, now, out)
        if not self.presides(now):
            return
        cell = self.plan.cells.get(msg.owner.cell)
        if cell is None or cell.cell not in self.plan.path(sender):
            if msg.owner.contact.node_id == sender:  # removed while cut off, and ruling its past
                out.send(msg.owner.contact, NotMember(msg.owner.cell))
            return
        if not msg.ownerless and self._outdated(sender, msg.owner, out):
            return
        grace = now - JOIN_GRACE_US
        gone = [
            n
            for n in msg.gone
            if self.plan.home.get(n) == cell.cell and self.joined_at.get(n, 0) <= grace
        ]
        self._hear(gone, sender, cell, now, out)
        if msg.ownerless:
            self.inquests.open(cell.cell, self._asked(cell), now, out)
        for child_id in msg.silent:
            child = self.plan.cells.get(child_id)
            if child is not None and child.parent == cell.cell:
                self.inquests.open(child_id, self._asked(child), now, out)
        out.wake(self.due)

    def _hear(self, gone: list[int], reporter: int, cell: Cell, now: int, out: Sink) -> None:
        """Members were reported gone: count those whom others have found so, ask about the rest."""
        if not gone:
            return
        known = [n for n in gone if n in self.departures.gone and self.hearings.stands(n, now)]
        if self.departures.count(known, now):
            self._soon(now, out)
        out_of_court = {*gone, *self.departures.gone, reporter}
        others = [self.plan.contacts[n] for n in cell.members if n not in out_of_court]
        for node_id in gone:
            if node_id not in known:
                self.hearings.ask(self.plan.contacts[node_id], cell.cell, others, now, out)

    def on_opinion(self, sender: int, msg: Opinion, now: int, out: Sink) -> None:
        """Somebody says whether a member that was reported is gone."""
        gone = self.hearings.answered(sender, msg, now)
        if gone and self.presides(now):
            self.departures.count([gone], now)
            self._soon(now, out)

    def _close_hearings(self, now: int, out: Sink) -> None:
        grace = now - JOIN_GRACE_US
        gone = [n for n in self.hearings.close(now) if self.joined_at.get(n, 0) <= grace]
        if gone and self.presides(now):
            self.departures.count(gone, now)
            self._soon(now, out)

    def _outdated(self, sender: int, owner: Owner, out: Sink) -> bool:
        """Whether a newer owner of the cell has reported already; the sender is told of it."""
        newest = self.owners.get(owner.cell)
        if newest is None or (owner.electorate, owner.term) >= (newest.electorate, newest.term):
            self.owners[owner.cell] = owner
            return False
        out.send(self.plan.contacts[sender], Path(None, (), (newest,)))
        return True

    def on_here(self, sender: int, msg: Here, now: int, out: Sink) -> None:
        self.touch.answered(sender, now)
        if msg.cell != NO_CELL:
            self.inquests.answered(sender, msg)
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

    # --- inquests --------------------------------------------------------------------------------

    def _asked(self, cell: Cell) -> list[Contact]:
        """Whom an inquest on ``cell`` asks: its hosts, or the seats in and below an inner cell."""
        nodes = dict.fromkeys(cell.seats)
        if cell.level == 0:
            nodes.update(dict.fromkeys(cell.members))
        else:
            for child in cell.members:
                nodes.update(dict.fromkeys(self.plan.cells[child].seats))
        return [self.plan.contacts[n] for n in nodes if n in self.plan.contacts]

    def _judge(self, now: int, out: Sink) -> None:
        for cell_id, living, silent in self.inquests.close(now):
            cell = self.plan.cells.get(cell_id)
            if cell is None or not self.presides(now) or not self.touch.may_judge():
                continue
            if cell.level == 0:
                self.departures.count([n for n in silent if self.plan.home.get(n) == cell_id], now)
            # seats that moved to another cell answer, and yet cannot serve this one any more
            moved = self.plan.seats_gone(cell)
            sitting = sum(1 for s in cell.seats if s in living and s not in moved)
            if sitting < len(cell.seats) // 2 + 1:
                self.plan.new_electorate(cell, living)
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
        plan = self.plan
        removed = [n for n in self.departures.take(len(plan.home), now, out) if n in plan.home]
        if removed:
            plan.remove(removed)
            self.zones_unsettled = bool(plan.domain)
            self.readmission.note(removed)
            self.removing += removed
            self.departures.removed(len(removed), now)
        self._take_joins()
        self._fix_seats(now)
        self._settle_zones(now)
        self.departures.tidy()
        self.hearings.tidy(now)
        root_changed = self.topo is not None and self.topo.root != plan.root
        if not plan.touched and not announce and not root_changed:
            self._come_back(now, out)
            return
        self._commit(now, out)

    def _take_joins(self) -> None:
        taken = list(self.joins.values())[:MAX_JOINS_PER_BATCH]
        hosts: list[Contact] = []
        for join in taken:
            contact = join.contact
            del self.joins[contact.node_id]
            if join.zone and join.role != OBSERVER:
                self.plan.domain[contact.node_id] = join.zone
                self.zones_unsettled = True
            if contact.node_id in self.plan.home:
                if self.plan.contacts[contact.node_id] != contact:
                    self.plan.move_address(contact)
                self.plan.moved[contact.node_id] = None
            elif join.role == OBSERVER:
                self.plan.add_observer(contact)
            else:
                hosts.append(contact)
        if hosts:
            self.plan.add_hosts(hosts)

    def _settle_zones(self, now: int) -> None:
        """Where all is calm, hosts in another zone's cell move to their own, one by one."""
        plan = self.plan
        busy = plan.touched or plan.seats_wrong or self.departures.pending or self.joins
        if self.zones_unsettled and not busy and now >= self.zones_at:
            self.zones_at = now + ZONES_US
            self.zones_unsettled = plan.settle_zones()

    def _fix_seats(self, now: int) -> None:
        """One change per cell and lease; leaf cells first, since inner seats build on theirs."""
        plan = self.plan
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

    def _come_back(self, now: int, out: Sink) -> None:
        """There is more to do later: seats that wait their turn, joins over the batch, a thaw."""
        if self.joins:
            self._soon(now, out)
        elif self.zones_unsettled and not self.plan.seats_wrong and not self.departures.pending:
            self.next_batch = min(self.next_batch, max(self.zones_at, now + self.settings.batch_us))
            out.wake(self.next_batch)
        elif self.plan.seats_wrong or self.departures.pending:
            self.next_batch = min(self.next_batch, now + self.settings.lease_us)
            out.wake(self.next_batch)
        if len(self.joined_at) > MAX_JOINS_WAITING:
            fresh = now - JOIN_GRACE_US
            self.joined_at = {n: t for n, t in self.joined_at.items() if t > fresh}

    def _commit(self, now: int, out: Sink) -> None:
        epoch = self.lease.epoch
        assert epoch is not None
        self.version += 1
        generation = self.topo.order.generation if self.topo is not None else 1
        order = Order(generation, epoch.lease, self.version)
        cells, deleted = self.plan.take_touched(order)
        coordinator_id = self.lease.coordinator_id
        self.topo = Topo(order, coordinator_id, self.me, self.plan.root, self.plan.next_cell)
        puts = [Put("topo", self.versions.get("topo", 0), encode_record(self.topo))]
        for cell in cells:
            path = f"cell/{cell.cell}"
            record = encode_record(self.plan.record(cell))
            puts.append(Put(path, self.versions.get(path, 0), record))
        for cell_id in deleted:
            path = f"cell/{cell_id}"
            puts.append(Put(path, self.versions.get(path, 0), None))
        moved = self.plan.take_moved()
        self.chronicle.writing(self.plan, cells, deleted, moved, self.removing, order, now)
        self.removing = []
        self.writing = (cells, deleted, moved)
        self.write_token = self.next_token()
        self._paths = [put.path for put in puts]
        out.coordinate(Commit(epoch, tuple(puts)), self.write_token)

    def _committed(self, answer: Committed, now: int, out: Sink) -> None:
        assert self.writing is not None
        cells, _, moved = self.writing
        self.writing = None
        self.owners = {c: o for c, o in self.owners.items() if c in self.plan.cells}
        for path, version in zip(self._paths, answer.versions, strict=True):
            if version:
                self.versions[path] = version
            else:
                self.versions.pop(path, None)
        for deed in self.chronicle.committed():
            out.notify(deed)
        assert self.topo is not None
        telling.spread(self.plan, self.topo, self.me, cells, moved, out)
        self._come_back(now, out)
        self.seen = max(self.seen, self.topo.order)  # we are a witness ourselves
        self._doubt_what_was_read(out)


__all__ = ["FOLLOWING", "HALTED", "LOADING", "PRESIDING", "Chairman", "ChairmanNotice"]
