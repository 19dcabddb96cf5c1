"""What anybody who can ask a peer can do: read it, see the whole tree, place, confirm, release.

:class:`Calls` is the common part of :class:`~fabric.api.Fabric` (a peer in this process) and
:class:`~fabric.client.Client` (a caller from outside).  Both differ only in how a message gets to
the peer and how one gets to another peer.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from fabric.errors import BadFrame, FabricError, NotFound, OwnerUnknown, Unavailable
from fabric.ids import format_id
from fabric.limits import MAX_DEPTH
from fabric.machine import Contact, Message
from fabric.placement.explain import refused_error
from fabric.placement.request import Placed, PlacementRequest
from fabric.runtime.tracing import TRACE
from fabric.wire.adoption import Adopted
from fabric.wire.peer import MemberRow, Members, MembersAsk, Status, StatusAsk
from fabric.wire.placement import ConfirmAsk, PlaceAsk, Refusal, ReleaseAsk
from fabric.wire.seeing import (
    CellStory,
    CellStoryAsk,
    ChairmanAsk,
    ChairmanStatus,
    EventRow,
    Events,
    EventsAsk,
    Metrics,
    MetricsAsk,
    ThawAsk,
    Thawed,
    Why,
    WhyAsk,
)
from fabric.wire.tree import CellRecord, Owner

#: How long the readers wait by default.
READ_WITHIN_S: Final = 5.0
PLACE_WITHIN_S: Final = 10.0
#: How long one question of a follower waits for the next event.
_FOLLOW_S: Final = 10.0
#: A peer answers with a coded error when its deadline passes; that answer needs time to arrive.
_GRACE_S: Final = 1.0
#: Cells that are asked at the same time when the whole tree is read.
_AT_ONCE: Final = 32

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class TreeCell:
    """One cell of the tree as its owner sees it, with the cells below it.

    ``error`` says why the cell could not be read; then only ``cell`` and ``owner`` are known.
    ``stamp`` is the owner's (E, v, t), as the one that was asked knows it.
    """

    cell: int
    owner: Contact | None
    record: CellRecord | None = None
    rows: tuple[MemberRow, ...] = ()
    children: tuple[TreeCell, ...] = ()
    error: FabricError | None = None
    stamp: Owner | None = None


class Calls(ABC):
    """Calls that a peer answers, whoever makes them. All raise ``FabricError``."""

    @abstractmethod
    async def _ask_peer(self, body: Message, timeout_s: float) -> Message:
        """Have our peer do ``body`` and return its answer."""

    @abstractmethod
    async def call(self, to: Contact, body: Message, timeout_s: float = READ_WITHIN_S) -> Message:
        """Ask any peer and return its answer; raises what a failure says."""

    async def status(self, timeout_s: float = READ_WITHIN_S) -> Status:
        """Return the peer's own account: its place, owners, summary."""
        return _expect(Status, await self._ask_peer(StatusAsk(), timeout_s))

    async def cell(self, cell: int = 0, timeout_s: float = READ_WITHIN_S) -> Members:
        """Return one cell that the peer takes part in (0: its leaf): record, owner, members."""
        return _expect(Members, await self._ask_peer(MembersAsk(cell), timeout_s))

    async def members(self, cell: int = 0, timeout_s: float = READ_WITHIN_S) -> list[MemberRow]:
        """Return the members of a cell that the peer takes part in (0: its leaf)."""
        return list((await self.cell(cell, timeout_s)).rows)

    async def tree(self, timeout_s: float = READ_WITHIN_S) -> TreeCell:
        """Ask the owner of every cell, from the root down, and return what they say."""
        status = await self.status(timeout_s)
        if status.topo is None:
            raise Unavailable("this peer does not know the topology yet; try again")
        root = status.topo.root
        owner = next((o for o in status.owners if o.cell == root), None)
        if owner is None:
            raise OwnerUnknown("nobody is known to own the root cell right now")
        gate = asyncio.Semaphore(_AT_ONCE)
        return await self._read_cell(root, owner.contact, gate, timeout_s)

    async def history(
        self, after: int = 0, wait_s: float = 0.0, timeout_s: float = READ_WITHIN_S
    ) -> Events:
        """Return what happened at the peer after its event number ``after``, the oldest first.

        With ``wait_s`` the answer waits so long for an event where there is none yet.  At most
        ``limits.MAX_EVENTS`` are remembered, and ``MAX_EVENT_PAGE`` come in one answer.
        """
        ask = EventsAsk(after, round(wait_s * 1000))
        return _expect(Events, await self._ask_peer(ask, timeout_s + wait_s))

    async def metrics(self, timeout_s: float = READ_WITHIN_S) -> Metrics:
        """Return what the peer has counted and measured, and how long its queues are."""
        return _expect(Metrics, await self._ask_peer(MetricsAsk(), timeout_s))

    async def events(self, after: int | None = None) -> AsyncIterator[EventRow]:
        """Yield what happens at the peer, from now on or from after event number ``after``.

        Ends with the peer, if it runs in this process, else raises ``Unavailable``.
        """
        if after is None:
            after = await self._last_event()
        boot_id = 0
        while True:
            page = await self.history(after, _FOLLOW_S)
            if boot_id not in (0, page.boot_id):
                after = 0  # the peer started again, and counts from 1
            boot_id = page.boot_id
            if page.missed:
                first = page.rows[0]
                text = f"{page.missed} events before this one are forgotten"
                yield EventRow(first.number - 1, first.at, "missed", 0, 0, text)
            for row in page.rows:
                yield row
                after = row.number

    async def _last_event(self) -> int:
        after = 0
        while True:
            page = await self.history(after)
            if page.rows:
                after = page.rows[-1].number
            if not page.more:
                return after

    # --- the chairman, and why things are as they are ---------------------------------------------

    async def chairman(self, timeout_s: float = READ_WITHIN_S) -> tuple[Contact, ChairmanStatus]:
        """Return who the chairman is, and its own account: epoch, freeze, what waits."""
        contact = await self._chairman(timeout_s)
        answer = await self.call(contact, ChairmanAsk(), timeout_s)
        return contact, _expect(ChairmanStatus, answer)

    async def thaw(self, timeout_s: float = READ_WITHIN_S) -> Thawed:
        """End the freeze of removals and merges, through the chairman."""
        contact = await self._chairman(timeout_s)
        return _expect(Thawed, await self.call(contact, ThawAsk(), timeout_s))

    async def why(self, node_id: int, timeout_s: float = READ_WITHIN_S) -> Why:
        """Return why the host or observer ``node_id`` is in its cell; the chairman says so.

        Raises ``NotFound`` for a stranger.
        """
        contact = await self._chairman(timeout_s)
        answer = _expect(Why, await self.call(contact, WhyAsk(node_id), timeout_s))
        if not answer.path:
            raise NotFound(f"no host or observer {format_id(node_id)} is in the tree")
        return answer

    async def cell_story(
        self, cell: int = 0, at: Contact | None = None, timeout_s: float = READ_WITHIN_S
    ) -> CellStory:
        """Return how ``cell`` came to its owner, as our peer, or the one ``at``, sees it."""
        ask = CellStoryAsk(cell)
        if at is None:
            return _expect(CellStory, await self._ask_peer(ask, timeout_s))
        return _expect(CellStory, await self.call(at, ask, timeout_s))

    async def _chairman(self, timeout_s: float) -> Contact:
        status = await self.status(timeout_s)
        if status.topo is None:
            raise Unavailable("this peer does not know the topology yet; try again")
        return status.topo.chairman

    # --- placements -------------------------------------------------------------------------------

    async def place(self, request: PlacementRequest, timeout_s: float = PLACE_WITHIN_S) -> Placed:
        """Reserve room for ``request`` on one host, to be confirmed or released before it expires.

        Raises ``Refused`` when it is proven that no host can take it, with the explanation, and
        ``Unavailable`` when that could not be found out in time: ask again under the same key.
        """
        request.check()
        trace = TRACE.get()
        if trace and not request.trace:
            request = replace(request, trace=trace)
        body = PlaceAsk(request, round(timeout_s * 1000))
        answer = await self._ask_peer(body, timeout_s + _GRACE_S)
        if isinstance(answer, Refusal):
            raise refused_error(answer)
        return _expect(Placed, answer)

    async def confirm(self, placement: Placed, timeout_s: float = READ_WITHIN_S) -> None:
        """Make the reservation permanent (until a VM consumes it)."""
        body = ConfirmAsk(placement, round(timeout_s * 1000))
        await self._ask_peer(body, timeout_s + _GRACE_S)

    async def release(self, placement: Placed, timeout_s: float = READ_WITHIN_S) -> None:
        """Give the reserved room back. Works also when it is gone already."""
        body = ReleaseAsk(placement, round(timeout_s * 1000))
        await self._ask_peer(body, timeout_s + _GRACE_S)

    async def adopt(self, partial: bool = False, timeout_s: float = READ_WITHIN_S) -> Adopted:
        """Have the halted chairman publish what the fabric knows: its coordinator lost it.

        See :func:`fabric.adopting.adopt`, also for the errors.
        """
        from fabric.adopting import adopt

        return await adopt(self, partial, timeout_s)

    async def _read_cell(
        self,
        cell: int,
        owner: Contact,
        gate: asyncio.Semaphore,
        timeout_s: float,
        below: int = MAX_DEPTH,
    ) -> TreeCell:
        """Read ``cell``, whose level must be less than ``below``, and all cells under it."""
        try:
            async with gate:
                read = _expect(Members, await self.call(owner, MembersAsk(cell), timeout_s))
            if read.record.cell != cell or read.record.level >= below:
                raise BadFrame(f"the owner of cell {cell} told of another one")
        except FabricError as error:
            return TreeCell(cell, owner, error=error)
        children: list[TreeCell] = []
        if read.record.level > 0:
            speakers = {row.key: row.contact for row in read.rows if row.contact.address}
            children = await asyncio.gather(
                *[
                    self._read_child(
                        child.node_id,
                        speakers.get(child.node_id),
                        gate,
                        timeout_s,
                        read.record.level,
                    )
                    for child in read.record.members
                ]
            )
        speaker = read.owner.contact if read.owner is not None else owner
        return TreeCell(cell, speaker, read.record, read.rows, tuple(children), None, read.owner)

    async def _read_child(
        self,
        cell: int,
        speaker: Contact | None,
        gate: asyncio.Semaphore,
        timeout_s: float,
        below: int,
    ) -> TreeCell:
        if speaker is None:
            return TreeCell(cell, None, error=OwnerUnknown("nobody speaks for this cell"))
        return await self._read_cell(cell, speaker, gate, timeout_s, below)


def owner_of(status: Status, cell: int) -> Owner | None:
    """Return who owns ``cell`` according to ``status``."""
    return next((owner for owner in status.owners if owner.cell == cell), None)


def _expect(cls: type[M], answer: Message) -> M:
    if not isinstance(answer, cls):
        raise FabricError(f"expected {cls.__name__}, got {type(answer).__name__}")
    return answer
