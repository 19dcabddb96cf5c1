"""Answering calls: what a peer is asked by its own process, and by others in a ``Request``.

A caller is answered in the same way wherever he is (:class:`~fabric.peer.calls.Caller`), mostly at
once.  Later come the answers to a placement (the router's), to an adoption (once the coordinator
has taken all of it) and to the wish to leave (once the goodbyes are said).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fabric.errors import BadInput, NotFound
from fabric.machine import NEVER, Sink
from fabric.peer import reading, seeing
from fabric.peer.calls import Caller
from fabric.peer.notices import LeftNotice
from fabric.placement.router import Router
from fabric.tree.chairman import Chairman
from fabric.wire.adoption import AdoptAsk
from fabric.wire.common import Done, Request
from fabric.wire.peer import LeaveAsk, MembersAsk, StatusAsk
from fabric.wire.tree import Leave

if TYPE_CHECKING:
    from fabric.peer.compose import Peer


def on_request(peer: Peer, sender: int, msg: Request, now: int, out: Sink) -> None:
    """Another peer asks for something; the answer goes to nobody but itself."""
    if msg.reply_to.node_id not in (0, sender):
        return
    if msg.body.__class__ is LeaveAsk:
        caller = Caller(msg.request_id, msg.reply_to)
        caller.respond(out, BadInput("a peer leaves only at its own process's wish"))
        return
    call(peer, Caller(msg.request_id, msg.reply_to, msg.trace), msg.body, now, out)


def call(peer: Peer, caller: Caller, body: Any, now: int, out: Sink) -> None:
    """Do what a caller wants, wherever he is."""
    cls = body.__class__
    if cls is StatusAsk:
        presides = peer.chairman is not None and peer.chairman.presides(now)
        caller.respond(out, reading.status(peer.cells, peer.candidate, presides, now))
    elif cls is MembersAsk:
        caller.respond(out, reading.members(peer.cells, body.cell, now))
    elif cls in seeing.ASKS:
        caller.respond(out, seeing.answer(body, peer.cells, peer.chairman, now, out))
    elif cls is AdoptAsk:
        _adopt(peer, caller, body, now, out)
    elif cls is LeaveAsk:
        _leave(peer, caller, now, out)
    elif cls in Router.ASKS:
        peer.router.ask(caller, body, now, out)
        peer.after_placement(out)
    else:
        caller.respond(out, BadInput(f"a peer does not answer {cls.__name__}"))


def _adopt(peer: Peer, caller: Caller, ask: AdoptAsk, now: int, out: Sink) -> None:
    if peer.chairman is None:
        caller.respond(out, NotFound("this peer is no candidate"))
        return
    answer = peer.chairman.adopt(ask, now, out)
    if answer is not None:
        caller.respond(out, answer)
    else:
        peer.adopter = caller


def tell_adopter(peer: Peer, chairman: Chairman, out: Sink) -> None:
    """An adoption came to its end, well or badly."""
    outcome, chairman.adoption.outcome = chairman.adoption.outcome, None
    caller, peer.adopter = peer.adopter, None
    if caller is not None and outcome is not None:
        caller.respond(out, outcome)


def _leave(peer: Peer, caller: Caller, now: int, out: Sink) -> None:
    def goodbye(now: int, out: Sink) -> None:
        _goodbye(peer, now, out)
        caller.respond(out, Done())

    peer.joiner.due = NEVER
    if peer.cells.farewell is None:
        peer.cells.leave(goodbye, now, out)
    else:
        caller.respond(out, Done())  # asked twice


def _goodbye(peer: Peer, now: int, out: Sink) -> None:
    peer.cells.goodbye(out)
    if peer.chairman is not None:
        peer.chairman.on_leave(Leave(peer.me, peer.boot_id), now, out)
        peer.chairman.lease.resign(peer.chairman.next_token(), out)
    if peer.paths.topo is not None:
        out.send(peer.paths.topo.chairman, Leave(peer.me, peer.boot_id))
    out.notify(LeftNotice())
