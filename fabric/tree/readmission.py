"""Letting those in again who were gone: only once they have shown that they hear us.

A peer that is heard and hears nothing (a firewall, a broken cable) would otherwise be taken in at
each of its joins, sit and vote nowhere, be found gone and removed, and so on for ever; and as each
join counts as a sign of life, it might never even be removed.  So whoever was reported gone, or was
removed, is first asked for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fabric.machine import Contact, Sink
from fabric.wire.tree import Here, Inquest, Join, Path, Topo

#: Those removed longest ago are forgotten beyond this many; they are then as good as new.
MAX_REMEMBERED: Final = 20_000
#: An inquest on no cell: are you there yourself?
NO_CELL: Final = 0


class Readmission:
    """Who was removed, and who of them has been asked whether they hear us."""

    __slots__ = ("asked", "me", "number", "removed")

    def __init__(self, me: Contact) -> None:
        self.me = me
        self.number = 0
        self.removed: dict[int, None] = {}
        self.asked: dict[int, tuple[int, Join]] = {}

    def note(self, node_ids: Iterable[int]) -> None:
        """These were removed."""
        for node_id in node_ids:
            self.removed.pop(node_id, None)
            self.removed[node_id] = None
        while len(self.removed) > MAX_REMEMBERED:
            del self.removed[next(iter(self.removed))]

    def ask(self, join: Join, topo: Topo | None, out: Sink) -> None:
        """Have whoever joins show that it hears us; it must know who asks."""
        self.number += 1
        node_id = join.contact.node_id
        self.asked.pop(node_id, None)
        self.asked[node_id] = (self.number, join)
        if len(self.asked) > MAX_REMEMBERED:
            del self.asked[next(iter(self.asked))]
        out.send(join.contact, Path(topo, (), ()))
        out.send(join.contact, Inquest(NO_CELL, self.number))

    def answered(self, sender: int, msg: Here) -> Join | None:
        """Return the join of ``sender`` if this answers what it was asked for it."""
        number, join = self.asked.get(sender, (0, None))
        if join is None or msg.number != number:
            return None
        del self.asked[sender]
        self.removed.pop(sender, None)
        return join
