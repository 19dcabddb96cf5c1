"""One simulated fabric: hosts, candidates, coordinator, hypervisors, and how peers are made.

Each host is a whole peer with its agent's books; candidates are peers without an agent that may
become chairman.  Everything is keyed by the seed: ids, clocks, capacities, arrival times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.host import HostSpec, simulated_host
from fabric.machine import Contact, Machine
from fabric.peer.compose import Peer
from fabric.tree.chairman import ChairmanNotice
from fabric.tree.planner import Plan
from fabric.units import MS, SECOND
from sim.coordinator import VirtualCoordinator
from sim.engine import Engine, Node
from sim.faults import Fault, kill_plan, schedule
from sim.hypervisor import Hypervisors
from sim.network import Network
from sim.preform import planned, preform
from sim.scenario import CALM_S, Scenario, peer_settings
from sim.streams import Streams
from sim.trace import Trace
from sim.workload import DATASTORES

#: Sizes of hosts: vCPUs, memory. A mix, so that best fits differ.
SIZES: Final[tuple[tuple[int, int], ...]] = ((16, 65_536), (32, 131_072), (64, 262_144))
DATASTORE_MB: Final = 2_000_000
#: Hosts begin to arrive when the first candidate has had time to create the topology.
FIRST_HOST_US: Final = 500 * MS


@dataclass(slots=True)
class Violation:
    """Something that must never be, or that should have happened and did not."""

    invariant: str
    at_s: float
    nodes: tuple[str, ...]
    detail: str
    #: The last messages that have to do with it; only a second, watched run knows them.
    messages: tuple[str, ...] = ()


@dataclass(slots=True)
class Role:
    """What a node is in this fabric."""

    name: str
    host: int  # its number among the hosts, -1: not a host
    candidate: int  # its number among the candidates, -1: none
    spec: HostSpec | None
    #: Starts on this data directory, as its storage counts them.
    boots: int = 0
    #: Data directories so far: a wiped node comes back as somebody else.
    lives: int = 1


class SimWorld:
    """Builds the nodes of a scenario and starts them; faults and checkers act on it."""

    def __init__(self, scenario: Scenario, trace: Trace | None = None) -> None:
        self.scenario = scenario
        network = Network(loss_ppm=scenario.loss_ppm, duplicate_ppm=scenario.duplicate_ppm)
        trace = trace or Trace(enabled=scenario.trace)
        self.engine = Engine(scenario.seed, network, trace, scenario.fidelity)
        self.coordinator = VirtualCoordinator(self.engine)
        self.engine.coordinator = self.coordinator
        self.hypervisors = Hypervisors(self.engine, scenario.hypervisor_fail_ppm)
        self.engine.hypervisor = self.hypervisors
        self.engine.on_violation = self.violation
        self.engine.on_notice = self._noticed
        self.violations: list[Violation] = []
        #: Told of all that peers tell of themselves.
        self.watchers: list[Callable[[Node, object], None]] = []
        #: Told of each violation as it is found.
        self.on_violation: Callable[[Violation], None] = lambda violation: None
        #: All hosts by number, and the candidates.
        self.hosts: list[Node] = []
        self.candidates: list[Node] = []
        self.settings = peer_settings(scenario)
        #: Virtual time of the last fault that began or ended; the start counts as one.
        self.last_fault_us = 0
        self.placing_since_us = 0
        #: Since when nothing holds the repair up: the last fault, or the end of a freeze.
        self.calm_since_us = 0
        self.plan: list[Fault] = []
        self.faults_begun = 0
        #: Indexes of nodes that are broken for ever: the others must do without them.
        self.abandoned: set[int] = set()
        #: Node ids of those that claimed cells that they do not own.
        self.pretenders: set[int] = set()
        self._all_disturbed_us = 0
        self._disturbed_us: dict[int, int] = {}
        self._absent = frozenset(scenario.absent)
        self._build()

    def _build(self) -> None:
        scenario, engine = self.scenario, self.engine
        sizes = SIZES
        if scenario.host_cpu:
            sizes = ((scenario.host_cpu, scenario.host_cpu * 4096),)
        names = DATASTORES if scenario.avoid_percent else DATASTORES[:1]
        stores = dict.fromkeys(names, DATASTORE_MB)
        specs = [simulated_host(cpu, memory_mb, stores) for cpu, memory_mb in sizes]
        for number in range(scenario.candidates):
            role = Role(f"candidate-{number}", -1, number, None)
            self.candidates.append(self._add(role))
        for number in range(scenario.hosts):
            spec = specs[engine.streams.number("size", number) % len(specs)]
            self.hosts.append(self._add(Role(f"host-{number}", number, -1, spec)))

    def _add(self, role: Role) -> Node:
        streams = self.engine.streams
        node_id = streams.number("node-id", role.name) | 1
        skew_us = self.scenario.skew_ms * MS
        skew = streams.number("clock", role.name) % (2 * skew_us + 1) - skew_us
        node = self.engine.add_node(Contact(node_id, self.address_of(role)), skew)
        node.role = role
        return node

    def address_of(self, role: Role) -> str:
        """Return where a node listens. Names are for people; nothing depends on them."""
        return f"sim://{role.name}"

    def tree(self) -> Plan:
        """Return the tree that a preformed run begins with."""
        return planned(self)

    def domain_of(self, role: Role) -> str:
        """Return the fault domain that a node tells: hosts take turns."""
        zones, racks = self.scenario.zones, self.scenario.racks
        if role.host < 0 or not zones + racks:
            return ""
        zone = f"z{role.host % max(zones, 1)}"
        return f"{zone}/r{role.host // max(zones, 1) % racks}" if racks else zone

    # --- starting ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Schedule all arrivals and faults."""
        scenario, engine = self.scenario, self.engine
        if scenario.preformed:
            preform(self, self.tree())
        for node in self.candidates:
            engine.at(node.role.candidate * 100 * MS, lambda node=node: self.restart(node))  # type: ignore[misc]
        for node in self.hosts:
            arrival = engine.streams.number("arrival", node.role.host) % scenario.start_us
            engine.at(FIRST_HOST_US + arrival, lambda node=node: self.restart(node))  # type: ignore[misc]
        self.last_fault_us = FIRST_HOST_US + scenario.start_us
        self.plan = fault_plan(scenario)
        schedule(self.plan, self)

    def restart(self, node: Node) -> None:
        """Start a node's process, for the first time or on what its disk holds.

        Where that cannot be read the storage refuses, and the operator puts a new disk in.
        """
        if node.role.host in self._absent:
            return
        if node.disk.unreadable:
            self.wipe(node)
        node.start(lambda: self.make_peer(node))

    def make_peer(self, node: Node) -> Machine:
        """Build the peer of ``node`` as its process would at its start."""
        role: Role = node.role
        streams = self.engine.streams
        role.boots += 1
        boot = f"{role.name}/{role.lives}/{role.boots}"
        first = role.candidate == 0 and (role.lives, role.boots) == (1, 1)
        others = tuple([c.address for c in self.candidates if c is not node])
        peer: Machine = Peer(
            self.settings,
            node.contact,
            role.boots,
            streams.stream("peer", boot),
            books=role.spec.books(node.contact) if role.spec is not None else None,
            candidate=role.candidate >= 0,
            zone=self.domain_of(role),
            join=() if first else others,
            create=first,
            stored=node.disk.stored(),
        )
        return peer

    # --- what faults and checkers use -------------------------------------------------------------

    def host(self, index: int) -> Node:
        """Return the node of host ``index``; candidates count from -1 downwards."""
        return self.hosts[index] if index >= 0 else self.candidates[-1 - index]

    def wipe(self, node: Node) -> None:
        """Replace the disk of a crashed node: it comes back under a new id at its old address."""
        role: Role = node.role
        role.lives += 1
        role.boots = 0
        node.disk.wipe()
        self.engine.rename(node, self.engine.streams.number("node-id", f"{role.name}/{role.lives}"))

    def fault_over(self) -> None:
        """Note that something broke or came back now."""
        self.last_fault_us = self.calm_since_us = self.engine.now

    def fault_begins(self, fault: Fault) -> None:
        """Count a fault; what it breaks is broken from now on."""
        self.faults_begun += 1
        self.fault_over()
        hosts, lasts_us = fault.hits()
        until = self.engine.now + lasts_us
        if hosts is None:
            self._all_disturbed_us = max(self._all_disturbed_us, until)
        for host in hosts or ():
            index = self.host(host).index
            self._disturbed_us[index] = max(self._disturbed_us.get(index, 0), until)

    def undisturbed_us(self, node: Node) -> int:
        """Return for how long no fault has touched ``node`` or the ways to it (loss aside)."""
        disturbed = max(self._all_disturbed_us, self._disturbed_us.get(node.index, 0))
        return self.engine.now - disturbed

    def living(self) -> list[Node]:
        """Return all nodes that run, candidates first."""
        return [node for node in (*self.candidates, *self.hosts) if node.alive]

    def abandon(self, node: Node) -> None:
        """From now on nothing is expected of ``node`` any more."""
        self.abandoned.add(node.index)

    def sound(self) -> list[Node]:
        """Return all nodes that run and are not given up: those that must agree in the end."""
        return [node for node in self.living() if node.index not in self.abandoned]

    def violation(self, invariant: str, nodes: Sequence[Node], detail: str) -> None:
        """Note that ``invariant`` does not hold."""
        names = tuple(node.role.name for node in nodes)
        at_s = self.engine.now / SECOND
        violation = Violation(invariant, at_s, names, detail)
        self.violations.append(violation)
        self.on_violation(violation)

    def _noticed(self, node: Node, notice: object) -> None:
        if isinstance(notice, ChairmanNotice) and notice.what == "thawed":
            self.calm_since_us = self.engine.now
        for watcher in self.watchers:
            watcher(node, notice)


def fault_plan(scenario: Scenario) -> list[Fault]:
    """Return all faults of a run: those that are written down, and the crashes of ``kill``."""
    since = FIRST_HOST_US + scenario.start_us
    until = (scenario.duration_s - CALM_S) * SECOND
    kills = kill_plan(Streams(scenario.seed), scenario.hosts, scenario.kill, since, until)
    return [*scenario.faults, *kills]
