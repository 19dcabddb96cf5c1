"""A peer in numbers, as it is now: its cells, its queues, its capacity, its chair.

Read when somebody asks; nothing is counted along the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fabric.tree.departures import freeze_mark
from fabric.wire.gossip import ALIVE, DEAD, SUSPECT

if TYPE_CHECKING:
    from fabric.peer.compose import Peer


def gauges(peer: Peer, now: int) -> dict[str, int]:
    """Return the numbers of ``peer`` by name (see ``nodes.metrics`` for what they mean)."""
    found = _cells(peer, now)
    found["placements_in_flight"] = len(peer.router.entry)
    found["routing_jobs"] = len(peer.router.routing)
    summary = peer.cells.duties.host_summary
    if summary is not None:
        found["host_cpu"] = summary.cpu
        found["host_cpu_free"] = summary.cpu_free
        found["host_memory_mb"] = summary.memory_mb
        found["host_memory_free_mb"] = summary.memory_free_mb
        found["host_vms"] = summary.vms
    found |= _chair(peer, now)
    return found


def _cells(peer: Peer, now: int) -> dict[str, int]:
    cells = peer.cells
    states = {ALIVE: 0, SUSPECT: 0, DEAD: 0}
    health = 0
    for gossip in cells.gossip.values():
        health = max(health, gossip.health)
        for member in gossip.members.values():
            state = member.news.state
            states[state] = states.get(state, 0) + 1
    return {
        "boot_id": peer.boot_id,
        "placed": int(cells.paths.placed),
        "path_complete": int(cells.paths.complete),
        "depth": len(cells.paths.path),
        "cells": len(cells.gossip),
        "cells_owned": sum([cells.leases.owns(cell, now) for cell in cells.paths.path]),
        "seats": len(cells.leases.seats),
        "members_alive": states[ALIVE],
        "members_suspect": states[SUSPECT],
        "members_dead": states[DEAD],
        "local_health": health,
    }


def _chair(peer: Peer, now: int) -> dict[str, int]:
    chairman = peer.chairman
    if chairman is None:
        return {}
    presides = chairman.presides(now)
    found = {"chairman": int(presides), "chairman_halted": int(bool(chairman.halted_for))}
    if presides:
        hosts = len(chairman.plan.home)
        found["topology_hosts"] = hosts
        found["topology_cells"] = len(chairman.plan.cells)
        found["topology_version"] = chairman.records.version
        found["joins_waiting"] = len(chairman.arrivals.waiting)
        found["members_gone"] = len(chairman.departures.gone)
        found["freeze_mark"] = freeze_mark(hosts)
        found["frozen"] = int(chairman.departures.frozen)
    return found
