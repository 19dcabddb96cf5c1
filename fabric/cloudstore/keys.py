"""Where things lie in the ordered key space of a store, and which shard an id belongs to.

Both environments hold all shards; each key begins with its shard, two bytes, big-endian, and a
letter that names the space.  Texts that are followed by something carry their length, so that no
separator is needed that an id might contain.  The longest key is 480 bytes; LMDB takes 511.

======  =================================  =========================================
letter  then                               value
======  =================================  =========================================
``D``   kind, id                           the document
``I``   kind, field, indexed value, id     empty
``N``   scope, name                        the owner's id
``R``   home, idempotency key              version of the result
``Q``   home, position (8 bytes)           the idempotency key: oldest first
``O``   position (8 bytes)                 home, key and time of a result: oldest first
``C``   home                               how many results are kept
``A``                                      index of the last applied entry
``E``   index (8 bytes)                    a log entry            (log environment)
``H``                                      term and vote          (log environment)
``B``                                      where the log begins   (log environment)
======  =================================  =========================================
"""

from __future__ import annotations

from typing import Final

from fabric.limits import MAX_SHARDS

#: The home of kinds of no tenant: the root shard.
ROOT: Final = ""
ROOT_SHARD: Final = 0


def shard_of(object_id: str, shards: int) -> int | None:
    """Return the shard that a server-made id names, ``None`` if it is no such id."""
    head = object_id[:3]
    if len(object_id) != 36 or not head.isascii() or not head.isalnum():
        return None
    try:
        shard = int(head, 16)
    except ValueError:
        return None
    return shard if shard < shards else None


def make_id(shard: int, random128: int) -> str:
    """Return a UUID (version 4) whose first 12 bits name ``shard``."""
    assert 0 <= shard < MAX_SHARDS
    bits = random128 & ~(0xFFF << 116) | shard << 116
    bits = bits & ~(0xF << 76) | 4 << 76
    bits = bits & ~(0x3 << 62) | 2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _space(shard: int, letter: bytes) -> bytes:
    return shard.to_bytes(2, "big") + letter


def _sized(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def document_prefix(shard: int, kind: str) -> bytes:
    return _space(shard, b"D") + _sized(kind)


def document_key(shard: int, kind: str, object_id: str) -> bytes:
    return document_prefix(shard, kind) + object_id.encode()


def index_prefix(shard: int, kind: str, field: str, value: str) -> bytes:
    return _space(shard, b"I") + _sized(kind) + _sized(field) + _sized(value)


def index_key(shard: int, kind: str, field: str, value: str, object_id: str) -> bytes:
    return index_prefix(shard, kind, field, value) + object_id.encode()


def name_key(shard: int, scope: str, name: str) -> bytes:
    return _space(shard, b"N") + _sized(scope) + name.encode()


def result_key(shard: int, home: str, key: str) -> bytes:
    return _space(shard, b"R") + _sized(home) + key.encode()


def result_order_prefix(shard: int, home: str) -> bytes:
    return _space(shard, b"Q") + _sized(home)


def result_order_key(shard: int, home: str, position: int) -> bytes:
    return result_order_prefix(shard, home) + position.to_bytes(8, "big")


def result_age_prefix(shard: int) -> bytes:
    return _space(shard, b"O")


def result_age_key(shard: int, position: int) -> bytes:
    return result_age_prefix(shard) + position.to_bytes(8, "big")


def result_count_key(shard: int, home: str) -> bytes:
    return _space(shard, b"C") + home.encode()


def applied_key(shard: int) -> bytes:
    return _space(shard, b"A")


def entry_prefix(shard: int) -> bytes:
    return _space(shard, b"E")


def entry_key(shard: int, index: int) -> bytes:
    return entry_prefix(shard) + index.to_bytes(8, "big")


def hard_state_key(shard: int) -> bytes:
    return _space(shard, b"H")


def log_base_key(shard: int) -> bytes:
    return _space(shard, b"B")
