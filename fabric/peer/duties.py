"""What a peer does once a second for its cells: sums them up, reports, minds that they have owners.

An owner merges its members' summaries and tells the parent cell when the sum changed by enough.
It reports members that are gone to the chairman, until the cell's record agrees: a report is a
level, not an event, so losing one costs two seconds and nothing else.  Whoever is no owner minds
that there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fabric.gossip.cell import CellGossip
from fabric.machine import NEVER, Sink
from fabric.tree.owner import Ownership
from fabric.tree.summary import Summary, draining, merge, significant_change
from fabric.units import SECOND
from fabric.wire.gossip import ALIVE, DEAD, SUSPECT
from fabric.wire.tree import HOST, NO_ORDER, Owner, Report

if TYPE_CHECKING:
    from fabric.peer.cells import Cells

#: How often a report is repeated until the chairman's record agrees with it.
REPORT_US = 2 * SECOND

#: A cell with one seat (of two hosts) gets its inquest so soon: a restart takes longer anyway.
LONE_SEAT_US = 4 * SECOND


class Duties:
    """The recurring work of one peer in its cells."""

    __slots__ = (
        "calm", "cells", "due", "host_summary", "ownerless", "reported_at", "silent", "summed",
        "told",
    )  # fmt: skip

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.host_summary: Summary | None = None
        self.ownerless: dict[int, int] = {}  # cell -> since when it has no live owner
        self.silent: dict[int, int] = {}  # child cell -> since when nobody speaks for it
        self.reported_at: dict[int, int] = {}
        self.told: dict[int, Summary] = {}  # owned cell -> summary that the parent was told
        self.summed: dict[int, tuple[CellGossip, int]] = {}  # and the table it was made of
        # where all was well with the leaf and its owner, and we own nothing: the leaf's count of
        # changed statuses then.  Nothing is to be done (nor due) until it, or our path, changes.
        self.calm = -1
        self.due = NEVER

    def tick(self, now: int, out: Sink) -> None:
        """One round of duties."""
        self.due = now + self.cells.settings.summary_us
        self.calm = -1
        self._look(now, out)
        if self.calm >= 0:
            self.due = NEVER

    def _look(self, now: int, out: Sink) -> None:
        """Do what an owner does; mind that there is one."""
        cells = self.cells
        paths = cells.paths
        leaf = paths.leaf
        if not paths.complete and (leaf not in paths.owners or cells.leases.owns(leaf, now)):
            cells.joiner.doubt(now, out)  # one of a leaf asks, and passes on what it learns
        if self.host_summary is not None and draining(self.host_summary):
            cells.leases.hand_over(now, out)  # what we own goes elsewhere, like our workloads
        for cell in paths.path:
            ownership = cells.leases.ownerships.get(cell)
            gossip = cells.gossip.get(cell)
            if gossip is None:
                return
            if ownership is None:
                self._watch_owner(gossip, now, out)
                return
            if ownership.owns(now):
                ownership.standbys = cells.leases.standbys(gossip)
                self._tell_parent(gossip, out)
                if now - self.reported_at.get(cell, -NEVER) >= REPORT_US:
                    self.report(gossip, now, out)
                self.ownerless.pop(cell, None)
            elif not cells.leaving:
                well = self._mind_owner(ownership, gossip, now, out)
                if well and gossip is cells.leaf_gossip and paths.complete:
                    self.calm = gossip.statuses

    def _mind_owner(self, ownership: Ownership, gossip: CellGossip, now: int, out: Sink) -> bool:
        """Stand for election where no owner lives; tell the chairman where that goes on.

        Returns whether another member owns the cell and lives.
        """
        cell = gossip.cell
        cells = self.cells
        owner = cells.paths.owners.get(cell)
        if owner is not None and owner.contact.node_id != cells.me.node_id:
            speaker = gossip.speaker(owner.contact.node_id)
            if speaker is not None and speaker.news.state == ALIVE:
                self.ownerless.pop(cell, None)
                return True
            if speaker is None and gossip.level > 0:
                cells.introduce(cell, out)  # we may know too little yet
        since = self.ownerless.setdefault(cell, now)
        cells.leases.stand(ownership, now, out)
        # a single seat that dies leaves nobody to elect: nothing is gained by waiting for long
        lone = len(ownership.seats) == 1
        patience = LONE_SEAT_US if lone else cells.settings.ownerless_us
        if now - since >= patience:
            last = owner or Owner(cell, NO_ORDER, 0, cells.me)
            self._send_report(Report(last, (), (), True), cell, now, out)
            cells.joiner.doubt(now, out)  # it may have gone on without us
        return False

    def _watch_owner(self, gossip: CellGossip, now: int, out: Sink) -> None:
        """An observer elects nobody; but long without an owner it asks where it belongs."""
        cell = gossip.cell
        owner = self.cells.paths.owners.get(cell)
        speaker = gossip.speaker(owner.contact.node_id) if owner is not None else None
        if speaker is not None and speaker.news.state == ALIVE:
            self.ownerless.pop(cell, None)
        elif now - self.ownerless.setdefault(cell, now) >= self.cells.settings.ownerless_us:
            self.cells.joiner.doubt(now, out)

    # --- summaries and reports -------------------------------------------------------------------

    def set_host_summary(self, summary: Summary, out: Sink) -> None:
        """Take this host's own summary; the cell is told when it changed by enough."""
        old = self.host_summary
        if summary is old:
            return
        if old is None or significant_change(old, summary):
            self.host_summary = summary
            leaf = self.cells.leaf_gossip
            if leaf is not None:
                leaf.set_summary(summary)
                self.tell_owner(leaf, out)

    def tell_owner(self, gossip: CellGossip, out: Sink) -> None:
        """Owners route by what they know: they hear of changes at once, others by gossip."""
        owner = self.cells.paths.owners.get(gossip.cell)
        if owner is not None and gossip.news.summary is not None:
            gossip.tell(owner.contact, out)

    def cell_summary(self, gossip: CellGossip) -> Summary:
        """Return the summary of a whole cell, from what its members told.

        What a suspect told may not be true any more: it counts as expected, not as reported, so
        the sum says "maybe" where it might have room.
        """
        own = gossip.news.summary
        inputs = [own] if own is not None else []
        expected = 1 if gossip.level > 0 or self.cells.role == HOST else 0
        for member in gossip.members.values():
            news = member.news
            if member.observer or news.state > SUSPECT:
                continue
            expected += 1
            if news.summary is not None and news.state == ALIVE:
                inputs.append(news.summary)
        return merge(inputs, expected)

    def _tell_parent(self, gossip: CellGossip, out: Sink) -> None:
        parent = self.cells.gossip.get(self.cells.paths.records[gossip.cell].parent)
        if parent is None:
            return
        told = self.told.get(gossip.cell)
        table, version = self.summed.get(gossip.cell, (None, 0))
        if told is not None and table is gossip and version == gossip.version:
            return  # nothing changed since
        self.summed[gossip.cell] = (gossip, gossip.version)
        summary = self.cell_summary(gossip)
        if told is None or significant_change(told, summary):
            self.told[gossip.cell] = summary
            parent.set_summary(summary)
            self.tell_owner(parent, out)

    def report(self, gossip: CellGossip, now: int, out: Sink) -> None:
        """Tell the chairman of members that are gone, as long as the record still lists them."""
        stamp = self.cells.leases.ownerships[gossip.cell].stamp
        if stamp is None:
            return
        if gossip.level == 0:
            gone: tuple[int, ...] = ()
            if gossip.living < len(gossip.members):
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
            if now - since >= self.cells.settings.ownerless_us:
                silent.append(member.key)
        return tuple(silent)

    def _send_report(self, report: Report, cell: int, now: int, out: Sink) -> None:
        topo = self.cells.paths.topo
        if topo is not None:
            self.reported_at[cell] = now
            out.send(topo.chairman, report)
