"""How typed records become lists and back: field types with their bounds, and the registry.

A record is a slotted dataclass (or a ``NamedTuple``) whose annotations say what each field may
hold: ``Int``, ``Text``, ``Annotated[tuple[Member, ...], many(32)]``, ``Address | None``, other
records.  For each class a ``pack`` and an ``unpack`` are written once and compiled; ``unpack``
checks every field and raises :class:`~fabric.errors.BadFrame` on the first that does not fit.

Fields are positional.  Fields that a newer minor version appended are ignored; fields that an
older one lacks take the dataclass default.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

from fabric.errors import BadFrame
from fabric.limits import MAX_ADDRESS, MAX_FRAME_BYTES, MAX_INT, MAX_LONG_TEXT, MAX_TEXT
from fabric.wire.hints import field_hints

T = TypeVar("T")
Decode = Callable[[Any], Any]
Encode = Callable[[Any], Any]


class _Int(NamedTuple):
    low: int
    high: int


class _Bytes(NamedTuple):
    limit: int


class _Text(NamedTuple):
    limit: int


class _Many(NamedTuple):
    limit: int


#: 0 .. 2**62-1
Int = Annotated[int, _Int(0, MAX_INT)]
#: -(2**62-1) .. 2**62-1
Signed = Annotated[int, _Int(-MAX_INT, MAX_INT)]
#: 0 .. 255
Small = Annotated[int, _Int(0, 255)]
Text = Annotated[str, _Text(MAX_TEXT)]
LongText = Annotated[str, _Text(MAX_LONG_TEXT)]
Address = Annotated[str, _Text(MAX_ADDRESS)]
Blob = Annotated[bytes, _Bytes(MAX_FRAME_BYTES)]


def many(limit: int) -> _Many:
    """Bound of a tuple: ``Annotated[tuple[Member, ...], many(32)]``."""
    return _Many(limit)


class _Codec(NamedTuple):
    """How one field is packed and checked.

    ``encode`` is ``None`` where the value goes as it is.  ``reject`` is a Python expression of
    ``{x}`` that is true for a value to refuse, for the frequent types that are checked in place;
    where it is ``None``, ``decode`` checks and converts.
    """

    encode: Encode | None
    decode: Decode
    reject: str | None = None


def _checked(reject: str, what: str) -> _Codec:
    """Return the codec of a value that goes as it is, unless ``reject`` is true for it."""
    check = eval(f"lambda x: {reject.format(x='x')}")

    def decode(x: Any) -> Any:
        if check(x):
            raise BadFrame(f"{what} out of bounds or of another type")
        return x

    return _Codec(None, decode, reject)


def _int_codec(low: int, high: int) -> _Codec:
    return _checked(f"type({{x}}) is not int or not {low} <= {{x}} <= {high}", "integer")


def _text_codec(limit: int) -> _Codec:
    return _checked(f"type({{x}}) is not str or len({{x}}) > {limit}", "text")


def _bytes_codec(limit: int) -> _Codec:
    return _checked(f"type({{x}}) is not bytes or len({{x}}) > {limit}", "bytes")


def _bool_codec() -> _Codec:
    return _checked("type({x}) is not bool", "boolean")


def _maybe_codec(inner: _Codec) -> _Codec:
    def decode(x: Any) -> Any:
        return None if x is None else inner.decode(x)

    encode = inner.encode
    if encode is None:
        return _Codec(None, decode)
    return _Codec(lambda x: None if x is None else encode(x), decode)


def _many_codec(inner: _Codec, limit: int) -> _Codec:
    one = inner.decode

    def decode(x: Any) -> tuple[Any, ...]:
        if type(x) is list and len(x) <= limit:
            return tuple([one(i) for i in x])
        raise BadFrame("list too long or of another type")

    encode = inner.encode
    if encode is None:
        return _Codec(None, decode)  # cbor2 writes a tuple as an array
    return _Codec(lambda x: [encode(i) for i in x], decode)


def _fixed_codec(inners: list[_Codec]) -> _Codec:
    n = len(inners)
    decoders = [i.decode for i in inners]
    encoders = [i.encode or _same for i in inners]

    def decode(x: Any) -> tuple[Any, ...]:
        if type(x) is list and len(x) == n:
            return tuple([d(v) for d, v in zip(decoders, x, strict=True)])
        raise BadFrame("tuple of another length or type")

    if all(i.encode is None for i in inners):
        return _Codec(None, decode)
    return _Codec(lambda x: [e(v) for e, v in zip(encoders, x, strict=True)], decode)


def _any_message_codec() -> _Codec:
    def encode(message: Any) -> list[Any]:
        cls = message.__class__
        packed: list[Any] = LAYOUTS[cls].pack(message)
        packed.insert(0, TYPE_IDS[cls])
        return packed

    def decode(x: Any) -> Any:
        if type(x) is not list or not x or type(x[0]) is not int:
            raise BadFrame("embedded message is no list")
        cls = CLASSES.get(x[0])
        if cls is None:
            raise BadFrame("embedded message of unknown type")
        return LAYOUTS[cls].unpack(x[1:])

    return _Codec(encode, decode)


def _same(x: Any) -> Any:
    return x


class _Embedded:
    """Marker: any registered message, packed as ``[type id, field, ...]``."""


#: A field that holds any registered message.
Embedded = Annotated[Any, _Embedded]


class Layout(NamedTuple):
    """How a record becomes a list and back. ``unpack`` raises :class:`BadFrame`."""

    pack: Callable[[Any], list[Any]]
    unpack: Callable[[Any], Any]


LAYOUTS: dict[type[Any], Layout] = {}
CLASSES: dict[int, type[Any]] = {}
TYPE_IDS: dict[type[Any], int] = {}


def _codec_of(hint: Any) -> _Codec:
    """Return how a value annotated ``hint`` is packed and checked."""
    if hint is int:
        return _int_codec(-MAX_INT, MAX_INT)
    if hint is str:
        return _text_codec(MAX_TEXT)
    if hint is bool:
        return _bool_codec()
    if hint is bytes:
        return _bytes_codec(MAX_FRAME_BYTES)
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin is Annotated:
        return _annotated_codec(args[0], args[1])
    if origin in (typing.Union, types.UnionType) and len(args) == 2 and type(None) in args:
        return _maybe_codec(_codec_of(next(a for a in args if a is not type(None))))
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return _many_codec(_codec_of(args[0]), MAX_FRAME_BYTES)
        return _fixed_codec([_codec_of(a) for a in args])
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return _named_tuple_codec(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record_codec(hint)
    raise TypeError(f"no wire form for {hint!r}")


def _annotated_codec(base: Any, mark: Any) -> _Codec:
    if isinstance(mark, _Int):
        return _int_codec(mark.low, mark.high)
    if isinstance(mark, _Text):
        return _text_codec(mark.limit)
    if isinstance(mark, _Bytes):
        return _bytes_codec(mark.limit)
    if isinstance(mark, _Many):
        return _many_codec(_codec_of(typing.get_args(base)[0]), mark.limit)
    if mark is _Embedded:
        return _any_message_codec()
    raise TypeError(f"no wire form for {mark!r}")


def _named_tuple_codec(cls: Any) -> _Codec:
    hints = field_hints(cls)
    fields = {name: _codec_of(hints[name]) for name in cls._fields}
    layout = _compile(cls, fields, required=len(fields))
    as_it_is = all(codec.encode is None for codec in fields.values())
    return _Codec(None if as_it_is else layout.pack, layout.unpack)


def _record_codec(cls: type[Any]) -> _Codec:
    layout = layout_of(cls)
    return _Codec(layout.pack, layout.unpack)


def layout_of(cls: type[Any]) -> Layout:
    layout = LAYOUTS.get(cls)
    if layout is None:
        hints = field_hints(cls)
        fields = dataclasses.fields(cls)
        required = sum(
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            for f in fields
        )
        layout = _compile(cls, {f.name: _codec_of(hints[f.name]) for f in fields}, required)
        LAYOUTS[cls] = layout
    return layout


def _compile(cls: type[Any], fields: dict[str, _Codec], required: int) -> Layout:
    """Write and compile a record's ``pack`` and ``unpack``, as ``dataclasses`` does ``__init__``.

    Straight code without a loop over fields is about three times as fast, and this is the hottest
    path of a peer.  For ``class Ping: sequence: Int; target: Contact`` it comes out as::

        def pack(r):
            return [r.sequence, encode_target(r.target)]

        def unpack(v):
            if type(v) is not list or len(v) != 2:
                return unpack_other(v)
            a0, a1 = v
            if type(a0) is not int or not 0 <= a0 <= 4611686018427387903: raise BadFrame("sequence")
            return cls(a0, decode_target(a1))

    Only field names and bounds of our own classes get into the source, never a value from outside.
    """
    names = list(fields)
    scope: dict[str, Any] = {"cls": cls, "BadFrame": BadFrame}
    packed, built, checks = [], [], []
    for i, (name, codec) in enumerate(fields.items()):
        scope[f"encode_{name}"], scope[f"decode_{name}"] = codec.encode, codec.decode
        packed.append(f"r.{name}" if codec.encode is None else f"encode_{name}(r.{name})")
        if codec.reject is None:
            built.append(f"decode_{name}(a{i})")
        else:
            built.append(f"a{i}")
            reject = codec.reject.format(x=f"a{i}")
            checks.append(f"    if {reject}: raise BadFrame({name!r})")
    targets = "".join(f"a{i}, " for i in range(len(names)))
    source = [
        "def pack(r):",
        f"    return [{', '.join(packed)}]",
        "def unpack(v):",
        f"    if type(v) is not list or len(v) != {len(names)}:",
        "        return unpack_other(v)",
        *([f"    {targets}= v"] if names else []),
        *checks,
        f"    return cls({', '.join(built)})",
    ]
    decoders = [codec.decode for codec in fields.values()]

    def unpack_other(values: Any) -> Any:
        """Another version's record: ignore what a newer one appended, default what is missing."""
        if type(values) is not list or len(values) < required:
            raise BadFrame("record is no list, or has too few fields")
        return cls(*[decode(v) for decode, v in zip(decoders, values, strict=False)])

    scope["unpack_other"] = unpack_other
    exec("\n".join(source), scope)
    return Layout(scope["pack"], scope["unpack"])


def register(type_id: int, cls: type[T]) -> type[T]:
    """Give a message class its stable type id. Called once per class, at import."""
    if type_id in CLASSES or cls in TYPE_IDS:
        raise TypeError(f"type id {type_id} or {cls.__name__} is registered already")
    layout_of(cls)
    CLASSES[type_id] = cls
    TYPE_IDS[cls] = type_id
    return cls


def registered() -> dict[int, type[Any]]:
    """Return all message classes by type id (for tests and documentation)."""
    return dict(sorted(CLASSES.items()))
