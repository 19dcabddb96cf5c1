"""What a peer tells those who watch it (``Fabric.events``, metrics, checkers of the simulator)."""

from __future__ import annotations

from typing import NamedTuple

from fabric.machine import Contact
from fabric.wire.tree import Order


class MemberNotice(NamedTuple):
    """A member of a cell changed: ``state`` as in ``fabric.wire.gossip``."""

    cell: int
    key: int
    state: int
    contact: Contact


class OwnerNotice(NamedTuple):
    """This peer won a cell (``owns``) or lost it."""

    cell: int
    electorate: Order
    term: int
    owns: bool


class PlaceNotice(NamedTuple):
    """This peer's place in the tree: its leaf cell and the path from it to the root."""

    path: tuple[int, ...]


class JoinRefusedNotice(NamedTuple):
    """The chairman does not want us."""

    code: str
    message: str


class ConflictNotice(NamedTuple):
    """Another process lives under our node id with a later life: a copied data directory."""

    cell: int
    incarnation: int


class LeftNotice(NamedTuple):
    """This peer has said goodbye."""


class DiskNotice(NamedTuple):
    """A write failed; what hung on it was not promised."""

    reason: str
