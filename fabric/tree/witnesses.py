"""Whether the coordinator is the newest: what peers are known to hold.

A coordinator that knows less than the peers was emptied, or restored from an old copy.  What the
peers know the chairman hears from its own peer and from the reports of owners.  Where its own peer
is behind what it read, or has only just started, others may be ahead of that as well: then it asks
the root's seats first, once in each of its terms as chairman.
"""

from __future__ import annotations

from fabric.coordination.interface import Epoch
from fabric.machine import Contact, Sink
from fabric.tree.planner import Plan
from fabric.wire.tree import NO_ORDER, Order, TopoAsk


class Witnesses:
    """The newest topology that anybody is known to hold."""

    __slots__ = ("_asked", "_in_touch", "me", "newest")

    def __init__(self, me: Contact) -> None:
        self.me = me
        self.newest = NO_ORDER
        self._in_touch = False  # whether anybody told us of a topology since we started
        self._asked: Epoch | None = None  # our epoch under which we asked what others hold

    def say(self, order: Order, stored: bool = False) -> bool:
        """Somebody holds a topology, or a cell, of ``order``. Returns whether that is news.

        ``stored``: our own peer did, when it stopped.
        """
        self._in_touch = self._in_touch or not stored
        if order <= self.newest:
            return False
        self.newest = order
        return True

    def ask(self, held: Order, epoch: Epoch | None, plan: Plan, out: Sink) -> bool:
        """Ask those who may know more than the coordinator, which holds ``held``.

        Returns whether anybody is to be waited for: not again under the same ``epoch`` of ours.
        """
        current = self._in_touch and self.newest >= held
        if current or held == NO_ORDER or self._asked == epoch:
            return False
        self._asked = epoch
        root = plan.cells.get(plan.root)
        for node_id in root.seats if root is not None else ():
            if node_id != self.me.node_id:
                out.send(plan.contacts[node_id], TopoAsk(self.me))
        return True
