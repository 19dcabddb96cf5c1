"""A running peer inside any asyncio program: ``fabric.open``.

    async with fabric.open(join=["tcp://127.0.0.1:7000"], host=agent.simulated_host()) as fab:
        ...

``open`` puts the parts together: transport, storage, coordinator, the sans-I/O :class:`Peer` and
the driver that runs it.  Which parts, its arguments say; what they do is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from fabric.coordination.embedded import EmbeddedCoordinator
from fabric.coordination.ensemble import Ensemble, is_ensemble, parse_ensemble
from fabric.coordination.memory import MemoryCoordinator
from fabric.counters import Counters
from fabric.errors import BadInput, DeadlineExceeded, FabricError
from fabric.ids import format_id
from fabric.limits import MAX_DOMAIN_NAME, MAX_INT, MAX_NOTICES
from fabric.machine import Contact, Message
from fabric.peer.compose import Peer
from fabric.peer.gauges import gauges
from fabric.placement.host import Host
from fabric.runtime.driver import Runtime
from fabric.runtime.errands import Coordinator
from fabric.settings import Settings
from fabric.storage.committer import CommittedStorage
from fabric.storage.interface import Storage
from fabric.storage.memory import MemoryStorage
from fabric.stream import Stream
from fabric.survey import READ_WITHIN_S, Calls
from fabric.transport.address import parse_dialled
from fabric.transport.both import BothTransport
from fabric.transport.inproc import SCHEME, InprocTransport
from fabric.transport.interface import Transport
from fabric.transport.keys import NodeKeys, opened
from fabric.transport.zmq import ZmqTransport
from fabric.wire.peer import LeaveAsk, Status
from fabric.wire.seeing import EventRow
from fabric.wire.trust import CANDIDATE

#: How long leaving may take before the peer goes without goodbye.
_LEAVE_WITHIN_S: Final = 5.0
#: ``ready`` looks again at least so often; notices make it look at once.
_LOOK_AGAIN_S: Final = 0.1


def open(
    address: str = "tcp://127.0.0.1:0",
    *,
    join: Sequence[str] = (),
    data_dir: str | Path | None = None,
    host: Host | None = None,
    candidate: bool = False,
    coordinator: str | Path | Coordinator | None = None,
    zone: str = "",
    rack: str = "",
    node_id: int | None = None,
    settings: Settings | None = None,
    door: str | None = None,
    transport: Transport | None = None,
    keys: NodeKeys | str | Path | None = None,
) -> Fabric:
    """Return a peer to be run with ``async with``. Nothing happens before that.

    ``address`` is where it listens: ``tcp://127.0.0.1:PORT`` (0: any free port) or
    ``inproc://name``.  ``join`` are addresses of any peers of the fabric.  ``data_dir`` keeps what
    must survive a crash; without one the peer is a new one at each start.  With ``host`` (as from
    ``agent.simulated_host()``) it runs workloads.

    A ``candidate`` may become chairman; started without ``join`` and with nothing on record, it
    makes a topology of its own.  ``coordinator`` is the directory that the candidates of one
    machine share (by default inside ``data_dir``, or memory), a ZooKeeper ensemble
    (``zookeeper://h1:2181,h2:2181/chroot``; see :mod:`fabric.coordination.ensemble`), or any
    object with their interface.

    With ``keys`` (a directory that ``fabric keys create`` made, or what ``load_node`` read from it)
    every connection is encrypted and authenticated, the peer is the node that its certificate
    names, and addresses beyond this machine are allowed.

    ``zone`` and ``rack`` say what a host may fail together with: cells are made of hosts of one
    zone, and no rack is to hold a majority of the seats of a cell.

    A peer on ``inproc://`` is out of reach for other processes, unless it has a ``door``: a second,
    ``tcp://`` address at which it answers what ``fabric.connect`` asks.
    """
    counters = Counters()
    own = opened(keys)
    if own is not None and node_id not in (None, own.node_id):
        raise BadInput(
            f"node_id {format_id(node_id or 0)}: the keys are those of node "
            f"{format_id(own.node_id)}",
            {"field": "node_id"},
        )
    if own is not None and candidate and not own.certificate.rights & CANDIDATE:
        raise BadInput(
            f"candidate: the certificate of {own.certificate.name} does not give that right "
            "(see: fabric keys create --candidate)",
            {"field": "candidate"},
        )
    if transport is None:
        transport = _transport(address, door, counters, own)
    for known in join:
        if not known.startswith(SCHEME):
            parse_dialled(known, loopback=own is None)
    directory = None if data_dir is None else Path(data_dir)
    return Fabric(
        transport=transport,
        counters=counters,
        join=tuple(join),
        data_dir=directory,
        host=host,
        candidate=candidate,
        coordinator=_coordinator(coordinator),
        domain=_fault_domain(zone, rack),
        node_id=node_id if own is None else own.node_id,
        settings=settings or Settings(),
    )


def _fault_domain(zone: str, rack: str) -> str:
    """Return how the topology writes a fault domain. Raises ``BadInput``."""
    for field, name in (("zone", zone), ("rack", rack)):
        if len(name) > MAX_DOMAIN_NAME or not name.isprintable() or "/" in name:
            raise BadInput(
                f"{field} must be at most {MAX_DOMAIN_NAME} printable characters without a slash "
                f"(was {name!r})",
                {"field": field},
            )
    return f"{zone}/{rack}" if rack else zone


class Fabric(Calls):
    """A running peer. Made by :func:`open`."""

    def __init__(
        self,
        *,
        transport: Transport,
        counters: Counters,
        join: tuple[str, ...],
        data_dir: Path | None,
        host: Host | None,
        candidate: bool,
        coordinator: Path | Ensemble | Coordinator | None,
        domain: str,
        node_id: int | None,
        settings: Settings,
    ) -> None:
        self.counters = counters
        self.settings = settings
        self._transport = transport
        self._join = join
        self._data_dir = data_dir
        self._host = host
        self._candidate = candidate
        self._coordinator = coordinator
        self._domain = domain
        self._node_id = node_id
        self._runtime: Runtime | None = None

    # --- life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Fabric:
        async with contextlib.AsyncExitStack() as undo:
            storage = self._open_storage()
            undo.push_async_callback(storage.close)
            coordinator = self._open_coordinator()
            if coordinator is not None:
                undo.push_async_callback(coordinator.close)
            data_dir = None if self._data_dir is None else str(self._data_dir)
            driver = None if self._host is None else self._host.driver(data_dir)
            if driver is not None:
                undo.push_async_callback(driver.close)
            runtime = Runtime(
                self._transport, storage, self.counters, coordinator=coordinator, driver=driver
            )
            me = await runtime.listen()
            undo.pop_all()  # from here on they are the runtime's to close
            undo.push_async_callback(runtime.stop)
            peer = Peer(
                self.settings,
                me,
                storage.boot_id,
                Stream(secrets.randbits(60)),
                books=None if self._host is None else self._host.books(me),
                candidate=self._candidate,
                create=self._candidate and not self._join,
                join=self._join,
                zone=self._domain,
                stored=storage.stored(),
            )
            paths = peer.paths
            runtime.look = lambda: runtime.journal.look(
                me.node_id, paths.topo, paths.owners.values()
            )
            runtime.gauges = lambda: gauges(peer, runtime.clock())
            self._transport.vouch(storage.boot_id, peer.record_of)
            runtime.run(peer)
            self._runtime = runtime
            undo.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.leave()

    async def leave(self, reason: str = "") -> None:
        """Say goodbye, so that nobody has to find out, and stop."""
        if self._runtime is None:
            return
        with contextlib.suppress(FabricError):
            await self._runtime.call(LeaveAsk(reason), _LEAVE_WITHIN_S)
        await self.close()

    async def close(self) -> None:
        """Stop without goodbye; to the others that is a crash."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await runtime.stop()

    async def failed(self) -> FabricError | None:
        """Wait until the peer no longer runs; return why (``None``: it was closed)."""
        runtime = self._running()
        await runtime.stopped()
        return runtime.failure

    async def ready(self, timeout_s: float = 30.0) -> None:
        """Wait until the peer has its place in the tree and knows who owns each cell above it."""
        runtime = self._running()
        changed = asyncio.Event()

        def look_again(notice: Any) -> None:
            changed.set()

        runtime.watchers.append(look_again)
        try:
            async with asyncio.timeout(timeout_s):
                while not _settled(await self.status()):
                    changed.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), _LOOK_AGAIN_S)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the peer found no place in a tree within {timeout_s:g} s"
            ) from None
        finally:
            runtime.watchers.remove(look_again)

    # --- who we are -------------------------------------------------------------------------------

    @property
    def contact(self) -> Contact:
        """Our node id, and the address where others reach us."""
        return self._running().me

    @property
    def door(self) -> str:
        """Where callers from other processes reach us."""
        carrier = self._transport
        return carrier.outer_address if isinstance(carrier, BothTransport) else carrier.address

    # --- calls ------------------------------------------------------------------------------------

    async def call(self, to: Contact, body: Message, timeout_s: float = READ_WITHIN_S) -> Message:
        return await self._running().ask(to, body, timeout_s)

    async def _ask_peer(self, body: Message, timeout_s: float) -> Message:
        return await self._running().call(body, timeout_s)

    async def events(self, after: int | None = None) -> AsyncIterator[EventRow]:
        """Yield what happens at this peer, in words, until it stops (``fabric events``).

        From now on, or from after event number ``after``.
        """
        runtime = self._running()
        try:
            async for row in super().events(after):
                yield row
        except FabricError:
            if runtime.running:
                raise

    async def notices(self) -> AsyncIterator[Any]:
        """Yield the machine's notices from now on (``fabric.peer.notices``) until the peer stops.

        A reader that falls far behind misses the newest (counted as ``dropped_notices``).
        """
        runtime = self._running()
        queue: asyncio.Queue[Any] = asyncio.Queue(MAX_NOTICES)

        def put(notice: Any) -> None:
            try:
                queue.put_nowait(notice)
            except asyncio.QueueFull:
                self.counters.count("dropped_notices")

        runtime.watchers.append(put)
        stopped = asyncio.ensure_future(runtime.stopped())
        try:
            while True:
                getting = asyncio.ensure_future(queue.get())
                await asyncio.wait((getting, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    return
                yield getting.result()
        finally:
            stopped.cancel()
            runtime.watchers.remove(put)

    # --- parts ------------------------------------------------------------------------------------

    def _running(self) -> Runtime:
        if self._runtime is None:
            raise FabricError("the peer is not running: use it inside 'async with'")
        return self._runtime

    def _open_storage(self) -> Storage:
        if self._data_dir is not None:
            return CommittedStorage(self._data_dir, node_id=self._node_id)
        node_id = self._node_id
        return MemoryStorage(secrets.randbelow(MAX_INT) + 1 if node_id is None else node_id)

    def _open_coordinator(self) -> Coordinator | None:
        given = self._coordinator
        if given is not None and not isinstance(given, Path | Ensemble):
            return given
        if not self._candidate:
            return None
        if isinstance(given, Ensemble):
            from fabric.coordination.zookeeper import ZooKeeperCoordinator

            return ZooKeeperCoordinator(given)
        if given is not None:
            return EmbeddedCoordinator(given)
        if self._data_dir is not None:
            return EmbeddedCoordinator(self._data_dir / "coordinator")
        return MemoryCoordinator()


def _coordinator(
    given: str | Path | Coordinator | None,
) -> Path | Ensemble | Coordinator | None:
    if isinstance(given, str):
        return parse_ensemble(given) if is_ensemble(given) else Path(given)
    return given


def _transport(
    address: str, door: str | None, counters: Counters, keys: NodeKeys | None
) -> Transport:
    if not address.startswith(SCHEME):
        if door is not None:
            raise BadInput(f"door {door!r}: only a peer on inproc:// needs one", {"field": "door"})
        return ZmqTransport(address, counters, keys)
    inner = InprocTransport(address, counters)
    return inner if door is None else BothTransport(inner, ZmqTransport(door, counters, keys))


def _settled(status: Status) -> bool:
    return status.complete and len(status.owners) == len(status.path)
