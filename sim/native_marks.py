"""Writes ``sim/marks.py`` for the compiled core: fingerprints in machine integers.

For each message class that is compiled comes out, say for ``Ping``::

    class _Ping(Marker):
        def __init__(self, of: FieldFunction) -> None:
            self.news = of(Ping, "news")

        def of(self, message: object, sender: i64) -> i64:
            assert isinstance(message, Ping)
            acc = lane(lane(START, sender), 7390...)
            acc = lane(acc, message.cell)
            acc = lane(acc, i64(self.news(message.news)) if message.news else EMPTY)
            return ending(acc, 8)

which is what ``hash((sender, 7390..., message.cell, ...))`` computes (:mod:`sim.trace`).  Fields
other than numbers go through what ``sim.trace`` generates for them.
"""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Collection
from typing import Annotated, Any, Final

from fabric.wire.hints import field_hints
from fabric.wire.layout import registered
from sim.trace import MEMO_MAX, hash_ints, hash_text

_HEAD: Final = '''"""Fingerprints of messages, compiled. Written by sim/native_marks.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mypy_extensions import i64

{imports}

_P1: Final[i64] = {p1}
_P2: Final[i64] = {p2}
START: Final[i64] = {p5}
EMPTY: Final[i64] = {empty}
_PRIME: Final[i64] = {prime}


#: Returns what turns the value of one field of a class, or a whole record, into a number.
FieldFunction = Callable[[type[Any], str | None], Callable[[Any], int]]


def lane(acc: i64, value: i64) -> i64:
    """Take one more number into a hash, as CPython's hash of a tuple does."""
    if value < 0 or value >= _PRIME:
        value = reduced(value)
    acc += value * _P2
    acc = (acc << 31) | ((acc >> 33) & 0x7FFFFFFF)
    return acc * _P1


def reduced(value: i64) -> i64:
    """Return what CPython's ``hash`` gives for a number that is not its own hash."""
    if value >= 0:
        return value % _PRIME
    if value + _PRIME * 4 <= -4:
        return -4  # -2**63, which has no negative
    value = -(-value % _PRIME)
    return -2 if value == -1 else value


def ending(acc: i64, count: i64) -> i64:
    """Return the hash of ``count`` numbers."""
    acc += count ^ {salt}
    return 1546275796 if acc == -1 else acc


class Kept:
    """A record and its number."""

    def __init__(self, record: object, number: i64) -> None:
        self.record = record
        self.number = number


class Remembered:
    """Numbers of records of one class, by identity: one record travels in many messages."""

    def __init__(self, compute: Callable[[Any], int]) -> None:
        self.compute = compute
        self.kept: dict[int, Kept] = {{}}

    def many(self, records: tuple[Any, ...]) -> i64:
        acc = START
        for record in records:
            kept = self.kept.get(id(record))
            if kept is None:
                kept = self.keep(record)
            acc = lane(acc, kept.number)
        return ending(acc, len(records))

    def keep(self, record: object) -> Kept:
        if len(self.kept) >= {memo}:
            self.kept.clear()
        kept = self.kept[id(record)] = Kept(record, self.compute(record))
        return kept


REMEMBERED: Final[dict[type[Any], Remembered]] = {{}}


def remembered(cls: type[Any], of: FieldFunction) -> Remembered:
    """Return the numbers of all records of class ``cls``."""
    found = REMEMBERED.get(cls)
    if found is None:
        found = REMEMBERED[cls] = Remembered(of(cls, None))
    return found


class Marker:
    """Computes fingerprints of messages of one class."""

    def of(self, message: object, sender: i64) -> i64:
        return 0


class Generated(Marker):
    """Of a class that is not compiled: what ``sim.trace`` generates for it."""

    def __init__(self, function: Callable[[Any, int], int]) -> None:
        self.function = function

    def of(self, message: object, sender: i64) -> i64:
        return self.function(message, sender)


class Tapped(Marker):
    """Shows each message to somebody first."""

    def __init__(self, marker: Marker, tell: Callable[[Any], None]) -> None:
        self.marker = marker
        self.tell = tell

    def of(self, message: object, sender: i64) -> i64:
        self.tell(message)
        return self.marker.of(message, sender)


class Marks:
    """The markers of all classes."""

    def __init__(
        self,
        functions: dict[type[Any], Callable[[Any, int], int]],
        field_function: FieldFunction | None,
    ) -> None:
        self.functions = functions
        self.markers: dict[type[Any], Marker] = {{}}
        if field_function is not None:
            self.markers.update(compiled(field_function))

    def marker(self, cls: type[Any]) -> Marker:
        marker = self.markers.get(cls)
        if marker is None:
            marker = self.markers[cls] = Generated(self.functions[cls])
        return marker

    def of(self, message: object, sender: i64) -> i64:
        marker = self.markers.get(message.__class__)
        if marker is None:
            marker = self.marker(message.__class__)
        return marker.of(message, sender)

    def tap(self, cls: type[Any], tell: Callable[[Any], None]) -> None:
        self.markers[cls] = Tapped(self.marker(cls), tell)
'''

_P1: Final = 11400714785074694791
_P2: Final = 14029467366897019727
_P5: Final = 2870177450012600261


def source(modules: Collection[str]) -> str:
    """Return the text of ``sim/marks.py``: functions for the messages of these modules."""
    for module in modules:
        if module.startswith("fabric.wire."):
            importlib.import_module(module)  # which registers its messages
    classes = [cls for cls in registered().values() if cls.__module__ in modules]
    items = [_item(_bare(hint)) for cls in classes for hint in field_hints(cls).values()]
    named = {*classes, *[item for item in items if item and dataclasses.is_dataclass(item)]}
    imports = [f"from {cls.__module__} import {cls.__name__}" for cls in named]
    head = _HEAD.format(
        imports="\n".join(sorted(imports)),
        p1=_signed(_P1),
        p2=_signed(_P2),
        p5=_P5,
        salt=_P5 ^ 3527539,
        prime=(1 << 61) - 1,
        empty=hash_ints(()),
        memo=MEMO_MAX,
    )
    bodies = [line for cls in classes for line in _marker(cls)]
    table = [f"        {cls.__name__}: _{cls.__name__}(of)," for cls in classes]
    signature = "def compiled(of: FieldFunction) -> dict[type[Any], Marker]:"
    compiled = ["", "", signature, "    return {", *table, "    }"]
    return head + "\n".join([*bodies, *compiled, ""])


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _marker(cls: type[Any]) -> list[str]:
    hints = field_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    others = [name for name in names if _bare(hints[name]) not in (int, bool)]
    lanes = [f"        acc = lane(acc, {_word(hints[name], name)})" for name in names]
    return [
        "",
        "",
        f"class _{cls.__name__}(Marker):",
        "    def __init__(self, of: FieldFunction) -> None:",
        *[f"        self.{n} = {_helper(cls, n, hints[n])}" for n in others],
        *([] if others else ["        pass"]),
        "",
        "    def of(self, message: object, sender: i64) -> i64:",
        f"        assert isinstance(message, {cls.__name__})",
        f"        acc = lane(lane(START, sender), {hash_text(cls.__qualname__)})",
        *lanes,
        f"        return ending(acc, {len(names) + 2})",
    ]


def _word(hint: Any, name: str) -> str:
    """Return an expression for the number that the field ``name`` counts as."""
    bare = _bare(hint)
    if bare is int:
        return f"message.{name}"
    if bare is bool:
        return f"1 if message.{name} else 0"
    word = f"i64(self.{name}(message.{name}))"
    if _item(bare) is None:
        return word
    if dataclasses.is_dataclass(_item(bare)):
        word = f"self.{name}.many(message.{name})"
    return f"{word} if message.{name} else EMPTY"


def _helper(cls: type[Any], name: str, hint: Any) -> str:
    """Return an expression for what computes the number of a field that is none."""
    item = _item(_bare(hint))
    if item is not None and dataclasses.is_dataclass(item):
        return f"remembered({item.__name__}, of)"
    return f"of({cls.__name__}, {name!r})"


def _item(bare: Any) -> type[Any] | None:
    """Return the class of what a tuple of any length holds; ``None`` for all else."""
    args = typing.get_args(bare)
    is_many = typing.get_origin(bare) is tuple and args[1:] == (Ellipsis,)
    return _bare(args[0]) if is_many else None


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
