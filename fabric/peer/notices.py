"""What a peer tells those who watch it: metrics, the journal of events, the simulator's checkers.

Notices are outputs like all others: plain records, put out where something changes and nowhere
else, so they cost nothing per message.  What people read is made of them at the edge
(:mod:`fabric.runtime.journal`).
"""

from __future__ import annotations

from typing import NamedTuple

from fabric.errors import NodeIdInUse
from fabric.ids import format_id
from fabric.machine import Contact
from fabric.wire.tree import Order


class MemberNotice(NamedTuple):
    """A member of a cell changed: ``state`` as in ``fabric.wire.gossip``.

    ``accusers`` are the members on whose word it is held for dead.
    """

    cell: int
    key: int
    state: int
    contact: Contact
    incarnation: int
    accusers: tuple[int, ...]


class SuspicionNotice(NamedTuple):
    """``witness`` is the first to say that the member ``key`` does not answer."""

    cell: int
    key: int
    contact: Contact
    incarnation: int
    witness: int


class RefutedNotice(NamedTuple):
    """This peer was suspected under ``key``, and has said that it lives."""

    cell: int
    key: int
    incarnation: int


class OwnerNotice(NamedTuple):
    """This peer won a cell (``owns``) or lost it."""

    cell: int
    electorate: Order
    term: int
    owns: bool


class PlaceNotice(NamedTuple):
    """This peer's place in the tree: its leaf cell and the path from it to the root."""

    path: tuple[int, ...]


class JoinRefusedNotice(NamedTuple):
    """The chairman does not want us."""

    code: str
    message: str


class ConflictNotice(NamedTuple):
    """Another process lives under our node id with a later life: a copied data directory."""

    cell: int
    incarnation: int


class TwinNotice(NamedTuple):
    """Another process lives under our node id. One of the two ``yields``: this one, if so."""

    me: Contact
    boot_id: int
    rival: Contact
    rival_boot_id: int
    yields: bool

    def error(self) -> NodeIdInUse:
        """Return what the one that yields fails with."""
        node_id = format_id(self.me.node_id)
        return NodeIdInUse(
            f"node {node_id} runs twice: here at {self.me.address} (boot {self.boot_id}) and at "
            f"{self.rival.address} (boot {self.rival_boot_id}); were its keys or its data "
            "directory copied?",
            {
                "node_id": node_id, "address": self.me.address,
                "other_address": self.rival.address,
            },
        )  # fmt: skip


class LeftNotice(NamedTuple):
    """This peer has said goodbye."""


class DiskNotice(NamedTuple):
    """A write failed; what hung on it was not promised."""

    reason: str
