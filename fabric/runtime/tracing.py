"""The way of one request through the fabric, in the logs of all peers that it touches.

A request has a *trace*: a short id that its first receiver gives it (the REST front's request id,
say).  It travels in ``Request``, in ``HostCall`` and in the placement request itself, through
worker, entry, cell owners and host to the agent's driver.  The machine does not know of it: the
driver (:mod:`fabric.runtime.driver`) carries it from an event to the outputs that follow from it,
and each peer logs what it received and what it sent, under the logger ``fabric.requests`` at level
INFO.  Where that level is off nothing is looked at.

Logged are types of messages, ids and durations; never bodies, keys or certificates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from fabric.errors import FabricError
from fabric.ids import format_id
from fabric.limits import MAX_TRACE
from fabric.machine import Contact, Message
from fabric.placement.request import Placed
from fabric.units import MS
from fabric.wire.common import Failure, Request, Response
from fabric.wire.placement import (
    CellRefused,
    CellUnavailable,
    HostAnswer,
    HostCall,
    HostRefused,
    Place,
    PlaceAsk,
    Reserve,
    Reserved,
)

#: The trace of what the present task does. Whoever starts something sets it.
TRACE: Final[ContextVar[str]] = ContextVar("fabric_trace", default="")

LOG: Final = logging.getLogger("fabric.requests")


def _placement_trace(message: Any) -> str:
    trace: str = message.request.trace
    return trace


def _own_trace(message: Any) -> str:
    trace: str = message.trace
    return trace


#: Messages that carry a trace, and where.
CARRIERS: Final[dict[type[Any], Callable[[Any], str]]] = {
    Request: _own_trace,
    HostCall: _own_trace,
    Place: _placement_trace,
    Reserve: _placement_trace,
}
#: Answers: they carry none, and are logged when they leave.
_ANSWERS: Final = frozenset(
    {Response, Reserved, HostRefused, CellRefused, CellUnavailable, HostAnswer}
)


def acceptable(trace: str) -> bool:
    """Whether a trace from outside may stand in a log: short, printable, nothing to quote."""
    return 0 < len(trace) <= MAX_TRACE and trace.isascii() and trace.replace("-", "").isalnum()


class Tracer:
    """Logs what one peer does for traced requests."""

    def __init__(self, node_id: int) -> None:
        self._peer = format_id(node_id)

    @classmethod
    def wanted(cls, node_id: int) -> Tracer | None:
        """Return a tracer if anybody wants its lines."""
        return cls(node_id) if LOG.isEnabledFor(logging.INFO) else None

    def received(self, sender: int, message: Message) -> str:
        """Log a message of one of :data:`CARRIERS` and return its trace (empty: it has none)."""
        trace = CARRIERS[message.__class__](message)
        if not acceptable(trace):
            return ""
        what, fields = _told(message)
        self._log(trace, f"{what} from {format_id(sender)}", event="received", **fields)
        return trace

    def sent(self, to: Contact, message: Message, trace: str) -> None:
        """Log a message that leaves on behalf of ``trace``, or of its own."""
        carrier = CARRIERS.get(message.__class__)
        if carrier is None and message.__class__ not in _ANSWERS:
            return
        trace = trace or ("" if carrier is None else carrier(message))
        if acceptable(trace):
            what, fields = _told(message)
            self._log(trace, f"{what} to {format_id(to.node_id)}", event="sent", **fields)

    def ended(self, what: str, trace: str, us: int, outcome: object) -> None:
        """Log how a call, a question or an act of the driver ended."""
        if not trace:
            return
        if isinstance(outcome, FabricError):
            end = outcome.code
        elif isinstance(outcome, Placed):
            end = f"placed on {format_id(outcome.host.node_id)}"
        else:
            end = outcome if isinstance(outcome, str) else type(outcome).__name__
        ms = round(us / MS, 1)
        self._log(trace, f"{what}: {end} after {ms} ms", event="ended", outcome=end, ms=ms)

    def _log(self, trace: str, text: str, **fields: object) -> None:
        LOG.info("%s", text, extra={"trace": trace, "fields": {"peer": self._peer, **fields}})


def _told(message: Message) -> tuple[str, dict[str, object]]:
    """Return what may be said of a message: its type, and ids in it."""
    name = type(message).__name__
    fields: dict[str, object] = {"type": name}
    body = message
    if isinstance(message, Request | Response | HostCall | HostAnswer):
        body = message.body
        name = f"{name} {type(body).__name__}"
        fields["body"] = type(body).__name__
    if isinstance(body, Failure):
        name = f"{name} {body.code}"
        fields["code"] = body.code
    request = body.request if isinstance(body, Place | Reserve | PlaceAsk) else body
    for field in ("key", "vm_id", "reservation_id", "cell", "attempt"):
        value = getattr(body, field, None) or getattr(request, field, None)
        if isinstance(value, str | int):
            fields[field] = value
    return name, fields
