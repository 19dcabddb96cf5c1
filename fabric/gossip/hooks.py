"""What the gossip of a cell tells the peer around it: the seam between gossip and tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fabric.gossip.members import Member
from fabric.machine import Contact, Sink
from fabric.wire.gossip import News

if TYPE_CHECKING:
    from fabric.gossip.cell import CellGossip


class Hooks(Protocol):
    """What a cell tells the peer around it."""

    def member_changed(self, cell: CellGossip, member: Member, now: int, out: Sink) -> None:
        """The status or speaker of ``member`` changed."""

    def suspected(self, cell: CellGossip, member: Member, witness: int, out: Sink) -> None:
        """``witness`` is the first to say that ``member`` does not answer."""

    def refuted(self, cell: CellGossip, out: Sink) -> None:
        """We were suspected, and have said that we live."""

    def path_differs(self, cell: CellGossip, contact: Contact, now: int, out: Sink) -> None:
        """``contact`` holds another topology than we do."""

    def superseded(self, cell: CellGossip, news: News, now: int, out: Sink) -> None:
        """Somebody else lives (or speaks) under our key, by a higher life number."""

    def isolated(self, cell: CellGossip, now: int, out: Sink) -> None:
        """Nobody answers us."""

    def awoke(self, cell: CellGossip, now: int, out: Sink) -> None:
        """We did not run for so long that much may have happened, also to us."""

    def stranger(self, cell: CellGossip, contact: Contact, now: int, out: Sink) -> None:
        """One who was a member, and does not know that it is none any more, pinged us."""

    def in_touch(self, cell: CellGossip, suspect: Member, now: int, out: Sink) -> bool:
        """Whether somebody beyond the cell (other than ``suspect``) answers us; ask again."""
