"""Prometheus metrics: of the peers of this process, and of the front and worker beside them.

Peers count and measure by themselves, in plain integers (``fabric.counters``); only a scrape turns
that into Prometheus' families.  What the front and the worker measure goes straight into
``prometheus_client``.  Every sample of a peer carries its node id: a process may run several.

Served without authentication, so on loopback addresses only: a collector on the machine, or a
proxy that knows whom to let in, takes it from there.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fabric.api import Fabric
from fabric.counters import BOUNDS_US, COUNTED
from fabric.errors import AddressInUse, EdgeError, FabricError
from fabric.ids import format_id
from fabric.runtime.measures import RECEIVED, SENT
from fabric.units import SECOND
from fabric.wire.seeing import Metrics, Number, Times
from nodes.config import check_loopback

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_COUNTERS: Final = {
    RECEIVED: "messages received, by type",
    SENT: "messages sent, by type",
}
_GAUGES: Final = {
    "boot_id": "how often this peer has started",
    "placed": "whether the peer has a place in the tree",
    "path_complete": "whether the peer knows all cells up to the root",
    "depth": "cells between the peer and the root, its leaf and the root included",
    "cells": "cells in which the peer gossips",
    "cells_owned": "cells that the peer owns",
    "seats": "cells in which the peer has a vote",
    "members_alive": "other members of the peer's cells that live, as far as it knows",
    "members_suspect": "other members that are suspected",
    "members_dead": "other members held for dead and not yet removed",
    "local_health": "Lifeguard's local health: 0 is well, 6 is worst",
    "placements_in_flight": "placements and host calls that callers wait for here",
    "routing_jobs": "placements that this peer routes as an owner",
    "host_cpu": "vCPUs of this host",
    "host_cpu_free": "vCPUs of this host that are free",
    "host_memory_mb": "MB of memory of this host",
    "host_memory_free_mb": "MB of memory of this host that are free",
    "host_vms": "VMs on this host",
    "chairman": "whether this peer is chairman",
    "chairman_halted": "whether this candidate writes nothing because something is wrong",
    "topology_hosts": "hosts and observers in the tree",
    "topology_cells": "cells in the tree",
    "topology_version": "writes of the topology so far",
    "joins_waiting": "peers that wait to be let in",
    "members_gone": "members that are gone and not yet removed",
    "freeze_mark": "how many may go at about the same time before removals freeze",
    "frozen": "whether removals and merges are frozen",
    "calls_waiting": "calls of this process that wait for their answer",
    "questions_waiting": "questions to other peers that wait for their answer",
    "edge_tasks": "requests to the coordinator and the hypervisor under way",
    "send_queue": "messages that wait for a connection",
    "connections": "outgoing connections, formed or forming",
    "storage_queue": "submissions that wait for their commit",
    "events_kept": "events that the peer remembers",
}
_TIMES: Final = {
    "call": ("calls of this process, by what was asked", "asked"),
    "question": ("questions to other peers, by what was asked", "asked"),
    "commit": ("writes from submission until they are durable", ""),
    "coordinator": ("requests to the coordinator", "request"),
    "hypervisor": ("calls of the hypervisor driver", "call"),
    "timer_lateness": ("how late timers fire: a busy or paused process", ""),
}
#: Buckets of the front and the worker, in seconds: those of the peers and a few longer ones.
_BUCKETS_S: Final = (*[bound / SECOND for bound in BOUNDS_US], 30.0, 60.0)

Source = Callable[[], Awaitable[Metrics]]


class Exposition:
    """All that one process exposes. Add peers, then serve what :meth:`render` returns."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._registry = CollectorRegistry()
        self.requests = Histogram(
            "fabric_http_request_seconds",
            "requests to the REST front, by method, route and status",
            ("method", "route", "status"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self.tasks = Histogram(
            "fabric_task_seconds",
            "tasks from when they were queued until they ended, by operation and end",
            ("operation", "state"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )

    def add_peer(self, fab: Fabric) -> None:
        """Expose a peer of this process too."""
        self._sources.append(fab.metrics)

    async def render(self) -> bytes:
        """Return everything as it is now. A peer that has stopped is left out."""
        found = await asyncio.gather(*(_measure(source) for source in self._sources))
        snapshots = [metrics for metrics in found if metrics is not None]
        return render(snapshots) + generate_latest(self._registry)


async def _measure(source: Source) -> Metrics | None:
    try:
        return await source()
    except FabricError:
        return None


def render(snapshots: Sequence[Metrics]) -> bytes:
    """Return the metrics of peers in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Peers(snapshots))
    return generate_latest(registry)


class _Peers(Collector):
    """Families over the snapshots of all peers."""

    def __init__(self, snapshots: Sequence[Metrics]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        helps = {**_COUNTERS, **COUNTED}
        yield from self._numbers(lambda it: it.counters, CounterMetricFamily, helps)
        yield from self._numbers(lambda it: it.gauges, GaugeMetricFamily, _GAUGES)
        yield from self._times()

    def _numbers(
        self,
        part: Callable[[Metrics], Sequence[Number]],
        family: type[CounterMetricFamily] | type[GaugeMetricFamily],
        helps: dict[str, str],
    ) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for snapshot in self._snapshots:
            node = format_id(snapshot.node_id)
            for name, label, value in part(snapshot):
                labels = ("node", "type") if label else ("node",)
                if name not in families:
                    families[name] = family(
                        f"fabric_{name}", helps.get(name, name.replace("_", " ")), labels=labels
                    )
                families[name].add_metric((node, label) if label else (node,), value)
        yield from families.values()

    def _times(self) -> Iterator[Metric]:
        families: dict[str, HistogramMetricFamily] = {}
        for snapshot in self._snapshots:
            node = format_id(snapshot.node_id)
            for row in snapshot.times:
                text, label = _TIMES.get(row.name, (row.name.replace("_", " "), "kind"))
                if row.name not in families:
                    labels = ("node", label) if label else ("node",)
                    families[row.name] = HistogramMetricFamily(
                        f"fabric_{row.name}_seconds", text, labels=labels
                    )
                values = (node, row.label) if label else (node,)
                families[row.name].add_metric(values, _buckets(row), row.sum_us / SECOND)
        yield from families.values()


def _buckets(row: Times) -> list[tuple[str, float]]:
    bounds = [*(repr(bound / SECOND) for bound in BOUNDS_US), "+Inf"]
    return list(zip(bounds, map(float, accumulate(row.counts)), strict=True))


# --- serving --------------------------------------------------------------------------------------


async def handle(exposition: Exposition) -> web.Response:
    """Answer ``GET /metrics``."""
    return web.Response(
        body=await exposition.render(), headers={"Content-Type": CONTENT_TYPE}
    )


class MetricsServer:
    """``GET /metrics`` of one peer on a loopback port, as long as the context is open."""

    def __init__(self, exposition: Exposition, host: str, port: int) -> None:
        check_loopback(host)
        self._exposition = exposition
        self._host, self._port = host, port
        self.url = ""

    async def __aenter__(self) -> MetricsServer:
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            where = f"{self._host}:{self._port}"
            if error.errno == errno.EADDRINUSE:
                raise AddressInUse(f"address {where} is in use by another program") from None
            raise EdgeError(f"cannot listen on {where}: {error.strerror}") from None
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        return await handle(self._exposition)
