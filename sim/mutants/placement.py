"""Planted bugs in placement: entries and cell owners."""

from __future__ import annotations

from typing import Final

from sim.mutants.mutant import ERRANDS, HAUNTS, MARKETS, Absent, Mutant, mutant

_ROUTING: Final = "fabric/placement/routing.py"
_ENTRY: Final = "fabric/placement/entry.py"
_CONSTRAINTS: Final = "fabric/placement/constraints.py"
_ASSUMED: Final = "fabric/placement/assumed.py"

MUTANTS: Final[tuple[Mutant, ...]] = (
    mutant(
        "forget-what-was-sent",
        "an owner forgets what it just sent, so a burst piles up on one host",
        _ASSUMED,
        "        rows = self._sent.get(_row(child))\n        if rows is None:\n",
        "        rows = None\n        if rows is None:\n",
        MARKETS,
    ),
    mutant(
        "refuse-before-all-were-asked",
        "a member that did not answer counts as if it had refused",
        _ROUTING,
        "        if unanswered or not self._tables.owns(place.cell, now):\n",
        "        if not self._tables.owns(place.cell, now):\n",
    ),
    mutant(
        "refuse-after-one",
        "the first refusal of a member is taken for that of the whole cell",
        _ROUTING,
        "        chosen = self._choose(job, children, now)\n        if chosen is None:\n",
        "        chosen = self._choose(job, children, now)\n"
        "        if chosen is None or any(o.kind == REFUSED for o in job.outcomes.values()):\n",
        MARKETS,
    ),
    mutant(
        "part-is-the-whole",
        "the refusal of a cell below the root is taken for that of all hosts",
        _ROUTING,
        "        whole = bool(path) and path[-1] == place.cell\n",
        "        whole = bool(path)\n",
    ),
    mutant(
        "ignore-negative-constraint",
        "'not on that datastore' is not minded",
        _CONSTRAINTS,
        "        (value in constraint.values) != constraint.negative\n"
        "        for constraint in constraints\n",
        "        constraint.negative or value in constraint.values\n"
        "        for constraint in constraints\n",
    ),
    mutant(
        "second-success-is-kept",
        "room that a second host held for the same key is not given back",
        _ENTRY,
        "        out.send(message.host, HostCall(0, self._tables.me, extra))\n",
        "",
        ERRANDS,
    ),
    mutant(
        "late-answer-of-an-old-job",
        "numbers start over with each start: a late answer finds another's question",
        _ENTRY,
        "            self._last = (self._stream.bits62() >> 1) | 1\n",
        "            self._last = 1\n",
        HAUNTS,
    ),
    mutant(
        "answer-of-anybody",
        "an answer counts without looking which call it answers",
        _ENTRY,
        "        call = self._calls.get(message.job)\n"
        "        if call is None or call.host.node_id != sender:\n",
        "        call = next((c for c in self._calls.values() if c.host.node_id == sender), None)\n"
        "        if call is None:\n",
    ),
    mutant(
        "owners-number-anew",
        "an owner's questions are numbered anew at each start: late answers find others' questions",
        _ROUTING,
        "(self._last or self._stream.bits62() >> 2 << 1) + 2",
        "(self._last or 0) + 2",
        HAUNTS,
    ),
)

ABSENT: Final[tuple[Absent, ...]] = (
    Absent("a gang placement leaves a part", "gang placement is not built yet"),
    Absent(
        "an owner asks a second host for a request that arrives twice",
        "harmless: what a second host reserves is given back as soon as its answer arrives",
    ),
    Absent("retry under a new id", "ids of retries are the worker's; it is not simulated yet"),
)
