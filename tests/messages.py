"""Random messages of every registered class, drawn from a seeded generator."""

from __future__ import annotations

import dataclasses
import random
import types
import typing
from typing import Annotated, Any

from fabric.limits import MAX_INT
from fabric.wire import layout
from fabric.wire.codec import registered
from fabric.wire.common import Done


def random_message(cls: type[Any], rng: random.Random, depth: int = 0) -> Any:
    """Return an instance of ``cls`` that its annotations allow."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: tuple[str, ...] = getattr(cls, "_fields", ())
    names = fields or tuple(f.name for f in dataclasses.fields(cls))
    return cls(*[_value(hints[name], rng, depth) for name in names])


def _value(hint: Any, rng: random.Random, depth: int) -> Any:
    simple = {int: lambda: _int(rng, -MAX_INT, MAX_INT), bool: lambda: rng.random() < 0.5}
    if hint in simple:
        return simple[hint]()
    if hint in (str, bytes):
        return hint() if hint is bytes else _text(rng, 8)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _marked(args[0], args[1], rng, depth)
    if origin in (typing.Union, types.UnionType):
        inner = next(a for a in args if a is not type(None))
        return None if rng.random() < 0.3 else _value(inner, rng, depth)
    if origin is tuple and args[-1] is Ellipsis:
        return tuple(_value(args[0], rng, depth + 1) for _ in range(rng.randrange(3)))
    if origin is tuple:
        return tuple(_value(a, rng, depth + 1) for a in args)
    return random_message(hint, rng, depth + 1)


def _marked(base: Any, mark: Any, rng: random.Random, depth: int) -> Any:
    if mark is layout._Embedded:
        return Done() if depth > 1 else random_message(_any_class(rng), rng, depth + 2)
    if isinstance(mark, layout._Int):
        return _int(rng, mark.low, mark.high)
    if isinstance(mark, layout._Text):
        return _text(rng, min(mark.limit, 12))
    if isinstance(mark, layout._Bytes):
        return rng.randbytes(rng.randrange(min(mark.limit, 12)))
    (item, *_) = typing.get_args(base)
    number = rng.randrange(min(mark.limit, 3) + 1)
    return tuple(_value(item, rng, depth + 1) for _ in range(number))


def _any_class(rng: random.Random) -> type[Any]:
    return rng.choice(list(registered().values()))


def _int(rng: random.Random, low: int, high: int) -> int:
    small = rng.randrange(3)
    edges = (low, high, max(low, min(high, small)))
    return rng.choice(edges) if rng.random() < 0.6 else rng.randint(low, high)


def _text(rng: random.Random, limit: int) -> str:
    known = ("", "tcp://127.0.0.1:1", "inproc://x", "zone", "é\0")
    return rng.choice([text for text in known if len(text) <= limit])
