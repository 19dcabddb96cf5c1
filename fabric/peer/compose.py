"""The peer: the one place where the machines of gossip, tree, chair and placement meet.

Theory of operation
-------------------
A :class:`Peer` is itself a machine.  It hands each message to the part that speaks it (one table,
:data:`_HANDLERS`), each timer to the parts that are due, and local calls to the same code as
requests from afar (:mod:`fabric.peer.answering`).  The parts do not call each other: gossip writes
the member tables, the tree writes owners and records, placement reads both.

=====================  ==============================================================
``paths``              what we hold of the topology (writer: :class:`Cells`)
``cells``              gossip, candidacies and seats (:mod:`fabric.peer.cells`)
``joiner``             finding our place
``twins``              other processes under our node id
``chairman``           only in candidates
``router``             placement: entry, cell owner and host's desk
``books``              only in hosts: capacity and VMs (``agent``)
=====================  ==============================================================

Stored under the peer's data directory: ``topo/...`` (the path, so that we find back to the tree),
``seat/<cell>`` (what a seat must not forget) and ``host/...`` (the books).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from fabric.machine import (
    NEVER,
    Contact,
    Coordinated,
    Driven,
    Event,
    LocalCall,
    Machine,
    Persisted,
    PersistFailed,
    Received,
    Sink,
    Woken,
)
from fabric.peer import answering
from fabric.peer.calls import Caller
from fabric.peer.cells import Cells
from fabric.peer.leases import Leases
from fabric.peer.notices import DiskNotice, JoinRefusedNotice
from fabric.peer.tables import CellTables
from fabric.peer.twins import Twins
from fabric.placement.host import HOST_PREFIX, HostBooks
from fabric.placement.router import HANDLERS, Router
from fabric.settings import Settings
from fabric.stream import Stream
from fabric.tree.chairman import Chairman
from fabric.tree.joining import Joiner
from fabric.tree.stored import StoredPath
from fabric.tree.topology import PathStore, newest_order
from fabric.units import SECOND
from fabric.wire.common import Request
from fabric.wire.gossip import Ack, Ping, ProbeAnswer, ProbeFor, Suspect, Sync, SyncAsk
from fabric.wire.tree import (
    HOST,
    OBSERVER,
    CellRecord,
    HandOver,
    Here,
    Inquest,
    Join,
    JoinRefused,
    LeaseAsk,
    LeaseDeny,
    LeaseGrant,
    LeaseRelease,
    Leave,
    NotMember,
    Opinion,
    OpinionAsk,
    Path,
    PathStamps,
    Report,
    TopoAsk,
    Twin,
    Vacant,
)

#: The path is stored at most so often: it only has to lead us back to somebody who knows better.
STORE_PATH_US: Final = 5 * SECOND
#: And never at once: changes come in groups.
STORE_AFTER_US: Final = 1 * SECOND


class Peer(Machine):
    """One peer of the fabric, without I/O."""

    __slots__ = (
        "adopter", "books", "boot_id", "candidate", "cells", "chairman", "create", "joiner", "me",
        "path_due", "path_stored_at", "paths", "router", "router_due", "settings", "stored",
        "stored_path", "tables", "twins",
    )  # fmt: skip

    def __init__(
        self,
        settings: Settings,
        me: Contact,
        boot_id: int,
        stream: Stream,
        *,
        books: HostBooks | None = None,
        candidate: bool = False,
        create: bool = False,
        join: Sequence[str] = (),
        zone: str = "",
        stored: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Make a peer that is not running yet.

        ``create`` allows a candidate to make a new topology where its coordinator holds none.
        ``stored`` is what the data directory holds.  ``stream`` is the peer's only randomness.
        """
        self.settings = settings
        self.me = me
        self.boot_id = boot_id
        self.books = books
        self.candidate = candidate
        self.create = create
        self.stored = dict(stored)
        self.paths = PathStore(me.node_id)
        self.stored_path = StoredPath()
        self.stored_path.restore(self.paths, self.stored)
        role = HOST if books is not None else OBSERVER
        contacts = [Contact(0, address) for address in join]
        hello = Join(me, boot_id, role, zone, 0, 0)
        self.joiner = Joiner(hello, contacts, self.paths, settings, stream, 0)
        seats = {k: v for k, v in self.stored.items() if k.startswith(b"seat/")}
        self.cells = Cells(me, boot_id, role, self.paths, self.joiner, settings, stream, seats)
        self.twins = Twins(me, boot_id, stream)
        self.chairman: Chairman | None = None
        self.adopter: Caller | None = None  # who waits for an adoption to be written
        self.tables = CellTables(self.cells)
        self.router = Router(self.tables, books, stream)
        self.router_due = NEVER  # kept here: asking the router costs more than a plain tick
        self.path_stored_at = -NEVER
        self.path_due = NEVER  # when it is stored the next time

    def start(self, now: int, out: Sink) -> None:
        """Take the first turn: restore the books, take the old place, ask for the present one."""
        self.twins.started_at = now
        books = self.books
        if books is not None:
            held = [(k, v) for k, v in self.stored.items() if k.startswith(HOST_PREFIX)]
            books.restore(held, now, out)
            self.router.restored(out)
            self.after_placement(out)
        if self.candidate:
            self.chairman = Chairman(self.me, self.settings, self.create, now)
            stored = newest_order(self.paths.newest())
            self.chairman.witness(stored, now, out, stored=True)
        self.stored = {}
        self.cells.settle(now, out)
        self.joiner.due = now
        self._tick(now, out)

    # --- events ----------------------------------------------------------------------------------

    def handle(self, event: Event, now: int, out: Sink) -> None:
        """Take one event."""
        cls = event.__class__
        if cls is Woken:
            self._tick(now, out)
        elif isinstance(event, Received):
            self.receive(event.sender, event.message, now, out)
        elif cls is LocalCall:
            assert isinstance(event, LocalCall)
            answering.call(self, Caller(event.call_id, None, event.trace), event.request, now, out)
        elif isinstance(event, Coordinated):
            self._coordinated(event, now, out)
        elif isinstance(event, Driven):
            self.router.driven(event, now, out)
            self.after_placement(out)
        elif isinstance(event, PersistFailed):
            out.notify(DiskNotice(event.reason))
        else:
            assert isinstance(event, Persisted)

    def receive(self, sender: int, message: Any, now: int, out: Sink) -> None:
        """Take a message."""
        kind = message.__class__
        if kind is Ping or kind is Ack:
            self._probed(sender, message, now, out)
            return
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self, sender, message, now, out)

    def _probed(self, sender: int, message: Any, now: int, out: Sink) -> None:
        """Take a ping or an ack: most of what arrives, and nearly always of the leaf cell."""
        gossip = self.cells.leaf_gossip
        if gossip is None or gossip.cell != message.cell:
            gossip = self.cells.gossip.get(message.cell)
            if gossip is None:
                return
        if message.__class__ is Ping:
            gossip.on_ping(sender, message, now, out)
            return
        due = gossip.due
        gossip.on_ack(sender, message, now, out)
        if gossip.due > due:
            self._rest(out)

    def _tick(self, now: int, out: Sink) -> None:
        cells = self.cells
        leaf = cells.leaf_gossip
        if leaf is not None and leaf.due <= now:
            leaf.tick(now, out)
            if leaf.statuses != cells.duties.calm:
                cells.rouse(now)
        if cells.due <= now:
            cells.tick(now, out)
        if self.joiner.due <= now:
            self._tick_joiner(now, out)
        if self.chairman is not None and self.chairman.due <= now:
            self.chairman.tick(now, out)
        if self.router_due <= now:
            self.router.tick(now, out)
            self.after_placement(out)
        if self.path_due <= now:
            self._store_path(now, out)
        self._rest(out)

    def _rest(self, out: Sink) -> None:
        """Be woken when something is due, and not before: a probe that was answered, say."""
        cells = self.cells
        due = cells.due
        leaf = cells.leaf_gossip
        if leaf is not None and leaf.due < due:
            due = leaf.due
        if self.joiner.due < due:
            due = self.joiner.due
        if self.router_due < due:
            due = self.router_due
        if self.chairman is not None and self.chairman.due < due:
            due = self.chairman.due
        if self.path_due < due:
            due = self.path_due
        out.rest(due)

    def _tick_joiner(self, now: int, out: Sink) -> None:
        self.joiner.tick(now, out)
        if self.chairman is not None and self.chairman.presides(now):
            self.chairman.on_join(self.joiner.join, now, out)

    def _store_path(self, now: int, out: Sink) -> None:
        self.path_due = NEVER
        self.path_stored_at = now
        out.persist(self.stored_path.writes(self.paths), 0)

    # --- topology --------------------------------------------------------------------------------

    def _on_path(self, sender: int, msg: Path, now: int, out: Sink) -> None:
        self.cells.heard(sender, now)
        fresh = self.cells.adopt(sender, msg, now, out)
        # owners and the count of writes are old news after a restart anyway; but a candidate must
        # not forget the newest topology that it ever knew
        if fresh is not None and (fresh.records or self.candidate) and self.path_due == NEVER:
            self.path_due = max(now + STORE_AFTER_US, self.path_stored_at + STORE_PATH_US)
            out.wake(self.path_due)
        if fresh is not None:
            self.twins.look(fresh.records, now, out)
        self._witness(msg, now, out)
        topo = self.paths.topo
        told_by_chairman = topo is not None and topo.chairman.node_id == sender
        if msg.records and told_by_chairman and self.paths.placed:
            self.joiner.settled()

    def _witness(self, news: Path, now: int, out: Sink) -> None:
        """Let our chairman know what the fabric knows: its coordinator must not know less."""
        if self.chairman is not None:
            self.chairman.witness(newest_order(news), now, out)

    def _on_topo_ask(self, sender: int, msg: TopoAsk, now: int, out: Sink) -> None:
        if sender == msg.asker.node_id and self.paths.topo is not None:
            out.send(msg.asker, self.paths.newest())

    def _on_join(self, sender: int, msg: Join, now: int, out: Sink) -> None:
        contact = msg.contact
        if contact.node_id == self.me.node_id and contact.address != self.me.address:
            self.twins.seen(contact, now, out)
        elif self.chairman is not None and self.chairman.presides(now):
            self.chairman.on_join(msg, now, out)
        else:
            self.joiner.forward(msg, out)

    def _on_join_refused(self, sender: int, msg: JoinRefused, now: int, out: Sink) -> None:
        out.notify(JoinRefusedNotice(msg.code, msg.message))

    def _on_twin(self, sender: int, msg: Twin, now: int, out: Sink) -> None:
        if self.twins.on_twin(sender, msg, now, out):
            self.joiner.doubt(now, out)  # our place may be down under the other's address

    def _on_leave(self, sender: int, msg: Leave, now: int, out: Sink) -> None:
        if self.chairman is not None and sender == msg.contact.node_id:
            self.chairman.on_leave(msg, now, out)

    def _on_report(self, sender: int, msg: Report, now: int, out: Sink) -> None:
        if self.chairman is not None:
            self.chairman.on_report(sender, msg, now, out)

    def _on_not_member(self, sender: int, msg: NotMember, now: int, out: Sink) -> None:
        self.joiner.doubt(now, out)  # whoever says so: asking costs one message a second at most

    def _on_inquest(self, sender: int, msg: Inquest, now: int, out: Sink) -> None:
        topo = self.paths.topo
        if topo is not None and topo.chairman.node_id == sender:
            out.send(topo.chairman, Here(msg.cell, msg.number))

    def _on_here(self, sender: int, msg: Here, now: int, out: Sink) -> None:
        if self.chairman is not None:
            self.chairman.on_here(sender, msg, now, out)

    def _on_opinion(self, sender: int, msg: Opinion, now: int, out: Sink) -> None:
        if self.chairman is not None:
            self.chairman.on_opinion(sender, msg, now, out)

    def _coordinated(self, event: Coordinated, now: int, out: Sink) -> None:
        if self.chairman is None:
            return
        self.chairman.coordinated(event.token, event.answer, now, out)
        if self.chairman.adoption.outcome is not None:
            answering.tell_adopter(self, self.chairman, out)
        self.joiner.insist_on(self.chairman.lease.coordinator_id)
        if self.chairman.presides(now) and not self.paths.placed:
            self.joiner.doubt(now, out)

    def record_of(self, cell: int) -> CellRecord | None:
        """Return the record of ``cell`` that we hold, if any."""
        return self.paths.records.get(cell)

    def _on_placement(self, sender: int, msg: Any, now: int, out: Sink) -> None:
        self.router.handle_message(sender, msg, now, out)
        self.after_placement(out)

    def after_placement(self, out: Sink) -> None:
        """Note the router's next deadline, and tell the cell what the books have room for now."""
        self.router_due = self.router.due
        if self.books is not None:
            self.cells.duties.set_host_summary(self.books.summary(), out)


Handler = Callable[[Peer, int, Any, int, Sink], None]


def _in_cell(method: str) -> Handler:
    """Return a handler that gives the message to the gossip of the cell that it names."""
    from fabric.gossip.cell import CellGossip

    function = getattr(CellGossip, method)

    def handler(peer: Peer, sender: int, msg: Any, now: int, out: Sink) -> None:
        gossip = peer.cells.gossip.get(msg.cell)
        if gossip is not None:
            function(gossip, sender, msg, now, out)

    return handler


def _in_cells(method: str) -> Handler:
    """Return a handler that gives the message to :class:`Cells`."""
    function = getattr(Cells, method)

    def handler(peer: Peer, sender: int, msg: Any, now: int, out: Sink) -> None:
        function(peer.cells, sender, msg, now, out)

    return handler


def _in_leases(method: str) -> Handler:
    """Return a handler that gives the message to :class:`~fabric.peer.leases.Leases`."""
    function = getattr(Leases, method)

    def handler(peer: Peer, sender: int, msg: Any, now: int, out: Sink) -> None:
        function(peer.cells.leases, sender, msg, now, out)
        peer.cells.reckon()
        peer._rest(out)

    return handler


#: Who takes which message; :meth:`Peer._probed` the others.
_HANDLERS: Final[dict[type[Any], Handler]] = {
    ProbeFor: _in_cell("on_probe_for"),
    ProbeAnswer: _in_cell("on_probe_answer"),
    Suspect: _in_cell("on_suspect"),
    SyncAsk: _in_cell("on_sync_ask"),
    Sync: _in_cell("on_sync"),
    PathStamps: _in_cells("on_stamps"),
    OpinionAsk: _in_cells("on_opinion_ask"),
    LeaseAsk: _in_leases("on_lease_ask"),
    LeaseGrant: _in_leases("on_lease_grant"),
    LeaseDeny: _in_leases("on_lease_deny"),
    LeaseRelease: _in_leases("on_lease_release"),
    HandOver: _in_leases("on_hand_over"),
    Vacant: _in_leases("on_vacant"),
    Path: Peer._on_path,
    Join: Peer._on_join,
    Twin: Peer._on_twin,
    JoinRefused: Peer._on_join_refused,
    Leave: Peer._on_leave,
    Report: Peer._on_report,
    TopoAsk: Peer._on_topo_ask,
    NotMember: Peer._on_not_member,
    Inquest: Peer._on_inquest,
    Here: Peer._on_here,
    Opinion: Peer._on_opinion,
    Request: answering.on_request,
    **dict.fromkeys(HANDLERS, Peer._on_placement),
}
