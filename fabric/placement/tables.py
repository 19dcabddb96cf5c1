"""What placement reads of the tree and of gossip. It never writes there.

The peer implements this over the tables that gossip (members, summaries) and the tree (cells,
owners, leases) keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fabric.machine import Contact
from fabric.tree.summary import Summary


class Child(NamedTuple):
    """A member of a cell, as its table has it: a host, or a child cell and who speaks for it."""

    key: int
    """Node id of a host, cell id of a child cell."""
    contact: Contact | None
    """Whom to ask: the host, or the child cell's owner. ``None``: not known right now."""
    is_host: bool
    alive: bool
    summary: Summary | None
    summary_at: int
    """When the oldest input of ``summary`` was true (our clock, µs); ``NEVER``: it is true now."""


class Tables(Protocol):
    """The tree as this peer knows it."""

    @property
    def me(self) -> Contact:
        """This peer."""

    def path(self) -> Sequence[int]:
        """Cell ids from this peer's leaf cell up to the root; empty before it has joined."""

    def owner_of(self, cell: int) -> Contact | None:
        """The owner of a cell of my path, when one is known to live."""

    def owns(self, cell: int, now: int) -> bool:
        """Whether this peer holds a valid lease of ``cell``."""

    def children(self, cell: int) -> Sequence[Child]:
        """Members of a cell that this peer takes part in, by ascending key. Observers are none."""
