"""The judges of histories see what is wrong, and only that."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from fabric.machine import NEVER
from fabric.stream import Stream
from sim.linearizability import (
    IMPOSSIBLE,
    READ,
    WRITE,
    Operation,
    chain,
    first_of,
    linearizable,
    register,
)


def read(value: str, invoked: int, returned: int) -> Operation:
    return Operation(READ, value, invoked, returned)


def write(value: str, invoked: int, returned: int) -> Operation:
    return Operation(WRITE, value, invoked, returned)


def test_chains_of_versions() -> None:
    fine = [("w", 1, 0, 1), ("r", 1, 2, 3), ("w", 5, 2, 6), ("r", 5, 4, 5), ("r", 5, 7, 8)]
    assert chain(fine) is None
    assert chain([*fine, ("r", 1, 9, 10)]) == ("stale", 1)
    assert chain([*fine, ("r", 9, 9, 10)]) == ("from nowhere", 9)
    assert chain([*fine, ("w", 5, 9, 10)]) == ("made twice", 5)


@pytest.mark.parametrize(
    ("history", "fits"),
    [
        ([], True),
        ([read("", 0, 1)], True),
        ([read("a", 0, 1)], False),
        ([write("a", 0, 9), read("a", 1, 2), read("a", 3, 4)], True),
        ([write("a", 0, 9), read("a", 1, 2), read("", 3, 4)], False),
        ([write("a", 0, 9), read("", 1, 2), read("a", 3, 4)], True),
        ([write("a", 0, 1), read("", 2, 3)], False),
        ([write("a", 0, 1), read("", 1, 3)], True),  # they touch: either may be first
        ([write("a", 0, NEVER), read("a", 5, 6)], True),
        ([write("a", 0, NEVER), read("", 5, 6)], True),
        ([write("a", 0, NEVER), read("a", 5, 6), read("", 7, 8)], False),
        ([write("a", 0, 9), write("b", 0, 9), read("a", 10, 11), read("b", 12, 13)], False),
        ([write("a", 0, 9), write("b", 0, 20), read("a", 10, 11), read("b", 12, 13)], True),
        # two readers that saw two writes in opposite orders
        (
            [
                write("a", 0, 90), write("b", 0, 90),
                read("a", 1, 2), read("b", 3, 4),
                read("b", 1, 2), read("a", 3, 4),
            ],
            False,
        ),
    ],
)
def test_histories_of_a_register(history: list[Operation], fits: bool) -> None:
    assert linearizable(history, "") is fits


def brute_force(history: list[Operation]) -> bool:
    """Try every order of every choice of the unanswered ones."""
    answered = [o for o in history if o.returned < NEVER]
    maybe = [o for o in history if o.returned >= NEVER]
    for count in range(len(maybe) + 1):
        for chosen in itertools.combinations(maybe, count):
            if any(fits_in_order(order) for order in orders([*answered, *chosen])):
                return True
    return False


def orders(operations: list[Operation]) -> Iterator[tuple[Operation, ...]]:
    for order in itertools.permutations(operations):
        late = 0
        for operation in order:
            if operation.returned < late:
                break
            late = max(late, operation.invoked)
        else:
            yield order


def fits_in_order(order: tuple[Operation, ...]) -> bool:
    state: object = ""
    for operation in order:
        state = register(state, operation)  # type: ignore[arg-type]
        if state is IMPOSSIBLE:
            return False
    return True


def test_the_search_agrees_with_trying_all_orders() -> None:
    fitting = 0
    for seed in range(1500):
        below = Stream(seed).below
        history = []
        for _ in range(1 + below(6)):
            invoked = below(12)
            returned = NEVER if below(5) == 0 else invoked + below(8)
            history.append(Operation("rw"[below(2)], "abc"[below(3)], invoked, returned))
        history = [o for o in history if o.kind == WRITE or o.returned < NEVER]
        expected = brute_force(history)
        fitting += expected
        assert linearizable(history, "") is expected, (seed, history)
    assert 300 < fitting < 1200


def test_long_histories_are_cut_where_they_were_known() -> None:
    history = [write(str(i), 2 * i, 2 * i + 3) for i in range(30)] + [read("9", 100, 101)]
    cut = first_of(history, 10)
    assert [o.value for o in cut] == [str(i) for i in range(10)]
    assert [o.returned for o in cut[-2:]] == [19, NEVER]
    assert not linearizable(history, "")
