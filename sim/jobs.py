"""Many runs, one forked process each, on all cores.

A run that dies, is killed or never ends takes nothing with it: it is a result like any other
(``process-died``, ``run-does-not-end``), and the others go on.  A pool of long-lived workers would
lose several runs, or hang, when one of them dies; a fork costs ten milliseconds.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

from sim.run import Run
from sim.scenario import Scenario
from sim.world import Violation

#: Wall seconds after which a run counts as one that never ends. Runs of the swarm take a few.
TIMEOUT_S: Final = 600.0
#: Address space of one run: a machine that hoards without bounds fails, not the computer.
MEMORY_MB: Final = 8_192


@dataclass(slots=True)
class Outcome:
    """What became of one run, as far as hunting failures needs it."""

    #: The first violation, if there was one.
    invariant: str | None = None
    at_s: float = 0.0
    nodes: list[str] = field(default_factory=list)
    detail: str = ""
    #: All invariants that were violated, in the order in which they were first.
    invariants: list[str] = field(default_factory=list)
    trace_hash: str = ""
    events: int = 0
    cpu_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was violated."""
        return self.invariant is None


def execute(scenario: Scenario, wanted: str | None = None) -> Outcome:
    """Run ``scenario`` in this process. With ``wanted``, end as soon as that is violated."""
    it = Run(scenario)
    engine = it.world.engine

    def noticed(violation: Violation) -> None:
        if violation.invariant == wanted:
            engine.stop = True

    if wanted is not None:
        it.world.on_violation = noticed
    result = it.go()
    invariants = list(dict.fromkeys(v.invariant for v in it.world.violations))
    outcome = Outcome(
        invariants=invariants,
        trace_hash=result.trace_hash,
        events=result.events,
        cpu_s=result.cpu_s,
    )
    pick = wanted if wanted in invariants else next(iter(invariants), None)
    for violation in it.world.violations:
        if violation.invariant == pick:
            outcome.invariant, outcome.at_s = violation.invariant, violation.at_s
            outcome.nodes, outcome.detail = list(violation.nodes), violation.detail
            break
    return outcome


Work = Callable[[], Outcome]


@dataclass(slots=True)
class _Job:
    key: int
    process: BaseProcess
    answer: Connection
    ends: float


class Jobs:
    """Runs work in forked processes, at most ``jobs`` at the same time."""

    def __init__(self, jobs: int = 0, timeout_s: float = TIMEOUT_S) -> None:
        self.jobs = jobs or os.cpu_count() or 1
        self.timeout_s = timeout_s
        self._context = multiprocessing.get_context("fork")

    def each(self, work: Iterable[tuple[int, Work]]) -> Generator[tuple[int, Outcome], None, None]:
        """Yield key and outcome of each piece of work as it ends; closing it ends what runs."""
        waiting = iter(work)
        running: list[_Job] = []
        more = True
        try:
            while more or running:
                while more and len(running) < self.jobs:
                    item = next(waiting, None)
                    if item is None:
                        more = False
                    else:
                        running.append(self._begin(*item))
                for job in self._over(running):
                    running.remove(job)
                    yield job.key, self._outcome(job)
        finally:
            for job in running:
                job.process.kill()
                job.process.join()
                job.answer.close()

    def all(self, work: Sequence[Work]) -> list[Outcome]:
        """Return the outcomes of ``work`` in its order."""
        outcomes = dict(self.each(enumerate(work)))
        return [outcomes[key] for key in range(len(work))]

    def _begin(self, key: int, work: Work) -> _Job:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(work, theirs), daemon=True)
        process.start()
        theirs.close()
        return _Job(key, process, ours, time.monotonic() + self.timeout_s)

    def _over(self, running: list[_Job]) -> list[_Job]:
        """Wait until something happens; return the jobs that ended or ran out of time."""
        if not running:
            return []
        rest_s = max(min(job.ends for job in running) - time.monotonic(), 0.0)
        ready = wait([job.answer for job in running], rest_s)
        now = time.monotonic()
        return [job for job in running if job.answer in ready or job.ends <= now]

    def _outcome(self, job: _Job) -> Outcome:
        try:
            if job.answer.poll():
                values: dict[str, Any] = job.answer.recv()
                return Outcome(**values)
            detail = f"not done after {self.timeout_s:.0f} s"
            return _failed("run-does-not-end", detail)
        except EOFError:
            job.process.join()
            return _failed("process-died", f"exit code {job.process.exitcode}")
        finally:
            job.process.kill()
            job.process.join()
            job.answer.close()


def _failed(invariant: str, detail: str) -> Outcome:
    return Outcome(invariant=invariant, detail=detail, invariants=[invariant])


def _child(work: Work, answer: Connection) -> None:
    """Work, and tell: the whole life of a forked process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    limit, hard = MEMORY_MB << 20, resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        outcome = work()
    except Exception as error:
        outcome = _failed("run-raised", f"{type(error).__name__}: {error!s:.300}")
    answer.send(dataclasses.asdict(outcome))
    answer.close()
