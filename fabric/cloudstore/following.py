"""The follower's side of replication: comparing the leader's log with ours, and making it equal.

*Log matching*: if two logs have an entry of the same index and term, all entries before are the
same.  So a follower takes entries only behind one that it has; else it answers where it is worth
trying again, skipping all entries of the term that contradicts.  It answers for what is equal
*and* durable, never for what is only on its way to the disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from fabric.cloudstore.log import Log
from fabric.machine import Write
from fabric.wire.store import Append, Entry


class Following:
    """What a follower knows of its leader's log, in the present term."""

    def __init__(self, log: Log) -> None:
        self.log = log
        #: The last heartbeat round heard of.
        self.round = 0
        #: Up to here every replica has the log durably.
        self.everywhere = 0
        self._equal = 0

    def reset(self) -> None:
        """There is another leader, or none: nothing is known to be equal."""
        self.round = 0
        self._equal = 0

    @property
    def equal(self) -> int:
        """Up to where the logs are known to be the same."""
        return self._equal

    @property
    def match(self) -> int:
        """Up to where they are the same, and durable here."""
        return min(self._equal, self.log.durable)

    def refuse(self, message: Append, commit: int) -> int | None:
        """Return ``None`` if the entries fit behind ours, else up to where to try again."""
        self.round = max(self.round, message.round)
        self.everywhere = max(self.everywhere, message.everywhere)
        index = message.prev_index
        if index <= self.log.base_index or self.log.term_at(index) == message.prev_term:
            return None
        hint = self.log.last_index
        if index <= hint:
            hint = self.log.first_of_term(index) - 1
        return max(hint, commit)  # what is committed is the same everywhere

    def take(self, previous: int, entries: Sequence[Entry], commit: int, token: int) -> list[Write]:
        """Add what is new in ``entries``, first removing what contradicts them.

        Returns the writes (none if all is there), which become durable under ``token``.
        """
        writes: list[Write] = []
        for offset, entry in enumerate(entries):
            index = previous + 1 + offset
            if index <= self.log.base_index or self.log.term_at(index) == entry.term:
                continue
            if index <= self.log.last_index:
                writes = self.log.truncate(index, commit)
            writes += self.log.append(entries[offset:], token)
            break
        self._equal = max(self._equal, previous + len(entries))
        return writes
