"""Whether cell records make a tree: those read from a coordinator may be anybody's.

What a chairman wrote always does.  What was written by hand, or collected from many owners at
slightly different moments, may not; the plan of the tree relies on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from fabric.limits import MAX_DEPTH
from fabric.wire.tree import CellRecord, Topo


def fault_in(topo: Topo, records: Sequence[CellRecord]) -> str:
    """Say which record does not fit and why; "" if they make a tree below ``topo.root``."""
    cells: dict[int, CellRecord] = {}
    for record in records:
        if record.cell in cells:
            return f"cell/{record.cell}: there are two of it"
        cells[record.cell] = record
    if topo.root and topo.root not in cells:
        return f"topo: the root, cell {topo.root}, is missing"
    if records and not topo.root:
        return f"topo: it names no root, and there is a cell {records[0].cell}"
    homes: dict[int, int] = {}
    for record in records:
        fault = _fault_of(record, topo, cells) or _strays(record, homes)
        if fault:
            return f"cell/{record.cell}: {fault}"
    return ""


def _fault_of(record: CellRecord, topo: Topo, cells: dict[int, CellRecord]) -> str:
    if record.cell >= topo.next_cell:
        return f"topo says that cells from {topo.next_cell} on were never made"
    if record.level >= MAX_DEPTH:
        return f"its level {record.level} is deeper than {MAX_DEPTH}"
    if record.order > topo.order:
        return f"it is newer ({tuple(record.order)}) than topo ({tuple(topo.order)})"
    if (record.parent == 0) != (record.cell == topo.root):
        return f"it has no parent, but the root is cell {topo.root}"
    if record.parent:
        parent = cells.get(record.parent)
        if parent is None:
            return f"its parent, cell {record.parent}, is missing"
        if all(member.node_id != record.cell for member in parent.members):
            return f"its parent, cell {record.parent}, does not list it"
    if record.level:
        for member in record.members:
            child = cells.get(member.node_id)
            if child is None:
                return f"its member, cell {member.node_id}, is missing"
            if child.parent != record.cell:
                return f"its member, cell {child.cell}, has another parent ({child.parent})"
            if child.level != record.level - 1:
                return f"its member, cell {child.cell}, is of level {child.level}"
    return ""


def _strays(record: CellRecord, homes: dict[int, int]) -> str:
    """Say who of a leaf is also somewhere else, and note who is here."""
    if record.level:
        return ""
    for contact in (*record.members, *record.observers):
        other = homes.setdefault(contact.node_id, record.cell)
        if other != record.cell:
            return f"it lists {contact.node_id:016x}, and so does cell/{other}"
        if not contact.address:
            return f"its member {contact.node_id:016x} has no address"
    return ""


def pruned(root: int, records: Iterable[CellRecord]) -> list[CellRecord]:
    """Make collected records fit: what cannot be reached from the root is left out.

    Children of whom there is no record are taken off their parents' lists; of two leaves that list
    a host the newer one keeps it.  Hosts that are left out find that out, and join anew.
    """
    newest: dict[int, CellRecord] = {}
    for record in records:
        if record.cell not in newest or record.order > newest[record.cell].order:
            newest[record.cell] = record
    kept: dict[int, CellRecord] = {}
    waiting = [(root, 0)]
    while waiting:
        cell, parent = waiting.pop()
        found = newest.get(cell)
        if found is None or found.parent != parent or cell in kept:
            continue
        kept[cell] = found
        if found.level:
            waiting += [(member.node_id, cell) for member in found.members]
    home = _homes(kept.values())
    return [_trimmed(record, kept, home) for _, record in sorted(kept.items())]


def _homes(records: Iterable[CellRecord]) -> dict[int, CellRecord]:
    home: dict[int, CellRecord] = {}
    for record in records:
        if record.level == 0:
            for contact in (*record.members, *record.observers):
                held = home.get(contact.node_id)
                if held is None or record.order > held.order:
                    home[contact.node_id] = record
    return home


def _trimmed(
    record: CellRecord, kept: dict[int, CellRecord], home: dict[int, CellRecord]
) -> CellRecord:
    if record.level:
        members = tuple([m for m in record.members if m.node_id in kept])
        return dataclasses.replace(record, members=members)
    return dataclasses.replace(
        record,
        members=tuple([m for m in record.members if home[m.node_id] is record]),
        observers=tuple([o for o in record.observers if home[o.node_id] is record]),
    )
