"""What all lists have in common: page size checked first, filters, rendering, pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nodes.cloud.access import Entity, Stored
from nodes.cloud.tasks import TaskFilter
from nodes.contract import render
from nodes.contract.entities import Task
from nodes.front import paging
from nodes.front.call import Call, Reply

E = TypeVar("E", bound=Entity)


def named(call: Call, items: Sequence[Stored[Any]]) -> list[Stored[Any]]:
    """Keep the items with the ``name`` of the query: exact, case-sensitive."""
    name = call.query.get("name")
    return [item for item in items if name is None or item.value.name == name]


def listed(
    call: Call, items: Sequence[Stored[E]], show: Callable[[str, E], dict[str, Any]]
) -> Reply:
    """Answer with one page of ``items``."""
    body = paging.page(
        call.path, call.query, call.cursor, items, lambda item: show(call.base, item.value)
    )
    return Reply(200, body)


def tasks(call: Call, items: Sequence[Stored[Task]]) -> Reply:
    return listed(call, items, render.task)


def wanted(call: Call, *, by_kind: bool = False) -> TaskFilter:
    """Return the task filter of the query; ``kind`` counts only in lists that know it."""
    return TaskFilter(call.query.get("state"), call.query.get("kind") if by_kind else None)
