"""The cells a peer takes part in: one at least, and one more for each that it owns.

Theory of operation
-------------------
The :class:`~fabric.tree.topology.PathStore` says which cells lie between this peer and the root.
From that, and from what the peer owns, follows all it has to run; :meth:`Cells.settle` makes it so:

* a :class:`~fabric.gossip.cell.CellGossip` in its leaf cell, and in the parent of each cell that it
  owns, where it speaks for that cell;
* an :class:`~fabric.tree.owner.Ownership` (candidacy) for each of those cells;
* a :class:`~fabric.tree.seats.Seat` wherever a record on its path gives it one.

News of the topology are pushed once to whoever depends on us for it (the members of cells that we
own, and the owner above us); gossip's path digests mend what gets lost.
"""

from __future__ import annotations

from fabric.gossip.cell import CellGossip
from fabric.gossip.members import REFUTATION_BITS, Member
from fabric.machine import NEVER, Contact, Sink
from fabric.peer.notices import ConflictNotice, MemberNotice, OwnerNotice, PlaceNotice
from fabric.settings import Settings
from fabric.stream import Stream, mix
from fabric.tree.joining import Joiner
from fabric.tree.owner import IDLE, OWNING, Ownership
from fabric.tree.seats import Seat, seat_key
from fabric.tree.summary import Summary, merge, significant_change
from fabric.tree.topology import PathStore
from fabric.units import MS, SECOND
from fabric.wire.gossip import ALIVE, DEAD, SUSPECT, News
from fabric.wire.tree import (
    HOST,
    NO_ORDER,
    CellRecord,
    LeaseAsk,
    LeaseDeny,
    LeaseGrant,
    LeaseRelease,
    Owner,
    Path,
    PathStamps,
    Report,
    Vacant,
)

#: Stamps are compared with neighbours at most so often: formation changes paths all the time.
COMPARE_US = 300 * MS
#: How often a report is repeated until the chairman's record agrees with it.
REPORT_US = 2 * SECOND
#: The longest that a standby's rank lets it wait: beyond it, all may try.
MAX_RANK = 16


class Cells:
    """Everything a peer runs because of its place in the tree. Implements ``gossip.cell.Hooks``."""

    __slots__ = (
        "boot_id", "compared_at", "due", "gossip", "host_summary", "joiner", "leaf_gossip",
        "leaving", "me", "next_duty", "ownerless", "ownerships", "paths", "reported_at", "role",
        "seats", "settings", "silent", "stored_seats", "stream", "told",
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
        self.stored_seats = stored_seats
        self.host_summary: Summary | None = None
        self.gossip: dict[int, CellGossip] = {}
        self.ownerships: dict[int, Ownership] = {}
        self.seats: dict[int, Seat] = {}
        self.compared_at: dict[int, int] = {}
        self.ownerless: dict[int, int] = {}  # cell -> since when it has no live owner
        self.silent: dict[int, int] = {}  # child cell -> since when nobody speaks for it
        self.reported_at: dict[int, int] = {}
        self.told: dict[int, Summary] = {}  # owned cell -> summary that the parent was told
        self.leaving = False
        self.next_duty = NEVER
        self.leaf_gossip: CellGossip | None = None
        self.due = NEVER  # of everything but ``leaf_gossip``, which knows its own

    # --- topology in, topology on ----------------------------------------------------------------

    def adopt(self, sender: int, news: Path, now: int, out: Sink) -> bool:
        """Take news of the topology, settle, and pass on what was new. Returns whether any was."""
        fresh = self.paths.adopt(news)
        if fresh is None:
            return False
        self.settle(now, out)
        for owner in fresh.owners:
            ownership = self.ownerships.get(owner.cell)
            if ownership is not None and owner.contact.node_id != self.me.node_id:
                if ownership.superseded(owner):
                    self._lost(owner.cell, now, out)
                self._meet_owner(owner, out)
        self._push(sender, fresh, out)
        return True

    def _push(self, sender: int, fresh: Path, out: Sink) -> None:
        """Send ``fresh`` down to the members of our cells, and up to the owner above us."""
        above = 0
        for cell in self.paths.path:
            ownership = self.ownerships.get(cell)
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
            ownership = self._candidacy(record, now, out)
            if ownership is None or ownership.state != OWNING or ownership.stamp is None:
                break
            key, incarnation = cell, ownership.stamp.term << REFUTATION_BITS
        for cell in [c for c in self.gossip if c not in keep]:
            del self.gossip[cell]
            self.ownerships.pop(cell, None)
        self.leaf_gossip = leaf = self.gossip[path[0]]
        self._take_seats(now)
        self._refresh_digests()
        if self.next_duty == NEVER:
            self.next_duty = leaf.next_round  # together with the round: one timer less
        if tuple(self.gossip)[:1] != was_in[:1]:
            out.notify(PlaceNotice(path))
        if not paths.placed and not self.leaving:
            self.joiner.doubt(now, out)
        self.reckon(out)

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
            if self.host_summary is not None:
                gossip.set_summary(self.host_summary)
        else:
            self.told.pop(key, None)
            self._introduce(cell, out)

    def _candidacy(self, record: CellRecord, now: int, out: Sink) -> Ownership | None:
        """Return our candidacy for the cell of ``record``; observers have none."""
        if self.role != HOST:
            return None
        ownership = self.ownerships.get(record.cell)
        if ownership is None:
            ownership = Ownership(record, self.me, self.settings)
            self.ownerships[record.cell] = ownership
        elif ownership.record is not record:
            ownership.update(record, now, out)
        return ownership

    def _take_seats(self, now: int) -> None:
        path = self.paths.path
        for cell in path:
            record = self.paths.records[cell]
            sits = any(seat.node_id == self.me.node_id for seat in record.seats)
            seat = self.seats.get(cell)
            if sits and seat is None:
                stored = self.stored_seats.get(seat_key(cell))
                self.seats[cell] = Seat(record, self.settings, stored, now)
            elif sits and seat is not None:
                seat.update(record)
            elif seat is not None and now >= seat.due:
                del self.seats[cell]
        for cell in [c for c in self.seats if c not in path]:
            del self.seats[cell]

    def _refresh_digests(self) -> None:
        for cell, gossip in self.gossip.items():
            gossip.path = self.paths.digest(cell)

    def _meet_owner(self, owner: Owner, out: Sink) -> None:
        """A new owner: members of a leaf cell tell it their load, speakers show themselves."""
        gossip = self.gossip.get(owner.cell)
        if gossip is None:
            return
        if gossip.level == 0:
            self._tell_owner(gossip, out)
        else:
            self._introduce(owner.cell, out)

    def _introduce(self, cell: int, out: Sink) -> None:
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
        out.notify(MemberNotice(cell.cell, member.key, news.state, news.contact))
        if news.state >= DEAD and self.owns(cell.cell, now):
            self._report(cell, now, out)

    def path_differs(self, cell: CellGossip, contact: Contact, now: int, out: Sink) -> None:
        if now - self.compared_at.get(cell.cell, -NEVER) >= COMPARE_US:
            self.compared_at[cell.cell] = now
            stamps = PathStamps(cell.cell, self.paths.stamps(cell.cell), True)
            out.send(contact, stamps)

    def superseded(self, cell: CellGossip, news: News, now: int, out: Sink) -> None:
        if cell.level == 0:
            out.notify(ConflictNotice(cell.cell, news.incarnation))
            return
        ownership = self.ownerships.get(cell.key)
        if ownership is not None and ownership.state == OWNING:
            owner = Owner(
                cell.key, ownership.electorate, news.incarnation >> REFUTATION_BITS, news.contact
            )
            if ownership.superseded(owner):
                self._lost(cell.key, now, out)

    def isolated(self, cell: CellGossip, now: int, out: Sink) -> None:
        if cell.level > 0:
            self._introduce(cell.cell, out)
            return
        self.joiner.doubt(now, out)
        record = self.paths.records.get(cell.cell)
        if record is not None:
            # they may hold an older record, in which we are no member, and so not hear us
            for contact in record.members:
                if contact.node_id != self.me.node_id:
                    out.send(contact, Path(self.paths.topo, (record,), ()))

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

    # --- leases ----------------------------------------------------------------------------------

    def owns(self, cell: int, now: int) -> bool:
        """Whether we hold the lease of ``cell`` at ``now``."""
        ownership = self.ownerships.get(cell)
        return ownership is not None and ownership.owns(now)

    def on_lease_ask(self, sender: int, msg: LeaseAsk, now: int, out: Sink) -> None:
        if sender != msg.asker.node_id:
            return
        seat = self.seats.get(msg.cell)
        if seat is None:
            deny = LeaseDeny(msg.cell, 0, msg.number, NO_ORDER, None, 0)
            out.send(msg.asker, deny)
            return
        answer, writes = seat.ask(msg, now)
        if writes:
            out.promise(writes, msg.asker, answer)
        elif sender == self.me.node_id and answer.__class__ is LeaseGrant:
            self.on_lease_grant(sender, answer, now, out)
        else:
            out.send(msg.asker, answer)
        if seat.due < self.due:
            self.due = seat.due
            out.wake(self.due)

    def on_lease_grant(self, sender: int, msg: LeaseGrant, now: int, out: Sink) -> None:
        ownership = self.ownerships.get(msg.cell)
        if ownership is not None and ownership.on_grant(sender, msg, now, out):
            self._won(ownership, now, out)
        self.reckon(out)

    def on_lease_deny(self, sender: int, msg: LeaseDeny, now: int, out: Sink) -> None:
        ownership = self.ownerships.get(msg.cell)
        if ownership is None:
            return
        self._meet_holder(msg, out)
        was_owning = ownership.state == OWNING
        if ownership.on_deny(sender, msg, now, out):
            record = ownership.record
            for seat in record.seats:
                if seat.node_id == sender:
                    out.send(seat, Path(self.paths.topo, (record,), ()))
        if was_owning and ownership.state != OWNING:
            self._lost(msg.cell, now, out)
        self.reckon(out)

    def _meet_holder(self, msg: LeaseDeny, out: Sink) -> None:
        """A seat named the owner of an inner cell whom we did not know: show ourselves to it."""
        gossip, holder = self.gossip.get(msg.cell), msg.holder
        if holder is None or gossip is None or gossip.level == 0:
            return
        if gossip.speaker(holder.node_id) is None:
            gossip.introduce(out, holder)

    def on_lease_release(self, sender: int, msg: LeaseRelease, now: int, out: Sink) -> None:
        seat = self.seats.get(msg.cell)
        if seat is not None:
            seat.release(sender, msg.term, now, out)

    def on_vacant(self, sender: int, msg: Vacant, now: int, out: Sink) -> None:
        ownership = self.ownerships.get(msg.cell)
        owner = self.paths.owners.get(msg.cell)
        if ownership is None or self.leaving:
            return
        if owner is None or (owner.electorate, owner.term) <= (msg.electorate, msg.term):
            self._stand(ownership, now, out)

    def _won(self, ownership: Ownership, now: int, out: Sink) -> None:
        owner = ownership.stamp
        assert owner is not None
        out.notify(OwnerNotice(owner.cell, owner.electorate, owner.term, True))
        news = Path(None, (), (owner,))
        self.adopt(self.me.node_id, news, now, out)
        for seat in ownership.record.seats:
            out.send(seat, news)  # in an inner cell they are how the others hear of it
        self.next_duty = min(self.next_duty, now)
        self.settle(now, out)

    def _lost(self, cell: int, now: int, out: Sink) -> None:
        out.notify(OwnerNotice(cell, NO_ORDER, 0, False))
        self.settle(now, out)

    def _stand(self, ownership: Ownership, now: int, out: Sink) -> None:
        if ownership.state == IDLE:
            ownership.stand(self._rank(ownership.cell), now, out)
            self.reckon(out)

    def _rank(self, cell: int) -> int:
        """Return how many living members rank before us, the last owner not counted."""
        gossip = self.gossip[cell]
        ours = mix(cell, gossip.key)
        owner = self.paths.owners.get(cell)
        last = owner.contact.node_id if owner is not None else 0
        before = 0
        for member in gossip.members.values():
            news = member.news
            if member.observer or news.state != ALIVE or news.contact.node_id in (0, last):
                continue
            if mix(cell, member.key) < ours:
                before += 1
        return min(before, MAX_RANK)

    # --- duties, once a second -------------------------------------------------------------------

    def tick(self, now: int, out: Sink) -> None:
        """Do what is due in any of the cells."""
        leaf = self.leaf_gossip
        if leaf is not None and leaf.due <= now:
            leaf.tick(now, out)
        if self.due <= now:
            self._tick_others(now, out)
        else:
            out.wake(self.due)

    def _tick_others(self, now: int, out: Sink) -> None:
        for gossip in tuple(self.gossip.values()):
            if gossip.level > 0 and gossip.due <= now:
                gossip.tick(now, out)
        for ownership in tuple(self.ownerships.values()):
            if ownership.due <= now and ownership.tick(now, out):
                self._lost(ownership.cell, now, out)
        for seat in self.seats.values():
            if seat.due <= now:
                seat.tick(now, out)
        if self.next_duty <= now:
            self.next_duty = now + self.settings.summary_us
            self._duties(now, out)
        self.reckon(out)

    def reckon(self, out: Sink) -> None:
        """Find when the next thing is due, the leaf's gossip aside."""
        due = self.next_duty
        for gossip in self.gossip.values():
            if gossip.due < due and gossip.level > 0:
                due = gossip.due
        for ownership in self.ownerships.values():
            if ownership.due < due:
                due = ownership.due
        for seat in self.seats.values():
            if seat.due < due:
                due = seat.due
        self.due = due
        out.wake(due)

    def _duties(self, now: int, out: Sink) -> None:
        paths = self.paths
        if not paths.complete and (paths.leaf not in paths.owners or self.owns(paths.leaf, now)):
            self.joiner.doubt(now, out)  # one of a leaf asks, and passes on what it learns
        for cell in self.paths.path:
            ownership = self.ownerships.get(cell)
            gossip = self.gossip.get(cell)
            if ownership is None or gossip is None:
                return
            if ownership.owns(now):
                ownership.standbys = self._standbys(gossip)
                self._tell_parent(gossip, out)
                if now - self.reported_at.get(cell, -NEVER) >= REPORT_US:
                    self._report(gossip, now, out)
                self.ownerless.pop(cell, None)
            elif not self.leaving:
                self._mind_owner(ownership, gossip, now, out)

    def _standbys(self, gossip: CellGossip) -> tuple[Contact, ...]:
        ranked = sorted(
            (mix(gossip.cell, m.key), m.key)
            for m in gossip.members.values()
            if not m.observer and m.news.state == ALIVE and m.news.contact.node_id
        )
        return tuple([gossip.members[key].news.contact for _, key in ranked[:3]])

    def _mind_owner(self, ownership: Ownership, gossip: CellGossip, now: int, out: Sink) -> None:
        """Stand for election where no owner lives; tell the chairman where that goes on."""
        cell = gossip.cell
        owner = self.paths.owners.get(cell)
        if owner is not None and owner.contact.node_id != self.me.node_id:
            speaker = gossip.speaker(owner.contact.node_id)
            if speaker is not None and speaker.news.state == ALIVE:
                self.ownerless.pop(cell, None)
                return
            if speaker is None and gossip.level > 0:
                self._introduce(cell, out)  # we may know too little yet
        since = self.ownerless.setdefault(cell, now)
        self._stand(ownership, now, out)
        if now - since >= self.settings.ownerless_us:
            last = owner or Owner(cell, NO_ORDER, 0, self.me)
            self._send_report(Report(last, (), (), True), cell, now, out)

    # --- summaries and reports -------------------------------------------------------------------

    def set_host_summary(self, summary: Summary, out: Sink) -> None:
        """Take this host's own summary; the cell is told when it changed by enough."""
        old = self.host_summary
        if summary is old:
            return
        if old is None or significant_change(old, summary):
            self.host_summary = summary
            leaf = self.gossip.get(self.paths.leaf)
            if leaf is not None:
                leaf.set_summary(summary)
                self._tell_owner(leaf, out)

    def _tell_owner(self, gossip: CellGossip, out: Sink) -> None:
        """Owners route by what they know: they hear of changes at once, others by gossip."""
        owner = self.paths.owners.get(gossip.cell)
        if owner is not None and gossip.news.summary is not None:
            gossip.tell(owner.contact, out)

    def cell_summary(self, gossip: CellGossip) -> Summary:
        """Return the summary of a whole cell, from what its members told."""
        own = gossip.news.summary
        inputs = [own] if own is not None else []
        expected = 1 if gossip.level > 0 or self.role == HOST else 0
        for member in gossip.members.values():
            news = member.news
            if member.observer or news.state > SUSPECT:
                continue
            expected += 1
            if news.summary is not None:
                inputs.append(news.summary)
        return merge(inputs, expected)

    def _tell_parent(self, gossip: CellGossip, out: Sink) -> None:
        parent = self.gossip.get(self.paths.records[gossip.cell].parent)
        if parent is None:
            return
        summary = self.cell_summary(gossip)
        told = self.told.get(gossip.cell)
        if told is None or significant_change(told, summary):
            self.told[gossip.cell] = summary
            parent.set_summary(summary)
            self._tell_owner(parent, out)

    def _report(self, gossip: CellGossip, now: int, out: Sink) -> None:
        """Tell the chairman of members that are gone, as long as the record still lists them."""
        stamp = self.ownerships[gossip.cell].stamp
        if stamp is None:
            return
        if gossip.level == 0:
            gone = tuple([m.key for m in gossip.members.values() if m.news.state >= DEAD])
            silent: tuple[int, ...] = ()
        else:
            gone = ()
            silent = self._silent_children(gossip, now)
        if gone or silent:
            self._send_report(Report(stamp, gone, silent, False), gossip.cell, now, out)

    def _silent_children(self, gossip: CellGossip, now: int) -> tuple[int, ...]:
        silent: list[int] = []
        for member in gossip.members.values():
            if member.alive:
                self.silent.pop(member.key, None)
                continue
            since = self.silent.setdefault(member.key, now)
            if now - since >= self.settings.ownerless_us:
                silent.append(member.key)
        return tuple(silent)

    def _send_report(self, report: Report, cell: int, now: int, out: Sink) -> None:
        topo = self.paths.topo
        if topo is not None:
            self.reported_at[cell] = now
            out.send(topo.chairman, report)

    # --- leaving ---------------------------------------------------------------------------------

    def leave(self, out: Sink) -> None:
        """Give leases back and say goodbye in every cell."""
        self.leaving = True
        for cell in reversed(tuple(self.ownerships)):
            self.ownerships[cell].release(out)
        for gossip in self.gossip.values():
            gossip.leave(out)
