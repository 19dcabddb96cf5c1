"""What a run found, as data: the same fields for people, JSON and tests."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Result:
    """The outcome of one run."""

    hosts: int
    seed: int
    virtual_s: float
    wall_s: float
    cpu_s: float
    events: int
    messages: int
    trace_hash: str
    #: Each names invariant, virtual time, nodes and detail; at most the first hundred.
    violations: list[dict[str, Any]]
    violations_total: int
    #: Virtual seconds from the last fault (or the start) until every living peer held the newest
    #: record of each cell on its path, and the root's counts were exact; ``None``: never.
    converged_s: float | None
    depth: int
    placements: int
    refused: int
    unavailable: int
    faults: int
    max_rss_mb: int
    preformed: bool
    compiled: bool
    interrupted: bool = False
    messages_lost: int = 0
    place_p50_ms: float | None = None
    place_p99_ms: float | None = None
    takeovers: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was violated."""
        return self.violations_total == 0

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))
