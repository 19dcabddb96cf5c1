"""Leases in a peer's cells: where it sits as a voter, and where it is a candidate or the owner.

The machines are :mod:`fabric.tree.seats` and :mod:`fabric.tree.owner`; here they get their
messages and their timers, and learn from gossip who else lives (the rank of a standby).  What
winning and losing a cell means for the rest of the peer is :class:`~fabric.peer.cells.Cells`'
business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fabric.gossip.cell import CellGossip
from fabric.gossip.members import lives
from fabric.machine import NEVER, Contact, Sink
from fabric.stream import mix
from fabric.tree.owner import IDLE, OWNING, Ownership
from fabric.tree.seats import Seat, seat_key
from fabric.tree.summary import draining
from fabric.wire.gossip import ALIVE, News
from fabric.wire.seeing import PassedOver, Won
from fabric.wire.tree import (
    HOST,
    NO_ORDER,
    CellRecord,
    HandOver,
    LeaseAsk,
    LeaseDeny,
    LeaseGrant,
    LeaseRelease,
    Owner,
    Path,
    Vacant,
)

if TYPE_CHECKING:
    from fabric.peer.cells import Cells

#: The longest that a standby's rank lets it wait: beyond it, all may try.
MAX_RANK = 16
#: Standbys that the seats tell of a lapsed lease: one of three lives.
STANDBYS = 3


class Victory(NamedTuple):
    """An election that we won: when, after whom, and who ranked before us."""

    at: int
    before: Owner | None
    passed: tuple[PassedOver, ...]


class Leases:
    """Seats and candidacies of one peer, by cell."""

    __slots__ = ("cells", "due", "ownerships", "seats", "stored_seats", "victories")

    def __init__(self, cells: Cells, stored_seats: dict[bytes, bytes]) -> None:
        self.cells = cells
        self.stored_seats = stored_seats
        self.ownerships: dict[int, Ownership] = {}
        self.seats: dict[int, Seat] = {}
        self.victories: dict[int, Victory] = {}  # how we won what we own
        self.due = NEVER

    # --- where we stand ---------------------------------------------------------------------------

    def owns(self, cell: int, now: int) -> bool:
        """Whether we hold the lease of ``cell`` at ``now``."""
        ownership = self.ownerships.get(cell)
        return ownership is not None and ownership.owns(now)

    def candidacy(self, record: CellRecord, now: int, out: Sink) -> Ownership | None:
        """Return our candidacy for the cell of ``record``; observers have none."""
        if self.cells.role != HOST:
            return None
        ownership = self.ownerships.get(record.cell)
        if ownership is None:
            ownership = Ownership(record, self.cells.me, self.cells.settings)
            self.ownerships[record.cell] = ownership
        elif ownership.record is not record:
            ownership.update(record, now, out)
        return ownership

    def take_seats(self, now: int) -> None:
        """Sit where the records on our path say so, and nowhere else."""
        path = self.cells.paths.path
        me = self.cells.me.node_id
        for cell in path:
            record = self.cells.paths.records[cell]
            sits = False
            for contact in record.seats:
                if contact.node_id == me:
                    sits = True
            seat = self.seats.get(cell)
            if sits and seat is None:
                stored = self.stored_seats.get(seat_key(cell))
                self.seats[cell] = Seat(record, self.cells.settings, stored, now)
            elif sits and seat is not None:
                seat.update(record)
            elif seat is not None and now >= seat.due:
                del self.seats[cell]
        for cell in [c for c in self.seats if c not in path]:
            del self.seats[cell]

    def stand(self, ownership: Ownership, now: int, out: Sink) -> None:
        """There is no owner: stand for election when our turn comes."""
        if ownership.state == IDLE:
            ownership.stand(self._rank(ownership.cell), now, out)
            self.reckon(out)

    def _rank(self, cell: int) -> int:
        """Return how many living members rank before us, the last owner not counted."""
        gossip = self.cells.gossip[cell]
        ours = mix(cell, gossip.key)
        owner = self.cells.paths.owners.get(cell)
        last = owner.contact.node_id if owner is not None else 0
        before = 0
        for member in gossip.ranking:
            if mix(cell, member.key) >= ours:
                break
            news = member.news
            if news.state == ALIVE and news.contact.node_id not in (0, last):
                before += not _draining(gossip, news)
        if _draining(gossip, gossip.news):
            return MAX_RANK  # only if there is nobody else
        return min(before, MAX_RANK)

    def standbys(self, gossip: CellGossip) -> tuple[Contact, ...]:
        """Return the members that should follow us, the first first."""
        found: list[Contact] = []
        for member in gossip.ranking:
            if lives(member.news) and not _draining(gossip, member.news):
                found.append(member.news.contact)
                if len(found) == STANDBYS:
                    break
        return tuple(found)

    # --- for those who ask why --------------------------------------------------------------------

    def note_victory(self, cell: int, before: Owner | None, now: int) -> None:
        """We have just won ``cell``: remember whom we passed over, and in whose place we are."""
        gossip = self.cells.gossip[cell]
        ours = mix(cell, gossip.key)
        passed = tuple(
            PassedOver(member.key, member.news.state)
            for member in gossip.ranking
            if mix(cell, member.key) < ours
        )
        self.victories[cell] = Victory(now, before, passed)

    def won_by(self, cell: int, now: int) -> Won | None:
        """Return how we won ``cell``."""
        victory = self.victories.get(cell)
        if victory is None:
            return None
        return Won(max(now - victory.at, 0), victory.before, victory.passed)

    # --- messages ---------------------------------------------------------------------------------

    def on_lease_ask(self, sender: int, msg: LeaseAsk, now: int, out: Sink) -> None:
        if sender != msg.asker.node_id:
            return
        seat = self.seats.get(msg.cell)
        if seat is None:
            deny = LeaseDeny(msg.cell, 0, msg.number, NO_ORDER, None, 0)
            out.send(msg.asker, deny)
            return
        record = self.cells.paths.records.get(msg.cell)
        current = msg.electorate == seat.electorate  # else the seat itself refuses
        if current and record is not None and not _may_own(record, sender):
            deny = LeaseDeny(msg.cell, seat.term, msg.number, seat.electorate, None, 0)
            out.send(msg.asker, deny)
            out.send(msg.asker, Path(self.cells.paths.topo, (record,), ()))
            return
        answer, writes = seat.ask(msg, now)
        if writes:
            out.promise(writes, msg.asker, answer)
        elif sender == self.cells.me.node_id and answer.__class__ is LeaseGrant:
            self.on_lease_grant(sender, answer, now, out)
        else:
            out.send(msg.asker, answer)
        if seat.due < self.due:
            self.due = seat.due
            out.wake(self.due)

    def on_lease_grant(self, sender: int, msg: LeaseGrant, now: int, out: Sink) -> None:
        ownership = self.ownerships.get(msg.cell)
        if ownership is not None and ownership.on_grant(sender, msg, now, out):
            self.cells.won(ownership, now, out)
        self.reckon(out)

    def on_lease_deny(self, sender: int, msg: LeaseDeny, now: int, out: Sink) -> None:
        ownership = self.ownerships.get(msg.cell)
        if ownership is None:
            return
        self._meet_holder(msg, out)
        if msg.electorate > ownership.electorate:
            self.cells.joiner.doubt(now, out)  # the cell's record went on without us
        was_owning = ownership.state == OWNING
        if ownership.on_deny(sender, msg, now, out):
            record = ownership.record
            for seat in record.seats:
                if seat.node_id == sender:
                    out.send(seat, Path(self.cells.paths.topo, (record,), ()))
        if was_owning and ownership.state != OWNING:
            self.cells.lost(msg.cell, now, out)
        self.reckon(out)

    def _meet_holder(self, msg: LeaseDeny, out: Sink) -> None:
        """A seat named the owner of an inner cell whom we did not know: show ourselves to it."""
        gossip, holder = self.cells.gossip.get(msg.cell), msg.holder
        if holder is None or gossip is None or gossip.level == 0:
            return
        speaker = gossip.speaker(holder.node_id)
        if speaker is None or speaker.news.state != ALIVE:
            # a seat vouches for it: if it does not answer us, then because it forgot us
            gossip.introduce(out, holder)

    def on_lease_release(self, sender: int, msg: LeaseRelease, now: int, out: Sink) -> None:
        seat = self.seats.get(msg.cell)
        if seat is not None:
            seat.release(sender, msg, now, out)

    def on_hand_over(self, sender: int, msg: HandOver, now: int, out: Sink) -> None:
        """The owner wants its heir, perhaps us, to take over from it."""
        seat = self.seats.get(msg.cell)
        if seat is not None:
            seat.hand_over(sender, msg)
        if msg.heir.node_id != self.cells.me.node_id:
            return
        ownership = self.ownerships.get(msg.cell)
        owner = self.cells.paths.owners.get(msg.cell)
        if ownership is None or owner is None or self.cells.leaving:
            return
        by_owner = owner.contact.node_id == sender
        if by_owner and (owner.electorate, owner.term) == (msg.electorate, msg.term):
            ownership.stand(0, now, out)
            self.reckon(out)

    def hand_over(self, now: int, out: Sink) -> bool:
        """Hand over the uppermost cell that we own. Returns whether there was one, and an heir.

        From above, since whoever owns a cell no more has no place in those above it.
        """
        for cell in reversed(self.cells.paths.path):
            ownership, gossip = self.ownerships.get(cell), self.cells.gossip.get(cell)
            if ownership is None or gossip is None or not ownership.owns(now):
                continue
            heirs = self.standbys(gossip)
            if not heirs:
                return False
            ownership.hand_over(heirs[0], out)
            return True
        return False

    def on_vacant(self, sender: int, msg: Vacant, now: int, out: Sink) -> None:
        ownership = self.ownerships.get(msg.cell)
        if ownership is None or self.cells.leaving:
            return
        # whoever is said to own the cell under a newer term: seats know, and are asked first
        if any(seat.node_id == sender for seat in ownership.seats):
            self.stand(ownership, now, out)

    # --- time ------------------------------------------------------------------------------------

    def tick(self, now: int, out: Sink) -> None:
        """Renew, elect, lapse: whatever is due."""
        for ownership in tuple(self.ownerships.values()):
            if ownership.due <= now and ownership.tick(now, out):
                self.cells.lost(ownership.cell, now, out)
        for seat in self.seats.values():
            if seat.due <= now:
                seat.tick(now, out)
        self.reckon(out)

    def reckon(self, out: Sink) -> None:
        """Find when the next thing is due."""
        due = NEVER
        for ownership in self.ownerships.values():
            if ownership.due < due:
                due = ownership.due
        for seat in self.seats.values():
            if seat.due < due:
                due = seat.due
        self.due = due
        out.wake(due)

    def release(self, out: Sink) -> None:
        """Give all leases back, those of upper cells first."""
        for cell in reversed(tuple(self.ownerships)):
            self.ownerships[cell].release(out)


def _may_own(record: CellRecord, node_id: int) -> bool:
    """Whether ``node_id`` belongs to the cell of ``record``, as far as that tells.

    A leaf's record names its hosts.  That of an inner cell names its child cells, and which host
    speaks for each is decided by seats elsewhere: there nobody can tell.
    """
    if record.level > 0:
        return True
    return any(member.node_id == node_id for member in record.members)


def _draining(gossip: CellGossip, news: News) -> bool:
    """Whether a host is being emptied: it should not begin to own a cell."""
    return gossip.level == 0 and news.summary is not None and draining(news.summary)
