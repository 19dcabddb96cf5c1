"""ZooKeeper as coordinator: the client of one candidate.

Theory of operation
-------------------
* *The chair.*  Each candidate has an ephemeral sequence node; the first in line is chairman, and
  the czxid of its node is the epoch's lease.  A sequence path never comes back, so a check on it
  truly fences; a fixed path would be at version 0 again under the next holder, and a stale check
  would pass.
* *Renewing* is a write to the own node: a majority of the ensemble agrees, after the campaign was
  sent, that the session lives.  The chair lease is shorter than the session timeout by enough that
  its holder has stopped, by its own clock, before the node can vanish.
* *A commit* is one transaction: it checks that the own node exists and each record's version.  A
  commit of an earlier epoch, past the own deadline, or while the connection is in doubt is refused
  here already.
* *A doubt* about the connection (kazoo's SUSPENDED) is told at once (:class:`Severed`), and so is
  any change in the line (:class:`Vacated`): nobody waits for the next campaign.
* *A hung candidate* whose threads still renew its session would keep the chair for ever.  So a
  watchdog, in a thread of its own, takes the node out of the line when nobody campaigned for long.
* An answer that was lost leaves nothing behind: a node that was made and not heard of is found
  again by its session, since the line tells who made each node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from kazoo.client import KazooClient

from fabric.coordination.ensemble import Ensemble, parse_ensemble
from fabric.coordination.interface import (
    Campaign,
    Chair,
    Commit,
    CommitRefused,
    Committed,
    CoordinatorAnswer,
    CoordinatorNews,
    CoordinatorRequest,
    Epoch,
    Load,
    Loaded,
    Lost,
    Put,
    Record,
    Resign,
    Resigned,
    Severed,
    Vacated,
)
from fabric.coordination.layout import (
    CELL,
    CHAIR,
    DIRECTORIES,
    META,
    Candidate,
    candidate_prefix,
    checked_value,
    line_of,
    node_of,
)
from fabric.coordination.nodes import Nodes, outcome_of
from fabric.coordination.session import Session, Unreachable
from fabric.coordination.watchdog import Watchdog
from fabric.errors import BadInput, ConfigError, ForeignData, Overloaded
from fabric.limits import MAX_COORDINATOR_WAITING, MAX_TRANSACTION_BYTES

#: Answers take milliseconds; reading the thousands of records of a large topology, seconds.
_ANSWER_WITHIN_S: Final = 5.0
_LOADED_WITHIN_S: Final = 30.0
#: Records asked for at the same time: enough to keep the connection full.
_AT_ONCE: Final = 256
#: The chair lease is at most three quarters of the session timeout (see above): the server may
#: count from the last sign of life that it had before the campaign.
_LEASE_PART: Final = 0.75
#: Nobody campaigned for so many leases: the candidate hangs. (It campaigns three times in one.)
_HUNG_LEASES: Final = 2.0
#: Epochs of one coordinator are ordered by the lease; generations are the topology's.
_GENERATION: Final = 1
#: Bytes of one operation of a transaction beside path and value.
_OPERATION_BYTES: Final = 128


class _Place(NamedTuple):
    """Our node in the line, as long as the session ``session`` lives."""

    name: str
    path: str
    czxid: int
    session: int


class ZooKeeperCoordinator:
    """One candidate's client. Make it on the loop that asks; it connects in the background."""

    def __init__(self, address: str | Ensemble) -> None:
        ensemble = parse_ensemble(address) if isinstance(address, str) else address
        self._base = ensemble.chroot
        self._chair = f"{self._base}/{CHAIR}"
        self._tell: Callable[[CoordinatorNews], None] = lambda news: None
        self._session = Session(ensemble, self._connection_changed)
        self._nodes = Nodes(self._session)
        self._line_watch = self._session.watcher(self._line_changed)
        self._place: _Place | None = None
        self._until = 0.0  # monotonic; until then we hold the chair
        self._waiting = 0
        self._watchdog = Watchdog(self._leave_line)
        self._session.start()

    def listen(self, tell: Callable[[CoordinatorNews], None]) -> None:
        """Have ``tell`` called, on the loop, with news that nobody asked for."""
        self._tell = tell

    async def ask(self, request: CoordinatorRequest) -> CoordinatorAnswer:
        """Answer ``request``.

        Raises :class:`ForeignData` for nodes that Fabric did not write, ``BadInput`` for requests
        that can never be carried out and ``ConfigError`` for an impossible session timeout.
        """
        if self._waiting >= MAX_COORDINATOR_WAITING:
            raise Overloaded(f"{self._waiting} requests wait for the coordinator already")
        within_s = _LOADED_WITHIN_S if isinstance(request, Load) else _ANSWER_WITHIN_S
        self._waiting += 1
        try:
            async with asyncio.timeout(within_s):
                return await self._carry_out(request)
        except TimeoutError:
            return Lost(f"{self._session.ensemble}: no answer within {within_s:g} s")
        except Unreachable as error:
            return Lost(str(error))
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        self._watchdog.stop()
        await self._session.close()

    async def _carry_out(self, request: CoordinatorRequest) -> CoordinatorAnswer:
        if isinstance(request, Campaign):
            return await self._campaign(request)
        if isinstance(request, Commit):
            return await self._commit(request)
        if isinstance(request, Load):
            return await self._load()
        if isinstance(request, Resign):
            return await self._resign(request)
        raise TypeError(f"no coordinator request: {type(request).__name__}")

    # --- the chair --------------------------------------------------------------------------------

    async def _campaign(self, request: Campaign) -> Chair | Lost:
        sent = time.monotonic()
        lease_s = request.lease_us / 1e6
        self._check_lease(lease_s)
        self._watchdog.feed(lease_s * _HUNG_LEASES)
        coordinator_id = await self._nodes.prepare()
        line = await self._line()
        place = await self._find_place(request.node_id, line)
        if place is None:
            place = await self._take_place(request.node_id)
            line = await self._line()
        first = line[0] if line else None
        if first is None or all(c.name != place.name for c in line):
            return Lost(f"{place.path} vanished")
        if first.name == place.name:
            await self._nodes.ask(place.path, lambda zk: zk.set_async(place.path, b""))
            self._until = sent + lease_s
            epoch = Epoch(_GENERATION, place.czxid)
            return Chair(True, request.node_id, epoch, coordinator_id)
        self._until = 0.0
        holder = await self._nodes.stat(f"{self._chair}/{first.name}")
        if holder is None:
            return Lost("the chair changes hands")  # the watch on the line tells when it has
        if not holder.ephemeralOwner:
            raise ForeignData.at(
                f"{self._chair}/{first.name}", "belongs to no session, and so would hold the chair "
                "for ever: delete it"
            )
        epoch = Epoch(_GENERATION, holder.czxid)
        return Chair(False, first.node_id, epoch, coordinator_id)

    def _check_lease(self, lease_s: float) -> None:
        timeout_s = self._session.timeout_s
        if lease_s > timeout_s * _LEASE_PART:
            raise ConfigError(
                f"a ZooKeeper session timeout of {timeout_s:g} s is too short for the chair lease "
                f"of {lease_s:g} s: it must be {lease_s / _LEASE_PART:g} s or more",
                {"field": "session_s"},
            )

    async def _line(self) -> list[Candidate]:
        watch = self._line_watch
        names = await self._nodes.ask(
            self._chair, lambda zk: zk.get_children_async(self._chair, watch=watch)
        )
        return line_of(names, self._chair)

    async def _find_place(self, node_id: int, line: Sequence[Candidate]) -> _Place | None:
        """Return our node in the line: the one we know of, or one that this session made."""
        session = self._session
        place, self._place = self._place, None
        for candidate in line:
            if candidate.node_id != node_id:
                continue
            if place is not None and place.name == candidate.name:
                if place.session == session.number:
                    self._place = place
                    return place
                continue
            path = f"{self._chair}/{candidate.name}"
            stat = await self._nodes.stat(path)
            if stat is not None and stat.owner_session_id == session.session_id:
                self._place = _Place(candidate.name, path, stat.czxid, session.number)
                return self._place
        return None

    async def _take_place(self, node_id: int) -> _Place:
        """Go to the end of the line."""
        prefix = f"{self._chair}/{candidate_prefix(node_id)}"
        acl, session = self._session.acl, self._session.number

        def create(zk: KazooClient) -> Any:
            return zk.create_async(
                prefix, b"", acl=acl, ephemeral=True, sequence=True, include_data=True
            )

        path, stat = await self._nodes.ask(self._chair, create)
        self._place = _Place(path.rpartition("/")[2], path, stat.czxid, session)
        return self._place

    async def _resign(self, request: Resign) -> Resigned:
        place = self._place
        if place is not None and place.czxid == request.epoch.lease:
            self._until = 0.0
            # should the answer be lost, the watchdog tries again
            await self._nodes.ask_if_there(place.path, lambda zk: zk.delete_async(place.path))
            self._place = None
        return Resigned()

    def _leave_line(self) -> None:
        """In the watchdog's thread: nobody has campaigned for long."""
        place = self._place
        if place is not None:
            self._session.forget(lambda zk: zk.delete_async(place.path))

    # --- news -------------------------------------------------------------------------------------

    def _connection_changed(self, connected: bool) -> None:
        if connected:
            self._tell(Vacated())
        else:
            self._until = 0.0
            self._tell(Severed(f"{self._session.ensemble}: the connection is in doubt"))

    def _line_changed(self) -> None:
        if time.monotonic() >= self._until:
            self._tell(Vacated())

    # --- records ----------------------------------------------------------------------------------

    async def _load(self) -> Loaded:
        self._nodes.forget()
        coordinator_id = await self._nodes.prepare()
        names = await self._nodes.children(self._base)
        cells = await self._nodes.children(f"{self._base}/{CELL}")
        paths = [name for name in names if name != META and name not in DIRECTORIES]
        paths += [f"{CELL}/{name}" for name in cells]
        records: list[Record] = []
        for start in range(0, len(paths), _AT_ONCE):
            batch = paths[start : start + _AT_ONCE]
            found = await asyncio.gather(*(self._read(path) for path in batch))
            records += [record for record in found if record is not None]
        return Loaded(tuple(sorted(records)), coordinator_id)

    async def _read(self, path: str) -> Record | None:
        node = f"{self._base}/{path}"
        found = await self._nodes.ask_if_there(node, lambda zk: zk.get_async(node))
        if found is None:
            return None
        value, stat = found
        return Record(path, stat.version + 1, checked_value(node, value))

    async def _commit(self, request: Commit) -> Committed | CommitRefused:
        place = self._place
        puts = [put for put in request.puts if put.version or put.value is not None]
        nodes = [f"{self._base}/{node_of(put.path, put.value)}" for put in puts]
        _check_size(nodes, puts)
        if (
            place is None
            or place.session != self._session.number
            or place.czxid != request.epoch.lease
            or time.monotonic() >= self._until
        ):
            return CommitRefused("lease")
        acl = self._session.acl

        def commit(zk: KazooClient) -> Any:
            transaction = zk.transaction()
            transaction.check(place.path, -1)
            for node, put in zip(nodes, puts, strict=True):
                if put.value is None:
                    transaction.delete(node, put.version - 1)
                elif put.version:
                    transaction.set_data(node, put.value, put.version - 1)
                else:
                    transaction.create(node, put.value, acl)
            return transaction.commit_async()

        results = await self._nodes.ask(self._base, commit)
        return outcome_of(results, [place.path, *nodes]) or Committed(
            tuple([0 if put.value is None else put.version + 1 for put in request.puts])
        )


def _check_size(nodes: Sequence[str], puts: Sequence[Put]) -> None:
    size = sum(
        len(node) + len(put.value or b"") + _OPERATION_BYTES
        for node, put in zip(nodes, puts, strict=True)
    )
    if size > MAX_TRANSACTION_BYTES:
        raise BadInput(f"a transaction of {size} bytes exceeds {MAX_TRANSACTION_BYTES}")
