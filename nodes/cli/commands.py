"""The commands of ``fabric`` as a table: name, help, settings, examples, and where the code is.

The code of a command is named, not imported: :meth:`Command.load` imports it when it is to run.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from fabric.errors import NotBuiltYet
from fabric.limits import MAX_EVENTS, MAX_HOST_CPU, MAX_HOST_MB
from nodes.cli.output import Output
from nodes.config import Config
from nodes.settings import Kind, Setting, Value

Runner: TypeAlias = Callable[[Config, Output], int]


@dataclass(frozen=True, slots=True)
class Command:
    """One command. ``arguments`` belong to this call only: no environment, no TOML.

    ``more`` names a function ``(parser) -> None`` for a command that brings its own arguments;
    what it parsed arrives as ``config.extra``.
    """

    name: str
    summary: str
    runner: str
    settings: tuple[str, ...] = ()
    arguments: tuple[Setting, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)
    description: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    more: str = ""

    def load(self) -> Runner:
        """Import the code of this command."""
        return cast(Runner, _load(self.runner))

    def add_more(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments that the command brings itself."""
        if self.more:
            cast(Callable[[argparse.ArgumentParser], None], _load(self.more))(parser)


def _load(name: str) -> object:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise NotBuiltYet(f"{module} is not built yet", {"module": module}) from None


_ASK: Final = ("peer", "data_dir", "keys", "timeout_s")
_NAMES: Final = Setting("names", Kind.NAMES, "name of a node; several are allowed", metavar="NAME")
_DAYS: Final = Setting("days", Kind.INT, "days until the certificate expires", 365, low=1,
                       high=36_500, metavar="N")

COMMANDS: Final = (
    Command(
        "peer", "run one peer until SIGTERM", "nodes.cli.peer:run",
        settings=("listen", "join", "data_dir", "keys", "node_id", "coordinator", "host",
                  "candidate", "leaf_min", "leaf_max", "inner_min", "inner_max", "cpu",
                  "memory_mb", "disk_mb", "zone", "rack", "networks", "tags",
                  "metrics", "log", "log_level"),
        description="Run one peer in the foreground. A candidate without --join creates a new "
        "topology;\nevery other peer joins one. SIGTERM and Ctrl-C leave gracefully.",
        examples=(
            ("fabric peer --listen tcp://127.0.0.1:7001 --candidate --host sim --data-dir p1",
             "the first peer: makes its own topology"),
            ("fabric peer --join tcp://127.0.0.1:7001 --host sim --data-dir p2",
             "one more host"),
            ("fabric peer --candidate --coordinator zookeeper://127.0.0.1:2181 --host sim "
             "--data-dir p1", "the first peer, its topology in ZooKeeper"),
        ),
    ),
    Command(
        "up", "a whole small cloud in one process, with the REST API", "nodes.cli.up:run",
        settings=("hosts", "data_dir", "coordinator", "keys", "http", "accept_any_image", "log",
                  "log_level"),
        description="Run store, REST front, worker and N hosts in this process. Killed and "
        "started again\non the same directory, it goes on where it was.",
        examples=(
            ("fabric up --hosts 8 --accept-any-image", "then: curl http://127.0.0.1:9080/tenants"),
        ),
    ),
    Command(
        "front", "the REST API over a fabric of real peers", "nodes.cli.up:front",
        settings=("join", "listen", "data_dir", "coordinator", "keys", "http", "accept_any_image",
                  "log", "log_level"),
        description="Join a fabric as an observer, with the store, the REST front and a worker.",
        examples=(
            ("fabric front --join tcp://127.0.0.1:7001 --data-dir front --accept-any-image", ""),
        ),
    ),
    Command(
        "demo", "real peers, killed and repaired before your eyes", "nodes.demo.run:run",
        arguments=(
            Setting("peers", Kind.INT, "real peers to start", 24, low=8, high=64, metavar="N"),
            Setting("sim_hosts", Kind.INT, "hosts of the simulation at the end", 10_000, low=10,
                    high=100_000, metavar="N"),
            Setting("plain", Kind.FLAG, "plain lines, even on a terminal", False),
            Setting("zookeeper", Kind.FLAG, "keep the topology in a ZooKeeper of three servers, "
                    "started and ended with the demo", False),
        ),
        description="Start real peers as processes over ZeroMQ, place VMs, kill owners and the "
        "chairman,\nwatch the tree repair itself, audit the books, then simulate 10,000 hosts. "
        "Ends by itself\nand leaves nothing behind. Takes one to three minutes.",
        examples=(("fabric demo", "watch"), ("fabric demo --json", "figures as one JSON object")),
    ),
    Command(
        "sim run", "simulate a fabric: one seed decides everything", "nodes.cli.simulate:run",
        more="nodes.cli.simulate:add_arguments",
        examples=(
            ("fabric sim run --hosts 1000 --duration 60 --seed 7", "a thousand hosts, one minute"),
            ("fabric sim run --hosts 500 --duration 120 --seed 7 --kill 5 --place-rate 20",
             "five percent of the hosts crash each minute, while VMs are placed"),
        ),
    ),
    Command(
        "sim replay", "run a seed of a sweep, or a scenario file, again",
        "nodes.cli.simulate:replay",
        more="nodes.cli.simulate:add_replay_arguments",
        examples=(
            ("fabric sim replay 17", "what seed 17 of `fabric sim fuzz` draws"),
            ("fabric sim replay two_owners_17.toml", "a file that `fabric sim shrink` wrote"),
        ),
    ),
    Command(
        "sim fuzz", "run many seeds, each with its own faults, on all cores",
        "nodes.cli.simulate:fuzz",
        more="nodes.cli.simulate:add_fuzz_arguments",
        description="Run one small fabric per seed, a process each. What a seed gave is kept in "
        "DIR at once;\nthe same command goes on after an interruption. Failures are shrunk.",
        examples=(("fabric sim fuzz --seeds 0..999 --dir sweep", "a thousand seeds"),),
    ),
    Command(
        "sim shrink", "reduce a failing run to what it needs to fail",
        "nodes.cli.simulate:shrink",
        more="nodes.cli.simulate:add_shrink_arguments",
        description="Leave out faults, placements and hosts for as long as the same invariant is "
        "violated.\nWrites a scenario file, a regression test and a sequence chart.",
        examples=(("fabric sim shrink 17", ""),),
    ),
    Command(
        "sim diverge", "find the first event at which two runs differ",
        "nodes.cli.simulate:diverge",
        more="nodes.cli.simulate:add_diverge_arguments",
        description="Run one scenario under other hash seeds, with other interpreters and with the "
        "compiled core.\nAll runs must be the same, event by event; if not, say where they part.",
        examples=(
            ("fabric sim diverge 17", ""),
            ("fabric sim diverge --seeds 0..199", "what `make campaign-determinism` does"),
        ),
    ),
    Command(
        "keys create", "make keys for nodes, and the cluster's own the first time",
        "nodes.cli.keys:create", settings=("keys", "node_id"),
        arguments=(
            _NAMES, _DAYS,
            Setting("cluster", Kind.TEXT, "name of the cluster, at its first keys", "",
                    metavar="NAME"),
            Setting("candidate", Kind.FLAG, "these nodes may stand for chairman", False),
        ),
        description="Make one directory per node: bring it to its machine, and start the peer with "
        "--keys DIR.\nThe rest stays with the operator; who has DIR/cluster.key can make nodes.",
        examples=(
            ("fabric keys create --keys keys --candidate p1", "the first node, and the cluster"),
            ("fabric keys create --keys keys p2 p3", ""),
        ),
    ),
    Command(
        "keys list", "certificates that were issued, and what became of them",
        "nodes.cli.keys:listed", settings=("keys",),
        examples=(("fabric keys list --keys keys", ""),),
    ),
    Command(
        "keys revoke", "shut nodes out, those connected too", "nodes.cli.keys:revoke",
        settings=("keys", "peer", "timeout_s"), arguments=(_NAMES,),
        examples=(
            ("fabric keys revoke --keys keys --peer tcp://127.0.0.1:7001 p3",
             "any peer will do: it passes the word on"),
        ),
    ),
    Command(
        "keys rotate", "new keys for nodes; running peers go over without losing a message",
        "nodes.cli.keys:rotate", settings=("keys", "peer", "timeout_s"),
        arguments=(_NAMES, _DAYS),
        examples=(("fabric keys rotate --keys keys p2", ""),),
    ),
    Command(
        "status", "how a peer sees itself and its fabric", "nodes.cli.ask:status", settings=_ASK,
        examples=(("fabric status --peer tcp://127.0.0.1:7001", ""),),
    ),
    Command(
        "members", "who is in a peer's cells", "nodes.cli.ask:members", settings=_ASK,
        examples=(("FABRIC_PEER=tcp://127.0.0.1:7001 fabric members", ""),),
    ),
    Command(
        "tree", "the whole tree of cells with owners and capacity", "nodes.cli.tree:run",
        settings=_ASK,
        arguments=(
            Setting("watch", Kind.FLAG, "go on showing it, until Ctrl-C", False),
            Setting("interval_s", Kind.SECONDS, "with --watch: how often to look", 1.0, low=0.1,
                    high=3600, metavar="S"),
            Setting("plain", Kind.FLAG, "with --watch: lines when something changed, even on a "
                    "terminal", False),
        ),
        examples=(
            ("fabric tree --data-dir p1", "asks the peer recorded in p1"),
            ("fabric tree --data-dir p1 --watch", "a live picture"),
        ),
    ),
    Command(
        "topology show", "all cells as they are written, seats, stamps, the chairman",
        "nodes.cli.topology:show", settings=_ASK,
        description="Ask the owner of every cell, from the root down, and the chairman.",
        examples=(("fabric topology show --data-dir p1", ""),),
    ),
    Command(
        "topology explain", "why a host is in its cell, why a cell has its owner",
        "nodes.cli.topology:explain", settings=_ASK,
        arguments=(
            Setting("subject", Kind.TEXT, "a node id (16 hexadecimal digits) or a cell's number",
                    metavar="NODE|CELL"),
        ),
        examples=(
            ("fabric topology explain 1944462d87ac4d04", "why is this host where it is?"),
            ("fabric topology explain 1", "why has cell 1 its owner?"),
        ),
    ),
    Command(
        "topology thaw", "end a freeze: who is gone may be removed now",
        "nodes.cli.topology:thaw", settings=_ASK,
        description="When many hosts go at once, removals and merges freeze for up to 60 s: that "
        "looks like a\nbroken network. Whoever knows that they are gone for good ends it.",
        examples=(("fabric topology thaw --peer tcp://127.0.0.1:7001", ""),),
    ),
    Command(
        "events", "what happened at a peer: deaths, takeovers, splits, alarms...",
        "nodes.cli.events:run", settings=_ASK,
        arguments=(
            Setting("last", Kind.INT, "how many of the past at the most", 50, low=1,
                    high=MAX_EVENTS, metavar="N"),
            Setting("follow", Kind.FLAG, "go on with what happens, until Ctrl-C", False),
            Setting("kind", Kind.NAMES, "only these kinds, like death,takeover; may be repeated",
                    (), metavar="KIND"),
        ),
        description="Every peer remembers what it saw since it started. Ask the chairman for what "
        "became of\nthe tree: who joined, which cells split, what was frozen.",
        examples=(
            ("fabric events --data-dir p1 --follow", ""),
            ("fabric events --peer tcp://127.0.0.1:7001 --kind death,takeover --json", ""),
        ),
    ),
    Command(
        "topology adopt", "publish what the fabric knows to a coordinator that lost it",
        "nodes.cli.adopt:run", settings=_ASK,
        arguments=(
            Setting("partial", Kind.FLAG, "leave out cells that cannot be read; their hosts join "
                    "anew", False),
        ),
        description="For a fabric whose coordinator was emptied or restored from an old copy: its "
        "chairman is\nhalted and alarms. Collects the cell records from their owners and has the "
        "chairman write\nthem under the next generation. Ask any peer.",
        examples=(("fabric topology adopt --peer tcp://127.0.0.1:7001", ""),),
    ),
    Command(
        "place", "reserve room for a VM on the best host", "nodes.cli.place:place", settings=_ASK,
        arguments=(
            Setting("cpu", Kind.INT, "vCPUs", 1, low=1, high=MAX_HOST_CPU, metavar="N"),
            Setting("memory_mb", Kind.INT, "memory", 1024, low=1, high=MAX_HOST_MB, metavar="MB"),
            Setting("disk_mb", Kind.INT, "disk", 0, low=0, high=MAX_HOST_MB, metavar="MB"),
            Setting("constraint", Kind.NAMES, "a condition on the host: zone=z1|z2, tag!=ssd; may "
                    "be repeated (kinds: zone, host, tag, network, datastore)", (),
                    metavar="COND"),
            Setting("vm_id", Kind.TEXT, "id of the VM (default: a new one)", "", metavar="ID"),
            Setting("key", Kind.TEXT, "idempotency key: the same key never gets two hosts "
                    "(default: the VM id)", "", metavar="KEY"),
            Setting("confirm", Kind.FLAG, "confirm at once; else the reservation expires in 60 s",
                    False),
        ),
        examples=(("fabric place --cpu 2 --memory-mb 4096 --confirm", ""),),
    ),
    Command(
        "release", "give a reservation back", "nodes.cli.place:release", settings=_ASK,
        arguments=(
            Setting("placement", Kind.TEXT, "the placement, as `fabric place` printed it",
                    metavar="PLACEMENT"),
        ),
        examples=(("fabric release vm-7:1:1f3a:00c0ffee00c0ffee@tcp://127.0.0.1:7002", ""),),
    ),
    Command(
        "services", "what is registered with a coordinator, and where", "nodes.cli.services:run",
        settings=("coordinator",),
        arguments=(
            Setting("watch", Kind.TEXT, "print this service whenever it changes", "",
                    metavar="SERVICE"),
        ),
        examples=(
            ("fabric services --coordinator zookeeper://127.0.0.1:2181", "all of them"),
            ("fabric services --coordinator p1/coordinator --watch front", "until Ctrl-C"),
        ),
    ),
    Command(
        "doctor", "what is missing on this machine, and how to get it", "nodes.cli.doctor:run",
        examples=(("fabric doctor --json", ""),),
    ),
    Command("version", "print the version", "nodes.cli.version:run"),
)
