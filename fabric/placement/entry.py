"""The entry: takes placements from callers, sends them into the tree, and answers.

Theory of operation
-------------------
Any peer can be the entry.  A :class:`Job` per request key sends ``Place`` to the highest owner it
knows on its path and waits:

* the first ``Reserved`` wins; a second host that reserved under the same key is released at once;
* a proven refusal of the root is the answer; after a retry it waits a moment for a success that
  may still be on its way;
* no answer in time, or "unavailable": sent again under the same key with the next attempt, until
  the deadline; then ``Unavailable``, never ``Refused``.  The first retry takes the same way, so
  that a lost answer is found again; later ones go to lower owners in turn with the root's, since
  an inner or leaf owner may succeed while the root's is being replaced.  Only the root can refuse.

Asked again under a key in flight, a caller waits with the others; after success it gets the same
answer for as long as the reservation can live.  Attempts on the wire are ``caller's attempt * 4096
+ retries``, so a caller that has given up an attempt outranks all its retries.

Confirm and release go to the host as :class:`HostCall`, repeated until answered: both are
idempotent.  A timer heap holds one entry per job; outdated ones are skipped.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

from fabric.errors import Conflict, DeadlineExceeded, FabricError, Overloaded, OwnerUnknown
from fabric.limits import (
    HOST_ANSWER_US,
    MAX_ENTRY_JOBS,
    MAX_FINISHED_KEYS,
    MAX_PLACE_TIMEOUT_MS,
    OWNER_WAIT_US,
)
from fabric.machine import NEVER, Contact, Message, Sink
from fabric.peer.calls import Caller
from fabric.placement.request import Placed, PlacementRequest
from fabric.placement.tables import Tables
from fabric.stream import Stream
from fabric.units import MS
from fabric.wire.common import Done
from fabric.wire.host import Confirm, Release
from fabric.wire.placement import (
    CellRefused,
    CellUnavailable,
    HostAnswer,
    HostCall,
    Place,
    PlaceAsk,
    Refusal,
    Reserved,
)

#: How long an attempt has before the request is sent again.
RETRY_US: Final = HOST_ANSWER_US
#: After "unavailable" was answered: long enough for a lease to move or a summary to arrive.
PAUSE_US: Final = 200 * MS
#: How often a request without a known owner looks again.
LOOK_US: Final = 100 * MS
#: Retries of one caller's attempt.
RETRIES: Final = 4096
#: Callers that wait for the same key; a caller that asks that often is broken.
MAX_CALLERS: Final = 16


@dataclass(slots=True)
class Job:
    """One key being placed."""

    number: int
    request: PlacementRequest
    callers: list[Caller]
    attempt: int
    deadline: int
    next_at: int = NEVER
    sent_at: int = 0
    """When it was first sent; 0 before."""
    retries: int = 0
    ownerless_since: int = 0
    """Since when no owner is known; 0 while one is."""
    refusal: Refusal | None = None
    reason: str = "no answer"


@dataclass(slots=True)
class Finished:
    """What a key got, for callers that ask again."""

    request: PlacementRequest
    placed: Placed
    confirmed: bool = False
    released: bool = False


@dataclass(slots=True)
class Call:
    """A host call under way: sent again until answered."""

    number: int
    caller: Caller
    host: Contact
    body: Message
    deadline: int
    repeat: bool
    next_at: int = field(default=NEVER)


class Entry:
    """All placements and host calls that callers asked of this peer."""

    __slots__ = (
        "_by_key",
        "_calls",
        "_finished",
        "_jobs",
        "_last",
        "_stream",
        "_tables",
        "_timers",
    )

    def __init__(self, tables: Tables, stream: Stream) -> None:
        self._tables = tables
        self._stream = stream
        self._jobs: dict[int, Job] = {}
        self._by_key: dict[str, Job] = {}
        self._calls: dict[int, Call] = {}
        self._finished: dict[str, Finished] = {}  # oldest first
        self._timers: list[tuple[int, int]] = []
        self._last = 0

    @property
    def due(self) -> int:
        """When :meth:`tick` wants to be called."""
        return self._timers[0][0] if self._timers else NEVER

    def __len__(self) -> int:
        return len(self._jobs) + len(self._calls)

    # --- callers ----------------------------------------------------------------------------------

    def place(self, caller: Caller, ask: PlaceAsk, now: int, out: Sink) -> None:
        """Place a request, or join the placement of the same key."""
        request = ask.request
        try:
            request.check()
            job = self._by_key.get(request.key)
            if job is not None:
                self._join(job, caller, request)
                return
            finished = self._finished.get(request.key)
            if finished is not None and _still_good(finished, ask, now):
                if finished.request != request:
                    raise _other_request(request)
                caller.respond(out, finished.placed)
                return
            self._check_room()
        except FabricError as error:
            caller.respond(out, error)
            return
        attempt = ask.attempt * RETRIES
        if finished is not None:
            attempt = max(attempt, finished.placed.attempt)
        deadline = now + min(max(ask.timeout_ms, 1), MAX_PLACE_TIMEOUT_MS) * MS
        job = Job(self._number(), request, [caller], attempt, deadline)
        self._jobs[job.number] = job
        self._by_key[request.key] = job
        self._send(job, now, out)

    def confirm(self, caller: Caller, placed: Placed, timeout_ms: int, now: int, out: Sink) -> None:
        """Confirm a placement at its host."""
        body = Confirm(placed.key, placed.attempt, placed.reservation_id)
        self.call(caller, placed.host, body, timeout_ms, now, out)

    def release(self, caller: Caller, placed: Placed, timeout_ms: int, now: int, out: Sink) -> None:
        """Give a placement back to its host."""
        body = Release(placed.key, placed.attempt, placed.reservation_id)
        self.call(caller, placed.host, body, timeout_ms, now, out)

    def call(
        self, caller: Caller, host: Contact, body: Message, timeout_ms: int, now: int, out: Sink
    ) -> None:
        """Have ``host`` carry out ``body``; repeated until it answers, unless it is ourselves."""
        try:
            self._check_room()
        except FabricError as error:
            caller.respond(out, error)
            return
        deadline = now + min(max(timeout_ms, 1), MAX_PLACE_TIMEOUT_MS) * MS
        repeat = host.node_id != self._tables.me.node_id
        call = Call(self._number(), caller, host, body, deadline, repeat)
        self._calls[call.number] = call
        self._send_call(call, now, out)

    # --- answers ----------------------------------------------------------------------------------

    def reserved(self, sender: int, message: Reserved, now: int, out: Sink) -> None:
        """A host holds room: the first one wins, others get it back."""
        if sender != message.host.node_id:
            return
        job = self._jobs.get(message.entry_job)
        if job is not None and job.request.key == message.key:
            placed = Placed(
                message.key,
                message.attempt,
                message.host,
                message.reservation_id,
                # counted from when we first asked: never later than the host's own expiry
                (job.sent_at or now) + message.lifetime_us,
                message.datastore,
            )
            self._remember(Finished(job.request, placed))
            self._answer(job, placed, out)
            return
        finished = self._finished.get(message.key)
        if finished is not None and (
            finished.placed.host.node_id == message.host.node_id
            and finished.placed.reservation_id == message.reservation_id
        ):
            return  # a doubled answer
        extra = Release(message.key, message.attempt, message.reservation_id, unconfirmed=True)
        out.send(message.host, HostCall(0, self._tables.me, extra))

    def cell_refused(self, message: CellRefused, now: int, out: Sink) -> None:
        """A cell has no room: final if it was the whole tree."""
        job = self._jobs.get(message.job)
        if job is None:
            return
        if not message.whole:
            job.reason = "only part of the tree could be asked"
            self._later(job, now + PAUSE_US)
            return
        refusal = Refusal(job.request.key, message.explanation)
        if job.retries == 0:
            self._answer(job, refusal, out)
            return
        job.refusal = refusal  # an earlier attempt may have succeeded and be on its way
        self._later(job, now + RETRY_US)

    def cell_unavailable(self, message: CellUnavailable, now: int) -> None:
        """The owner asked could not find out: try again soon."""
        job = self._jobs.get(message.job)
        if job is not None and job.refusal is None:
            job.reason = message.message
            self._later(job, now + PAUSE_US)

    def host_answer(self, sender: int, message: HostAnswer, out: Sink) -> None:
        """The host did (or refused) what a caller wanted."""
        call = self._calls.get(message.job)
        if call is None or call.host.node_id != sender:
            return
        del self._calls[call.number]
        body = call.body
        if isinstance(body, Confirm | Release) and isinstance(message.body, Done):
            finished = self._finished.get(body.key)
            if finished is not None and finished.placed.reservation_id == body.reservation_id:
                finished.confirmed = isinstance(body, Confirm)
                finished.released = isinstance(body, Release)
        call.caller.respond(out, message.body)

    def tick(self, now: int, out: Sink) -> None:
        """Send again what has had no answer; give up what is over."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            at, number = heapq.heappop(timers)
            job = self._jobs.get(number)
            if job is not None:
                if job.next_at == at:
                    self._wake(job, now, out)
                continue
            call = self._calls.get(number)
            if call is None or call.next_at != at:
                continue
            if now >= call.deadline:
                del self._calls[number]
                host = f"{call.host.address}"
                call.caller.respond(out, DeadlineExceeded(f"host {host} did not answer in time"))
            else:
                self._send_call(call, now, out)

    # --- jobs -------------------------------------------------------------------------------------

    def _wake(self, job: Job, now: int, out: Sink) -> None:
        if job.refusal is not None:
            self._answer(job, job.refusal, out)
            return
        lost = job.ownerless_since and now - job.ownerless_since >= OWNER_WAIT_US
        if now < job.deadline and not lost:
            if job.sent_at and not job.ownerless_since:
                job.retries += 1
            self._send(job, now, out)
            return
        key = {"key": job.request.key}
        if job.ownerless_since:
            self._answer(job, OwnerUnknown("no owner of any cell above is known", key), out)
        else:
            text = f"not placed within its deadline: {job.reason}"
            self._answer(job, DeadlineExceeded(text, key), out)

    def _send(self, job: Job, now: int, out: Sink) -> None:
        """Send the request to the root's owner; to lower ones in turn when it does not answer."""
        owners = [
            (cell, owner)
            for cell in reversed(self._tables.path())
            if (owner := self._tables.owner_of(cell)) is not None
        ]
        if not owners:
            job.ownerless_since = job.ownerless_since or now
            self._later(job, now + LOOK_US)
            return
        turn = 0 if job.retries < 2 or job.retries % 2 else job.retries // 2
        cell, owner = owners[turn % len(owners)]
        me = self._tables.me
        job.ownerless_since = 0
        job.sent_at = job.sent_at or now
        job.attempt += 1
        left_ms = max((job.deadline - now) // MS, 1)
        place = Place(job.request, job.attempt, me, job.number, me, job.number, cell, left_ms)
        out.send(owner, place)
        self._later(job, now + RETRY_US)

    def _later(self, job: Job, at: int) -> None:
        job.next_at = min(at, job.deadline)
        heapq.heappush(self._timers, (job.next_at, job.number))

    def _answer(self, job: Job, answer: Message | FabricError, out: Sink) -> None:
        del self._jobs[job.number]
        del self._by_key[job.request.key]
        for caller in job.callers:
            caller.respond(out, answer)

    def _join(self, job: Job, caller: Caller, request: PlacementRequest) -> None:
        if job.request != request:
            raise _other_request(request)
        if caller in job.callers:
            return  # the same call, delivered twice
        if len(job.callers) >= MAX_CALLERS:
            raise Overloaded(f"{MAX_CALLERS} callers wait for this key", {"key": request.key})
        job.callers.append(caller)

    def _remember(self, finished: Finished) -> None:
        self._finished.pop(finished.placed.key, None)
        self._finished[finished.placed.key] = finished
        if len(self._finished) > MAX_FINISHED_KEYS:
            del self._finished[next(iter(self._finished))]

    def _send_call(self, call: Call, now: int, out: Sink) -> None:
        out.send(
            call.host, HostCall(call.number, self._tables.me, call.body, call.caller.trace)
        )
        call.next_at = min(now + RETRY_US, call.deadline) if call.repeat else call.deadline
        heapq.heappush(self._timers, (call.next_at, call.number))

    def _check_room(self) -> None:
        if len(self._jobs) + len(self._calls) >= MAX_ENTRY_JOBS:
            raise Overloaded(f"{MAX_ENTRY_JOBS} placements and calls are in flight here")

    def _number(self) -> int:
        """Odd numbers, from a random start: answers to what was asked before a restart miss."""
        if not self._last:
            self._last = (self._stream.bits62() >> 1) | 1
        self._last += 2
        return self._last


def _still_good(finished: Finished, ask: PlaceAsk, now: int) -> bool:
    """Whether the same answer may be given again."""
    if finished.released or ask.attempt * RETRIES > finished.placed.attempt:
        return False
    return finished.confirmed or now < finished.placed.expires_at


def _other_request(request: PlacementRequest) -> Conflict:
    return Conflict("another request was made under this key", {"key": request.key})
