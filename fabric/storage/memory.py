"""Records of a peer without a data directory: gone with the process, never answered in place.

``done`` is called by the loop in a later turn, as with a disk, so that no machine is entered while
it is putting out its outputs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from fabric.machine import Write
from fabric.storage.interface import Durable


class MemoryStorage:
    """A dictionary behind the storage interface."""

    def __init__(self, node_id: int, boot_id: int = 1) -> None:
        self._node_id = node_id
        self._boot_id = boot_id
        self._records: dict[bytes, bytes] = {}
        self._done: deque[Durable] = deque()
        self._scheduled = False

    @property
    def node_id(self) -> int:
        return self._node_id

    @property
    def boot_id(self) -> int:
        return self._boot_id

    @property
    def waiting(self) -> int:
        return len(self._done)

    def stored(self) -> Iterable[tuple[bytes, bytes]]:
        return sorted(self._records.items())

    def submit(self, writes: Sequence[Write], done: Durable) -> None:
        for key, value in writes:
            if value is None:
                self._records.pop(key, None)
            else:
                self._records[key] = value
        self._done.append(done)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._report)

    async def close(self) -> None:
        self._report()

    def _report(self) -> None:
        self._scheduled = False
        while self._done:
            self._done.popleft()(None)
