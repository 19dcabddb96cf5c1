"""Fabric's nodes in ZooKeeper: making the layout, and asking with errors that name the node."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
)

from fabric.coordination.interface import CommitRefused
from fabric.coordination.layout import DIRECTORIES, META, coordinator_id_of, encode_meta
from fabric.coordination.session import Session, Unreachable
from fabric.errors import ForeignData
from fabric.limits import MAX_INT


class Nodes:
    """Asks through one session, about nodes below the ensemble's path."""

    def __init__(self, session: Session) -> None:
        self.base = session.ensemble.chroot
        self._session = session
        self._prepared = (0, 0)  # the session in which the layout was seen, the coordinator's id

    def forget(self) -> None:
        """Look at the layout again before the next use."""
        self._prepared = (0, 0)

    async def prepare(self) -> int:
        """Return the coordinator's id. An empty one is given its id and its directories."""
        session, known = self._prepared
        if session == self._session.number:
            return known
        number = self._session.number
        node = f"{self.base}/{META}"
        found = await self.ask_if_there(node, lambda zk: zk.get_async(node))
        if found is None:
            await self._create_layout()
            found = await self.ask(node, lambda zk: zk.get_async(node))
        coordinator_id = coordinator_id_of(node, found[0])
        self._prepared = (number, coordinator_id)
        return coordinator_id

    async def _create_layout(self) -> None:
        base, acl = self.base, self._session.acl
        parts = base[1:].split("/")
        for depth in range(1, len(parts) + 1):
            await self.create("/" + "/".join(parts[:depth]))
        children = sorted(await self.children(base))
        if children and META not in children:
            raise ForeignData.at(
                base, f"holds {children[0]!r} but no {META!r}: Fabric did not make it"
            )
        meta = encode_meta(secrets.randbelow(MAX_INT) + 1)

        def create(zk: KazooClient) -> Any:
            transaction = zk.transaction()
            transaction.create(f"{base}/{META}", meta, acl)
            for name in DIRECTORIES:
                transaction.create(f"{base}/{name}", b"", acl)
            return transaction.commit_async()

        results = await self.ask(base, create)
        outcome_of(results, [f"{base}/{name}" for name in (META, *DIRECTORIES)])

    async def create(self, node: str) -> None:
        """Create an empty node, unless it is there."""
        acl = self._session.acl
        with contextlib.suppress(NodeExistsError):
            await self.ask(node, lambda zk: zk.create_async(node, b"", acl=acl))

    async def ask(self, node: str, ask: Callable[[KazooClient], Any]) -> Any:
        """Ask ZooKeeper about ``node``, which is named where we are not allowed to."""
        try:
            return await self._session.call(ask)
        except NoAuthError:
            raise ForeignData.at(node, "does not let us in with these credentials") from None
        except NoNodeError:
            self._prepared = (0, 0)  # somebody emptied it under our eyes
            raise Unreachable(f"coordinator node {node} is missing") from None

    async def ask_if_there(self, node: str, ask: Callable[[KazooClient], Any]) -> Any:
        """Ask about a node that may not be there."""
        try:
            return await self._session.call(ask)
        except NoAuthError:
            raise ForeignData.at(node, "does not let us in with these credentials") from None
        except NoNodeError:
            return None

    async def stat(self, node: str) -> Any:
        return await self.ask_if_there(node, lambda zk: zk.exists_async(node))

    async def children(self, node: str) -> list[str]:
        names: list[str] = await self.ask(node, lambda zk: zk.get_children_async(node))
        return names


def outcome_of(results: Sequence[Any], nodes: Sequence[str]) -> CommitRefused | None:
    """Say why a transaction was refused. kazoo *returns* the errors; it never raises them.

    The first operation is the check of the lease.  Operations before and after the one that failed
    carry errors of their own, which say nothing.
    """
    for index, (node, result) in enumerate(zip(nodes, results, strict=True)):
        if isinstance(result, RolledBackError | RuntimeInconsistency):
            continue
        if isinstance(result, NoAuthError):
            raise ForeignData.at(node, "may not be written with these credentials")
        if isinstance(result, NoNodeError | NodeExistsError | BadVersionError):
            return CommitRefused("version" if index else "lease")
        if isinstance(result, KazooException):
            raise Unreachable(f"coordinator node {node}: {type(result).__name__}")
    return None
