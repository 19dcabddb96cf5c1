"""The causal story of a violation: a sequence chart in text, one lane per node.

Shown is what has to do with the violation and what led to that: the last messages at its nodes that
name the same placement or cell, then the causes of each (the message that was being handled when it
was sent, and so on back to a timer, a call of a user or a restart), and the faults.  Everything
else that happened meanwhile is left out.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fabric.machine import LocalCall, Received, Woken
from fabric.units import SECOND
from sim.brief import brief
from sim.causes import Causes, Said, Step
from sim.engine import Node
from sim.result import Result
from sim.run import Run
from sim.save import fault_line
from sim.scenario import Scenario, hosts_of
from sim.watch import WatchedWorld, Watcher
from sim.world import SimWorld, Violation

#: A chart of more rows or lanes is not read.
MAX_ROWS: Final = 48
MAX_LANES: Final = 6
#: Messages that come with a violation.
LAST: Final = 8
#: So many violations of a result get them, if its run took no longer (CPU seconds).
_EXPLAINED: Final = 3
_LONG_RUN_S: Final = 120
#: Nodes whose messages are looked at, when a violation names many.
_NODES: Final = 4
#: How far back causes are followed.
_DEPTH: Final = 12
#: Of one kind of messages so many are shown, one if it makes up more than so many percent of all.
_OF_A_KIND: Final = 4
_ROUTINE_PERCENT: Final = 15


def _replayed(
    scenario: Scenario, watcher: Watcher, last: Callable[[Violation], bool]
) -> tuple[WatchedWorld, Violation | None]:
    """Run ``scenario`` again, watched, up to the violation for which ``last`` says yes."""
    plain = dataclasses.replace(scenario, fidelity=False)  # or no message would arrive as itself
    world = WatchedWorld(plain, watcher)
    found: list[Violation] = []

    def noticed(violation: Violation) -> None:
        if not found and last(violation):
            found.append(violation)
            world.engine.stop = True

    world.on_violation = noticed
    Run(plain, world).go()
    return world, found[0] if found else None


def explain(scenario: Scenario, result: Result) -> None:
    """Add the last messages to the first violations of ``result``, of each invariant one."""
    seen: list[str] = []
    for violation in result.violations if not result.interrupted else ():
        if violation["invariant"] in seen:
            continue
        if len(seen) == _EXPLAINED:
            return
        if result.cpu_s > _LONG_RUN_S:
            result.notes.append("too long a run to go through it again for the last messages")
            return
        seen.append(violation["invariant"])
        violation["messages"] = last_messages(scenario, Violation(**violation))


def last_messages(scenario: Scenario, violation: Violation) -> tuple[str, ...]:
    """Return the last messages that have to do with ``violation``, by running it once more."""
    about = _About(violation)
    names = frozenset(violation.nodes)

    def wanted(step: Step) -> bool:
        if about.words:
            return about.in_step(step)
        here = not names or step.node.role.name in names
        return here and (about.in_step(step) if about else not isinstance(step.event, Woken))

    def last(found: Violation) -> bool:
        return (found.invariant, found.at_s, found.detail) == (
            violation.invariant, violation.at_s, violation.detail,
        )  # fmt: skip

    causes = Causes(wanted)
    _replayed(scenario, causes, last)
    steps = causes.steps()
    rows = [row for step in _ends(steps, violation) for row in _rows_of(step, about)]
    rows.sort(key=_when)
    return tuple([f"{row.at_us / SECOND:.6f} s {row.line()}" for row in rows[-LAST:]])


def causal_story(scenario: Scenario, invariant: str) -> str:
    """Return the chart of what led to the first violation of ``invariant``, by running it again."""
    causes = Causes()
    world, violation = _replayed(scenario, causes, lambda found: found.invariant == invariant)
    if violation is None:
        return "The violation did not come again: no story.\n"
    steps = causes.steps()
    rows = _chosen(_ends(steps, violation), _About(violation))
    nodes = _nodes_of(steps, violation)
    lanes = _lanes(nodes, rows)
    rows += _restarts(causes, lanes)
    rows.sort(key=_when)
    # faults tell why, however long ago they were
    rows = [*rows[-MAX_ROWS:], *_faults(world, lanes)[-MAX_ROWS:]]
    rows.sort(key=_when)
    label = f"VIOLATED {violation.invariant}: {violation.detail}"
    end = _Row(round(violation.at_s * SECOND), None, None, label, at=nodes)
    return _draw([*rows, end], lanes)


# --- what belongs to the story --------------------------------------------------------------------


class _About:
    """What a violation is about: placements and cells that its detail names."""

    def __init__(self, violation: Violation) -> None:
        keys = re.findall(r"\bp(\d+)\b", violation.detail)
        self.words = frozenset([f"p{n}" for n in keys] + [f"vm{n}" for n in keys])
        self.cells = frozenset(int(n) for n in re.findall(r"\bcell (\d+)", violation.detail))

    def __bool__(self) -> bool:
        return bool(self.words or self.cells)

    def names(self, thing: Any, field: str = "") -> bool:
        """Tell whether ``thing`` names one of them, at any depth."""
        if isinstance(thing, str):
            return thing in self.words
        if isinstance(thing, int):
            return field == "cell" and thing in self.cells
        if isinstance(thing, BaseException):
            return False
        fields = getattr(thing, "__dataclass_fields__", None) or getattr(thing, "_fields", None)
        if fields:
            return any(self.names(getattr(thing, name), name) for name in fields)
        return isinstance(thing, tuple) and any(self.names(item, field) for item in thing)

    def in_step(self, step: Step) -> bool:
        """Tell whether what a node was given, or said thereupon, names one of them."""
        return self.names(step.event) or any(self.in_said(said) for said in step.said)

    def in_said(self, said: Said) -> bool:
        """Tell whether an output (to others) names one of them."""
        return said.kind in ("send", "promise", "reply", "notify") and self.names(said.what)


def _nodes_of(steps: list[Step], violation: Violation) -> list[Node]:
    by_name = {_name(step.node): step.node for step in steps}
    return [by_name[name] for name in violation.nodes[:_NODES] if name in by_name]


def _ends(steps: list[Step], violation: Violation) -> list[Step]:
    """Return the last steps that have to do with ``violation``: where the story ends."""
    nodes = [node.index for node in _nodes_of(steps, violation)]
    about = _About(violation)
    here = [step for step in steps if not nodes or step.node.index in nodes]
    if about.words:
        return [step for step in steps if about.in_step(step)][-MAX_ROWS // 2 :]
    named = [step for step in here if about.in_step(step)] if about.cells else []
    named = [step for step in named or here if not isinstance(step.event, Woken)]
    return _varied(named)


def _varied(steps: list[Step]) -> list[Step]:
    """Return the last few of each kind: what is repeated without end says it once."""
    counts = Counter(_kind(step) for step in steps)
    many = max(len(steps) * _ROUTINE_PERCENT // 100, 20)
    left: Counter[type] = Counter()
    found = []
    for step in reversed(steps):
        kind = _kind(step)
        left[kind] += 1
        if left[kind] <= (_OF_A_KIND if counts[kind] <= many else 1):
            found.append(step)
    return found[MAX_ROWS // 2 :: -1]


def _kind(step: Step) -> type:
    return type(step.event.message if isinstance(step.event, Received) else step.event)


def _chosen(ends: list[Step], about: _About) -> list[_Row]:
    """Return the rows of the last steps and of their causes."""
    steps: dict[int, Step] = {}
    for end in ends:
        step: Step | None = end
        for _ in range(_DEPTH):
            if step is None or step.number in steps:
                break
            steps[step.number] = step
            step = step.cause
    return [row for _, step in sorted(steps.items()) for row in _rows_of(step, about)]


def _restarts(causes: Causes, lanes: list[Node]) -> list[_Row]:
    rows = []
    for node in lanes:
        starts = [step for step in causes.of[node.index] if step.event is None]
        rows += [_Row(s.at_us, None, None, "starts again", at=[node]) for s in starts[1:]]
    return rows


def _faults(world: SimWorld, lanes: list[Node]) -> list[_Row]:
    rows = []
    for fault in world.plan:
        if fault.at_us <= world.engine.now:
            hit = {world.host(host).index for host in hosts_of(fault)}
            at = [node for node in lanes if node.index in hit]
            rows.append(_Row(fault.at_us, None, None, f"FAULT {fault_line(fault)}", at=at))
    return rows


# --- rows -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """One line: a message from one node to another, or something at some nodes."""

    at_us: int
    source: Node | None
    target: Node | None
    label: str
    lost: bool = False
    at: list[Node] | None = None

    def line(self) -> str:
        """Return it as text without lanes."""
        if self.source is not None and self.target is not None:
            arrow = "-x" if self.lost else "->"
            return f"{_name(self.source)} {arrow} {_name(self.target)}: {self.label}"
        return f"{', '.join([_name(node) for node in self.at or ()])}: {self.label}"


def _when(row: _Row) -> int:
    return row.at_us


def _name(node: Node) -> str:
    return str(node.role.name)


def _rows_of(step: Step, about: _About) -> list[_Row]:
    node, event = step.node, step.event
    rows = []
    if isinstance(event, Received):
        source = step.cause.node if step.cause else node.engine.by_id.get(event.sender)
        rows.append(_Row(step.at_us, source, node, brief(event.message)))
    elif isinstance(event, LocalCall):
        rows.append(_Row(step.at_us, None, None, f"is asked {brief(event.request)}", at=[node]))
    elif event is not None and not isinstance(event, Woken):
        rows.append(_Row(step.at_us, None, None, brief(event), at=[node]))
    for said in step.said:
        if about and not about.in_said(said):
            continue
        if said.kind in ("send", "promise") and said.led_to is None and step.cause is not None:
            target = node.engine.by_address.get(said.to)
            rows.append(_Row(step.at_us, node, target, brief(said.what), lost=True))
        elif said.kind in ("reply", "notify"):
            what = "answers" if said.kind == "reply" else "tells"
            rows.append(_Row(step.at_us, None, None, f"{what} {brief(said.what)}", at=[node]))
    return rows


def _lanes(first: list[Node], rows: list[_Row]) -> list[Node]:
    """Return the nodes that get a lane: those of the violation, then the busiest."""
    count = Counter(
        node.index
        for row in rows
        for node in (row.source, row.target, *(row.at or ()))
        if node is not None
    )
    nodes = {n.index: n for row in rows for n in (row.source, row.target, *(row.at or ())) if n}
    busiest = sorted(nodes, key=lambda index: (-count[index], index))
    lanes = list(first)
    lanes += [nodes[index] for index in busiest if nodes[index] not in lanes]
    return sorted(lanes[:MAX_LANES], key=lambda node: node.index)


# --- drawing --------------------------------------------------------------------------------------


def _draw(rows: list[_Row], lanes: list[Node]) -> str:
    width = max([len(_name(node)) for node in lanes] or [0]) + 3
    column = {node.index: 2 + nth * width for nth, node in enumerate(lanes)}
    total = 2 + len(lanes) * width
    head = "".join([_name(node).ljust(width) for node in lanes])
    lines = [f"{'time s':>11}   {head}".rstrip()]
    for row in rows:
        cells = [" "] * total
        for place in column.values():
            cells[place] = "|"
        label = row.label
        source = column.get(row.source.index) if row.source else None
        target = column.get(row.target.index) if row.target else None
        if source is not None and target is not None and source != target:
            _arrow(cells, source, target, row.lost)
        elif row.source is not None or row.target is not None:
            label = row.line()
            for at in (source, target):
                if at is not None:
                    cells[at] = "o"
        for node in row.at or ():
            if node.index in column:
                cells[column[node.index]] = "*"
        lines.append(f"{row.at_us / SECOND:11.6f} {''.join(cells)} {label}")
    return "\n".join(lines) + "\n"


def _arrow(cells: list[str], source: int, target: int, lost: bool) -> None:
    low, high = sorted((source, target))
    for at in range(low + 1, high):
        cells[at] = "-"
    cells[source] = "o"
    tip = target - 1 if target > source else target + 1
    cells[tip] = "x" if lost else (">" if target > source else "<")
    if not lost:
        cells[target] = "o"
