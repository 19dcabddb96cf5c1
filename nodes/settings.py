"""The table of settings: each one's name, kind, bounds, default and help, once.

A setting ``leaf_max`` is the flag ``--leaf-max``, the environment variable ``FABRIC_LEAF_MAX`` and
the key ``leaf_max`` of a TOML file; :mod:`nodes.config` reads all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from fabric.limits import MAX_CELL_MEMBERS, MAX_HOST_CPU, MAX_HOST_MB
from fabric.settings import Settings

ENV_PREFIX: Final = "FABRIC_"
Value: TypeAlias = str | int | float | bool | tuple[str, ...] | None


class Kind(Enum):
    """What a setting holds. The value names the kind as people read it in an error."""

    TEXT = "text"
    INT = "a whole number"
    SECONDS = "a number of seconds"
    FLAG = "true or false"
    PATH = "a path"
    COORDINATOR = "a directory or an address like zookeeper://127.0.0.1:2181/fabric"
    ADDRESS = "an address like tcp://127.0.0.1:7001"
    ADDRESSES = "a list of addresses like tcp://127.0.0.1:7001"
    HTTP = "an address like 127.0.0.1:9080"
    NAMES = "a list of names"
    NODE = "16 hexadecimal digits"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. ``low`` and ``high`` bound numbers; ``choices`` bounds text."""

    name: str
    kind: Kind
    help: str
    default: Value = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str = ""

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        """The environment variable."""
        return ENV_PREFIX + self.name.upper()


_DEFAULTS: Final = Settings()

_TABLE: Final = (
    Setting("listen", Kind.ADDRESS, "address to bind; port 0 takes a free one",
            "tcp://127.0.0.1:0", metavar="ADDRESS"),
    Setting("join", Kind.ADDRESSES, "address of any living peer; give several for safety",
            (), metavar="ADDRESS"),
    Setting("data_dir", Kind.PATH, "directory for what must survive a restart", metavar="DIR"),
    Setting("keys", Kind.PATH,
            "directory of keys that `fabric keys create` made; without keys, this machine only",
            metavar="DIR"),
    Setting("node_id", Kind.NODE, "refuse a data directory that belongs to another node",
            metavar="ID"),
    Setting("coordinator", Kind.COORDINATOR,
            "directory of the embedded coordinator, shared by the candidates of this machine "
            "(default: 'coordinator' inside the data directory), or a ZooKeeper ensemble: "
            "zookeeper://h1:2181,h2:2181/chroot?auth_file=F", metavar="WHERE"),
    Setting("host", Kind.TEXT, "be a host, with this hypervisor driver", choices=("sim",),
            metavar="DRIVER"),
    Setting("candidate", Kind.FLAG, "stand for chairman (the one writer of the topology)", False),
    Setting("leaf_min", Kind.INT, "a leaf cell with fewer hosts merges with a neighbour",
            _DEFAULTS.leaf_min,
            low=1, high=MAX_CELL_MEMBERS // 2, metavar="N"),
    Setting("leaf_max", Kind.INT, "a leaf cell with more hosts splits", _DEFAULTS.leaf_max, low=2,
            high=MAX_CELL_MEMBERS, metavar="N"),
    Setting("inner_min", Kind.INT, "the same for inner cells: fewest child cells",
            _DEFAULTS.inner_min,
            low=1, high=MAX_CELL_MEMBERS // 2, metavar="N"),
    Setting("inner_max", Kind.INT, "the same for inner cells: most child cells",
            _DEFAULTS.inner_max, low=2,
            high=MAX_CELL_MEMBERS, metavar="N"),
    Setting("cpu", Kind.INT, "vCPUs of the simulated host", 16, low=1, high=MAX_HOST_CPU,
            metavar="N"),
    Setting("memory_mb", Kind.INT, "memory of the simulated host", 65_536, low=1,
            high=MAX_HOST_MB, metavar="MB"),
    Setting("disk_mb", Kind.INT, "datastore of the simulated host", 500_000, low=1,
            high=MAX_HOST_MB, metavar="MB"),
    Setting("zone", Kind.TEXT, "availability zone of the host", "", metavar="NAME"),
    Setting("rack", Kind.TEXT, "rack of the host: what it fails together with", "",
            metavar="NAME"),
    Setting("networks", Kind.NAMES, "networks that the host offers", (), metavar="NAME"),
    Setting("tags", Kind.NAMES, "tags of the host, for constraints", (), metavar="NAME"),
    Setting("peer", Kind.ADDRESS, "the peer to ask (default: the one that runs on --data-dir)",
            metavar="ADDRESS"),
    Setting("timeout_s", Kind.SECONDS, "give up after so many seconds", 10.0, low=0.1, high=3600,
            metavar="S"),
    Setting("hosts", Kind.INT, "hosts to run in this process", 4, low=1, high=512, metavar="N"),
    Setting("http", Kind.HTTP, "where the REST front listens", "127.0.0.1:9080",
            metavar="HOST:PORT"),
    Setting("log", Kind.TEXT, "form of the logs on stderr", "text", choices=("text", "json")),
    Setting("log_level", Kind.TEXT, "least level that is logged; info follows requests through all "
            "peers", "warning", choices=("debug", "info", "warning", "error")),
    Setting("metrics", Kind.HTTP, "serve Prometheus metrics there (a loopback address; port 0: any "
            "free one); by default not at all", metavar="HOST:PORT"),
    Setting("accept_any_image", Kind.FLAG, "any sourceImageId counts as READY, with size 0", False),
)

#: Every setting there is, by name.
SETTINGS: Final[Mapping[str, Setting]] = {setting.name: setting for setting in _TABLE}
