"""The host's desk: hands what arrives to the books, and their answers to whoever asked.

This is where "persist before send" is kept for everything that a host promises: an answer with
writes leaves as a promise behind them.
"""

from __future__ import annotations

from typing import NamedTuple

from fabric.machine import NEVER, Contact, Driven, Message, Sink
from fabric.peer.calls import Caller
from fabric.placement.host import Answer, HostBooks
from fabric.tree.summary import NOTHING
from fabric.wire.common import Failure
from fabric.wire.placement import HostAnswer, HostCall, HostRefused, Reserve, Reserved

NO_AGENT = Failure("NotFound", "this peer has no agent")


class Asker(NamedTuple):
    """Who waits for a host call: a caller's request, or an entry's job (0: nobody)."""

    caller: Caller | None
    entry: Contact | None
    job: int


NOBODY = Asker(None, None, 0)


class Hosting:
    """Serves one host's books. Without books it says so to everybody."""

    __slots__ = ("_askers", "_books", "_last_token")

    def __init__(self, books: HostBooks | None) -> None:
        self._books = books
        self._askers: dict[int, Asker] = {}
        self._last_token = 0

    @property
    def has_books(self) -> bool:
        """Whether this peer is a host."""
        return self._books is not None

    @property
    def due(self) -> int:
        """When :meth:`tick` wants to be called."""
        return NEVER if self._books is None else self._books.due

    def reserve(self, ask: Reserve, now: int, out: Sink) -> None:
        """An owner asks us to hold room: success goes to the entry, refusal to the owner."""
        if self._books is None:
            out.send(ask.asker, HostRefused(ask.job, "no agent", NOTHING))
            return
        answer = self._books.reserve(ask, now)
        to = ask.entry if isinstance(answer.body, Reserved) else ask.asker
        if answer.writes:
            out.promise(answer.writes, to, answer.body)
        else:
            out.send(to, answer.body)

    def host_call(self, call: HostCall, now: int, out: Sink) -> None:
        """An entry wants something done on this host."""
        self._call(call.body, Asker(None, call.entry, call.job), now, out)

    def request(self, caller: Caller, body: Message, now: int, out: Sink) -> None:
        """A remote caller wants something done on this host."""
        self._call(body, Asker(caller, None, 0), now, out)

    def driven(self, event: Driven, now: int, out: Sink) -> None:
        """The hypervisor finished a call."""
        if self._books is None:
            return
        answers = self._books.driven(event.token, event.result, event.error, now, out)
        for token, answer in answers:
            self._deliver(self._askers.pop(token, NOBODY), answer, out)

    def tick(self, now: int, out: Sink) -> None:
        """Expire what is over."""
        if self._books is not None:
            writes = self._books.tick(now, out)
            if writes:
                out.persist(writes, 0)

    def _call(self, body: Message, asker: Asker, now: int, out: Sink) -> None:
        if self._books is None:
            self._deliver(asker, Answer(NO_AGENT), out)
            return
        self._last_token = token = self._last_token + 1
        answer = self._books.call(body, token, now, out)
        if answer.body is None:
            self._askers[token] = asker
        self._deliver(asker, answer, out)

    def _deliver(self, asker: Asker, answer: Answer, out: Sink) -> None:
        """Send the answer behind its writes; without anybody to tell, only write."""
        body = answer.body
        if body is None or (asker.caller is None and not asker.job):
            if answer.writes:
                out.persist(answer.writes, 0)
        elif asker.caller is not None:
            asker.caller.promise(out, answer.writes, body)
        elif asker.entry is not None:
            message = HostAnswer(asker.job, body)
            if answer.writes:
                out.promise(answer.writes, asker.entry, message)
            else:
                out.send(asker.entry, message)
