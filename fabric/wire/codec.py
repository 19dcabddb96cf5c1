"""Typed records on the wire: CBOR arrays, validated by type, bounded, hostile bytes harmless.

Message classes are declared as ``fabric.wire.layout`` describes and registered under a stable
numeric type id.  A frame is one CBOR array::

    [type id, minor version, sender node id, field, field, ...]

Everything that does not fit raises :class:`~fabric.errors.BadFrame`, whose text never contains the
bytes.

The decoder refuses tags, indefinite lengths and duplicate keys: each of them has cost a peer
seconds or memory in trials with crafted input (big decimals, regular expressions, cyclic
references).  Messages are shared by reference in the simulator: treat them as immutable.
"""

from __future__ import annotations

import io
from typing import Any, Final, NamedTuple, TypeVar

import cbor2

from fabric.errors import BadFrame
from fabric.limits import MAX_FRAME_BYTES, MAX_INT, MAX_NESTING
from fabric.wire.layout import (
    CLASSES,
    LAYOUTS,
    TYPE_IDS,
    Address,
    Blob,
    Embedded,
    Int,
    LongText,
    Signed,
    Small,
    Text,
    layout_of,
    many,
    register,
    registered,
)

__all__ = [
    "WIRE_VERSION",
    "Address",
    "Blob",
    "Embedded",
    "Frame",
    "Int",
    "LongText",
    "Signed",
    "Small",
    "Text",
    "decode_frame",
    "decode_record",
    "encode_frame",
    "encode_record",
    "many",
    "register",
    "registered",
]

#: Raised on an incompatible change; peers one apart interoperate.
WIRE_VERSION: Final = 1

T = TypeVar("T")

_HEADER_FIELDS: Final = 3


class Frame(NamedTuple):
    """A decoded frame. ``message`` is ``None`` when the type is not known here."""

    sender: int
    message: Any


def encode_frame(sender: int, message: Any) -> bytes:
    """Return the bytes of ``message``. Raises :class:`BadFrame` when over the frame limit."""
    cls = message.__class__
    data = cbor2.dumps((TYPE_IDS[cls], WIRE_VERSION, sender, *LAYOUTS[cls].pack(message)))
    if len(data) > MAX_FRAME_BYTES:
        raise BadFrame(f"{cls.__name__} of {len(data)} bytes exceeds {MAX_FRAME_BYTES}")
    return data


def decode_frame(data: bytes) -> Frame:
    """Return what ``data`` says. Raises :class:`BadFrame`, and nothing else, on hostile bytes."""
    values = _load(data)
    if type(values) is not list or len(values) < _HEADER_FIELDS:
        raise BadFrame("frame is no list of three or more")
    type_id, version, sender = values[:_HEADER_FIELDS]
    if type(type_id) is not int or type(version) is not int or type(sender) is not int:
        raise BadFrame("frame header holds other types")
    if not 0 <= sender <= MAX_INT:
        raise BadFrame("sender out of range")
    if not WIRE_VERSION - 1 <= version <= WIRE_VERSION + 1:
        raise BadFrame("wire version too far from ours")
    cls = CLASSES.get(type_id)
    if cls is None:
        return Frame(sender, None)
    return Frame(sender, LAYOUTS[cls].unpack(values[_HEADER_FIELDS:]))


def encode_record(record: Any) -> bytes:
    """Return the bytes under which a record is stored (no header)."""
    return cbor2.dumps(layout_of(record.__class__).pack(record))


def decode_record(cls: type[T], data: bytes) -> T:
    """Read what :func:`encode_record` wrote. Raises :class:`BadFrame`."""
    layout = layout_of(cls)
    record: T = layout.unpack(_load(data))
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


#: Decoders at rest. Making one costs a third of a decode; taking one out is atomic, so threads and
#: re-entry never share one.
_DECODERS: Final[list[cbor2.CBORDecoder]] = []


def _load(data: bytes) -> Any:
    if len(data) > MAX_FRAME_BYTES:
        raise BadFrame("frame too long")
    stream = io.BytesIO(data)
    try:
        decoder = _DECODERS.pop()
        decoder.fp = stream
    except IndexError:
        decoder = cbor2.CBORDecoder(stream, **_DECODER_OPTIONS)
    try:
        value = decoder.decode()
    except cbor2.CBORError:
        raise BadFrame("not CBOR as we speak it") from None
    if stream.tell() != len(data):
        raise BadFrame("bytes after the end of the frame")
    _DECODERS.append(decoder)  # only after a clean end: a broken one may hold leftovers
    return value
