"""The trace hash: one number that two runs share exactly if the same things happened in them.

It covers every delivered event and every output: time, node, type, payload.  Being able to rely on
it is what makes a seed a bug report, so it must not depend on the hash seed, the Python version or
the machine; and it must be cheap, since it sees everything.

How it works
------------
* A message's *fingerprint* is computed once, when it is sent; the delivery reuses it, for it is the
  same object.  For each message class one function is generated from the annotations, such as
  ``lambda m, s: hash((7, s, m.x, text(m.y), many_Z(m.z)))``.
* It leans on two things that CPython does the same everywhere on 64-bit builds: ``hash`` of an int
  (documented) and of a tuple of ints (xxHash-like since 3.8; *not* random).  Text and bytes, whose
  hashes are random, go through BLAKE2b and a cache.  (Ints that differ by a multiple of 2**61 - 1
  count as equal; no change of one byte makes such a difference.)  Should an interpreter hash
  tuples in another way, a slow replacement that computes the same numbers is used.
* Fingerprints, times and node codes are appended to a list; a full list is packed to 64-bit words
  and fed to BLAKE2b in one go.  The digest after each :data:`WINDOW` words can be kept, which is
  what finding the first divergence of two runs needs.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, Any, Final

from fabric.wire.hints import field_hints
from sim.marks import Marks
from sim.words import Words

#: Words per BLAKE2b update.
WINDOW: Final = 8_192

#: Kinds of records; with the node's index they make one word (``index << 4 | kind``).
DELIVER: Final = 0
WOKEN_KIND: Final = 1
EVENT: Final = 2
SEND: Final = 3
PERSIST: Final = 4
PROMISE: Final = 5
COORDINATE: Final = 6
DRIVE: Final = 7
REPLY: Final = 8
NOTIFY: Final = 9
LIFE: Final = 10

#: A fingerprint function takes the message and the sender's id.
Fingerprint = Callable[[Any, int], int]

_MASK: Final = (1 << 64) - 1
_P1: Final = 11400714785074694791
_P2: Final = 14029467366897019727
_P5: Final = 2870177450012600261


def _portable_hash(items: tuple[int, ...]) -> int:
    """Compute what CPython's ``hash`` gives for a tuple of ints, step by step."""
    acc = _P5
    for item in items:
        acc = (acc + (hash(item) & _MASK) * _P2) & _MASK
        acc = (acc << 31 | acc >> 33) & _MASK
        acc = acc * _P1 & _MASK
    acc = (acc + (len(items) ^ (_P5 ^ 3527539))) & _MASK
    if acc == _MASK:
        acc = 1546275796
    return acc - (1 << 64) if acc >> 63 else acc


def _choose_hash() -> Callable[[tuple[int, ...]], int]:
    for probe in ((), (1,), (2, -7, 1 << 60), (5, (1 << 62) - 1, 0, -1, 12345)):
        if hash(probe) != _portable_hash(probe):
            return _portable_hash
    return hash


hash_ints: Final = _choose_hash()

_NONE: Final = 0x6E6F6E65
#: Entries of each memo below; beyond that it starts anew.
MEMO_MAX: Final = 100_000
#: Longer texts are not remembered.
_SHORT: Final = 128


class _Texts(dict[str | bytes, int]):
    """Text or bytes -> a stable 62-bit number."""

    def __missing__(self, value: str | bytes) -> int:
        raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        number = int.from_bytes(blake2b(raw, digest_size=8).digest(), "big") >> 2
        if len(raw) <= _SHORT:  # addresses repeat, stored records hardly ever do
            if len(self) >= MEMO_MAX:
                self.clear()
            self[value] = number
        return number


_texts: Final = _Texts()


def hash_text(value: str | bytes) -> int:
    """Return a stable 62-bit number for text or bytes."""
    return _texts[value]


class _Tuples(dict[Any, int]):
    """Named tuples of plain fields (contacts above all) -> their fingerprint, by value."""

    def __init__(self, compute: Callable[[Any], int]) -> None:
        self._compute = compute

    def __missing__(self, value: Any) -> int:
        if len(self) >= MEMO_MAX:
            self.clear()
        number = self[value] = self._compute(value)
        return number


def _remembering(compute: Callable[[Any], int]) -> Callable[[Any], int]:
    """Remember fingerprints of records by identity: one record travels in many messages.

    The memo holds the record itself, so nothing else can come to have its ``id``; and records are
    immutable by convention.
    """
    memo: dict[int, tuple[Any, int]] = {}
    get = memo.get

    def of(record: Any) -> int:
        pair = get(id(record))
        if pair is not None:
            return pair[1]
        number = compute(record)
        if len(memo) >= MEMO_MAX:
            memo.clear()
        memo[id(record)] = (record, number)
        return number

    return of


def hash_value(value: Any) -> int:
    """Fingerprint anything that may stand in an event or output; slow, for the rare ones."""
    if value is None:
        return _NONE
    cls = value.__class__
    known = _RECORDS.get(cls)
    if known is not None:
        return known(value, 0)
    if cls is int or cls is bool:
        return hash_ints((int(value),))
    if cls is str or cls is bytes:
        return hash_text(value)
    name = hash_text(cls.__qualname__)
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        return _RECORDS[cls](value, 0)
    if isinstance(value, (tuple, list)):
        return hash_ints((name, *[hash_value(item) for item in value]))
    if isinstance(value, dict):
        pairs = [(hash_value(k), hash_value(v)) for k, v in value.items()]
        return hash_ints((name, *[word for pair in pairs for word in pair]))
    if isinstance(value, BaseException):
        # the text of an exception may differ between Python versions: its type and code do not
        return hash_ints((name, hash_text(str(getattr(value, "code", "")))))
    raise TypeError(f"no fingerprint for {cls.__qualname__}")


class Fingerprints(dict[type[Any], Fingerprint]):
    """Fingerprint functions by message class, generated when first asked for."""

    def __missing__(self, cls: type[Any]) -> Fingerprint:
        function = _generate(cls)
        self[cls] = function
        return function


_RECORDS: Final = Fingerprints()


class NoFingerprints(dict[type[Any], Fingerprint]):
    """Stands in when the trace hash is off: every message counts as zero."""

    def __missing__(self, cls: type[Any]) -> Fingerprint:
        self[cls] = _zero
        return _zero


def _zero(message: Any, sender: int) -> int:
    return 0


class _Source:
    """Generates the functions, and collects the helpers that they refer to."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"hash": hash_ints, "text": _texts, "value": hash_value}
        self.records: dict[type[Any], str] = {}
        self.count = 0

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def record(self, cls: type[Any], expr: str) -> str:
        """Return an expression for the fingerprint of the record ``expr`` of class ``cls``."""
        plain = not dataclasses.is_dataclass(cls) and _is_plain(cls)
        name = self.records.get(cls)
        if name is None:
            name = self.records[cls] = self.fresh("r")
            compute = eval(f"lambda m: hash(({self.fields(cls, 'm')}))", self.names)
            self.names[name] = _Tuples(compute) if plain else _remembering(compute)
        return f"{name}[{expr}]" if plain else f"{name}({expr})"

    def message(self, cls: type[Any]) -> Fingerprint:
        """Return the function for messages of class ``cls``."""
        function: Fingerprint = eval(f"lambda m, s: hash((s, {self.fields(cls, 'm')}))", self.names)
        return function

    def fields(self, cls: type[Any], var: str) -> str:
        hints = field_hints(cls)
        if dataclasses.is_dataclass(cls):
            fields = [f.name for f in dataclasses.fields(cls)]
        else:
            fields = list(cls._fields)
        words = [str(hash_text(cls.__qualname__))]
        words += [self.word(hints[f], f"{var}.{f}") for f in fields]
        return ", ".join(words) + ","

    def word(self, hint: Any, expr: str) -> str:
        """Return an expression that turns ``expr``, annotated ``hint``, into an int."""
        origin = typing.get_origin(hint)
        args = typing.get_args(hint)
        if origin is Annotated:
            return self.word(args[0], expr)
        if hint is int or hint is bool:
            return expr
        if hint is str or hint is bytes:
            return f"text[{expr}]"
        if origin in (typing.Union, types.UnionType) and len(args) == 2 and type(None) in args:
            inner = next(a for a in args if a is not type(None))
            var = self.fresh("o")
            return f"({_NONE} if ({var} := {expr}) is None else {self.word(inner, var)})"
        if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
            if _is_int(args[0]):
                return f"hash({expr})"
            var, all_of_it = self.fresh("i"), self.fresh("t")
            items = f"hash(tuple([{self.word(args[0], var)} for {var} in {all_of_it}]))"
            return f"({items} if ({all_of_it} := {expr}) else {hash_ints(())})"  # mostly empty
        if origin is tuple:
            words = ", ".join(self.word(a, f"{expr}[{i}]") for i, a in enumerate(args))
            return f"hash(({words},))"
        if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hasattr(hint, "_fields")):
            return self.record(hint, expr)
        return f"value({expr})"


def _is_int(hint: Any) -> bool:
    return _bare(hint) is int


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _is_plain(cls: type[Any]) -> bool:
    """Whether all fields are numbers or text: then equal values have equal fingerprints."""
    hints = field_hints(cls)
    return all(_bare(hints[field]) in (int, bool, str, bytes) for field in cls._fields)


_source: Final = _Source()


def field_function(cls: type[Any], field: str | None) -> Callable[[Any], int]:
    """Return what turns the value of one field of ``cls``, or a whole record, into a number."""
    if field is None:
        word = f"hash(({_source.fields(cls, 'x')}))"
    else:
        word = _source.word(field_hints(cls)[field], "x")
    function: Callable[[Any], int] = eval(f"lambda x: {word}", _source.names)
    return function


def _generate(cls: type[Any]) -> Fingerprint:
    if not (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")):
        raise TypeError(f"{cls.__qualname__} is no record: give it annotated fields")
    return _source.message(cls)


class Trace:
    """Takes words (ints that fit 63 bits) in ``words`` and folds them into one digest."""

    __slots__ = ("_digest", "count", "enabled", "fingerprints", "keep", "marks", "windows", "words")

    def __init__(self, enabled: bool = True, keep: bool = False) -> None:
        self.enabled = enabled
        self.keep = keep
        #: What the engine puts words down in. The same object for ever: hot code holds it.
        self.words = Words()
        self.windows: list[str] = []
        self.count = 0
        self.fingerprints: dict[type[Any], Fingerprint] = (
            Fingerprints() if enabled else NoFingerprints()
        )
        self.marks = Marks(self.fingerprints, field_function if enabled else None)
        self._digest = blake2b(digest_size=16)

    def flush(self) -> None:
        """Fold what was collected. Called by the engine when ``words`` is long enough."""
        self.count += len(self.words)
        packed = self.words.drain()
        if self.enabled:
            self._digest.update(packed)
            if self.keep:
                self.windows.append(self._digest.hexdigest())

    def hexdigest(self) -> str:
        """Return the hash of all that happened so far."""
        self.flush()
        return self._digest.hexdigest() if self.enabled else ""
