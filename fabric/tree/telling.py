"""Telling the fabric what the chairman wrote: those whom it concerns first, gossip the others.

Whoever moved gets its whole path, other members of a changed cell its record, the seats of a
changed inner cell that cell's.
"""

from __future__ import annotations

from collections.abc import Sequence

from fabric.machine import Contact, Sink
from fabric.tree.planner import Plan
from fabric.tree.roster import Cell
from fabric.wire.tree import CellRecord, Path, Topo


def remind(plan: Plan, out: Sink) -> None:
    """Tell the seats of every cell its record as it was read.

    A new chairman's predecessor may have died between writing a record and telling anybody.
    """
    for cell in plan.cells.values():
        news = Path(None, (plan.record(cell),), ())
        for seat in cell.seats:
            contact = plan.contacts.get(seat)
            if contact is not None:
                out.send(contact, news)


def spread(
    plan: Plan, topo: Topo, me: Contact, cells: Sequence[Cell], moved: Sequence[int], out: Sink
) -> None:
    """Tell whom a write concerns: ``cells`` were written, ``moved`` changed their leaf."""
    told = dict.fromkeys(moved)
    written = {cell.cell: cell for cell in cells}
    for node_id in moved:
        tell_path(plan, topo, node_id, out)
    for cell in cells:
        if cell.cell not in plan.cells:
            continue
        news = Path(topo, _with_written_parents(plan, cell, written), ())
        nodes = cell.members + cell.observers if cell.level == 0 else cell.seats
        for node_id in nodes:
            if cell.level > 0 or node_id not in told:
                out.send(plan.contacts[node_id], news)
    if not cells:  # only the chairman changed
        root = plan.cells.get(plan.root)
        heads = dict.fromkeys([*(root.seats if root else ()), me.node_id])
        for node_id in heads:
            out.send(plan.contacts.get(node_id, me), Path(topo, (), ()))


def tell_path(plan: Plan, topo: Topo | None, node_id: int, out: Sink) -> None:
    """Send ``node_id`` the records of all cells from its leaf to the root."""
    records = tuple([plan.record(plan.cells[c]) for c in plan.path(node_id)])
    out.send(plan.contacts[node_id], Path(topo, records, ()))


def _with_written_parents(
    plan: Plan, cell: Cell, written: dict[int, Cell]
) -> tuple[CellRecord, ...]:
    """Return the record of ``cell``, and those above it that the same write changed."""
    records = [plan.record(cell)]
    above = cell.parent
    while above:
        if above in written:
            records.append(plan.record(plan.cells[above]))
        above = plan.cells[above].parent
    return tuple(records)
