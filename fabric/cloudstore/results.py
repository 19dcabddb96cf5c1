"""The table that makes retries harmless: idempotency key -> version, bounded in number and time.

A result is kept with its home (a tenant, so that nobody's traffic pushes out another's results),
at most ``MAX_RESULTS`` per home, and at least until it is ``RESULT_KEEP_US`` old by the time in the
log.  Each new result removes up to two expired ones of its shard, so the table shrinks again, and
no entry ever has much to clean up.

Rows: ``R`` home, key -> [version]; ``Q`` home, position -> key (the oldest of a home);
``O`` position -> [home, key, time] (the oldest of the shard); ``C`` home -> count.
"""

from __future__ import annotations

from fabric.cloudstore import keys
from fabric.cloudstore.view import Draft
from fabric.limits import MAX_RESULTS, RESULT_KEEP_US
from fabric.wire.codec import decode_value, encode_value


def recall(draft: Draft, shard: int, home: str, key: str) -> int | None:
    """Return the version that ``key`` led to, if it is remembered."""
    stored = draft.get(keys.result_key(shard, home, key))
    return None if stored is None else int(decode_value(stored)[0])


def remember(draft: Draft, shard: int, home: str, key: str, index: int, now: int) -> None:
    """Keep the result of the entry at ``index``."""
    _expire(draft, shard, now)
    if _count(draft, shard, home) >= MAX_RESULTS:
        prefix = keys.result_order_prefix(shard, home)
        for order_key, old in draft.scan(prefix, prefix, 1):
            position = int.from_bytes(order_key[len(prefix) :], "big")
            _forget(draft, shard, home, decode_value(old), position)
    draft.put(keys.result_key(shard, home, key), encode_value([index]))
    draft.put(keys.result_order_key(shard, home, index), encode_value(key))
    draft.put(keys.result_age_key(shard, index), encode_value([home, key, now]))
    _set_count(draft, shard, home, _count(draft, shard, home) + 1)


def _expire(draft: Draft, shard: int, now: int) -> None:
    prefix = keys.result_age_prefix(shard)
    for age_key, stored in draft.scan(prefix, prefix, 2):
        home, key, then = decode_value(stored)
        if then > now - RESULT_KEEP_US:
            return
        _forget(draft, shard, home, key, int.from_bytes(age_key[len(prefix) :], "big"))


def _forget(draft: Draft, shard: int, home: str, key: str, position: int) -> None:
    draft.delete(keys.result_key(shard, home, key))
    draft.delete(keys.result_order_key(shard, home, position))
    draft.delete(keys.result_age_key(shard, position))
    _set_count(draft, shard, home, _count(draft, shard, home) - 1)


def _count(draft: Draft, shard: int, home: str) -> int:
    stored = draft.get(keys.result_count_key(shard, home))
    return 0 if stored is None else int(decode_value(stored))


def _set_count(draft: Draft, shard: int, home: str, count: int) -> None:
    key = keys.result_count_key(shard, home)
    if count:
        draft.put(key, encode_value(count))
    else:
        draft.delete(key)
