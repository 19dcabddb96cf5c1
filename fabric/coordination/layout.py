"""What lies below Fabric's path in ZooKeeper, and reading it when others may have written it.

    /fabric/meta                 JSON: the format, and the coordinator's id
    /fabric/topo                 the head of the topology
    /fabric/cell/<id>            one cell record
    /fabric/store                where CloudStore begins
    /fabric/chair/<node>-<seq>   a candidate, while its session lives; the first is chairman
    /fabric/service/<name>/...   registered services (:mod:`fabric.coordination.registry`)

Whatever is there that Fabric did not write is refused with the node and the reason.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from fabric.errors import BadInput, ForeignData
from fabric.limits import MAX_INT, MAX_RECORD_BYTES

#: Raised when older code could not read what newer code writes.
FORMAT_VERSION: Final = 1

META: Final = "meta"
CHAIR: Final = "chair"
CELL: Final = "cell"
SERVICE: Final = "service"
#: Children of Fabric's path that hold no record themselves.
DIRECTORIES: Final = (CHAIR, CELL, SERVICE)
_RECORD_PATH: Final = re.compile(r"(?:cell/)?[A-Za-z0-9._-]{1,64}")
_CANDIDATE: Final = re.compile(r"([0-9a-f]{16})-(\d{10})")
_MAX_META_BYTES: Final = 4096


class Candidate(NamedTuple):
    """A node in the line for the chair. The line is ordered by ``number``."""

    number: int
    node_id: int
    name: str


def candidate_prefix(node_id: int) -> str:
    """Return what ZooKeeper completes with a sequence number."""
    return f"{node_id:016x}-"


def line_of(names: list[str], directory: str) -> list[Candidate]:
    """Return the candidates in their order. Raises :class:`ForeignData`."""
    line = []
    for name in names:
        match = _CANDIDATE.fullmatch(name)
        if match is None:
            raise ForeignData.at(f"{directory}/{name}", "is no candidate's node")
        line.append(Candidate(int(match[2]), int(match[1], 16), name))
    return sorted(line)


def node_of(path: str, value: bytes | None) -> str:
    """Return the node of a record, relative to Fabric's path. Raises :class:`BadInput`."""
    if not _RECORD_PATH.fullmatch(path) or path in (META, *DIRECTORIES):
        raise BadInput(f"record path {path[:80]!r} is empty, too long or not possible")
    if value is not None and len(value) > MAX_RECORD_BYTES:
        raise BadInput(f"record {path} of {len(value)} bytes exceeds {MAX_RECORD_BYTES}")
    return path


def checked_value(node: str, value: bytes) -> bytes:
    """Return ``value`` if a record can be so large. Raises :class:`ForeignData`."""
    if len(value) > MAX_RECORD_BYTES:
        raise ForeignData.at(node, f"holds {len(value)} bytes, more than {MAX_RECORD_BYTES}")
    return value


def encode_meta(coordinator_id: int) -> bytes:
    """Return what the node ``meta`` holds."""
    return json.dumps({"format": FORMAT_VERSION, "id": f"{coordinator_id:016x}"}).encode()


def coordinator_id_of(node: str, value: bytes) -> int:
    """Read what :func:`encode_meta` wrote. Raises :class:`ForeignData`."""
    try:
        meta: Any = json.loads(value) if len(value) <= _MAX_META_BYTES else None
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise ForeignData.at(node, "is not the JSON object that Fabric writes")
    version, text = meta.get("format"), meta.get("id")
    if type(version) is not int or version < 1:
        raise ForeignData.at(node, "names no format")
    if version > FORMAT_VERSION:
        raise ForeignData.at(
            node,
            f"was written by a newer version of Fabric (format {version}, this program reads up "
            f"to {FORMAT_VERSION})",
        )
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{16}", text):
        raise ForeignData.at(node, "holds no id of 16 hexadecimal digits")
    number = int(text, 16)
    if not 0 < number <= MAX_INT:
        raise ForeignData.at(node, f"holds the impossible id {text}")
    return number
