"""Proposals that a leader took and has not answered yet, in the order of their entries."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from fabric.errors import OutcomeUnknown
from fabric.machine import Sink
from fabric.wire.store import Outcome, Proposed


@dataclass(slots=True)
class _Waiting:
    call_id: int
    first_index: int
    count: int
    outcomes: list[Outcome] = field(default_factory=list)


class Proposals:
    """Collects the outcomes of each proposal and answers it when they are complete."""

    def __init__(self) -> None:
        self.entries = 0
        self._waiting: deque[_Waiting] = deque()

    def add(self, call_id: int, first_index: int, count: int) -> None:
        """Wait for ``count`` entries from ``first_index`` on."""
        self._waiting.append(_Waiting(call_id, first_index, count))
        self.entries += count

    def settle(self, index: int, outcome: Outcome, out: Sink) -> None:
        """The entry at ``index`` was applied; entries come in order."""
        if not self._waiting or index < self._waiting[0].first_index:
            return  # an entry that nobody here waits for
        waiting = self._waiting[0]
        waiting.outcomes.append(outcome)
        if len(waiting.outcomes) == waiting.count:
            self._waiting.popleft()
            self.entries -= waiting.count
            out.reply(waiting.call_id, Proposed(tuple(waiting.outcomes)))

    def abandon(self, out: Sink) -> None:
        """The leader steps down: what is not applied yet may or may not be committed by others."""
        unknown = OutcomeUnknown("the leader stepped down before it could tell")
        lost = Outcome(0, unknown.code, unknown.message)
        for waiting in self._waiting:
            missing = waiting.count - len(waiting.outcomes)
            out.reply(waiting.call_id, Proposed((*waiting.outcomes, *([lost] * missing))))
        self._waiting.clear()
        self.entries = 0
