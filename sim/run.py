"""``fabric sim run``: build a simulated fabric, run it, say what happened.

:func:`run` takes a :class:`~sim.scenario.Scenario` and gives a :class:`~sim.result.Result`;
:func:`add_arguments` and :func:`main` are the command line around it.  Ctrl-C ends a run cleanly,
with the result so far, marked as interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fabric.units import MS, SECOND
from sim import compiled
from sim.checkers import Checkers
from sim.display import Display, Snapshot
from sim.result import Result
from sim.scenario import Scenario, load_scenario, read_int
from sim.workload import Workload
from sim.world import SimWorld

#: The run looks at the wall clock this often (virtual time).
STEP_US: Final = 20 * MS
#: Violations that a result carries; the others are counted.
MAX_VIOLATIONS: Final = 100


class Run:
    """One run: the world, its workload, its checkers."""

    def __init__(self, scenario: Scenario, world: SimWorld | None = None) -> None:
        self.scenario = scenario.check()
        self.world = world or SimWorld(scenario)
        self.workload = Workload(self.world, scenario.place_rate, scenario.vm_life_s * SECOND)
        self.checkers = Checkers(self.world, self.workload)
        self._began_wall = time.monotonic()
        self._began_cpu = time.process_time()

    def go(self, display: Display | None = None) -> Result:
        """Run to the end, or until interrupted."""
        world, scenario = self.world, self.scenario
        engine = world.engine
        world.begin()
        if scenario.checkers:
            self.checkers.start()
        self.workload.start()
        end = scenario.duration_s * SECOND
        with collector_at_rest(), interruptible(engine):
            self._began_cpu = time.process_time()
            self._began_wall = time.monotonic()
            while engine.now < end and engine.run(min(engine.now + STEP_US, end)):
                if display is not None and display.due():
                    display.show(self.snapshot())
            if scenario.checkers and not engine.stop:
                self.checkers.finish()
            return self.result()

    def snapshot(self) -> Snapshot:
        """Return where the run is."""
        world = self.world
        return Snapshot(
            world.engine.now / SECOND,
            time.monotonic() - self._began_wall,
            world.engine.delivered,
            sum(node.alive for node in world.engine.nodes),
            self.workload.placed,
            len(world.violations),
            self.checkers.convergence.converged_us is not None,
        )

    def result(self) -> Result:
        """Return what was found up to now."""
        world, scenario, workload = self.world, self.scenario, self.workload
        engine = world.engine
        cpu_s = time.process_time() - self._began_cpu
        wall_s = time.monotonic() - self._began_wall
        convergence = self.checkers.convergence
        converged_s = None
        if convergence.converged_us is not None:
            converged_s = max(convergence.converged_us - world.last_fault_us, 0) / SECOND
        notes = []
        if converged_s is None and scenario.checkers:
            nodes, detail = convergence.why()
            who = ", ".join(node.role.name for node in nodes[:5])
            notes.append(f"not converged: {who} {detail}".replace(":  ", ": "))
        latencies = sorted(workload.latency_us)
        return Result(
            hosts=scenario.hosts,
            seed=scenario.seed,
            virtual_s=engine.now / SECOND,
            wall_s=round(wall_s, 3),
            cpu_s=round(cpu_s, 3),
            events=engine.delivered,
            messages=engine.messages,
            trace_hash=engine.trace.hexdigest(),
            violations=[dataclasses.asdict(v) for v in world.violations[:MAX_VIOLATIONS]],
            violations_total=len(world.violations),
            converged_s=converged_s,
            depth=convergence.depth,
            placements=workload.placed,
            refused=workload.refused,
            unavailable=workload.unavailable + workload.unanswered,
            faults=world.faults_begun,
            max_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            preformed=scenario.preformed,
            compiled=compiled.running(),
            interrupted=engine.stop,
            messages_lost=engine.lost,
            place_p50_ms=_percentile_ms(latencies, 50),
            place_p99_ms=_percentile_ms(latencies, 99),
            takeovers=self.checkers.takeovers,
            notes=notes,
        )


def _percentile_ms(ordered: list[int], percent: int) -> float | None:
    if not ordered:
        return None
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] / 1000


def run(scenario: Scenario, display: Display | None = None) -> Result:
    """Run ``scenario``. Raises :class:`~fabric.errors.ScenarioError` if it cannot be run."""
    return Run(scenario).go(display)


#: New objects in which the garbage collector looks for cycles. Only crashed nodes leave any.
COLLECT_AT: Final = 2_000_000


@contextlib.contextmanager
def collector_at_rest() -> Iterator[None]:
    """Keep the cyclic garbage collector from walking millions of living objects, again and again.

    Nearly all that a run allocates and keeps (hosts, their tables) lives to its end.
    """
    threshold = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AT, 50, 1_000)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()


@contextlib.contextmanager
def interruptible(engine: Any) -> Iterator[None]:
    """Let the first Ctrl-C end the run after the current tick, the second one at once."""

    def stop(number: int, frame: object) -> None:
        engine.stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not in the main thread: whoever runs us there stops us otherwise
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# --- command line ---------------------------------------------------------------------------------

#: Flags that take a number: name, scenario field, metavar, help.
_NUMBERS: Final = (
    ("--hosts", "hosts", "N", "hosts, each a whole peer with its agent (default 100)"),
    ("--duration", "duration_s", "S", "virtual seconds to run (default 60)"),
    ("--seed", "seed", "K", "decides everything that is random (default 1)"),
    ("--place-rate", "place_rate", "R", "placements per virtual second (default 0)"),
    ("--kill", "kill", "P", "percent of the hosts that crash per virtual minute, each restarting "
     "after 5-30 s, until 60 s before the end (default 0)"),
    ("--candidates", "candidates", "N", "peers that may become chairman (default 3)"),
    ("--leaf-min", "leaf_min", "N", "lower bound of leaf cells"),
    ("--leaf-max", "leaf_max", "N", "upper bound of leaf cells"),
    ("--inner-min", "inner_min", "N", "lower bound of inner cells"),
    ("--inner-max", "inner_max", "N", "upper bound of inner cells"),
    ("--loss-ppm", "loss_ppm", "N", "messages lost per million (default 0)"),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim run``."""
    for flag, field, metavar, text in _NUMBERS:
        parser.add_argument(flag, dest=field, metavar=metavar, help=text)
    parser.add_argument("--scenario", metavar="FILE", help="TOML file; flags override its keys")
    switches = (
        ("--preformed", "preformed", "begin with a formed topology instead of joins"),
        ("--fidelity", "fidelity", "encode and decode every message"),
        ("--no-trace", "no_trace", "no trace hash (to see what it costs)"),
        ("--no-checkers", "no_checkers", "no checkers (to see what they cost)"),
        ("--compiled", "compiled", "use the compiled core that `make compiled` made"),
        ("--json", "json", "print one JSON object as the last line"),
    )
    for flag, field, text in switches:
        parser.add_argument(flag, dest=field, action="store_true", default=None, help=text)


def scenario_from(arguments: Mapping[str, Any]) -> Scenario:
    """Return the scenario that command-line arguments ask for. Raises ``ScenarioError``."""
    changes: dict[str, Any] = {}
    for flag, field, _, _ in _NUMBERS:
        raw = arguments.get(field)
        if raw is not None:
            changes[field] = read_int(flag, str(raw))
    for field in ("preformed", "fidelity"):
        if arguments.get(field):
            changes[field] = True
    if arguments.get("no_trace"):
        changes["trace"] = False
    if arguments.get("no_checkers"):
        changes["checkers"] = False
    path = arguments.get("scenario")
    if path:
        return load_scenario(path, changes)
    return Scenario(**changes).check()


def main(args: argparse.Namespace | Mapping[str, Any]) -> int:
    """Run what ``args`` ask for. Returns the exit code (5: violations, 130: interrupted)."""
    arguments = args if isinstance(args, Mapping) else vars(args)
    if arguments.get("compiled"):
        compiled.start_anew()
    scenario = scenario_from(arguments)
    as_json = bool(arguments.get("json"))
    display = Display(scenario.duration_s, sys.stderr if as_json else sys.stdout)
    try:
        result = run(scenario, display)
    finally:
        display.close()
    if not result.ok:
        from sim.story import explain  # which runs scenarios itself

        explain(scenario, result)
    display.table(result)
    if as_json:
        print(result.to_json(), flush=True)
    if result.interrupted:
        return 130
    return 0 if result.ok else 5


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(prog="sim.run")
    add_arguments(_parser)
    sys.exit(main(_parser.parse_args()))
