"""Joining: how a peer finds its place in the tree, and finds it again when it lost it.

A joiner sends ``Join`` to the addresses that it was given and to contacts that it remembers, in
turn, until a ``Path`` lists it.  Whoever gets a ``Join`` passes it on to the chairman.  The same
question serves a peer that has a place but doubts it (nobody answers it, its record does not list
it any more, it just restarted): the chairman answers with the path as it is now.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fabric.machine import NEVER, Contact, Sink
from fabric.settings import Settings
from fabric.stream import Stream
from fabric.tree.topology import PathStore
from fabric.wire.tree import Join

#: Forwarding stops here: a peer with a stale idea of the chairman must not make a loop.
MAX_HOPS = 4


class Joiner:
    """Asks until the peer has a place, and again whenever it doubts it."""

    __slots__ = ("asked", "contacts", "due", "join", "last_asked", "paths", "settings", "stream")

    def __init__(
        self,
        join: Join,
        contacts: Sequence[Contact],
        paths: PathStore,
        settings: Settings,
        stream: Stream,
        now: int,
    ) -> None:
        self.join = join
        self.contacts = list(contacts)  # given addresses; remembered contacts come from the paths
        self.paths = paths
        self.settings = settings
        self.stream = stream
        self.asked = 0
        self.last_asked = -NEVER
        self.due = now

    def doubt(self, now: int, out: Sink) -> None:
        """Ask soon where we belong (at most once per retry period)."""
        self.due = min(self.due, max(now, self.last_asked + self.settings.join_retry_us))
        out.wake(self.due)

    def insist_on(self, coordinator_id: int) -> None:
        """Join only a fabric that has this coordinator (a candidate knows its own)."""
        if self.join.coordinator_id != coordinator_id:
            self.join = dataclasses.replace(self.join, coordinator_id=coordinator_id)

    def settled(self) -> None:
        """The chairman has answered."""
        self.asked = 0
        self.due = NEVER

    def tick(self, now: int, out: Sink) -> None:
        """Ask the next one."""
        self.last_asked = now
        # a few quick tries, then slower, and never in step with others
        retry = self.settings.join_retry_us * min(1 + self.asked // 4, 5)
        self.due = now + retry + self.stream.below(max(retry // 4, 1))
        out.wake(self.due)
        contacts = self._known()
        if contacts:
            out.send(contacts[self.asked % len(contacts)], self.join)
        self.asked += 1

    def _known(self) -> list[Contact]:
        """Return whom to ask, in order: the chairman, those given, those remembered."""
        paths = self.paths
        known: list[Contact] = []
        if paths.topo is not None:
            known.append(paths.topo.chairman)
        known.extend(self.contacts)
        known.extend([owner.contact for owner in paths.owners.values()])
        for record in paths.records.values():
            known.extend(record.seats)
            if record.level == 0:
                known.extend(record.members[:4])
        mine = self.join.contact.address
        return [contact for contact in dict.fromkeys(known) if contact.address != mine]

    def forward(self, msg: Join, out: Sink) -> None:
        """Pass another's ``Join`` on to the chairman, as far as we know him."""
        topo = self.paths.topo
        if topo is not None and msg.hops < MAX_HOPS:
            out.send(topo.chairman, dataclasses.replace(msg, hops=msg.hops + 1))
