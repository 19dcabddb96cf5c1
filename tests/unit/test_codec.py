"""The wire codec: what goes in comes out, and nothing but ``BadFrame`` comes of hostile bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import types
import typing
from pathlib import Path
from typing import Annotated, Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fabric
from fabric.errors import BadFrame
from fabric.limits import MAX_FRAME_BYTES, MAX_INT
from fabric.machine import Contact
from fabric.wire import layout
from fabric.wire.codec import (
    WIRE_VERSION,
    Frame,
    Int,
    Small,
    Text,
    decode_frame,
    decode_record,
    encode_frame,
    encode_record,
    many,
    register,
    registered,
)
from fabric.wire.common import Done, Failure, Request

ROOT = Path(fabric.__file__).parent.parent


def import_all_messages() -> None:
    """Import every module that registers messages, so that none is forgotten here."""
    for package in ("fabric", "agent", "nodes"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            if "register(" in text and "fabric.wire.codec import" in text:
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


import_all_messages()


def of_hint(hint: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return a strategy for values that a field annotated ``hint`` may hold."""
    if hint is int:
        return st.integers(-MAX_INT, MAX_INT)
    if hint is bool:
        return st.booleans()
    if hint is str:
        return st.text(max_size=20)
    if hint is bytes:
        return st.binary(max_size=20)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return of_mark(args[0], args[1], depth)
    if origin in (typing.Union, types.UnionType):
        return st.none() | of_hint(next(a for a in args if a is not type(None)), depth)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return st.lists(of_hint(args[0], depth + 1), max_size=2).map(tuple)
        return st.tuples(*[of_hint(a, depth + 1) for a in args])
    return of_class(hint, depth + 1)


def of_mark(base: Any, mark: Any, depth: int) -> st.SearchStrategy[Any]:
    if mark is layout._Embedded:
        embedded = [Done, Failure] if depth > 2 else list(registered().values())
        return st.sampled_from(embedded).flatmap(lambda cls: of_class(cls, depth + 3))
    if isinstance(mark, layout._Int):
        return st.integers(mark.low, mark.high)
    if isinstance(mark, layout._Text):
        return st.text(max_size=min(mark.limit, 20))
    if isinstance(mark, layout._Bytes):
        return st.binary(max_size=min(mark.limit, 20))
    (item, *_) = typing.get_args(base)
    return st.lists(of_hint(item, depth + 1), max_size=min(mark.limit, 2)).map(tuple)


def of_class(cls: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    names = cls._fields if hasattr(cls, "_fields") else [f.name for f in dataclasses.fields(cls)]
    return st.builds(cls, **{name: of_hint(hints[name], depth) for name in names})


@pytest.mark.parametrize("cls", registered().values(), ids=lambda cls: cls.__name__)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_message_comes_out_as_it_went_in(cls: type[Any], data: st.DataObject) -> None:
    message = data.draw(of_class(cls))
    assert decode_frame(encode_frame(7, message)) == Frame(7, message)
    assert decode_record(cls, encode_record(message)) == message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_give_only_bad_frames(data: bytes) -> None:
    try:
        decode_frame(data)
    except BadFrame as error:
        assert data[:8].hex() not in error.message or len(data) < 2


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutated_frames_give_only_bad_frames_or_valid_messages(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(list(registered().values())))
    frame = bytearray(encode_frame(7, data.draw(of_class(cls))))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_frame(bytes(frame))
    except BadFrame:
        return
    if decoded.message is not None:
        again = encode_frame(decoded.sender, decoded.message)
        assert decode_frame(again) == decoded


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(registered())), st.lists(values, max_size=8))
def test_wrong_types_give_only_bad_frames(type_id: int, fields: list[Any]) -> None:
    frame = cbor2.dumps([type_id, WIRE_VERSION, 7, *fields])
    with contextlib.suppress(BadFrame):
        decode_frame(frame)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        cbor2.dumps([]),
        cbor2.dumps({}),
        cbor2.dumps([103, WIRE_VERSION]),
        cbor2.dumps([103, WIRE_VERSION, -1]),
        cbor2.dumps([103, WIRE_VERSION, MAX_INT + 1]),
        cbor2.dumps([True, WIRE_VERSION, 1]),
        cbor2.dumps([103, WIRE_VERSION + 2, 1]),
        cbor2.dumps([103, WIRE_VERSION, 1]) + b"\0",  # bytes after the end
        cbor2.dumps([[103], WIRE_VERSION, 1]),
        cbor2.dumps([102, WIRE_VERSION, 1, "code"]),  # too few fields
        cbor2.dumps([102, WIRE_VERSION, 1, "x" * 300, "message"]),
        cbor2.dumps([102, WIRE_VERSION, 1, b"code", "message"]),
        b"\x9f\x18\x67\x01\x01\xff",  # indefinite length
        b"\x83\x18\x67\x01\xc2\x41\x01",  # a bignum tag
        b"\x81" * 400 + b"\x00",  # nesting
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # a length beyond all memory
        b"\xd9\x01\x02\x80",  # a set
        cbor2.dumps([103, WIRE_VERSION, 1]) + bytes(MAX_FRAME_BYTES),
    ],
)
def test_what_is_no_message_is_a_bad_frame(data: bytes) -> None:
    with pytest.raises(BadFrame):
        decode_frame(data)


def test_a_good_frame_is_read_after_bad_ones() -> None:
    good = encode_frame(1, Done())
    for bad in (b"\x83\x18", good[:-1], good + b"\0", b"\x9f", b"\xc2\x41\x01"):
        with pytest.raises(BadFrame):
            decode_frame(bad)
        assert decode_frame(good) == Frame(1, Done())


def test_an_unknown_type_is_told_apart_from_a_bad_frame() -> None:
    assert decode_frame(cbor2.dumps([60_000, WIRE_VERSION, 5, "whatever"])) == Frame(5, None)


@dataclasses.dataclass(slots=True)
class Old:
    a: Int
    b: Text


@dataclasses.dataclass(slots=True)
class New:
    a: Int
    b: Text
    c: Small = 9
    d: Annotated[tuple[Contact, ...], many(2)] = ()


def test_a_newer_record_is_read_by_older_code_and_the_other_way() -> None:
    new = New(1, "x", 2, (Contact(1, "tcp://127.0.0.1:1"),))
    assert decode_record(Old, encode_record(new)) == Old(1, "x")
    assert decode_record(New, encode_record(Old(1, "x"))) == New(1, "x")


def test_bounds_hold_within_nested_records() -> None:
    too_many = encode_record(New(1, "x", 2, (Contact(1, "a"),) * 3))
    too_big = encode_record(New(1, "x", 256))
    extra = cbor2.dumps([1, "x", 2, [[1, "a", "surplus"]]])
    for data in (too_many, too_big):
        with pytest.raises(BadFrame):
            decode_record(New, data)
    # a named tuple may grow as well; the rest is ignored
    assert decode_record(New, extra) == New(1, "x", 2, (Contact(1, "a"),))


def test_a_frame_over_the_limit_is_not_made() -> None:
    with pytest.raises(BadFrame, match="exceeds"):
        encode_frame(1, Failure("C", "m", (("k", "x" * MAX_FRAME_BYTES),)))


def test_a_type_id_is_given_once() -> None:
    with pytest.raises(TypeError):
        register(103, Old)
    with pytest.raises(TypeError):
        register(60_001, Done)


def test_a_request_embeds_any_message() -> None:
    request = Request(1, Contact(2, "inproc://x"), 1000, Failure("C", "m"))
    assert decode_frame(encode_frame(3, request)) == Frame(3, request)
    unknown = cbor2.dumps([100, WIRE_VERSION, 3, 1, [2, "inproc://x"], 1000, [60_000]])
    with pytest.raises(BadFrame):
        decode_frame(unknown)
