"""Dataclasses to plain maps for the store, and back.

A stored body is maps, lists, text, ints, booleans and null.  Reading ignores members that a newer
version added and takes the default for those that an older one lacks.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")
Convert = Callable[[Any], Any]


def to_body(record: Any) -> dict[str, Any]:
    """Return the stored form of a dataclass instance; members at their default stay in."""
    return {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}


def from_body(cls: type[T], body: dict[str, Any]) -> T:
    """Rebuild an instance of ``cls`` from what :func:`to_body` gave."""
    readers = _readers(typing.cast(Hashable, cls))
    return cls(**{name: readers[name](value) for name, value in body.items() if name in readers})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_body(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


@functools.cache
def _readers(cls: Any) -> dict[str, Convert]:
    hints = typing.get_type_hints(cls)
    return {f.name: _reader(hints[f.name]) for f in dataclasses.fields(cls)}


def _reader(hint: Any) -> Convert:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return functools.partial(from_body, typing.cast(type[Any], hint))
    if origin is tuple:
        one = _reader(args[0])
        return lambda items: tuple(one(item) for item in items)
    if origin is dict:
        inner = _reader(args[1])
        return lambda items: {key: inner(item) for key, item in items.items()}
    if origin is types.UnionType:
        some = _reader(next(arg for arg in args if arg is not type(None)))
        return lambda value: None if value is None else some(value)
    return _same


def _same(value: Any) -> Any:
    return value
