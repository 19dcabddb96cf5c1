"""What a peer can tell about itself and its cells, read from the tables that others write."""

from __future__ import annotations

from fabric.errors import FabricError, NotFound
from fabric.gossip.cell import CellGossip
from fabric.gossip.members import Member
from fabric.machine import Message
from fabric.peer.cells import Cells
from fabric.wire.gossip import DEAD
from fabric.wire.peer import MemberRow, Members, Status


def status(cells: Cells, candidate: bool, chairman: bool, now: int) -> Status:
    """Return the peer's own account."""
    paths = cells.paths
    owns = tuple([c for c in paths.path if cells.leases.owns(c, now)])
    root = cells.gossip.get(paths.root)
    owners = [paths.owners[c] for c in paths.path if c in paths.owners]
    return Status(
        cells.me,
        cells.boot_id,
        cells.role,
        paths.topo,
        paths.path,
        paths.complete,
        tuple(owners),
        owns,
        chairman,
        candidate,
        cells.duties.host_summary,
        cells.duties.cell_summary(root) if root is not None and paths.root in owns else None,
    )


def members(cells: Cells, cell: int, now: int) -> Message | FabricError:
    """Return the table of ``cell`` (0: the leaf), if we take part in it."""
    wanted = cell or cells.paths.leaf
    gossip = cells.gossip.get(wanted)
    record = cells.paths.records.get(wanted)
    if gossip is None or record is None:
        return NotFound(f"this peer takes no part in cell {wanted}", {"cell": str(wanted)})
    return Members(record, cells.paths.owners.get(wanted), _rows(gossip, cells, now))


def _rows(gossip: CellGossip, cells: Cells, now: int) -> tuple[MemberRow, ...]:
    mine = gossip.news
    observer = gossip.level == 0 and cells.role != 0
    rows = [MemberRow(mine.key, mine.contact, mine.state, observer, mine.incarnation, mine.summary)]
    for member in gossip.members.values():
        news, case = member.news, member.suspicion
        rows.append(
            MemberRow(
                news.key,
                news.contact,
                news.state,
                member.observer,
                news.incarnation,
                news.summary,
                max(now - member.heard_at, 1) if member.heard_at else 0,
                max(now - case.since, 0) if case is not None else 0,
                _accusers(member),
            )
        )
    return tuple(sorted(rows, key=lambda row: row.key))


def _accusers(member: Member) -> tuple[int, ...]:
    """Return those on whose word ``member`` is suspected or held for dead."""
    if member.suspicion is not None:
        return tuple(member.suspicion.witnesses)
    return tuple(member.accusers) if member.news.state == DEAD else ()
