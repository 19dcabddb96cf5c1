"""An operator's order: publish what the fabric knows to a coordinator that lost it.

Collects every cell's record from its owner, from the root down, and sends them to the candidate
that holds the chair (halted, since its coordinator knows less than the peers).  The protocol's part
is :mod:`fabric.tree.adoption`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fabric.errors import Conflict, FabricError, NotFound, Unavailable
from fabric.limits import MAX_ADOPT_RECORDS, MAX_FRAME_BYTES
from fabric.machine import Contact, Message
from fabric.survey import READ_WITHIN_S, Calls, TreeCell
from fabric.tree.soundness import pruned
from fabric.wire.adoption import AdoptAsk, Adopted
from fabric.wire.codec import encode_record
from fabric.wire.tree import CellRecord, Topo

#: Of a frame; the rest is the header and the topology's head.
_PART_BYTES: Final = MAX_FRAME_BYTES * 3 // 4
#: How long the chairman may take to write it all: thousands of records are seconds.
_WRITE_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What the fabric knows: the head, a record of each cell, everybody met, and what is missing.

    ``silent`` are cells that could not be read, each with the reason.
    """

    topo: Topo
    records: tuple[CellRecord, ...]
    contacts: dict[int, Contact]
    silent: tuple[tuple[int, str], ...]


async def collect(calls: Calls, timeout_s: float = READ_WITHIN_S) -> Collected:
    """Read the records of all cells at their owners."""
    status = await calls.status(timeout_s)
    if status.topo is None:
        raise Unavailable("this peer does not know the topology: ask another one")
    records: list[CellRecord] = []
    contacts = {status.contact.node_id: status.contact}
    silent: list[tuple[int, str]] = []
    for cell in _all_cells(await calls.tree(timeout_s)):
        if cell.record is None:
            silent.append((cell.cell, "" if cell.error is None else cell.error.message))
            continue
        records.append(cell.record)
        known = [row.contact for row in cell.rows if row.contact.address]
        contacts.update({contact.node_id: contact for contact in known})
    fitting = pruned(status.topo.root, records)
    return Collected(status.topo, tuple(fitting), contacts, tuple(silent))


async def adopt(calls: Calls, partial: bool = False, timeout_s: float = READ_WITHIN_S) -> Adopted:
    """Publish what the fabric knows under the next generation.

    Cells that cannot be read are left out only if ``partial``: their hosts join anew.  Raises
    ``Unavailable`` if there are some and they may not be, ``Conflict`` when the chairman is not
    halted, ``NotFound`` when no candidate is found.
    """
    found = await collect(calls, timeout_s)
    if found.silent and not partial:
        cell, why = found.silent[0]
        raise Unavailable(
            f"{len(found.silent)} cells cannot be read (cell {cell}: {why}); try again, or leave "
            "them out: their hosts then join anew",
            {"cells": ",".join(str(cell) for cell, _ in found.silent)},
        )
    parts = list(_parts(found.records))
    number = secrets.randbits(60)
    asks = [AdoptAsk(number, n, len(parts), found.topo, part) for n, part in enumerate(parts)]
    holder, answer = await _find_holder(calls, found, asks[0])
    for ask in asks[1:]:
        answer = await _give(calls, holder, ask)
    if not isinstance(answer, Adopted):
        raise FabricError(f"expected Adopted, got {type(answer).__name__}")
    return answer


async def _find_holder(
    calls: Calls, found: Collected, first: AdoptAsk
) -> tuple[Contact | None, Message]:
    """Give the first part to whoever holds the chair: our own peer (``None``), or another."""
    waiting = [None, found.topo.chairman, *found.contacts.values()]
    asked: set[Contact | None] = set()
    why: FabricError = NotFound("no candidate was found")
    while waiting:
        contact = waiting.pop(0)
        if contact in asked:
            continue
        asked.add(contact)
        try:
            return contact, await _give(calls, contact, first)
        except NotFound:
            continue  # no candidate
        except Unavailable as error:
            why = error
        except Conflict as error:
            # it may not know yet that it lost the chair with the coordinator's memory
            if "holder" not in error.data or not isinstance(why, Conflict):
                why = error
            holder = found.contacts.get(int(error.data.get("holder", "0"), 16))
            if holder is not None:
                waiting.insert(0, holder)
    raise why


async def _give(calls: Calls, contact: Contact | None, ask: AdoptAsk) -> Message:
    last = ask.part == ask.parts - 1
    timeout_s = _WRITE_WITHIN_S if last else READ_WITHIN_S
    if contact is None:
        return await calls._ask_peer(ask, timeout_s)
    return await calls.call(contact, ask, timeout_s)


def _all_cells(cell: TreeCell) -> Iterator[TreeCell]:
    yield cell
    for child in cell.children:
        yield from _all_cells(child)


def _parts(records: Sequence[CellRecord]) -> Iterator[tuple[CellRecord, ...]]:
    """Cut ``records`` into what fits into a frame each; at least one part."""
    part: list[CellRecord] = []
    size = 0
    for record in records:
        length = len(encode_record(record))
        if part and (size + length > _PART_BYTES or len(part) >= MAX_ADOPT_RECORDS):
            yield tuple(part)
            part, size = [], 0
        part.append(record)
        size += length
    yield tuple(part)
