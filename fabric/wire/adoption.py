"""Publishing what the fabric knows to a coordinator that lost it. Type ids 130-131.

Travels in a ``Request`` to the candidate that holds the chair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fabric.limits import MAX_ADOPT_RECORDS
from fabric.wire.codec import Int, many, register
from fabric.wire.tree import CellRecord, Order, Topo


@dataclass(slots=True)
class AdoptAsk:
    """One part of a topology, collected from its owners. Answered by ``Done``, the last part by
    :class:`Adopted`.

    ``number`` tells one attempt from another; parts count from 0.
    """

    number: Int
    part: Int
    parts: Int
    topo: Topo
    records: Annotated[tuple[CellRecord, ...], many(MAX_ADOPT_RECORDS)]


@dataclass(slots=True)
class Adopted:
    """The coordinator holds the topology now, under ``order``."""

    order: Order
    cells: Int
    hosts: Int


register(130, AdoptAsk)
register(131, Adopted)
