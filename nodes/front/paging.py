"""Cutting lists into pages, without state on the server.

A page link holds a cursor: the path, the filters and page size it was made under, and the
position (time of creation, id) after or before which the page lies.  Since it is a position and
not an offset, entities that come and go in between neither repeat nor skip others.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from nodes.cloud.access import Entity, Stored
from nodes.contract.errors import InvalidPageSize, PageExpired

E = TypeVar("E", bound=Entity)
Position = tuple[int, str]

_MAX_PAGE_SIZE: Final = 100
_AFTER: Final = "after"
_BEFORE: Final = "before"


@dataclass(slots=True, frozen=True)
class Cursor:
    """Where a page lies: strictly ``after`` or ``before`` a position."""

    direction: str
    position: Position


def encode(path: str, query: Mapping[str, str], cursor: Cursor) -> str:
    """Return the link to a page."""
    raw = json.dumps([path, dict(query), cursor.direction, *cursor.position])
    text = base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")
    return f"{path}?pageLink={text}"


def decode(path: str, text: str) -> tuple[dict[str, str], Cursor]:
    """Return the query and cursor of a page link; one that we did not make has expired."""
    expired = PageExpired(f"Page '{text:.200}' has expired", {"pageLink": text[:200]})
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        made = json.loads(base64.b64decode(padded, b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise expired from None
    if not (
        isinstance(made, list)
        and [type(part) for part in made] == [str, dict, str, int, str]
        and made[0] == path
        and all(type(value) is str for value in made[1].values())
        and made[2] in (_AFTER, _BEFORE)
    ):
        raise expired
    return made[1], Cursor(made[2], (made[3], made[4]))


def page_size(query: Mapping[str, str]) -> int | None:
    """Return the page size asked for; ``None`` means everything on one page."""
    text = query.get("pageSize")
    if text is None:
        return None
    size = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else 0
    if not 1 <= size <= _MAX_PAGE_SIZE:
        raise InvalidPageSize(f"pageSize must be between 1 and {_MAX_PAGE_SIZE} (was {text:.40})")
    return size


def page(
    path: str,
    query: Mapping[str, str],
    cursor: Cursor | None,
    items: Sequence[Stored[E]],
    render: Callable[[Stored[E]], Any],
) -> dict[str, Any]:
    """Return one page of ``items``, which are in order of position, in the contract's shape."""
    size = page_size(query)
    start, end = 0, len(items)
    if size is not None:
        start, end = _window(items, cursor, size)
    chosen = items[start:end]

    def link(direction: str, at: Stored[E]) -> str:
        return encode(path, query, Cursor(direction, at.position))

    return {
        "items": [render(item) for item in chosen],
        "nextPageLink": link(_AFTER, chosen[-1]) if chosen and end < len(items) else None,
        "previousPageLink": link(_BEFORE, chosen[0]) if chosen and start > 0 else None,
    }


def _window(items: Sequence[Stored[E]], cursor: Cursor | None, size: int) -> tuple[int, int]:
    if cursor is None:
        return 0, min(size, len(items))
    if cursor.direction == _AFTER:
        start = sum(item.position <= cursor.position for item in items)
        return start, min(start + size, len(items))
    end = sum(item.position < cursor.position for item in items)
    return max(0, end - size), end
