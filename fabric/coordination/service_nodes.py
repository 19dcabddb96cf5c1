"""Registered services in ZooKeeper: ephemeral sequence nodes below ``service/<name>``.

An instance's number is the czxid of its node.  Whoever reads a service leaves a watch, so changes
are told at once; each connection found again counts as a change, since watches end with one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from kazoo.client import KazooClient

from fabric.coordination.ensemble import Ensemble
from fabric.coordination.layout import SERVICE
from fabric.coordination.nodes import Nodes
from fabric.coordination.services import (
    Instance,
    ServiceRecord,
    check_company,
    check_service,
    instances_of,
)
from fabric.coordination.session import Session, Unreachable
from fabric.errors import BadFrame, ForeignData, Unavailable
from fabric.wire.codec import decode_record, encode_record

_ANSWER_WITHIN_S: Final = 5.0
#: Of the session timeout: whoever serves has stopped before its node can vanish.
_LEASE_PART: Final = 0.75
#: Watches tell of changes; this is for what they might miss.
_LOOK_AGAIN_S: Final = 5.0

T = TypeVar("T")


class NodeServices:
    """One session for all services and instances of a process."""

    look_again_s = _LOOK_AGAIN_S

    def __init__(self, ensemble: Ensemble) -> None:
        self._tell: Callable[[bool], None] = lambda connected: None
        self._session = Session(ensemble, lambda connected: self._tell(connected))
        self._nodes = Nodes(self._session)
        self._base = f"{ensemble.chroot}/{SERVICE}"
        self._watch = self._session.watcher(lambda: self._tell(True))
        self._mine: dict[int, tuple[str, bytes, bool]] = {}  # number -> node, what it holds, kind
        self._session.start()

    @property
    def lease_s(self) -> float:
        return self._session.timeout_s * _LEASE_PART

    def listen(self, tell: Callable[[bool], None]) -> None:
        self._tell = tell

    async def enter(self, token: int, name: str, record: ServiceRecord) -> int:
        check_service(name, record)
        return await _within(self._enter(f"{token:016x}-", name, record))

    async def _enter(self, prefix: str, name: str, record: ServiceRecord) -> int:
        await self._nodes.prepare()
        directory = f"{self._base}/{name}"
        await self._nodes.create(directory)
        value, acl = encode_record(record), self._session.acl
        for child in await self._nodes.children(directory):
            if child.startswith(prefix):  # made by a call whose answer was lost, or ended just now
                node = f"{directory}/{child}"
                stat = await self._nodes.stat(node)
                if stat is not None and stat.owner_session_id == self._session.session_id:
                    self._mine[stat.czxid] = (node, value, record.passive)
                    return int(stat.czxid)
        check_company(name, record, await self._read(name))

        def create(zk: KazooClient) -> Any:
            return zk.create_async(
                f"{directory}/{prefix}", value, acl=acl, ephemeral=True, sequence=True,
                include_data=True,
            )  # fmt: skip

        node, stat = await self._nodes.ask(directory, create)
        self._mine[stat.czxid] = (node, value, record.passive)
        return int(stat.czxid)

    async def renew(self, name: str, number: int) -> bool:
        return await _within(self._renew(number))

    async def _renew(self, number: int) -> bool:
        if number not in self._mine:
            return False
        node, value, passive = self._mine[number]
        if passive:  # a majority agrees that the session lives: the next one has to wait
            stat = await self._nodes.ask_if_there(node, lambda zk: zk.set_async(node, value))
        else:
            stat = await self._nodes.stat(node)
        if stat is not None and stat.czxid == number:
            return True
        del self._mine[number]
        return False

    async def withdraw(self, name: str, number: int) -> None:
        node, _, _ = self._mine.pop(number, ("", b"", False))
        if node:
            await _within(self._nodes.ask_if_there(node, lambda zk: zk.delete_async(node)))

    async def read(self, name: str) -> tuple[Instance, ...]:
        return await _within(self._read(name))

    async def _read(self, name: str) -> tuple[Instance, ...]:
        await self._nodes.prepare()
        directory = f"{self._base}/{name}"
        watch = self._watch
        children = await self._nodes.ask_if_there(
            directory, lambda zk: zk.get_children_async(directory, watch=watch)
        )
        if children is None:  # tell when there is one
            await self._nodes.ask_if_there(
                directory, lambda zk: zk.exists_async(directory, watch=watch)
            )
        nodes = [f"{directory}/{child}" for child in children or ()]
        found = await asyncio.gather(*(self._record(node) for node in nodes))
        return instances_of(name, [pair for pair in found if pair is not None])

    async def _record(self, node: str) -> tuple[int, ServiceRecord] | None:
        found = await self._nodes.ask_if_there(node, lambda zk: zk.get_async(node))
        if found is None:
            return None
        value, stat = found
        try:
            return int(stat.czxid), decode_record(ServiceRecord, value)
        except BadFrame as error:
            raise ForeignData.at(node, f"is no service's record: {error.message}") from None

    async def names(self) -> tuple[str, ...]:
        return await _within(self._names())

    async def _names(self) -> tuple[str, ...]:
        await self._nodes.prepare()
        names = sorted(await self._nodes.children(self._base))
        stats = await asyncio.gather(*(self._nodes.stat(f"{self._base}/{name}") for name in names))
        found = zip(names, stats, strict=True)
        return tuple([name for name, stat in found if stat is not None and stat.numChildren])

    async def close(self) -> None:
        await self._session.close()


async def _within(work: Coroutine[Any, Any, T]) -> T:
    """Wait for an answer, but not for ever."""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            return await work
    except Unreachable as error:
        raise Unavailable(str(error)) from None
    except TimeoutError:
        raise Unavailable(f"ZooKeeper did not answer in {_ANSWER_WITHIN_S:g} s") from None
