"""The placement machine of one peer: entry, cell owner and host at once.

Which of the three a message is for follows from its class; an owner's jobs have even numbers and
an entry's odd ones, so refusals find theirs.  A peer that is all three at once sends to itself.

The peer hands in messages (:attr:`Router.HANDLERS` lists their classes), callers' asks
(:attr:`Router.ASKS` and everything of ``fabric.wire.host``), what the hypervisor finished, and
time.  The tables are read only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from fabric.errors import BadInput, NotBuiltYet
from fabric.limits import MAX_PLACE_TIMEOUT_MS
from fabric.machine import NEVER, Driven, Message, Sink
from fabric.peer.calls import Caller
from fabric.placement.entry import Entry
from fabric.placement.host import HostBooks
from fabric.placement.hosting import NO_AGENT, Hosting
from fabric.placement.routing import Routing
from fabric.placement.tables import Tables
from fabric.stream import Stream
from fabric.wire.host import (
    AuditAsk,
    Confirm,
    CreateVm,
    DeleteVm,
    Drain,
    ListVms,
    PowerVm,
    Release,
)
from fabric.wire.placement import (
    CellRefused,
    CellUnavailable,
    ConfirmAsk,
    HostAnswer,
    HostCall,
    HostRefused,
    Place,
    PlaceAsk,
    ReleaseAsk,
    Reserve,
    Reserved,
)

#: Calls to this host's own books.
HOST_CALLS: Final = (Confirm, Release, CreateVm, DeleteVm, PowerVm, Drain, ListVms, AuditAsk)


class Router:
    """Placement at one peer. Its outputs go to the peer's sink; its tables are the peer's."""

    __slots__ = ("_wished", "due", "entry", "hosting", "routing", "tables")

    #: What callers ask, locally or in a ``Request``: hand these to :meth:`ask`.
    ASKS: ClassVar[frozenset[type[Any]]] = frozenset(
        {PlaceAsk, ConfirmAsk, ReleaseAsk, *HOST_CALLS}
    )

    def __init__(self, tables: Tables, books: HostBooks | None, stream: Stream) -> None:
        self.tables = tables
        self.entry = Entry(tables, stream)
        self.routing = Routing(tables, stream)
        self.hosting = Hosting(books)
        self._wished = NEVER
        self.due = NEVER  # when :meth:`tick` wants to be called (µs)

    def restored(self, out: Sink) -> None:
        """The books were loaded: they may hold what expires."""
        self._arm(out)

    def handle_message(self, sender: int, message: Message, now: int, out: Sink) -> None:
        """Take a message of one of the classes in :attr:`HANDLERS`."""
        HANDLERS[message.__class__](self, sender, message, now, out)
        self._arm(out)

    def ask(self, caller: Caller, body: Message, now: int, out: Sink) -> None:
        """Do what a caller asks; it is answered through ``caller``, now or later."""
        match body:
            case PlaceAsk():
                self.entry.place(caller, body, now, out)
            case ConfirmAsk():
                self.entry.confirm(caller, body.placed, body.timeout_ms, now, out)
            case ReleaseAsk():
                self.entry.release(caller, body.placed, body.timeout_ms, now, out)
            case _ if body.__class__ not in self.ASKS:
                name = type(body).__name__
                caller.respond(out, NotBuiltYet(f"placement knows no call {name}"))
            case _ if not self.hosting.has_books:
                caller.respond(out, NO_AGENT)
            case _ if caller.reply_to is None:
                # through a message to ourselves: only a message can wait for the disk
                me, timeout_ms = self.tables.me, MAX_PLACE_TIMEOUT_MS
                self.entry.call(caller, me, body, timeout_ms, now, out)
            case _:
                self.hosting.request(caller, body, now, out)
        self._arm(out)

    def driven(self, event: Driven, now: int, out: Sink) -> None:
        """The hypervisor finished a call of the books."""
        self.hosting.driven(event, now, out)
        self._arm(out)

    def tick(self, now: int, out: Sink) -> None:
        """Do what is due."""
        self._wished = NEVER
        if self.entry.due <= now:
            self.entry.tick(now, out)
        if self.routing.due <= now:
            self.routing.tick(now)
        if self.hosting.due <= now:
            self.hosting.tick(now, out)
        self._arm(out)

    def _arm(self, out: Sink) -> None:
        """Wish to be woken when something is due earlier than the last wish."""
        self.due = due = min(self.entry.due, self.routing.due, self.hosting.due)
        if due < self._wished:
            self._wished = due
            out.wake(due)

    # --- dispatch ---------------------------------------------------------------------------------

    def _place(self, _sender: int, message: Place, now: int, out: Sink) -> None:
        try:
            message.request.check()  # entries have; a forged or newer request may hold anything
        except BadInput as bad:
            answer = CellUnavailable(message.job, message.cell, bad.code, bad.message)
            out.send(message.asker, answer)
            return
        self.routing.place(message, now, out)

    def _reserve(self, _sender: int, message: Reserve, now: int, out: Sink) -> None:
        self.hosting.reserve(message, now, out)

    def _reserved(self, sender: int, message: Reserved, now: int, out: Sink) -> None:
        self.entry.reserved(sender, message, now, out)

    def _host_refused(self, sender: int, message: HostRefused, now: int, out: Sink) -> None:
        self.routing.host_refused(sender, message, now, out)

    def _cell_refused(self, sender: int, message: CellRefused, now: int, out: Sink) -> None:
        if message.job & 1:
            self.entry.cell_refused(message, now, out)
        else:
            self.routing.cell_refused(sender, message, now, out)

    def _cell_unavailable(self, sender: int, message: CellUnavailable, now: int, out: Sink) -> None:
        if message.job & 1:
            self.entry.cell_unavailable(message, now)
        else:
            self.routing.cell_unavailable(sender, message, now, out)

    def _host_call(self, _sender: int, message: HostCall, now: int, out: Sink) -> None:
        self.hosting.host_call(message, now, out)

    def _host_answer(self, sender: int, message: HostAnswer, _now: int, out: Sink) -> None:
        self.entry.host_answer(sender, message, out)


#: Message classes that placement takes, and by what.
HANDLERS: Final[dict[type[Any], Callable[[Any, int, Any, int, Sink], None]]] = {
    Place: Router._place,
    Reserve: Router._reserve,
    Reserved: Router._reserved,
    HostRefused: Router._host_refused,
    CellRefused: Router._cell_refused,
    CellUnavailable: Router._cell_unavailable,
    HostCall: Router._host_call,
    HostAnswer: Router._host_answer,
}
