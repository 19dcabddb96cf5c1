"""The cells a peer takes part in: one at least, and one more for each that it owns.

Theory of operation
-------------------
The :class:`~fabric.tree.topology.PathStore` says which cells lie between this peer and the root.
From that, and from what the peer owns, follows all it has to run; :meth:`Cells.settle` makes it so:

* a :class:`~fabric.gossip.cell.CellGossip` in its leaf cell, and in the parent of each cell that it
  owns, where it speaks for that cell;
* a candidacy for each of those cells, and a seat wherever a record on its path gives it one
  (:class:`~fabric.peer.leases.Leases`);
* the recurring work of an owner (:class:`~fabric.peer.duties.Duties`).

News of the topology are pushed once to whoever depends on us for it (the members of cells that we
own, and the owner above us); gossip's path digests mend what gets lost.
"""

from __future__ import annotations

from collections.abc import Callable

from fabric.gossip.cell import CellGossip
from fabric.gossip.members import REFUTATION_BITS, Member
from fabric.machine import NEVER, Contact, Sink
from fabric.peer.duties import Duties
from fabric.peer.farewell import Farewell
from fabric.peer.leases import Leases
from fabric.peer.notices import (
    ConflictNotice,
    MemberNotice,
    OwnerNotice,
    PlaceNotice,
    RefutedNotice,
    SuspicionNotice,
)
from fabric.settings import Settings
from fabric.stream import Stream
from fabric.tree.joining import Joiner
from fabric.tree.owner import OWNING, Ownership
from fabric.tree.topology import PathStore
from fabric.units import MS, SECOND
from fabric.wire.gossip import DEAD, News
from fabric.wire.tree import (
    NO_ORDER,
    CellRecord,
    NotMember,
    Opinion,
    OpinionAsk,
    Owner,
    Path,
    PathStamps,
    TopoAsk,
)

#: Stamps are compared with neighbours at most so often: formation changes paths all the time.
COMPARE_US = 300 * MS
#: An answer from beyond a cell is so long a sign that we are not cut off.
TOUCH_US = 3 * SECOND


class Cells:
    """Everything a peer runs because of its place in the tree. Implements ``gossip.cell.Hooks``."""

    __slots__ = (
        "asked_beyond", "boot_id", "compared_at", "due", "duties", "farewell", "gossip",
        "heard_beyond_at", "inner", "joiner", "leaf_gossip", "leases", "leaving", "me", "paths",
        "role", "settings", "stream",
    )  # fmt: skip

    def __init__(
        self,
        me: Contact,
        boot_id: int,
        role: int,
        paths: PathStore,
        joiner: Joiner,
        settings: Settings,
        stream: Stream,
        stored_seats: dict[bytes, bytes],
    ) -> None:
        self.me = me
        self.boot_id = boot_id
        self.role = role
        self.paths = paths
        self.joiner = joiner
        self.settings = settings
        self.stream = stream
        self.gossip: dict[int, CellGossip] = {}
        self.compared_at: dict[int, int] = {}
        self.leases = Leases(self, stored_seats)
        self.duties = Duties(self)
        self.leaving = False
        self.farewell: Farewell | None = None
        self.asked_beyond: tuple[int, ...] = ()  # who was to show that we are not cut off
        self.heard_beyond_at = -NEVER
        self.leaf_gossip: CellGossip | None = None
        self.inner: tuple[CellGossip, ...] = ()  # all but ``leaf_gossip``: owners have some
        self.due = NEVER  # of everything but ``leaf_gossip``, which knows its own

    # --- topology in, topology on ----------------------------------------------------------------

    def adopt(self, sender: int, news: Path, now: int, out: Sink) -> Path | None:
        """Take news of the topology, settle, and pass on what was new. Returns that, if any was."""
        fresh = self.paths.adopt(news)
        if fresh is None:
            return None
        if fresh.records:
            self.settle(now, out)
        else:
            self._refresh_digests()
            if fresh.owners:
                self._look_soon()  # whoever owns a cell now may be dead, for all we know
        for owner in fresh.owners:
            ownership = self.leases.ownerships.get(owner.cell)
            if ownership is None:
                continue
            # also where it names us: that was in an earlier life, or is a lie
            if ownership.superseded(owner):
                self.lost(owner.cell, now, out)
            if owner.contact.node_id != self.me.node_id:
                self._meet_owner(owner, out)
        self._push(sender, fresh, out)
        return fresh

    def _push(self, sender: int, fresh: Path, out: Sink) -> None:
        """Send ``fresh`` down to the members of our cells, and up to the owner above us."""
        above = 0
        for cell in self.paths.path:
            ownership = self.leases.ownerships.get(cell)
            gossip = self.gossip.get(cell)
            if ownership is None or ownership.state != OWNING or gossip is None:
                above = cell
                break
            for member in gossip.members.values():
                contact = member.news.contact
                if contact.node_id not in (0, sender):
                    out.send(contact, fresh)
        owner = self.paths.owners.get(above)
        if owner is None or owner.contact.node_id in (sender, self.me.node_id):
            return
        gossip = self.gossip.get(above)
        if gossip is None or gossip.speaker(sender) is None:
            out.send(owner.contact, fresh)

    def settle(self, now: int, out: Sink) -> None:
        """Make what runs agree with the path and with what we own."""
        paths = self.paths
        path = paths.path
        if not path:
            return
        was_in = tuple(self.gossip)
        keep: dict[int, None] = {}
        key = self.me.node_id
        incarnation = self.boot_id << REFUTATION_BITS
        for cell in path:
            record = paths.records[cell]
            self._take_part(record, key, incarnation, now, out)
            keep[cell] = None
            ownership = self.leases.candidacy(record, now, out)
            if ownership is None or ownership.state != OWNING or ownership.stamp is None:
                break
            key, incarnation = cell, ownership.stamp.term << REFUTATION_BITS
        for cell in [c for c in self.gossip if c not in keep]:
            del self.gossip[cell]
            self.leases.ownerships.pop(cell, None)
        self.leaf_gossip = leaf = self.gossip[path[0]]
        self.inner = tuple([gossip for gossip in self.gossip.values() if gossip is not leaf])
        self.leases.take_seats(now)
        self._refresh_digests()
        self._look_soon()
        if tuple(self.gossip)[:1] != was_in[:1]:
            out.notify(PlaceNotice(path))
        if not paths.placed and not self.leaving:
            self.joiner.doubt(now, out)
        self.reckon()
        out.wake(self.due)

    def _take_part(
        self, record: CellRecord, key: int, incarnation: int, now: int, out: Sink
    ) -> None:
        cell = record.cell
        gossip = self.gossip.get(cell)
        if gossip is not None and gossip.key == key:
            gossip.raise_incarnation(incarnation)
            gossip.set_members(record.members, record.observers, now, out)
            return
        gossip = CellGossip(
            cell, record.level, key, self.me, incarnation, self.settings, self.stream, self, now
        )
        self.gossip[cell] = gossip
        gossip.set_members(record.members, record.observers, now, out)
        if record.level == 0:
            if self.duties.host_summary is not None:
                gossip.set_summary(self.duties.host_summary)
        else:
            self.duties.told.pop(key, None)
            self.introduce(cell, out)

    def _refresh_digests(self) -> None:
        for cell, gossip in self.gossip.items():
            gossip.path = self.paths.digest(cell)

    def _meet_owner(self, owner: Owner, out: Sink) -> None:
        """A new owner: members of a leaf cell tell it their load, speakers show themselves."""
        gossip = self.gossip.get(owner.cell)
        if gossip is None:
            return
        if gossip.level == 0:
            self.duties.tell_owner(gossip, out)
        else:
            self.introduce(owner.cell, out)

    def introduce(self, cell: int, out: Sink) -> None:
        """Make ourselves known in an inner cell: to its owner, who knows the other speakers."""
        gossip = self.gossip.get(cell)
        owner = self.paths.owners.get(cell)
        if gossip is None or gossip.level == 0 or owner is None:
            return
        if owner.contact.node_id != self.me.node_id:
            gossip.introduce(out, owner.contact)

    # --- hooks of gossip -------------------------------------------------------------------------

    def member_changed(self, cell: CellGossip, member: Member, now: int, out: Sink) -> None:
        news = member.news
        accusers = tuple(member.accusers) if news.state == DEAD else ()
        out.notify(
            MemberNotice(
                cell.cell, member.key, news.state, news.contact, news.incarnation, accusers
            )
        )
        if news.state >= DEAD and self.leases.owns(cell.cell, now):
            self.duties.report(cell, now, out)

    def suspected(self, cell: CellGossip, member: Member, witness: int, out: Sink) -> None:
        news = member.news
        out.notify(
            SuspicionNotice(cell.cell, member.key, news.contact, news.incarnation, witness)
        )

    def refuted(self, cell: CellGossip, out: Sink) -> None:
        out.notify(RefutedNotice(cell.cell, cell.key, cell.news.incarnation))

    def path_differs(self, cell: CellGossip, contact: Contact, now: int, out: Sink) -> None:
        if now - self.compared_at.get(cell.cell, -NEVER) >= COMPARE_US:
            self.compared_at[cell.cell] = now
            stamps = PathStamps(cell.cell, self.paths.stamps(cell.cell), True)
            out.send(contact, stamps)

    def superseded(self, cell: CellGossip, news: News, now: int, out: Sink) -> None:
        if cell.level == 0:
            out.notify(ConflictNotice(cell.cell, news.incarnation))
            return
        ownership = self.leases.ownerships.get(cell.key)
        if ownership is not None and ownership.state == OWNING:
            owner = Owner(
                cell.key, ownership.electorate, news.incarnation >> REFUTATION_BITS, news.contact
            )
            if ownership.superseded(owner):
                self.lost(cell.key, now, out)

    def isolated(self, cell: CellGossip, now: int, out: Sink) -> None:
        self.joiner.doubt(now, out)  # we may have been removed while nobody could reach us
        if cell.level > 0:
            self.introduce(cell.cell, out)
            return
        record = self.paths.records.get(cell.cell)
        if record is not None:
            # they may hold an older record, in which we are no member, and so not hear us
            for contact in record.members:
                if contact.node_id != self.me.node_id:
                    out.send(contact, Path(self.paths.topo, (record,), ()))

    def awoke(self, cell: CellGossip, now: int, out: Sink) -> None:
        self.joiner.doubt(now, out)

    def stranger(self, cell: CellGossip, contact: Contact, now: int, out: Sink) -> None:
        out.send(contact, NotMember(cell.cell))

    def in_touch(self, cell: CellGossip, suspect: Member, now: int, out: Sink) -> bool:
        """Ask those above the cell for a sign of life; tell whether there was one just now."""
        paths = self.paths
        topo = paths.topo
        if topo is None:
            return False
        if topo.chairman.node_id == self.me.node_id:
            return True
        parent = paths.records[cell.cell].parent if cell.cell in paths.records else 0
        beyond = [topo.chairman]
        if parent in paths.owners:
            beyond.append(paths.owners[parent].contact)
        if parent in paths.records:
            beyond.extend(paths.records[parent].seats)
        inside = [cell.me.node_id, suspect.contact.node_id]
        asked = [contact for contact in dict.fromkeys(beyond) if contact.node_id not in inside]
        for contact in asked:
            out.send(contact, TopoAsk(self.me))
        self.asked_beyond = tuple([contact.node_id for contact in asked])
        return now - self.heard_beyond_at <= TOUCH_US

    def heard(self, sender: int, now: int) -> None:
        """Note that one of those that we asked for a sign of life is there."""
        if sender in self.asked_beyond:
            self.heard_beyond_at = now

    def on_opinion_ask(self, sender: int, msg: OpinionAsk, now: int, out: Sink) -> None:
        """The chairman wants to know whether a member of ours is gone (perhaps ourselves)."""
        topo, gossip = self.paths.topo, self.gossip.get(msg.cell)
        if topo is None or topo.chairman.node_id != sender or gossip is None:
            return
        row = gossip.myself if msg.key == gossip.key else gossip.members.get(msg.key)
        if row is not None:
            out.send(topo.chairman, Opinion(msg.key, msg.number, row.state))

    def on_stamps(self, sender: int, msg: PathStamps, now: int, out: Sink) -> None:
        contact = self._contact_of(sender)
        if contact is None:
            return
        lacking, behind = self.paths.compare(msg.cell, msg.stamps)
        if lacking is not None:
            out.send(contact, lacking)
        if behind and msg.answer:
            out.send(contact, PathStamps(msg.cell, self.paths.stamps(msg.cell), False))

    def _contact_of(self, node_id: int) -> Contact | None:
        for gossip in self.gossip.values():
            member = gossip.speaker(node_id)
            if member is not None:
                return member.news.contact
        return None

    def won(self, ownership: Ownership, now: int, out: Sink) -> None:
        """A cell is ours: tell its members and its seats, and take our place above it."""
        owner = ownership.stamp
        assert owner is not None
        out.notify(OwnerNotice(owner.cell, owner.electorate, owner.term, True))
        self.leases.note_victory(owner.cell, self.paths.owners.get(owner.cell), now)
        news = Path(None, (), (owner,))
        self.adopt(self.me.node_id, news, now, out)
        for seat in ownership.record.seats:
            out.send(seat, news)  # in an inner cell they are how the others hear of it
        self.duties.due = now
        self.settle(now, out)

    def lost(self, cell: int, now: int, out: Sink) -> None:
        """A cell is no longer ours, and so is our place above it."""
        out.notify(OwnerNotice(cell, NO_ORDER, 0, False))
        self.leases.victories.pop(cell, None)
        self.settle(now, out)

    # --- duties, once a second -------------------------------------------------------------------

    def tick(self, now: int, out: Sink) -> None:
        """Do what is due in any of the cells, the leaf's gossip aside."""
        for gossip in self.inner:
            if gossip.due <= now:
                gossip.tick(now, out)
        if self.leases.due <= now:
            self.leases.tick(now, out)
        if self.duties.due <= now:
            self.duties.tick(now, out)
        if self.farewell is not None and self.farewell.due <= now:
            self.farewell.tick(now, out)
        self.reckon()

    def _look_soon(self) -> None:
        """What the duties rested on may be true no more: they are due with the leaf's round."""
        leaf = self.leaf_gossip
        self.duties.calm = -1
        if leaf is not None and self.duties.due == NEVER:
            self.duties.due = leaf.next_round  # together with the round: one timer less

    def rouse(self, now: int) -> None:
        """A status in the leaf has changed: so may be what the duties rested on."""
        if self.duties.due == NEVER:
            self.duties.due = now
        if self.duties.due < self.due:
            self.due = self.duties.due

    def reckon(self) -> None:
        """Find when the next thing is due, the leaf's gossip aside."""
        due = self.duties.due
        if self.leases.due < due:
            due = self.leases.due
        for gossip in self.inner:
            if gossip.due < due:
                due = gossip.due
        if self.farewell is not None and self.farewell.due < due:
            due = self.farewell.due
        self.due = due

    # --- leaving ---------------------------------------------------------------------------------

    def leave(self, finish: Callable[[int, Sink], None], now: int, out: Sink) -> None:
        """Hand over what we own; then say goodbye, and ``finish``."""
        self.leaving = True
        if self.farewell is None:
            self.farewell = Farewell(self, finish, now)
            self.farewell.tick(now, out)
            self.reckon()
            out.wake(self.due)

    def goodbye(self, out: Sink) -> None:
        """Give back the leases that nobody took over, and say goodbye in every cell."""
        self.leases.release(out)
        for gossip in self.gossip.values():
            gossip.leave(out)
