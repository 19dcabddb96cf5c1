"""A seat: one vote on who owns a cell.

A seat grants the cell's lease to one asker at a time, for ``lease_us`` from when it was asked.

* It makes (term, grantee) durable before it grants a *new* term; renewals cost no disk.
* It holds at most one unexpired grant, whatever the electorate's version, and refuses lower ones,
  also than the one that it voted under before a restart.
* After a restart it grants nothing for one lease: what it had granted may still run.
* An owner that leaves names its heir: beside the owner's grant the heir's question is granted too,
  so that there is no moment without an owner.
* When a grant lapses it tells the standbys that the owner named, so that an election starts at
  once and not only when gossip has found the owner dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fabric.errors import BadFrame
from fabric.machine import NEVER, Contact, Message, Sink, Write
from fabric.settings import Settings
from fabric.wire.codec import Int, decode_record, encode_record
from fabric.wire.tree import (
    CellRecord,
    HandOver,
    LeaseAsk,
    LeaseDeny,
    LeaseGrant,
    LeaseRelease,
    Order,
    Vacant,
)

#: An asker may have seen so many more elections than we have. A new electorate starts 2**20 above
#: the old one, and nobody is to use up the numbers in between by naming a far one.
MAX_TERM_STEP: Final = 1 << 18


@dataclass(slots=True)
class SeatState:
    """What a seat must not forget."""

    electorate: Order
    term: Int
    grantee: Int


def seat_key(cell: int) -> bytes:
    """Return the key under which a seat's state is stored."""
    return b"seat/%016x" % cell


class Seat:
    """Our seat in one cell's electorate."""

    __slots__ = (
        "cell", "cold_until", "electorate", "expires", "grantee", "heir", "settings", "standbys",
        "term",
    )  # fmt: skip

    def __init__(self, record: CellRecord, settings: Settings, stored: bytes | None, now: int):
        self.cell = record.cell
        self.settings = settings
        self.electorate = record.electorate
        self.term = record.term_floor
        self.grantee: Contact | None = None  # whoever holds our unexpired (or lapsed) grant
        self.expires = 0
        self.heir = 0  # to whom the grantee wants to hand over
        self.standbys: tuple[Contact, ...] = ()
        self.cold_until = 0
        if stored is not None:
            self._restore(stored, now)

    def _restore(self, stored: bytes, now: int) -> None:
        try:
            state = decode_record(SeatState, stored)
        except BadFrame:
            # unreadable: something was granted, we do not know what; wait it out
            self.cold_until = now + self.settings.lease_us
            return
        # the record may be older than the vote: it is stored later, and a crash came in between
        self.electorate = max(self.electorate, state.electorate)
        self.term = max(self.term, state.term)
        self.cold_until = now + self.settings.lease_us

    def update(self, record: CellRecord) -> None:
        """Take a newer record. A grant that runs goes on running."""
        self.electorate = max(self.electorate, record.electorate)
        self.term = max(self.term, record.term_floor)

    @property
    def due(self) -> int:
        """When our grant lapses."""
        return self.expires if self.grantee is not None else NEVER

    def ask(self, ask: LeaseAsk, now: int) -> tuple[Message, tuple[Write, ...]]:
        """Answer ``ask``. Returns the answer and what must be durable before it is sent."""
        holder = self.grantee if now < self.expires else None
        if holder is not None and ask.asker.node_id in (holder.node_id, self.heir):
            holder = None  # its own grant is no obstacle, nor is one that is handed over
        wait = max(self.cold_until - now, self.expires - now if holder is not None else 0)
        stale = ask.electorate != self.electorate or ask.term < self.term
        other = ask.term == self.term and not (
            self.grantee is not None and self.grantee.node_id == ask.asker.node_id
        )
        if ask.term > self.term + MAX_TERM_STEP:
            stale = True
        if stale or wait > 0 or (other and not ask.pre):
            deny = LeaseDeny(
                self.cell, self.term, ask.number, self.electorate, holder, max(wait, 0)
            )
            return deny, ()
        grant = LeaseGrant(self.cell, ask.term, ask.number, ask.pre)
        if ask.pre:
            return grant, ()
        writes: tuple[Write, ...] = ()
        if ask.term > self.term:
            state = SeatState(self.electorate, ask.term, ask.asker.node_id)
            writes = (Write(seat_key(self.cell), encode_record(state)),)
        self.term = ask.term
        self.heir = 0
        self.grantee = ask.asker
        self.expires = now + self.settings.lease_us
        self.standbys = ask.standbys
        return grant, writes

    def hand_over(self, sender: int, msg: HandOver) -> None:
        """The owner lets its heir have the lease, as soon as that one asks for it."""
        if self.grantee is not None and self.grantee.node_id == sender and msg.term == self.term:
            self.heir = msg.heir.node_id

    def release(self, sender: int, msg: LeaseRelease, now: int, out: Sink) -> None:
        """The owner gives its lease back."""
        if self.grantee is None or self.grantee.node_id != sender or msg.term != self.term:
            return
        self.expires = now
        self.tick(now, out)

    def tick(self, now: int, out: Sink) -> None:
        """Tell the standbys when our grant has lapsed."""
        if self.grantee is None or now < self.expires:
            return
        self.grantee = None
        self.heir = 0
        for standby in self.standbys:
            out.send(standby, Vacant(self.cell, self.electorate, self.term))
