"""Typed access to the store for all that follows, and how a race with others is met.

An operation reads what it needs, checks it in the contract's order, and commits one transaction
whose conditions the store judges again when it is applied.  Where the world changed in between,
:meth:`Cloud.commit` raises :class:`Raced` and :func:`settled` runs the whole operation again: the
second look finds the exact error to tell, or succeeds.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Concatenate, Final, Generic, ParamSpec, Protocol, TypeVar

from fabric.cloudstore.client import CompareAndSet, Create, Debit, Kind, Operation, StoreClient
from fabric.errors import Conflict, ContainerNotEmpty, NameTaken, NotFound, QuotaError, Unavailable
from nodes.contract.entities import Flavor, Leftover, Project, Task, Tenant, Ticket, Vm, Work
from nodes.contract.quota import QuotaLine, quota_error
from nodes.contract.records import from_body, to_body
from nodes.contract.tasks import completed

#: Every kind of document that the cloud keeps, with the fields it is found by.
KINDS: Final = (
    Kind(Tenant.KIND),
    Kind(Ticket.KIND, indexes=("tenant_id",)),
    Kind(Project.KIND, indexes=("tenant_id",)),
    Kind(Flavor.KIND, root=True),
    Kind(Vm.KIND, indexes=("project_id", "flavor_ids")),
    Kind(Task.KIND, indexes=("entity", "project_id")),
    Kind(Work.KIND),
    Kind(Leftover.KIND),
)

#: Turns in which an operation may lose a race before it answers ``Unavailable``.
_MAX_RACES: Final = 16
#: Counters in one debit operation; the store bounds it (a transaction holds several).
_DEBIT_CHUNK: Final = 60


class Entity(Protocol):
    """A dataclass that is kept as a document."""

    KIND: ClassVar[str]

    @property
    def id(self) -> str: ...


E = TypeVar("E", bound=Entity)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True, frozen=True)
class Stored(Generic[E]):
    """An entity as read: ``version`` is what a compare-and-set needs."""

    value: E
    version: int
    created_us: int

    @property
    def position(self) -> tuple[int, str]:
        """Where it stands in a list: oldest first."""
        return (self.created_us, self.value.id)


class Raced(Exception):
    """The world changed between reading and commit; nothing was written."""


class Images(Protocol):
    """What a VM's source image is looked up in."""

    async def size_of(self, image_id: str) -> int | None:
        """Return the bytes of a READY image, ``None`` if there is no such image."""


class AnyImage:
    """``--accept-any-image``: every id is a READY image of size 0."""

    async def size_of(self, image_id: str) -> int | None:
        return 0


class NoImages:
    """Image upload is not built yet, so no id is known."""

    async def size_of(self, image_id: str) -> int | None:
        return None


class Cloud:
    """The store with types, the clock, and whom to tell of new work."""

    def __init__(
        self,
        store: StoreClient,
        clock_ms: Callable[[], int],
        images: Images,
        on_work: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self.clock_ms = clock_ms
        self.images = images
        self.on_work = on_work

    async def read(self, cls: type[E], entity_id: str) -> Stored[E] | None:
        """Return the entity with this id, which may be any text."""
        document = await self.store.get(cls.KIND, entity_id) if entity_id else None
        if document is None:
            return None
        return Stored(from_body(cls, document.body), document.version, document.created_us)

    async def list(
        self, cls: type[E], *, home: str | None = None, where: tuple[str, str] | None = None
    ) -> list[Stored[E]]:
        """Return all entities of a kind, oldest first."""
        found = await self.store.list_all(cls.KIND, home=home, where=where)
        out = [Stored(from_body(cls, it.body), it.version, it.created_us) for it in found]
        out.sort(key=lambda stored: stored.position)
        return out

    async def commit(
        self,
        home: str,
        operations: Sequence[Operation],
        quotas: Mapping[str, tuple[QuotaLine, ...]] | None = None,
    ) -> int:
        """Carry out one transaction; return the version that all it wrote now has.

        ``quotas`` are the limits of the documents that it debits, by id.
        """
        try:
            return (await self.store.transact(home, operations)).version
        except QuotaError as error:
            lines = (quotas or {}).get(error.data.get("id", ""), ())
            amounts = [int(error.data[field]) for field in ("limit", "usage", "newUsage")]
            raise quota_error(lines, error.data["key"], *amounts) from None
        except (Conflict, NotFound, NameTaken, ContainerNotEmpty) as error:
            raise Raced(str(error)) from error

    def done(self, home: str, operation: str, kind: str, entity_id: str) -> Task:
        """Build the task of a sync operation, for the transaction that does it."""
        return completed(self.store.new_id(home), operation, kind, entity_id, self.clock_ms())


def create(entity: Entity) -> Create:
    return Create(entity.KIND, entity.id, to_body(entity))


def replaced(before: Stored[Any], after: Entity) -> CompareAndSet:
    return CompareAndSet(after.KIND, after.id, before.version, to_body(after))


def debits(entity: Entity, costs: Mapping[str, int]) -> list[Debit]:
    """Return the operations that add ``costs`` to the usage of a ticket or project."""
    items = list(costs.items())
    return [
        Debit(entity.KIND, entity.id, dict(items[start : start + _DEBIT_CHUNK]))
        for start in range(0, len(items), _DEBIT_CHUNK)
    ]


def settled(
    operation: Callable[Concatenate[Cloud, P], Awaitable[R]],
) -> Callable[Concatenate[Cloud, P], Awaitable[R]]:
    """Run an operation again for as long as it loses races, within reason."""

    @functools.wraps(operation)
    async def run(cloud: Cloud, /, *args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(_MAX_RACES):
            try:
                return await operation(cloud, *args, **kwargs)
            except Raced:
                continue
        raise Unavailable("too many others change the same objects; try again")

    return run


def present(entity: Stored[E] | None, error: NotFound) -> Stored[E]:
    """Return the entity, or raise its 404."""
    if entity is None:
        raise error
    return entity
