"""``fabric keys``: make, list, revoke and rotate the keys of a cluster's nodes.

All work on the operator's directory (``--keys``, else ``FABRIC_KEYS``), whose files
:mod:`fabric.transport.authority` describes.  No secret is ever printed or taken as an argument.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import fabric
from fabric.errors import ConfigError
from fabric.ids import format_id, parse_id
from fabric.transport.authority import ClusterKeys
from fabric.transport.keys import CLUSTER_FILE, NodeKeys, load_node
from fabric.wire.trust import CANDIDATE, Certificate
from nodes.cli.output import Exit, Output
from nodes.config import Config

_DAY_S: Final = 86_400
#: Keys of one command: it is over long before, and a copy of them is soon worth nothing.
_GUEST_S: Final = 3600


def own_keys(config: Config) -> NodeKeys | None:
    """Return the keys of a peer; ``None`` without ``--keys``."""
    directory = config.path("keys")
    return None if directory is None else load_node(directory)


def caller_keys(config: Config) -> NodeKeys | None:
    """Return keys for asking peers: a node's own, or short-lived ones from the operator's."""
    directory = config.path("keys")
    if directory is None:
        return None
    if (directory / CLUSTER_FILE).exists():
        return ClusterKeys.load(directory).guest("operator", _GUEST_S)
    return load_node(directory)


def create(config: Config, out: Output) -> int:
    """Make keys for nodes, and the cluster's own the first time."""
    directory = _directory(config)
    names = config.names("names")
    node_id = config.text("node_id")
    if node_id and len(names) != 1:
        raise ConfigError("--node-id names one node: give one name", {"field": "node_id"})
    if (directory / CLUSTER_FILE).exists():
        keys = ClusterKeys.load(directory)
        if config.text("cluster") not in ("", keys.cluster.name):
            raise ConfigError(
                f"{directory} holds the key of cluster {keys.cluster.name!r}",
                {"field": "cluster", "value": config.text("cluster")},
            )
    else:
        keys = ClusterKeys.create(directory, config.text("cluster") or "fabric")
        out.line(f"cluster {keys.cluster.name}: keep {directory / CLUSTER_FILE} safe, "
                 "it makes and revokes nodes")
    made = []
    for name in names:
        node = keys.issue(
            name, rights=CANDIDATE if config.flag("candidate") else 0,
            valid_s=config.number("days") * _DAY_S,
            node_id=parse_id(node_id) if node_id else None,
        )
        made.append(_row(keys, node.certificate))
        out.line(f"{name}: node {format_id(node.node_id)}; start it with --keys {node.directory}")
    out.object({"cluster": keys.cluster.name, "made": made})
    return Exit.OK


def listed(config: Config, out: Output) -> int:
    """Print the certificates that were issued."""
    keys = ClusterKeys.load(_directory(config))
    rows = [_row(keys, certificate) for certificate in keys.issued()]
    out.table(
        ("name", "node", "serial", "rights", "expires", "state"),
        [(r["name"], r["node_id"], r["serial"], r["rights"], r["expires"], r["state"])
         for r in rows],
    )
    out.object({"cluster": keys.cluster.name, "issued": rows})
    return Exit.OK


def revoke(config: Config, out: Output) -> int:
    """Void a node's certificates, and tell a running peer, which tells all others."""
    keys = ClusterKeys.load(_directory(config))
    void: list[Certificate] = []
    for name in config.names("names"):
        void += keys.revoke(name)
    return _spread(config, keys, void, out)


def rotate(config: Config, out: Output) -> int:
    """Give nodes new keys. A running peer on that directory takes them by itself."""
    keys = ClusterKeys.load(_directory(config))
    old = []
    for name in config.names("names"):
        old.append(keys.newest(name))
        node = keys.rotate(name, config.number("days") * _DAY_S)
        out.line(f"{name}: new keys are in {node.directory}; a peer that runs on another copy "
                 "goes over once it is replaced")
    return _spread(config, keys, old, out)


def _spread(config: Config, keys: ClusterKeys, void: list[Certificate], out: Output) -> int:
    version = keys.revocations()[0].version
    address = config.text("peer")
    if address:
        asyncio.run(_tell(address, keys, config.seconds("timeout_s")))
        out.line(f"revocation list {version} is with {address}, which passes it on")
    else:
        out.line(f"revocation list {version} is on file; --peer ADDRESS tells a running fabric")
    out.object({"version": version, "void": [_row(keys, certificate) for certificate in void]})
    return Exit.OK


async def _tell(address: str, keys: ClusterKeys, timeout_s: float) -> None:
    """Peers that meet bring each other up to date; so meet one."""
    async with fabric.connect(address, keys=keys.guest("operator", _GUEST_S)) as client:
        await client.status(timeout_s)
        await client.status(timeout_s)  # what the first meeting found out has gone before this one


def _directory(config: Config) -> Path:
    directory = config.path("keys")
    if directory is None:
        raise ConfigError(
            "no key directory: give --keys DIR, or set FABRIC_KEYS", {"field": "keys"}
        )
    return directory


def _row(keys: ClusterKeys, certificate: Certificate) -> dict[str, Any]:
    now = time.time()
    void = dict(keys.revocations()[0].revoked)
    from_s = void.get(certificate.serial)
    if certificate.expires_s <= now:
        state = "expired"
    elif from_s is None:
        state = "valid"
    else:
        state = "revoked" if from_s <= now else "replaced"
    return {
        "name": certificate.name,
        "node_id": format_id(certificate.node_id),
        "serial": format_id(certificate.serial),
        "rights": "candidate" if certificate.rights & CANDIDATE else "",
        "expires": time.strftime("%Y-%m-%d", time.gmtime(certificate.expires_s)),
        "state": state,
    }


