"""Routing jobs: what the owner of a cell does with a request that was sent to it.

Theory of operation
-------------------
A :class:`Job` asks one member of the cell at a time: a host to reserve, or a child cell's owner to
find one.  Success goes straight to the entry, so an owner hears nothing of it; it hears refusals,
and then asks the next candidate.  Silence can mean success, so an owner never acts on it by
itself: the *entry* misses its answer and sends the request again with a higher attempt.  Only
then, and only if the member asked had :data:`PATIENCE_US` to answer, the job asks the same member
once more (a lost answer is answered again by the host that holds the room, and nothing is held
twice); at the next retry it marks the member silent and goes on.  A job that ends unavailable
remembers its silent members and asks them first when the entry tries again: one of them may hold
the room for this very key.  What got reserved twice is given back by the entry.  Jobs of which
nothing is heard are forgotten after :data:`IDLE_US`.  So a placement costs one message per level,
and a lost message one retry.

When a "no" is proven
---------------------
A job refuses only when every member was either asked and refused, or is excluded by a summary that
is complete and young enough (3 s per level), and after one more look at the members' summaries
once all were asked.  Members that did not answer, or could not be asked, make it *unavailable*.
Members known to be dead have no room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fabric.ids import format_id
from fabric.limits import MAX_ROUTING_JOBS, SUMMARY_STALE_US
from fabric.machine import NEVER, Contact, Sink
from fabric.placement.assumed import Assumed, same
from fabric.placement.constraints import Matcher
from fabric.placement.explain import Counts
from fabric.placement.policy import UNKNOWN, draw, score
from fabric.placement.request import PlacementRequest
from fabric.placement.tables import Child, Tables
from fabric.stream import Stream
from fabric.tree.summary import Summary, merge
from fabric.units import MS, SECOND
from fabric.wire.placement import (
    CellRefused,
    CellUnavailable,
    Explanation,
    HostRefused,
    Place,
    Reserve,
)

#: A member that was asked gets so long before a retry of the entry counts it as silent.
PATIENCE_US: Final = 500 * MS
#: A job of which nothing was heard for so long has most likely succeeded.
IDLE_US: Final = 5 * SECOND
#: Forgotten jobs are swept out at most so often: one wakeup for many.
SWEEP_US: Final = 500 * MS

#: Refusals of a host that say nothing about its room.
NO_PROOF: Final = ("stale attempt", "reservations", "no agent")

ASKED: Final = 0
SILENT: Final = 1
REFUSED: Final = 2
UNAVAILABLE: Final = 3


@dataclass(slots=True)
class Outcome:
    """What became of asking one member."""

    kind: int
    at: int
    contact: Contact
    table: Summary | None
    """What the table said of the member then."""
    times: int = 1
    """How often it was asked, repetitions for lost answers aside."""
    repeated: bool = False
    reason: str = ""
    explanation: Explanation | None = None


@dataclass(slots=True)
class Job:
    """One request being placed in one cell."""

    number: int
    place: Place
    matcher: Matcher
    deadline: int
    idle_at: int
    pending: int | None = None
    """The member that was asked last."""
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    owed: tuple[int, ...] = ()
    """Members that were silent in an earlier round: asked first, whatever their summaries say."""


class Routing:
    """All routing jobs of one peer, for whichever cells it owns."""

    __slots__ = (
        "_assumed",
        "_by_key",
        "_jobs",
        "_last",
        "_stream",
        "_swept_at",
        "_tables",
    )

    def __init__(self, tables: Tables, stream: Stream) -> None:
        self._tables = tables
        self._stream = stream
        self._assumed = Assumed()
        self._jobs: dict[int, Job] = {}  # least recently active first
        self._by_key: dict[tuple[str, int], Job] = {}
        self._last = 0
        self._swept_at = 0

    @property
    def due(self) -> int:
        """When :meth:`tick` wants to be called."""
        for job in self._jobs.values():
            return max(job.idle_at, self._swept_at + SWEEP_US)
        return NEVER

    def __len__(self) -> int:
        return len(self._jobs)

    # --- messages ---------------------------------------------------------------------------------

    def place(self, message: Place, now: int, out: Sink) -> None:
        """Take a request into a cell that its sender thinks we own."""
        if not self._tables.owns(message.cell, now):
            answer = CellUnavailable(message.job, message.cell, "NotOwner", "not the owner")
            out.send(message.asker, answer)
            return
        job = self._by_key.get((message.request.key, message.cell))
        deadline = now + message.deadline_ms * MS
        if job is not None and job.place.entry_job != message.entry_job:
            self._close(job)  # the key was placed before, and given back
            job = None
        if job is None:
            job = self._open(message, deadline, now)
        elif message.attempt <= job.place.attempt:
            return  # a late or doubled copy
        else:
            job.place = message
            job.deadline = deadline
            self._touch(job, now)
            if not self._give_up_pending(job, now, out):
                return
        self._advance(job, now, out)

    def host_refused(self, sender: int, message: HostRefused, now: int, out: Sink) -> None:
        """A host cannot: remember why, and its true state; ask the next."""
        job = self._jobs.get(message.job)
        outcome = self._outcome(job, sender, sender)
        if job is None or outcome is None:
            return
        self._learn(job, sender, message.summary, now)
        proven = message.reason not in NO_PROOF
        self._settle(job, sender, REFUSED if proven else UNAVAILABLE, now)
        outcome.reason = message.reason
        if job.pending is None:
            self._advance(job, now, out)

    def cell_refused(self, sender: int, message: CellRefused, now: int, out: Sink) -> None:
        """A child cell cannot, proven."""
        job = self._jobs.get(message.job)
        outcome = self._outcome(job, message.cell, sender)
        if job is None or outcome is None:
            return
        self._learn(job, message.cell, message.summary, now - message.summary.age_us)
        self._settle(job, message.cell, REFUSED, now)
        outcome.explanation = message.explanation
        if job.pending is None:
            self._advance(job, now, out)

    def cell_unavailable(self, sender: int, message: CellUnavailable, now: int, out: Sink) -> None:
        """A child cell could not find out."""
        job = self._jobs.get(message.job)
        if job is None or self._outcome(job, message.cell, sender) is None:
            return
        self._settle(job, message.cell, UNAVAILABLE, now)
        if job.pending is None:
            self._advance(job, now, out)

    def tick(self, now: int) -> None:
        """Forget the jobs of which nothing was heard."""
        self._swept_at = now
        over = []
        for job in self._jobs.values():
            if job.idle_at > now:
                break
            over.append(job)
        for job in over:
            self._close(job)

    # --- jobs -------------------------------------------------------------------------------------

    def _open(self, place: Place, deadline: int, now: int) -> Job:
        if len(self._jobs) >= MAX_ROUTING_JOBS:
            # the one silent for longest: most likely placed; if not, its entry asks again
            self._close(next(iter(self._jobs.values())))
        # even numbers (entries use odd ones), from a random start: answers to questions asked
        # before a restart find nothing
        self._last = (self._last or self._stream.bits62() >> 2 << 1) + 2
        job = Job(self._last, place, Matcher(place.request), deadline, now + IDLE_US)
        self._jobs[job.number] = job
        self._by_key[(place.request.key, place.cell)] = job
        return job

    def _close(self, job: Job) -> None:
        del self._jobs[job.number]
        del self._by_key[(job.place.request.key, job.place.cell)]

    def _touch(self, job: Job, now: int) -> None:
        job.idle_at = now + IDLE_US
        del self._jobs[job.number]
        self._jobs[job.number] = job

    def _give_up_pending(self, job: Job, now: int, out: Sink) -> bool:
        """Whether the job may go on to the next member; once, the same is asked again first."""
        if job.pending is None:
            return True
        outcome = job.outcomes[job.pending]
        if now - outcome.at < PATIENCE_US:
            return False
        if not outcome.repeated:
            for child in self._tables.children(job.place.cell):
                if child.key == job.pending and child.alive and child.contact is not None:
                    outcome.repeated = True
                    outcome.at = now
                    outcome.contact = child.contact
                    self._ask(job, child, child.contact, now, out)
                    return False
        outcome.kind = SILENT
        job.pending = None
        return True

    def _outcome(self, job: Job | None, member: int, sender: int) -> Outcome | None:
        """Return the open question that ``sender`` answers."""
        outcome = job.outcomes.get(member) if job is not None else None
        if outcome is None or outcome.kind not in (ASKED, SILENT):
            return None
        return outcome if outcome.contact.node_id == sender else None

    def _learn(self, job: Job, member: int, summary: Summary, at: int) -> None:
        """Keep the true state that a refusal told, for all jobs."""
        for child in self._tables.children(job.place.cell):
            if child.key == member:
                self._assumed.learned(child, summary, at)
                job.outcomes[member].table = child.summary

    def _settle(self, job: Job, member: int, kind: int, now: int) -> None:
        outcome = job.outcomes[member]
        outcome.kind = kind
        outcome.at = now
        if job.pending == member:
            job.pending = None
        self._touch(job, now)

    def _advance(self, job: Job, now: int, out: Sink) -> None:
        """Ask the next candidate, or finish."""
        if now >= job.deadline:
            self._close(job)
            return
        children = self._tables.children(job.place.cell)
        chosen = self._choose(job, children, now)
        if chosen is None:
            self._finish(job, children, now, out)
            return
        contact = chosen.contact
        assert contact is not None
        job.pending = chosen.key
        before = job.outcomes.get(chosen.key)
        times = 1 + before.times if before is not None else 1
        job.outcomes[chosen.key] = Outcome(ASKED, now, contact, chosen.summary, times)
        self._assumed.sent(chosen, job.place.request, now)
        self._ask(job, chosen, contact, now, out)

    def _ask(self, job: Job, child: Child, contact: Contact, now: int, out: Sink) -> None:
        place = job.place
        request, me = place.request, self._tables.me
        if child.is_host:
            ask = Reserve(request, place.attempt, place.entry, place.entry_job, me, job.number)
            out.send(contact, ask)
            return
        left_ms = max((job.deadline - now) // MS, 0)
        down = Place(
            request, place.attempt, place.entry, place.entry_job, me, job.number, child.key, left_ms
        )
        out.send(contact, down)

    def _choose(self, job: Job, children: Sequence[Child], now: int) -> Child | None:
        stale = now - self._staleness(job.place.cell)
        assumed, matcher, outcomes = self._assumed, job.matcher, job.outcomes
        candidates: list[Child] = []
        scores: list[int] = []
        sizes: list[int] = []
        for child in children:
            if not child.alive or child.contact is None:
                continue
            if job.owed and child.key in job.owed and child.key not in outcomes:
                return child
            summary, at = assumed.summary(child, now)
            outcome = outcomes.get(child.key) if outcomes else None
            if outcome is not None and not _worth_asking_again(outcome, child):
                continue
            if matcher.names_hosts and not _named(child, job.place.request):
                continue
            if summary is None or at < stale:
                candidates.append(child)
                scores.append(UNKNOWN)
                sizes.append(1)
            elif matcher.may_fit(summary):
                candidates.append(child)
                scores.append(score(summary, matcher, assumed.used(child, now)))
                sizes.append(summary.hosts or 1)
        return candidates[draw(scores, sizes, self._stream)] if candidates else None

    def _staleness(self, cell: int) -> int:
        """Age from which a summary of a member of ``cell`` proves nothing."""
        path = list(self._tables.path())
        level = path.index(cell) if cell in path else 0
        return SUMMARY_STALE_US * (level + 1)

    # --- the end of a job that did not succeed ----------------------------------------------------

    def _finish(self, job: Job, children: Sequence[Child], now: int, out: Sink) -> None:
        """All that can be asked was asked: refuse if that is proof, else say that it is none."""
        place = job.place
        counts = Counts()
        reports: list[Summary] = []
        oldest = now
        unanswered = 0
        for child in children:
            summary, at = self._assumed.summary(child, now)
            if summary is not None:
                reports.append(summary)
                oldest = min(oldest, at)
            outcome = job.outcomes.get(child.key)
            if outcome is not None and outcome.kind == REFUSED:
                if outcome.explanation is not None:
                    counts.cell(outcome.explanation)
                else:
                    counts.host(outcome.reason)
            elif outcome is not None:
                unanswered += child.alive or not child.is_host
            elif child.is_host and not child.alive:
                continue  # dead: it has no room
            elif child.is_host and not _named(child, place.request):
                counts.unasked({_host_condition(place.request): 1})
            elif summary is not None and self._excluded(job, summary, at, now):
                counts.unasked(job.matcher.eliminated(summary))
            else:
                unanswered += 1  # a child cell without a known owner
        if unanswered or not self._tables.owns(place.cell, now):
            text = f"{unanswered} of {len(children)} members could not be asked"
            out.send(place.asker, CellUnavailable(place.job, place.cell, "Unavailable", text))
            silent = [key for key, outcome in job.outcomes.items() if outcome.kind == SILENT]
            job.owed = tuple(sorted({*job.owed, *silent}))
            job.outcomes.clear()
            return
        self._close(job)
        path = self._tables.path()
        whole = bool(path) and path[-1] == place.cell
        summary_now = merge(reports, len(children), max(now - oldest, 0))
        answer = CellRefused(place.job, place.cell, whole, counts.explanation(), summary_now)
        out.send(place.asker, answer)

    def _excluded(self, job: Job, summary: Summary, at: int, now: int) -> bool:
        """Whether a summary proves that its member cannot take the request."""
        young = at >= now - self._staleness(job.place.cell)
        return young and not job.matcher.may_fit(summary)


def _worth_asking_again(outcome: Outcome, child: Child) -> bool:
    """Once, and only when its summary has changed since the refusal."""
    refused_once = outcome.kind == REFUSED and outcome.times == 1
    return refused_once and not same(child.summary, outcome.table)


def _named(child: Child, request: PlacementRequest) -> bool:
    """Whether host constraints allow this member. Cells do not tell their hosts' names."""
    if not child.is_host:
        return True
    name = None
    for constraint in request.constraints:
        if constraint.kind == "host":
            name = name or format_id(child.key)
            if (name in constraint.values) == constraint.negative:
                return False
    return True


def _host_condition(request: PlacementRequest) -> str:
    return next(c.brief() for c in request.constraints if c.kind == "host")
