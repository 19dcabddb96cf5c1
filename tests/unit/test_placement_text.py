"""Placements and constraints survive the way through a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.errors import BadInput
from fabric.limits import MAX_CONSTRAINT_VALUES, MAX_INT, MAX_TEXT
from fabric.machine import Contact
from fabric.placement.request import Constraint, Placed
from fabric.tree.summary import NOTHING
from fabric.wire.codec import decode_frame, encode_frame
from fabric.wire.placement import CellRefused, Explanation
from nodes.cli.placement_text import format_placement, parse_constraint, parse_placement

IDS = st.integers(1, MAX_INT)


@given(st.text(min_size=1, max_size=40), st.integers(0, MAX_INT), IDS, IDS)
def test_a_placement_is_read_as_it_was_written(
    key: str, attempt: int, reservation: int, node: int
) -> None:
    placed = Placed(key, attempt, Contact(node, "tcp://127.0.0.1:7001"), reservation, 0)
    assert parse_placement(format_placement(placed)) == placed


@pytest.mark.parametrize(
    "text",
    ["", "vm-1", "vm-1:1:2:3", "vm-1:1:2@tcp://127.0.0.1:1", "vm-1:x:2:3@tcp://127.0.0.1:1",
     "vm-1:1:2:3@nowhere", ":1:2:3@tcp://127.0.0.1:1"],
)
def test_what_is_no_placement_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="PLACEMENT must be as `fabric place` printed it"):
        parse_placement(text)


@pytest.mark.parametrize(
    ("text", "constraint"),
    [
        ("zone=z1", Constraint("zone", ("z1",))),
        ("zone = z1 | z2", Constraint("zone", ("z1", "z2"))),
        ("tag!=ssd", Constraint("tag", ("ssd",), True)),
    ],
)
def test_constraints(text: str, constraint: Constraint) -> None:
    assert parse_constraint(text) == constraint
    assert parse_constraint(constraint.describe()) == constraint


@pytest.mark.parametrize("text", ["zone", "zone=", "colour=red", "=z1", "zone=|"])
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--constraint must look like"):
        parse_constraint(text)


@pytest.mark.parametrize("count", [1, 7, 16, MAX_CONSTRAINT_VALUES])
@pytest.mark.parametrize("length", [16, 100, MAX_TEXT])
def test_refusals_that_name_a_long_constraint_fit_the_wire(count: int, length: int) -> None:
    """Refusals that did not were dropped by their receiver: each cost the entry a retry."""
    values = tuple(f"{number:0{length}d}" for number in range(count))
    constraint = Constraint("host", values, True)
    reason = constraint.brief()
    assert len(reason) <= MAX_TEXT
    assert reason.startswith("host!=")
    if len(constraint.describe()) <= MAX_TEXT:
        assert reason == constraint.describe()
    explanation = Explanation(3, ((reason, 3),), 0)
    refused = CellRefused(1, 2, True, explanation, NOTHING)
    assert decode_frame(encode_frame(7, refused)).message == refused
