"""What the runtime needs of a storage: batches of writes made durable in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias

from fabric.errors import StorageError
from fabric.machine import Write

#: Records under these keys are what others told this peer, and tell it again.
RELEARNED: Final = (b"topo/",)

#: Called on the loop when the writes are durable (``None``) or never will be.
Durable: TypeAlias = Callable[[StorageError | None], None]


class Storage(Protocol):
    """One peer's durable records."""

    @property
    def node_id(self) -> int:
        """The stable id that belongs to these records."""

    @property
    def boot_id(self) -> int:
        """Counts the starts; durable before the peer says anything."""

    @property
    def waiting(self) -> int:
        """Submissions that are not yet being written."""

    def stored(self) -> Iterable[tuple[bytes, bytes]]:
        """All records, in key order, read at the start."""

    def submit(self, writes: Sequence[Write], done: Durable) -> None:
        """Make ``writes`` durable as one unit. ``done`` calls come in the order of submission."""

    async def close(self) -> None:
        """Finish what was submitted, then let go of the data directory."""
