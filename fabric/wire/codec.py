"""Typed records on the wire: CBOR arrays, validated by type, bounded, hostile bytes harmless.

A message class is a slotted dataclass whose annotations say what each field may hold
(``Int``, ``Text``, ``Maybe``, ``Many``, other records...), registered under a stable numeric type
id.  A frame is one CBOR array::

    [type id, minor version, sender node id, field, field, ...]

Fields are positional.  Fields that a newer minor version appended are ignored; fields that an
older one lacks take the dataclass default.  Everything that does not fit raises
:class:`~fabric.errors.BadFrame`, whose text never contains the bytes.

The decoder refuses tags, indefinite lengths and duplicate keys: each of them has cost a peer
seconds or memory in trials with crafted input (big decimals, regular expressions, cyclic
references).  Messages are shared by reference in the simulator: treat them as immutable.
"""

from __future__ import annotations

import dataclasses
import io
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import cbor2

from fabric.errors import BadFrame
from fabric.limits import (
    MAX_ADDRESS,
    MAX_FRAME_BYTES,
    MAX_INT,
    MAX_LONG_TEXT,
    MAX_NESTING,
    MAX_TEXT,
)

#: Raised on an incompatible change; peers one apart interoperate.
WIRE_VERSION: Final = 1

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
    encode: Encode | None  # None: the value goes as it is
    decode: Decode


def _int_codec(low: int, high: int) -> _Codec:
    def decode(x: Any) -> int:
        if type(x) is int and low <= x <= high:
            return x
        raise BadFrame("integer out of range or of another type")

    return _Codec(None, decode)


def _text_codec(limit: int) -> _Codec:
    def decode(x: Any) -> str:
        if type(x) is str and len(x) <= limit:
            return x
        raise BadFrame("text too long or of another type")

    return _Codec(None, decode)


def _bytes_codec(limit: int) -> _Codec:
    def decode(x: Any) -> bytes:
        if type(x) is bytes and len(x) <= limit:
            return x
        raise BadFrame("bytes too long or of another type")

    return _Codec(None, decode)


def _bool_codec() -> _Codec:
    def decode(x: Any) -> bool:
        if type(x) is bool:
            return x
        raise BadFrame("not a boolean")

    return _Codec(None, decode)


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
        return _Codec(list, decode)
    return _Codec(lambda x: [encode(i) for i in x], decode)


def _fixed_codec(inners: list[_Codec]) -> _Codec:
    n = len(inners)
    decoders = [i.decode for i in inners]
    encoders = [i.encode or _same for i in inners]

    def decode(x: Any) -> tuple[Any, ...]:
        if type(x) is list and len(x) == n:
            return tuple([d(v) for d, v in zip(decoders, x, strict=True)])
        raise BadFrame("tuple of another length or type")

    return _Codec(lambda x: [e(v) for e, v in zip(encoders, x, strict=True)], decode)


def _any_message_codec() -> _Codec:
    def encode(message: Any) -> list[Any]:
        return [_TYPE_IDS[message.__class__], *_pack(message)]

    def decode(x: Any) -> Any:
        if type(x) is not list or not x or type(x[0]) is not int:
            raise BadFrame("embedded message is no list")
        cls = _CLASSES.get(x[0])
        if cls is None:
            raise BadFrame("embedded message of unknown type")
        return _unpack(cls, x, 1)

    return _Codec(encode, decode)


def _same(x: Any) -> Any:
    return x


class _Embedded:
    """Marker: any registered message, packed as ``[type id, field, ...]``."""


#: A field that holds any registered message.
Embedded = Annotated[Any, _Embedded]


class _Layout(NamedTuple):
    names: tuple[str, ...]
    decoders: tuple[Decode, ...]
    encoders: tuple[Encode | None, ...]
    required: int


_LAYOUTS: dict[type[Any], _Layout] = {}
_CLASSES: dict[int, type[Any]] = {}
_TYPE_IDS: dict[type[Any], int] = {}


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
    hints = typing.get_type_hints(cls, include_extras=True)
    fixed = _fixed_codec([_codec_of(hints[name]) for name in cls._fields])
    if all(_codec_of(hints[name]).encode is None for name in cls._fields):
        return _Codec(list, lambda x: cls(*fixed.decode(x)))
    return _Codec(fixed.encode, lambda x: cls(*fixed.decode(x)))


def _record_codec(cls: type[Any]) -> _Codec:
    layout = _layout(cls)
    del layout

    def decode(x: Any) -> Any:
        if type(x) is not list:
            raise BadFrame("record is no list")
        return _unpack(cls, x, 0)

    return _Codec(_pack, decode)


def _layout(cls: type[Any]) -> _Layout:
    layout = _LAYOUTS.get(cls)
    if layout is None:
        hints = typing.get_type_hints(cls, include_extras=True)
        fields = dataclasses.fields(cls)
        codecs = [_codec_of(hints[f.name]) for f in fields]
        required = sum(
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            for f in fields
        )
        layout = _Layout(
            tuple(f.name for f in fields),
            tuple(c.decode for c in codecs),
            tuple(c.encode for c in codecs),
            required,
        )
        _LAYOUTS[cls] = layout
    return layout


def _pack(record: Any) -> list[Any]:
    layout = _LAYOUTS[record.__class__]
    return [
        getattr(record, name) if encode is None else encode(getattr(record, name))
        for name, encode in zip(layout.names, layout.encoders, strict=True)
    ]


def _unpack(cls: type[Any], values: list[Any], start: int) -> Any:
    layout = _LAYOUTS[cls]
    if len(values) - start < layout.required:
        raise BadFrame("record has too few fields")
    if start:
        values = values[start:]
    # zip stops at the shorter: fields of a newer version are ignored, missing ones defaulted
    return cls(*[decode(v) for decode, v in zip(layout.decoders, values, strict=False)])


def register(type_id: int, cls: type[T]) -> type[T]:
    """Give a message class its stable type id. Called once per class, at import."""
    if type_id in _CLASSES or cls in _TYPE_IDS:
        raise TypeError(f"type id {type_id} or {cls.__name__} is registered already")
    _layout(cls)
    _CLASSES[type_id] = cls
    _TYPE_IDS[cls] = type_id
    return cls


def registered() -> dict[int, type[Any]]:
    """Return all message classes by type id (for tests and documentation)."""
    return dict(sorted(_CLASSES.items()))


# --- frames ---------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A decoded frame. ``message`` is ``None`` when the type is not known here."""

    sender: int
    message: Any


def encode_frame(sender: int, message: Any) -> bytes:
    """Return the bytes of ``message``. Raises :class:`BadFrame` when over the frame limit."""
    cls = message.__class__
    data = cbor2.dumps([_TYPE_IDS[cls], WIRE_VERSION, sender, *_pack(message)])
    if len(data) > MAX_FRAME_BYTES:
        raise BadFrame(f"{cls.__name__} of {len(data)} bytes exceeds {MAX_FRAME_BYTES}")
    return data


def decode_frame(data: bytes) -> Frame:
    """Return what ``data`` says. Raises :class:`BadFrame`, and nothing else, on hostile bytes."""
    values = _load(data)
    if type(values) is not list or len(values) < 3:
        raise BadFrame("frame is no list of three or more")
    type_id, version, sender = values[0], values[1], values[2]
    if type(type_id) is not int or type(version) is not int or type(sender) is not int:
        raise BadFrame("frame header holds other types")
    if not 0 <= sender <= MAX_INT:
        raise BadFrame("sender out of range")
    if not WIRE_VERSION - 1 <= version <= WIRE_VERSION + 1:
        raise BadFrame("wire version too far from ours")
    cls = _CLASSES.get(type_id)
    if cls is None:
        return Frame(sender, None)
    return Frame(sender, _unpack(cls, values, 3))


def encode_record(record: Any) -> bytes:
    """Return the bytes under which a record is stored (no header)."""
    _layout(record.__class__)
    return cbor2.dumps(_pack(record))


def decode_record(cls: type[T], data: bytes) -> T:
    """Read what :func:`encode_record` wrote. Raises :class:`BadFrame`."""
    _layout(cls)
    values = _load(data)
    if type(values) is not list:
        raise BadFrame("record is no list")
    record: T = _unpack(cls, values, 0)
    return record


def encode_value(value: Any) -> bytes:
    """Return a plain value as bytes: a map, list, text, number, bytes, boolean or null."""
    try:
        return cbor2.dumps(value)
    except cbor2.CBORError as error:
        raise BadFrame(f"value has no wire form: {error}") from None


def decode_value(data: bytes) -> Any:
    """Read what :func:`encode_value` wrote. Raises :class:`BadFrame`."""
    return _load(data)


def _deny(*_: Any) -> Any:
    raise ValueError("tags are not allowed")


#: Every tag that cbor2 would decode by itself.
_KNOWN_TAGS: Final = (
    *(0, 1, 2, 3, 4, 5, 24, 25, 28, 29, 30, 35, 36, 37, 52, 54),
    *(100, 256, 258, 260, 261, 1004, 43000, 55799),
)

_DECODER_OPTIONS: Final[dict[str, Any]] = {
    "max_depth": MAX_NESTING,
    "allow_indefinite": False,
    "allow_duplicate_keys": False,
    "strict_hashable_types": True,
    "tag_hook": _deny,
    "semantic_decoders": dict.fromkeys(_KNOWN_TAGS, _deny),
}


def _load(data: bytes) -> Any:
    if len(data) > MAX_FRAME_BYTES:
        raise BadFrame("frame too long")
    stream = io.BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream, **_DECODER_OPTIONS).decode()
    except cbor2.CBORError:
        raise BadFrame("not CBOR as we speak it") from None
    if stream.tell() != len(data):
        raise BadFrame("bytes after the end of the frame")
    return value
