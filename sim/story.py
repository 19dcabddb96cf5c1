"""The story of a failure: a text sequence chart of the last messages of the nodes it names.

The run is done a second time, watched (:mod:`sim.watch`), up to the violation.  Each named node has
a lane; a message is one line at the time it was sent, with how long it took; faults and starts
stand between.  Probes come all the time and are only counted, unless there is nothing else.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from fabric.machine import Event, LocalCall, Received
from fabric.units import SECOND
from sim.engine import Node
from sim.faults import Fault
from sim.run import Run
from sim.scenario import Scenario, hosts_of
from sim.watch import WatchedWorld
from sim.world import SimWorld, Violation

#: What the recording keeps, and what the chart shows of it.
KEPT_STEPS: Final = 20_000
SHOWN_LINES: Final = 60
#: More lanes than these do not fit beside each other.
MAX_LANES: Final = 4
LANE: Final = 15
#: What goes on for ever, whatever else happens.
PROBES: Final = frozenset({"Ping", "Ack", "ProbeFor", "ProbeAnswer", "SyncAsk", "Sync"})

#: Outputs that are shown beside messages, and what a node does with them.
VERBS: Final = {
    "coordinate": "asks the coordinator:",
    "drive": "drives:",
    "notify": "notes:",
    "reply": "replies:",
}


@dataclass(slots=True)
class Step:
    """One line of the chart."""

    at_us: int
    source: str
    target: str = ""
    what: str = ""
    detail: str = ""
    #: When the message arrived, -1: never, or nobody knows.
    arrived_us: int = -1
    message: Any = None


class Recorder:
    """Keeps the last messages to and from the nodes of ``lanes``, and what else befell these."""

    def __init__(self, lanes: tuple[str, ...]) -> None:
        self.lanes = lanes
        self.steps: deque[Step] = deque(maxlen=KEPT_STEPS)
        #: Messages on their way, by identity: the steps keep them alive.
        self._flying: dict[tuple[int, str], Step] = {}

    def event(self, node: Node, event: Event | None) -> None:
        """Note an event of a named node, and a message of a named node that arrives."""
        name, now = node.role.name, node.engine.now
        if isinstance(event, Received):
            sent = self._flying.pop((id(event.message), name), None)
            if sent is not None:
                sent.arrived_us = now
        elif name not in self.lanes:
            return
        elif event is None:
            self.steps.append(Step(now, name, what="starts"))
        elif isinstance(event, LocalCall):
            what = f"is called: {type(event.request).__name__}"
            self.steps.append(Step(now, name, what=what, detail=self._brief(node, event.request)))
        elif type(event).__name__ in ("Coordinated", "Driven", "PersistFailed"):
            what = f"gets {type(event).__name__}"
            self.steps.append(Step(now, name, what=what, detail=self._brief(node, event)))

    def output(self, node: Node, kind: str, args: tuple[Any, ...]) -> None:
        """Note a message between a named node and anybody, or another output of a named one."""
        name, engine = node.role.name, node.engine
        if kind in ("send", "promise"):
            to, message = args[-2:]
            target = engine.by_address.get(to.address)
            other = to.address if target is None else target.role.name
            if name in self.lanes or other in self.lanes:
                body = getattr(message, "body", message)
                detail = self._brief(node, body)
                step = Step(engine.now, name, other, type(body).__name__, detail, message=message)
                self._flying[(id(message), other)] = step
                self._append(step)
        elif name in self.lanes and kind in VERBS:
            what = f"{VERBS[kind]} {type(args[-1 if kind in ('notify', 'reply') else 0]).__name__}"
            self._append(Step(engine.now, name, what=what, detail=self._brief(node, args[0])))

    def _brief(self, node: Node, record: Any) -> str:
        """Show the plain fields of a record in a few words, ids of nodes by their names."""
        if not dataclasses.is_dataclass(record) and not hasattr(record, "_fields"):
            return str(record)[:60]
        names = getattr(record, "_fields", None) or [f.name for f in dataclasses.fields(record)]
        shown = []
        for name in names:
            value = getattr(record, name)
            known = node.engine.by_id.get(value) if type(value) is int else None
            if known is not None:
                shown.append(f"{name}={known.role.name}")
            elif isinstance(value, (bool, int, str)):
                shown.append(f"{name}={value}"[:28])
        return " ".join(shown)[:100]

    def _append(self, step: Step) -> None:
        if len(self.steps) == KEPT_STEPS:
            oldest = self.steps[0]
            if self._flying.get((id(oldest.message), oldest.target)) is oldest:
                del self._flying[(id(oldest.message), oldest.target)]
        self.steps.append(step)


def tell_story(scenario: Scenario, invariant: str) -> str:
    """Run ``scenario`` up to its first violation of ``invariant``, twice; return the chart."""
    found = _violation(Run(dataclasses.replace(scenario, fidelity=False)), invariant)
    if found is None:
        return "The violation did not come again: no story.\n"
    names = found.nodes[:MAX_LANES] or _struck(scenario)
    recorder = Recorder(tuple(names))
    plain = dataclasses.replace(scenario, fidelity=False)
    _violation(Run(plain, WatchedWorld(plain, recorder)), invariant)
    return chart(recorder, scenario.faults, found)


def _struck(scenario: Scenario) -> tuple[str, ...]:
    """Return whom faults hit: those to watch when a violation names nobody."""
    hosts: list[int] = []
    for fault in scenario.faults:
        hosts += hosts_of(fault)
    names = [_name(host) for host in dict.fromkeys(hosts)]
    return tuple([*names, "candidate-0"][:MAX_LANES])


def _name(host: int) -> str:
    return f"host-{host}" if host >= 0 else f"candidate-{-1 - host}"


def _violation(it: Run, invariant: str) -> Violation | None:
    found: list[Violation] = []
    world: SimWorld = it.world

    def noticed(violation: Violation) -> None:
        if violation.invariant == invariant:
            found.append(violation)
            world.engine.stop = True

    world.on_violation = noticed
    it.go()
    return found[0] if found else None


# --- drawing --------------------------------------------------------------------------------------


def chart(recorder: Recorder, faults: tuple[Fault, ...], violation: Violation) -> str:
    """Draw what ``recorder`` holds, with ``faults`` in between, ending with ``violation``."""
    lanes = recorder.lanes
    steps = list(recorder.steps)
    loud = [step for step in steps if step.what not in PROBES]
    if any(step.target for step in loud):
        steps = _counted(steps)
    end_us = round(violation.at_s * SECOND)
    steps += [
        Step(fault.at_us, "", what=f"*** {_fault(fault)}")
        for fault in faults
        if fault.at_us <= end_us
    ]
    steps.sort(key=lambda step: step.at_us)
    head = " " * 13 + "".join(name[: LANE - 1].center(LANE) for name in lanes)
    left = len(steps) - SHOWN_LINES
    lines = [head.rstrip()]
    if left > 0:
        lines.append(f"{'':13}... {left} lines before ...")
        # faults tell why, however long ago they were
        lines += [_draw(step, lanes) for step in steps[:left] if step.what.startswith("***")]
    lines += [_draw(step, lanes) for step in steps[-SHOWN_LINES:]]
    lines.append(f"{violation.at_s:11.6f}  !!! {violation.invariant}: {violation.detail[:200]}")
    return "\n".join(lines) + "\n"


def _counted(steps: list[Step]) -> list[Step]:
    """Replace each run of probes by one line that counts them."""
    result: list[Step] = []
    count = 0
    for step in steps:
        if step.what in PROBES:
            count += 1
            continue
        if count:
            result.append(Step(step.at_us, "", what=f"    ({count} probes and syncs)"))
            count = 0
        result.append(step)
    return result


def _fault(fault: Any) -> str:
    values = []
    for field in dataclasses.fields(fault):
        value = getattr(fault, field.name)
        if field.name == "at_us" or value == field.default:
            continue
        if field.name == "fault":
            values.append(_fault(value))
        elif field.name.endswith("_us"):
            values.append(f"{field.name[:-3]} {value / SECOND:g} s")
        else:
            values.append(f"{field.name} {value}")
    return f"{type(fault).__name__.lower()} {' '.join(values)}"


def _draw(step: Step, lanes: tuple[str, ...]) -> str:
    time = f"{step.at_us / SECOND:11.6f}  "
    if not step.source:
        return time + step.what
    row = list("|".center(LANE) * len(lanes))
    start = _column(step.source, lanes)
    label = f"{step.what} {step.detail}"
    if not step.target:
        row[start] = "*"
        return f"{time}{''.join(row)} {label}".rstrip()
    end = _column(step.target, lanes)
    low, high = min(start, end), max(start, end)
    row[low:high] = "-" * (high - low)
    if step.arrived_us < 0:
        row[end] = "x"
        label += " (lost or under way)"
    else:
        row[end] = ">" if end > start else "<"
        label += f" (+{(step.arrived_us - step.at_us) / 1000:g} ms)"
    row[start] = "o"
    if step.source not in lanes:
        label = f"from {step.source}: {label}"
    if step.target not in lanes:
        label = f"to {step.target}: {label}"
    return f"{time}{''.join(row)} {label}".rstrip()


def _column(name: str, lanes: tuple[str, ...]) -> int:
    """Return where a lane's line stands; all that have none are at the right edge."""
    if name in lanes:
        return lanes.index(name) * LANE + "|".center(LANE).index("|")
    return len(lanes) * LANE - 1
