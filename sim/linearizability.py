"""Whether what clients saw of one object could have come from one copy, one step at a time.

Two judges, for one key's history each:

* :func:`chain` takes versioned documents, whose versions say in which order writes took effect.
  O(n log n): use it on everything.
* :func:`linearizable` is the search of Wing and Gong with Lowe's memory: it knows nothing but what
  was written and read and tries orders until one fits.  Exponential where many operations overlap,
  so it looks at the first :data:`MAX_OPERATIONS` of a key; a cross-check that does not trust
  versions.

Times are any integers; an operation that returns at the moment at which another is invoked
overlaps it.  One whose outcome nobody learned returns :data:`NEVER`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple

from fabric.machine import NEVER

READ: Final = "r"
WRITE: Final = "w"
#: The search takes 0.1 s for 200 operations of a key, 9 s for 20,000.
MAX_OPERATIONS: Final = 1_000
#: What a model's step returns where an operation cannot have had its result.
IMPOSSIBLE: Final = object()


class Operation(NamedTuple):
    """One operation on one key: ``value`` is what was written, or what was read."""

    kind: str
    value: Hashable
    invoked: int
    returned: int


def chain(operations: Sequence[tuple[str, int, int, int]]) -> tuple[str, int] | None:
    """Judge a history of versions: (kind, version seen or made, invoked, returned).

    Returns what is wrong and with which version, ``None`` if nothing is.  A write without answer
    belongs here only if the final log holds it.
    """
    made: dict[int, int] = {}
    for kind, version, invoked, _ in operations:
        if kind == WRITE:
            if version in made:
                return "made twice", version
            made[version] = invoked
    done = sorted((returned, version) for _, version, _, returned in operations)
    position = seen = 0
    for kind, version, invoked, returned in sorted(operations, key=lambda o: o[2]):
        while position < len(done) and done[position][0] < invoked:
            seen = max(seen, done[position][1])
            position += 1
        if version < seen or (kind == WRITE and version == seen):
            return "stale", version
        if version and (version not in made or made[version] > returned):
            return "from nowhere", version
    return None


def register(state: Hashable, operation: Operation) -> Any:
    """Return the next state of a register, or :data:`IMPOSSIBLE`: the model of most keys."""
    if operation.kind == WRITE:
        return operation.value
    return state if operation.value == state else IMPOSSIBLE


class _Entry:
    """An operation's invocation or its return, in a list from which both can be lifted."""

    __slots__ = ("after", "before", "number", "returns")

    def __init__(self, number: int, returns: _Entry | None) -> None:
        self.number = number
        self.returns = returns  # of an invocation; None: this is the return itself
        self.before: _Entry | None = None
        self.after: _Entry | None = None

    def lift(self) -> None:
        """Take the entry out; :meth:`put_back` in the opposite order undoes it."""
        assert self.before is not None
        self.before.after = self.after
        if self.after is not None:
            self.after.before = self.before

    def put_back(self) -> None:
        assert self.before is not None
        self.before.after = self
        if self.after is not None:
            self.after.before = self


def first_of(operations: Sequence[Operation], most: int = MAX_OPERATIONS) -> list[Operation]:
    """Return the first ``most`` operations as they were known when the next one was invoked.

    What had not returned by then is as if it never had; such reads say nothing and are left out.
    """
    ordered = sorted(operations, key=lambda o: (o.invoked, o.returned))
    if len(ordered) <= most:
        return [o for o in ordered if o.kind != READ or o.returned < NEVER]
    end = ordered[most].invoked
    seen = [o if o.returned < end else o._replace(returned=NEVER) for o in ordered[:most]]
    return [o for o in seen if o.kind != READ or o.returned < NEVER]


def linearizable(
    operations: Sequence[Operation],
    initial: Hashable,
    step: Callable[[Hashable, Operation], Any] = register,
) -> bool:
    """Tell whether some order of the operations fits both their results and their times."""
    known = first_of(operations)
    head = _list_of(known)
    state = initial
    done = 0  # bits of the operations that the order holds so far
    tried: set[tuple[int, Hashable]] = set()
    order: list[tuple[_Entry, Hashable]] = []
    entry = head.after
    while entry is not None:
        if entry.returns is not None:
            result = step(state, known[entry.number])
            bits = done | 1 << entry.number
            if result is not IMPOSSIBLE and (bits, result) not in tried:
                tried.add((bits, result))
                order.append((entry, state))
                done, state = bits, result
                entry.lift()
                entry.returns.lift()
                entry = head.after
            else:
                entry = entry.after
        elif known[entry.number].returned >= NEVER:
            return True  # all that returned fits; what is left may never have happened
        elif not order:
            return False
        else:  # it returned before any further one could begin: the last choice was wrong
            entry, state = order.pop()
            done ^= 1 << entry.number
            assert entry.returns is not None
            entry.returns.put_back()
            entry.put_back()
            entry = entry.after
    return True


def _list_of(operations: Sequence[Operation]) -> _Entry:
    """Return the head of the list of invocations and returns by their times."""
    rows: list[tuple[int, int, int, _Entry]] = []
    for number, operation in enumerate(operations):
        returns = _Entry(number, None)
        rows.append((operation.invoked, 0, number, _Entry(number, returns)))
        rows.append((operation.returned, 1, number, returns))
    rows.sort(key=lambda row: row[:3])
    head = last = _Entry(-1, None)
    for *_, entry in rows:
        last.after, entry.before = entry, last
        last = entry
    return head
