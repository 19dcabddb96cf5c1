"""Random messages of every registered class, drawn from a seeded generator.

With ``known`` numbers and texts (the target's node id, its address, its cells) the messages are
about things that exist, so they get further than pure noise.
"""

from __future__ import annotations

import dataclasses
import random
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any

from fabric.limits import MAX_INT
from fabric.wire import layout
from fabric.wire.codec import registered
from fabric.wire.common import Done

_TEXTS = ("", "tcp://127.0.0.1:1", "inproc://x", "zone", "spread", "é\0")


class Messages:
    """A source of messages."""

    def __init__(
        self, rng: random.Random, numbers: Sequence[int] = (), texts: Sequence[str] = ()
    ) -> None:
        self.rng = rng
        self._numbers = (0, 1, 2, *numbers)
        self._texts = (*_TEXTS, *texts)

    def any(self, depth: int = 0) -> Any:
        """Return a message of any registered class."""
        return self.of(self.rng.choice(list(registered().values())), depth)

    def of(self, cls: type[Any], depth: int = 0) -> Any:
        """Return an instance of ``cls`` that its annotations allow."""
        hints = typing.get_type_hints(cls, include_extras=True)
        fields: tuple[str, ...] = getattr(cls, "_fields", ())
        names = fields or tuple(f.name for f in dataclasses.fields(cls))
        return cls(*[self._value(hints[name], depth) for name in names])

    def number(self, low: int = 0, high: int = MAX_INT) -> int:
        if self.rng.random() < 0.6:
            known = self.rng.choice((*self._numbers, low, high))
            return max(low, min(high, known))
        return self.rng.randint(low, high)

    def _value(self, hint: Any, depth: int) -> Any:
        rng = self.rng
        if hint is int:
            return self.number(-MAX_INT, MAX_INT)
        if hint is bool:
            return rng.random() < 0.5
        if hint is bytes:
            return b""
        if hint is str:
            return self._text(MAX_INT)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            return self._marked(args[0], args[1], depth)
        if origin in (typing.Union, types.UnionType):
            inner = next(a for a in args if a is not type(None))
            return None if rng.random() < 0.3 else self._value(inner, depth)
        if origin is tuple and args[-1] is Ellipsis:
            return tuple(self._value(args[0], depth + 1) for _ in range(rng.randrange(3)))
        if origin is tuple:
            return tuple(self._value(a, depth + 1) for a in args)
        return self.of(hint, depth + 1)

    def _marked(self, base: Any, mark: Any, depth: int) -> Any:
        rng = self.rng
        if mark is layout._Embedded:
            return Done() if depth > 1 else self.any(depth + 2)
        if isinstance(mark, layout._Int):
            return self.number(mark.low, mark.high)
        if isinstance(mark, layout._Text):
            return self._text(mark.limit)
        if isinstance(mark, layout._Bytes):
            return rng.randbytes(rng.randrange(min(mark.limit, 12)))
        (item, *_) = typing.get_args(base)
        number = rng.randrange(min(mark.limit, 3) + 1)
        return tuple(self._value(item, depth + 1) for _ in range(number))

    def _text(self, limit: int) -> str:
        return self.rng.choice([text for text in self._texts if len(text) <= limit])
