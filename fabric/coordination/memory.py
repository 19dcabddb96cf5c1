"""A coordinator in memory: for a lone peer, and for peers of one process that may die together."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

from fabric.coordination.interface import CoordinatorAnswer, CoordinatorNews, CoordinatorRequest
from fabric.coordination.rules import Table, carry_out, create
from fabric.limits import MAX_INT


class _Rows:
    """A dictionary as a table. Requests are checked before they write, so nothing rolls back."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._rows[key] = value

    def delete(self, key: bytes) -> None:
        self._rows.pop(key, None)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(row for row in self._rows.items() if row[0].startswith(prefix)))


class MemoryCoordinator:
    """May be given to several peers of one process; ``close`` by one of them closes nothing."""

    def __init__(self) -> None:
        self._rows = _Rows()
        create(self._rows, secrets.randbelow(MAX_INT) + 1)

    def listen(self, tell: Callable[[CoordinatorNews], None]) -> None:
        """It has no news: it is always there."""

    async def ask(self, request: CoordinatorRequest) -> CoordinatorAnswer:
        return carry_out(self._rows, request, time.monotonic_ns() // 1000, "")

    def within(self, work: Callable[[Table, int, str], object], writes: bool) -> object:
        """Do ``work`` on the rows, and return what it returns."""
        return work(self._rows, time.monotonic_ns() // 1000, "")

    async def close(self) -> None:
        pass
