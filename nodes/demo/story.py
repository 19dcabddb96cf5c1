"""The demo's story, act by act. Each act is a method that ends with a line saying what came of it.

The stage: ``peers`` host processes and one front process, all started as ``fabric ...`` commands,
plus this process, which joins as an observer through the library (``fabric.open``) like any
embedding program would.  All of them have keys: every connection is encrypted and authenticated.
Small cell bounds make few peers a deep tree: leaf cells of 3 to 5 hosts,
inner cells of 2 to 4 child cells.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import fabric
from fabric.errors import CheckFailed, FabricError
from fabric.ids import parse_id
from fabric.machine import Contact
from fabric.settings import Settings
from fabric.transport.authority import ClusterKeys
from fabric.transport.keys import NodeKeys
from fabric.wire.peer import Members, MembersAsk
from fabric.wire.trust import CANDIDATE
from nodes.demo.books import audit, read_book
from nodes.demo.fleet import Fleet
from nodes.demo.load import Load
from nodes.demo.rest import RestClient, create_project, create_vm
from nodes.demo.scene import PeerState, PeerView, Scene
from nodes.demo.simulation import simulate
from nodes.demo.watch import Watch

STAGES: Final = (
    "peers grow a tree",
    "ten VMs over REST",
    "200 VMs by library",
    "kill an owner and the chairman",
    "the tree repairs itself",
    "both come back",
    "audit of all books",
    "many more hosts simulated",
)
_FORM, _REST, _PLACE, _KILL, _REPAIR, _RETURN, _AUDIT, _SIMULATE = range(len(STAGES))

SETTINGS: Final = Settings(leaf_min=3, leaf_max=5, inner_min=2, inner_max=4)
CELL_BOUNDS: Final = tuple(
    word
    for name in ("leaf_min", "leaf_max", "inner_min", "inner_max")
    for word in (f"--{name.replace('_', '-')}", str(getattr(SETTINGS, name)))
)
CAPACITY: Final = ("--cpu", "32", "--memory-mb", "65536", "--disk-mb", "1048576")
CANDIDATES: Final = 3
VMS_OVER_REST: Final = 10
BATCH: Final = 200
#: The kill comes when so many of the second batch are confirmed: well inside it.
_KILL_AFTER: Final = 60
MIN_DEPTH: Final = 3
MIN_IN_FLIGHT: Final = 5
_FORM_S: Final = 60.0
_TAKEOVER_S: Final = 40.0
_RETURN_S: Final = 60.0
_POLL_S: Final = 0.05
_KEYS_VALID_S: Final = 86_400


class Story:
    """Tells the story on a scene; the figures of ``fabric demo --json`` gather in ``figures``."""

    def __init__(
        self, scene: Scene, fleet: Fleet, directory: Path, peers: int, sim_hosts: int,
        *, coordinator: str = "", keys: bool = True,
    ) -> None:
        """``coordinator`` is an address of ZooKeeper (by default a directory beside the peers').

        ``keys``: false leaves them out, to measure what they cost.
        """
        self.scene = scene
        self.fleet = fleet
        self.directory = directory
        self.peers = peers
        self.sim_hosts = sim_hosts
        self.coordinator = coordinator or str(directory / "coordinator")
        self.keys: ClusterKeys | None = None
        if keys:
            self.keys = ClusterKeys.create(directory / "keys", "demo")
        self.figures: dict[str, Any] = {}
        scene.stages[_SIMULATE].title = f"{sim_hosts:,} hosts simulated"

    async def tell(self) -> None:
        """Tell it all. Raises :class:`CheckFailed` where something does not hold."""
        async with self.formed():
            for act in (self._rest, self._place, self._kill, self._audit):
                await asyncio.sleep(self.scene.pause_s)
                await act()
            await asyncio.sleep(self.scene.pause_s)
        await self._simulate()
        await asyncio.sleep(self.scene.pause_s)

    @contextlib.asynccontextmanager
    async def formed(self) -> AsyncIterator[None]:
        """The first act: start all peers, join them, and wait until the tree is whole."""
        began = time.monotonic()
        self.first = await self._start_peers()
        async with fabric.open(
            join=(self.first.address,), settings=SETTINGS, keys=self._keys_of("demo")
        ) as fab:
            self.fab = fab
            self.watch = Watch(fab, self.scene)
            self.load = Load(fab, self.scene.counters)
            async with self.watch, contextlib.AsyncExitStack() as self.closing:
                await self._form(began)
                yield

    # --- the acts ---------------------------------------------------------------------------------

    async def _start_peers(self) -> Contact:
        """Start the first peer, which makes the topology, then all others at once."""
        stage = self.scene.begin(_FORM)
        names = [f"p{number:02d}" for number in range(1, self.peers + 1)]
        for name in [*names, "front"]:
            self.scene.peers[name] = PeerView(name)
        first = await self._start_peer(names[0], ())
        join = ("--join", first.address)
        await asyncio.gather(*(self._start_peer(name, join) for name in names[1:]))
        stage.result = f"{len(names)} processes are up"
        return first

    async def _start_peer(self, name: str, join: tuple[str, ...]) -> Contact:
        number = int(name[1:])
        words = ["peer", "--host", "sim", "--data-dir", str(self.directory / name),
                 *CELL_BOUNDS, *CAPACITY, *join, "--json"]
        if number <= CANDIDATES:
            words += ["--candidate", "--coordinator", self.coordinator]
        return await self._introduce(name, words)

    async def _introduce(self, name: str, words: list[str] | None) -> Contact:
        """Start a child (``words``), or start it again (None), and put it on the stage."""
        peer = self.scene.peers[name]
        peer.state = PeerState.STARTING
        if words:
            if (keys := self._keys_of(name)) is not None:
                words = [*words, "--keys", str(keys.directory)]
            child = await self.fleet.start(name, words)
        else:  # on its old port: whoever holds one of its reservations finds it there
            child = await self.fleet.restart(name, ("--listen", peer.address))
        said = await self.fleet.ready(child)
        peer.node_id, peer.address = parse_id(said["node_id"]), said["address"]
        peer.pid, peer.state = child.pid, PeerState.ALIVE
        return Contact(peer.node_id, peer.address)

    def _keys_of(self, name: str) -> NodeKeys | None:
        """Make the keys of a new node."""
        if self.keys is None:
            return None
        candidate = name in [f"p{number:02d}" for number in range(1, CANDIDATES + 1)]
        rights = CANDIDATE if candidate else 0
        return self.keys.issue(name, rights=rights, valid_s=_KEYS_VALID_S)

    async def _form(self, began: float) -> None:
        stage = next(s for s in self.scene.stages if s.result.endswith("processes are up"))
        await self.watch.until(
            lambda: self.watch.whole(self.peers), _FORM_S, "the tree did not form"
        )
        self.figures |= {"peers": self.peers + 1, "keys": self.keys is not None,
                         "depth": self.watch.depth, "formed_s": round(time.monotonic() - began, 2)}
        encrypted = "" if self.keys is None else ", every connection encrypted"
        self.scene.end(stage, f"{self.peers} hosts, depth {self.watch.depth}, in "
                       f"{self.figures['formed_s']:.1f} s{encrypted}")
        if self.watch.depth < MIN_DEPTH:
            raise CheckFailed(f"the tree has depth {self.watch.depth}, at least {MIN_DEPTH} wanted")

    async def _rest(self) -> None:
        stage = self.scene.begin(_REST)
        await self._introduce("front", [
            "front", "--join", self.first.address, "--data-dir", str(self.directory / "front"),
            "--http", "127.0.0.1:0", "--accept-any-image", "--json",
        ])
        base = self.fleet.children["front"].said["http"]
        self.rest = await self.closing.enter_async_context(RestClient(base))
        self.scene.say(f"   the REST front is at {base}")
        self.project = await create_project(self.rest)
        names = [f"web-{number}" for number in range(VMS_OVER_REST)]
        vms = await asyncio.gather(*(create_vm(self.rest, self.project, name) for name in names))
        self.figures["vms_over_rest"] = len(vms)
        self.scene.end(stage, f"{len(vms)} VMs, created by the worker through placement and agent")

    async def _place(self) -> None:
        stage = self.scene.begin(_PLACE)
        began = time.monotonic()
        await self.load.run("first", BATCH)
        took = time.monotonic() - began
        self.scene.end(stage, f"{BATCH} reserved and confirmed in {took:.1f} s, median "
                       f"{self.scene.counters.median_ms():.0f} ms")

    async def _kill(self) -> None:
        """Kill two while placing, watch the repair, start both again, and finish placing."""
        stage = self.scene.begin(_KILL)
        owner, chairman = self._victims()
        struck = asyncio.Event()

        def strike(confirmed: int) -> None:
            if confirmed >= BATCH + _KILL_AFTER and not struck.is_set():
                self.figures["in_flight_at_kill"] = self.scene.counters.in_flight
                self.killed_at = time.monotonic()
                for victim in (owner, chairman):
                    self.fleet.strike(victim.name)
                    victim.state = PeerState.KILLED
                struck.set()

        self.load.on_confirmed = strike
        second = asyncio.create_task(self.load.run("second", BATCH))
        try:
            await asyncio.wait_for(struck.wait(), _TAKEOVER_S)
            in_flight = self.figures["in_flight_at_kill"]
            self.scene.end(stage, f"{owner.name} (owner) and {chairman.name} (chairman) killed "
                           f"with {in_flight} placements in flight")
            if in_flight < MIN_IN_FLIGHT:
                raise CheckFailed(f"only {in_flight} placements were in flight at the kill")
            await self._repair(owner)
            await self._return(owner, chairman, second)
        finally:
            second.cancel()

    def _victims(self) -> tuple[PeerView, PeerView]:
        """The chairman, and the owner of a leaf cell that has enough seats left without it.

        Not a cell of the chairman: two deaths in a cell of three would leave no seat majority.
        """
        chairman = self.scene.peer_of(self.scene.chairman)
        if chairman is None:
            raise CheckFailed("nobody knows the chairman")
        leaves = [cell for cell in self.scene.cells.values()
                  if cell.is_leaf and chairman.node_id not in cell.members]
        for cell in sorted(leaves, key=lambda cell: (-len(cell.members), cell.cell_id)):
            owner = self.scene.peer_of(cell.owner)
            if owner is not None and owner is not chairman:
                self.victim_cell = cell.cell_id
                return owner, chairman
        raise CheckFailed("no leaf cell has an owner that is not the chairman")

    async def _repair(self, owner: PeerView) -> None:
        stage = self.scene.begin(_REPAIR)

        def new_chairman() -> bool:
            new = self.scene.peer_of(self.scene.chairman)
            return new is not None and new.state is PeerState.ALIVE

        async def chairman_s() -> float:
            await self.watch.until(new_chairman, _TAKEOVER_S, "there was no new chairman")
            return round(time.monotonic() - self.killed_at, 2)

        async def owner_s() -> float:
            new = await self._new_owner(owner)
            self.scene.say(f"   {self.scene.name_of(new)} owns the cell of {owner.name} now")
            return round(time.monotonic() - self.killed_at, 2)

        takeover, chair = await asyncio.gather(owner_s(), chairman_s())
        self.figures |= {"takeover_s": takeover, "chairman_takeover_s": chair}
        self.scene.end(stage, f"new owner after {takeover:.1f} s, new chairman "
                       f"{self.scene.name_of(self.scene.chairman)} after {chair:.1f} s")

    async def _new_owner(self, killed: PeerView) -> int:
        """Ask the survivors of the cell itself until one names a new owner; return who it is."""
        members = self.scene.cells[self.victim_cell].members
        survivors = [p for p in map(self.scene.peer_of, members) if p is not None]
        deadline = time.monotonic() + _TAKEOVER_S
        while time.monotonic() < deadline:
            for peer in survivors:
                if peer.state is not PeerState.ALIVE:
                    continue
                contact = Contact(peer.node_id, peer.address)
                with contextlib.suppress(FabricError):
                    told = await self.fab.call(contact, MembersAsk(self.victim_cell), timeout_s=1)
                    assert isinstance(told, Members)
                    if told.owner and told.owner.contact.node_id != killed.node_id:
                        return told.owner.contact.node_id
            await asyncio.sleep(_POLL_S)
        raise CheckFailed(f"the cell of {killed.name} has no new owner after {_TAKEOVER_S:g} s")

    async def _return(
        self, owner: PeerView, chairman: PeerView, second: asyncio.Task[None]
    ) -> None:
        stage = self.scene.begin(_RETURN)
        before = {victim.name: victim.node_id for victim in (owner, chairman)}
        for victim in (owner, chairman):
            contact = await self._introduce(victim.name, None)
            if contact.node_id != before[victim.name]:
                raise CheckFailed(f"{victim.name} came back as another node")
        await asyncio.wait_for(second, _RETURN_S * 3)
        await self.watch.until(
            lambda: self.watch.whole(self.peers), _RETURN_S, "the tree did not become whole again"
        )
        self.scene.end(stage, f"{self.peers} hosts again, {len(self.load.confirmed)} placements "
                       "confirmed")

    async def _audit(self) -> None:
        """Read the books of all hosts and compare them with what was promised."""
        stage = self.scene.begin(_AUDIT)

        async def ask(host: Contact, body: Any) -> Any:
            return await self.fab.call(host, body, timeout_s=10)

        hosts = [peer for peer in self.scene.peers.values() if peer.name != "front"]
        books = [await read_book(ask, p.name, Contact(p.node_id, p.address)) for p in hosts]
        listed = (await self.rest.get(f"/projects/{self.project}/vms"))["items"]
        verdict = audit(books, self.load.confirmed, {vm["id"]: vm["state"] for vm in listed})
        lost = sorted({*verdict.lost, *self.load.failed})
        self.figures |= {
            "placements": len(self.load.confirmed), "placements_lost": len(lost),
            "placements_retried": self.scene.counters.retried,
            "placements_doubled": len(verdict.doubled), "overcommitted_hosts": len(verdict.faults),
        }
        verdict.lost = lost
        verdict.check()
        if troubles := self.fleet.troubles():
            raise CheckFailed("; ".join(troubles))
        if len(listed) != VMS_OVER_REST:
            raise CheckFailed(f"the front lists {len(listed)} VMs, {VMS_OVER_REST} were made")
        self.scene.end(stage, f"{verdict.rows} rows in {len(books)} books: none lost, none "
                       "doubled, no host overcommitted")

    async def _simulate(self) -> None:
        stage = self.scene.begin(_SIMULATE)
        result = await simulate(self.fleet, self.scene, self.sim_hosts)
        speed = result["virtual_s"] / max(result["cpu_s"], 1e-9)
        self.figures |= {"sim_hosts": result["hosts"], "sim_speed": round(speed, 3)}
        self.scene.end(stage, f"{result['hosts']} hosts, {result['virtual_s']:.0f} virtual seconds "
                       f"in {result['cpu_s']:.0f} CPU seconds: {speed:.2f} per second, "
                       f"{len(result['violations'])} violations")
