"""Two processes under one node id: copied keys, a copied or restored data directory.

Theory of operation
-------------------
Left alone they would fight for one place in the tree.  A twin shows itself by what others pass on
under our node id with an address that is not ours: a join (the chairman sends it on to the address
that it knew before), a cell record.  Either may be old or a lie, so it does not count: we ask at
that address, and only an answer under our node id that returns our number proves a twin.  (With
keys nobody but a holder of our own can give it.)

Then both compare, and exactly one stops: the older life (lower boot id); of one and the same life
(the same copy started twice) the process that started later.  Clocks of two processes cannot tell
that exactly, so only the one with the smaller address decides it, and tells the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fabric.machine import NEVER, Contact, Sink
from fabric.peer.notices import TwinNotice
from fabric.stream import Stream
from fabric.units import SECOND
from fabric.wire.tree import CellRecord, Twin

#: The same address is asked at most so often.
ASK_AGAIN_US: Final = 1 * SECOND
#: Addresses asked; the longest known is forgotten first.
MAX_ASKED: Final = 8
_NUMBERS: Final = 1 << 30


class Twins:
    """Who else says to be us."""

    __slots__ = ("asked", "asked_at", "boot_id", "me", "started_at", "stream")

    def __init__(self, me: Contact, boot_id: int, stream: Stream) -> None:
        self.me = me
        self.boot_id = boot_id
        self.stream = stream
        self.started_at = 0
        self.asked: dict[str, int] = {}  # by address: the number that its answer must return
        self.asked_at: dict[str, int] = {}

    def seen(self, contact: Contact, now: int, out: Sink) -> None:
        """Somebody passes on that we live at ``contact``: ask there, if that is not here."""
        if contact.node_id != self.me.node_id or contact.address == self.me.address:
            return
        if now - self.asked_at.get(contact.address, -NEVER) >= ASK_AGAIN_US:
            self._send(contact, 0, False, now, out)

    def look(self, records: Sequence[CellRecord], now: int, out: Sink) -> None:
        """Look where the topology says that we live."""
        for record in records:
            if record.level == 0:
                for contact in (*record.members, *record.observers):
                    self.seen(contact, now, out)

    def on_twin(self, sender: int, msg: Twin, now: int, out: Sink) -> bool:
        """Somebody speaks under our node id. Whether there is a twin, and our place is ours."""
        rival = msg.contact
        if sender != self.me.node_id or rival.node_id != sender:
            return False
        if rival.address == self.me.address:
            return False  # our own word, come back
        if msg.echo == 0 or msg.echo != self.asked.get(rival.address):
            self._send(rival, msg.number, False, now, out)
            return False
        if msg.boot_id != self.boot_id:
            decides, yields = True, msg.boot_id > self.boot_id
        elif msg.final:
            decides, yields = True, True
        else:
            decides = self.me.address < rival.address
            yields = decides and now - self.started_at < msg.age_us
        if yields:
            out.notify(TwinNotice(self.me, self.boot_id, rival, msg.boot_id, True))
            return False
        self._send(rival, msg.number, decides, now, out)
        if decides:
            out.notify(TwinNotice(self.me, self.boot_id, rival, msg.boot_id, False))
        return decides

    def _send(self, to: Contact, echo: int, final: bool, now: int, out: Sink) -> None:
        number = self.asked.get(to.address)
        if number is None:
            number = 1 + self.stream.below(_NUMBERS)
            if len(self.asked) >= MAX_ASKED:
                oldest = next(iter(self.asked))
                del self.asked[oldest], self.asked_at[oldest]
            self.asked[to.address] = number
        self.asked_at[to.address] = now
        age_us = now - self.started_at
        out.send(to, Twin(self.me, self.boot_id, age_us, number, echo, final))
