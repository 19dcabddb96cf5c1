"""One request as the routes see it, and their answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from nodes.cloud.access import Cloud
from nodes.contract import fields, render
from nodes.contract.entities import Task
from nodes.front.paging import Cursor
from nodes.front.status import StatusSource


class Reply(NamedTuple):
    """HTTP status and JSON body."""

    status: int
    body: Any


@dataclass(slots=True)
class Call:
    """``base`` is scheme, host and port of the request; ``query`` has no empty values.

    With a page link, ``query`` is the one that the link carries and ``cursor`` says where to go on.
    """

    cloud: Cloud
    status: StatusSource
    base: str
    path: str
    ids: Mapping[str, str]
    query: Mapping[str, str]
    raw: bytes = b""
    cursor: Cursor | None = None

    @property
    def id(self) -> str:
        """The ``{id}`` of the path."""
        return self.ids["id"]

    def json(self) -> Any:
        """Return the parsed body, ``None`` if it is empty. Raises ``InvalidJson``."""
        return fields.parse(self.raw)

    def created(self, task: Task) -> Reply:
        """Answer a changing request with its task."""
        return Reply(201, render.task(self.base, task))


Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]


class Route(NamedTuple):
    """``paged`` routes take ``pageSize``, which is checked before the parent's existence."""

    method: str
    path: str
    handler: Handler
    paged: bool = False
