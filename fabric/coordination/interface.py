"""What the chairman asks of a coordinator, as data. ZooKeeper, embedded and simulated ones agree.

A coordinator keeps three things: the *chair lease* (at most one holder, each holder under a new,
higher epoch), a small tree of versioned records (``topo``, ``cell/<id>``, ``store``), and its own
id, made once.  A :class:`Commit` is one transaction: it checks that ``epoch`` still holds the
chair and that each record has the version that the writer read, or changes nothing at all.

Requests go out by ``Sink.coordinate(request, token)``; the answer comes as ``Coordinated``.  Each
request is answered exactly once; a coordinator that cannot be reached answers :class:`Lost` (the
request may or may not have been carried out).  One across a network has *news* besides: they come
as ``Coordinated`` under token 0.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class Epoch(NamedTuple):
    """Orders chairmen: the generation of the topology, then the id of the chair lease."""

    generation: int
    lease: int


class Campaign(NamedTuple):
    """Take the chair if it is free (or expired), or renew it if it is ours."""

    node_id: int
    lease_us: int


class Chair(NamedTuple):
    """Who holds the chair. ``epoch`` is the holder's; ``held`` says whether that is the asker.

    The holder may act until ``lease_us`` after it *sent* the campaign, by its own clock.
    """

    held: bool
    holder: int
    epoch: Epoch
    coordinator_id: int


class Resign(NamedTuple):
    """Give the chair back, so that the next one need not wait for the lease to run out."""

    epoch: Epoch


class Load(NamedTuple):
    """Read all records."""


class Record(NamedTuple):
    """A stored record. ``version`` starts at 1 and rises with each write."""

    path: str
    version: int
    value: bytes


class Loaded(NamedTuple):
    records: tuple[Record, ...]
    coordinator_id: int


class Put(NamedTuple):
    """One write of a commit: ``version`` 0 creates; ``value`` ``None`` deletes."""

    path: str
    version: int
    value: bytes | None


class Commit(NamedTuple):
    """Write all of ``puts`` or nothing, only while ``epoch`` holds the chair."""

    epoch: Epoch
    puts: tuple[Put, ...]


class Committed(NamedTuple):
    """Done; ``versions`` are the new versions in the order of the puts (0: deleted)."""

    versions: tuple[int, ...]


class CommitRefused(NamedTuple):
    """Nothing was written: ``reason`` is ``"lease"`` (no longer chairman) or ``"version"``."""

    reason: str


class Resigned(NamedTuple):
    pass


class Lost(NamedTuple):
    """No answer could be had; the outcome is unknown."""

    reason: str


class Severed(NamedTuple):
    """News that nobody asked for: the connection to the coordinator is in doubt.

    Whoever holds the chair stops acting now, until a campaign is granted again.
    """

    reason: str


class Vacated(NamedTuple):
    """News that nobody asked for: the chair may be free, so a campaign is worth its while now."""


CoordinatorNews: TypeAlias = Severed | Vacated
CoordinatorRequest: TypeAlias = Campaign | Resign | Load | Commit
CoordinatorAnswer: TypeAlias = Chair | Resigned | Loaded | Committed | CommitRefused | Lost
