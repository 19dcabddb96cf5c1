"""Why things are as they are: answers to the questions of ``fabric.wire.seeing``.

All of it is read from the tables that others write; nothing is kept for it but what the chairman's
chronicle and the leases remember of their last decisions.
"""

from __future__ import annotations

from typing import Any, Final

from fabric.errors import FabricError, NotFound
from fabric.machine import Contact, Message, Sink
from fabric.peer.cells import Cells
from fabric.stream import mix
from fabric.tree import chairman as chair
from fabric.tree.chairman import Chairman
from fabric.tree.departures import FREEZE_WINDOW_US, THAW_US, freeze_mark
from fabric.tree.owner import OWNING
from fabric.tree.planner import Plan
from fabric.tree.seats import Seat
from fabric.wire.seeing import (
    CellStory,
    CellStoryAsk,
    ChairmanAsk,
    ChairmanStatus,
    Granted,
    Ranked,
    SeatView,
    Step,
    ThawAsk,
    Thawed,
    Why,
    WhyAsk,
)
from fabric.wire.tree import NO_ORDER, CellRecord

#: What a peer answers by :func:`answer`.
ASKS: Final = frozenset({ChairmanAsk, ThawAsk, WhyAsk, CellStoryAsk})

_STATES: Final = {
    chair.FOLLOWING: "following",
    chair.LOADING: "loading",
    chair.PRESIDING: "presiding",
    chair.HALTED: "halted",
    chair.ADOPTING: "adopting",
}


def answer(
    body: Any, cells: Cells, chairman: Chairman | None, now: int, out: Sink
) -> Message | FabricError:
    """Answer ``body``, one of :data:`ASKS`."""
    if isinstance(body, CellStoryAsk):
        if body.cell and body.cell not in cells.paths.records and chairman is not None:
            return _written(chairman, body.cell)
        return cell_story(cells, body.cell, now)
    if chairman is None:
        return NotFound("this peer is no candidate, so it knows nothing of the chair")
    if isinstance(body, ChairmanAsk):
        return chairman_status(chairman, now)
    if not chairman.presides(now):
        return NotFound("this peer is not the chairman now")
    if isinstance(body, ThawAsk):
        frozen = chairman.departures.frozen
        return Thawed(frozen, chairman.thaw(now, out))
    assert isinstance(body, WhyAsk)
    return why(chairman, body.node, now)


def chairman_status(chairman: Chairman, now: int) -> ChairmanStatus:
    """Return a candidate's account of its chair."""
    topo, presides = chairman.records.topo, chairman.presides(now)
    departures = chairman.departures
    frozen, quiet = departures.frozen, departures.changed_at + THAW_US - now
    removed = [at for at in departures.removed_at if now - at < FREEZE_WINDOW_US]
    return ChairmanStatus(
        presides=presides,
        state=_STATES[chairman.state],
        reason=chairman.halted_for if chairman.state == chair.HALTED else "",
        coordinator_id=chairman.lease.coordinator_id,
        holder=chairman.lease.holder,
        order=topo.order if topo is not None else NO_ORDER,
        elected_us=max(now - chairman.elected_at, 0) if presides else 0,
        hosts=len(chairman.plan.home),
        cells=len(chairman.plan.cells),
        frozen=frozen,
        frozen_us=max(now - departures.frozen_at, 0) if frozen else 0,
        thaws_in_us=max(quiet, 0) if frozen else 0,
        gone=len(departures.gone),
        removed=len(removed),
        mark=freeze_mark(len(chairman.plan.home)),
        joins_waiting=len(chairman.arrivals.waiting),
        seats_wrong=len(chairman.plan.seats_wrong),
    )


def why(chairman: Chairman, node: int, now: int) -> Why:
    """Return why a host or observer is where it is, as far as this chairman knows."""
    plan, settings = chairman.plan, chairman.settings
    steps = []
    observer = False
    for cell_id in plan.path(node):
        cell = plan.cells[cell_id]
        leaf = cell.level == 0
        observer = observer or (leaf and node in cell.observers)
        low = settings.leaf_min if leaf else settings.inner_min
        high = settings.leaf_max if leaf else settings.inner_max
        steps.append(Step(cell_id, cell.level, len(cell.members), low, high))
    reason = chairman.chronicle.reason(node)
    return Why(
        contact=plan.contacts.get(node, Contact(node, "")),
        observer=observer,
        path=tuple(steps),
        seats=tuple(step.cell for step in steps if step.cell in plan.sits_in.get(node, ())),
        what=reason.what if reason is not None else "",
        other=reason.other if reason is not None else 0,
        order=reason.order if reason is not None else NO_ORDER,
        ago_us=max(now - reason.at, 0) if reason is not None else 0,
        chairman=chairman.me,
        elected_us=max(now - chairman.elected_at, 0),
        domain=plan.domain.get(node, ""),
        zone_hosts=_zone_hosts(plan, node),
    )


def _zone_hosts(plan: Plan, node: int) -> int:
    """Return how many hosts of the zone of ``node`` share its leaf cell."""
    leaf = plan.cells.get(plan.home.get(node, 0))
    if leaf is None or not plan.zone(node):
        return 0
    return sum([plan.zone(member) == plan.zone(node) for member in leaf.members])


def cell_story(cells: Cells, cell: int, now: int) -> CellStory | FabricError:
    """Return what this peer knows of who owns ``cell`` (0: the leaf), and why."""
    wanted = cell or cells.paths.leaf
    record = cells.paths.records.get(wanted)
    if record is None:
        return NotFound(f"cell {wanted} is not on this peer's path", {"cell": str(wanted)})
    ownership = cells.leases.ownerships.get(wanted)
    owns = ownership is not None and ownership.owns(now)
    grants: tuple[Granted, ...] = ()
    standbys: tuple[Contact, ...] = ()
    if ownership is not None and ownership.state == OWNING:
        grants = tuple(
            Granted(seat, max(until - now, 0)) for seat, until in sorted(ownership.expiry.items())
        )
        standbys = ownership.standbys
    return CellStory(
        record=record,
        owner=cells.paths.owners.get(wanted),
        ranks=_ranks(cells, record),
        lease_us=ownership.lease_until - now if ownership is not None and owns else 0,
        grants=grants,
        standbys=standbys,
        won=cells.leases.won_by(wanted, now) if owns else None,
        seat=_seat(cells.leases.seats.get(wanted), now),
    )


def _written(chairman: Chairman, cell: int) -> CellStory | FabricError:
    """Return what the chairman knows of a cell elsewhere: of a dark one nobody else tells."""
    held = chairman.plan.cells.get(cell)
    if held is None:
        return NotFound(f"there is no cell {cell}", {"cell": str(cell)})
    owner = chairman.reports.owners.get(cell)
    return CellStory(chairman.plan.record(held), owner, (), 0, (), (), None, None)


def _ranks(cells: Cells, record: CellRecord) -> tuple[Ranked, ...]:
    """Return the cell's members, ourselves included, in the order of their standing."""
    gossip = cells.gossip.get(record.cell)
    if gossip is None:
        return ()
    rows = [member.news for member in gossip.ranking]
    if any(member.node_id == gossip.key for member in record.members):
        rows.append(gossip.news)
    rows.sort(key=lambda news: (mix(record.cell, news.key), news.key))
    return tuple(Ranked(n.key, n.contact, n.state, n.incarnation) for n in rows)


def _seat(seat: Seat | None, now: int) -> SeatView | None:
    if seat is None:
        return None
    holder = seat.grantee if seat.grantee is not None and now < seat.expires else None
    return SeatView(
        electorate=seat.electorate,
        term=seat.term,
        grantee=holder.node_id if holder is not None else 0,
        left_us=seat.expires - now if holder is not None else 0,
        cold_us=max(seat.cold_until - now, 0),
    )
