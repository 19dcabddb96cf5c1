"""Quota arithmetic, reading request bodies, stored forms, tasks: data in, data out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.errors import BadInput, QuotaError
from nodes.contract import quota, render, tasks
from nodes.contract.entities import Attempt, Disk, Task, Vm
from nodes.contract.fields import parse
from nodes.contract.quota import SCALE, QuotaLine, amount_of
from nodes.contract.records import from_body, to_body
from nodes.contract.specs import read_ticket

UNITS = tuple(SCALE)
lines = st.builds(
    QuotaLine,
    st.text("abc", min_size=1, max_size=2),
    st.integers(0, 10**15),
    st.sampled_from(UNITS),
)


def distinct(items: list[QuotaLine]) -> tuple[QuotaLine, ...]:
    return tuple({item.key: item for item in items}.values())


@given(st.decimals(0, 10**6, places=3), st.sampled_from(UNITS))
def test_three_decimals_are_exact_in_every_unit(value: Decimal, unit: str) -> None:
    line = QuotaLine("k", amount_of(value, unit), unit)
    # below a kilobyte a thousandth of a byte is the finest step there is
    exact = 0 if unit in ("GB", "MB", "KB", "COUNT") else Decimal("0.005")
    assert abs(Decimal(str(line.value)) - value) <= exact


@given(st.lists(lines), st.lists(st.lists(lines)))
def test_what_is_debited_and_given_back_leaves_nothing(
    given_limits: list[QuotaLine], many: list[list[QuotaLine]]
) -> None:
    limits = distinct(given_limits)
    usage = dict.fromkeys(quota.limit_map(limits), 0)
    for sign in (1, -1):
        for cost in many:
            for counter, amount in quota.costs(limits, cost, sign).items():
                usage[counter] = usage.get(counter, 0) + amount
        shown = {line.key: line for line in quota.usage_lines(limits, usage)}
        total: dict[str, int] = {}
        for cost in many:
            for line in cost:
                total[line.key] = total.get(line.key, 0) + (line.amount if sign == 1 else 0)
        assert {key: line.amount for key, line in shown.items()} == {
            **dict.fromkeys((line.key for line in limits), 0),
            **total,
        }
        for limit in limits:
            assert shown[limit.key].unit == limit.unit


@given(lines, st.integers(0, 10**15), st.integers(0, 10**15))
def test_only_above_the_limit_is_refused(limit: QuotaLine, used: int, more: int) -> None:
    def ask() -> None:
        quota.check([limit], {limit.key: used}, {limit.key: more})

    if more and used + more > limit.amount:
        with pytest.raises(QuotaError) as caught:
            ask()
        assert caught.value.data["limit"] == str(limit)
    else:
        ask()


@given(st.lists(lines), st.integers(1, 100))
def test_shares_never_exceed_the_whole(limits: list[QuotaLine], percent: int) -> None:
    whole = distinct(limits)
    for part, line in zip(quota.subdivide(whole, percent), whole, strict=True):
        assert part.amount * 100 <= line.amount * percent < (part.amount + 1) * 100
        assert (part.key, part.unit) == (line.key, line.unit)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(width=32) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    for body in (value, {"name": value, "limits": value}, {"name": "a", "limits": [value]}):
        with pytest.raises(BadInput):
            read_ticket(body)


@pytest.mark.parametrize("raw", [b"", b"  \n", b"null"])
def test_an_empty_body_is_null(raw: bytes) -> None:
    assert parse(raw) is None


def test_numbers_are_read_exactly() -> None:
    assert parse(b"[0.1, 10, 1e2]") == [Decimal("0.1"), 10, Decimal("1e2")]


def example_vm() -> Vm:
    cost = (QuotaLine("vm", 1000, "COUNT"),)
    disk = Disk("d", "boot", "disk", "f2", "CREATING", 0, True, cost)
    return Vm(
        "v",
        "vm1",
        "p",
        "t",
        "small",
        "f1",
        cost,
        "CREATING",
        "image",
        (disk,),
        environment={"a": "b"},
        attempts=(Attempt("v/1", 1, 7, "inproc://h", 9),),
    )


def test_stored_forms_come_back_and_unknown_members_do_not_hurt() -> None:
    task = tasks.fail_step(
        tasks.queued("id", "CREATE_VM", "vm", "v", ("A", "B"), 5), 0, BadInput("no"), 6
    )
    for it in (example_vm(), task):
        body = to_body(it)
        assert from_body(type(it), body) == it
        assert from_body(type(it), {**body, "newer": {"x": 1}}) == it


def test_older_forms_take_defaults() -> None:
    body = to_body(example_vm())
    del body["attempts"], body["environment"]
    assert from_body(Vm, body).attempts == ()


def test_the_contracts_example_of_a_failed_task() -> None:
    task = tasks.queued("t", "CREATE_VM", "vm", "v", ("RESERVE_RESOURCE", "CREATE_VM"), 1)
    shown = render.task("http://h:9080", tasks.fail_step(task, 0, BadInput("why"), 2))
    assert shown == {
        "id": "t",
        "selfLink": "http://h:9080/tasks/t",
        "operation": "CREATE_VM",
        "state": "ERROR",
        "entity": {"kind": "vm", "id": "v"},
        "queuedTime": 1,
        "startedTime": 2,
        "endTime": 2,
        "steps": [
            {
                "sequence": 0,
                "operation": "RESERVE_RESOURCE",
                "state": "ERROR",
                "queuedTime": 1,
                "startedTime": 2,
                "endTime": 2,
                "errors": [{"code": "InvalidEntity", "message": "why", "data": {}}],
                "warnings": [],
                "options": None,
            },
            {
                "sequence": 1,
                "operation": "CREATE_VM",
                "state": "QUEUED",
                "queuedTime": 1,
                "errors": [],
                "warnings": [],
                "options": None,
            },
        ],
    }


def test_steps_in_order() -> None:
    task: Task = tasks.queued("t", "X", "vm", "v", ("A", "B"), 1)
    task = tasks.start_step(task, 0, 2)
    assert (task.state, task.started_ms, task.steps[1].state) == ("STARTED", 2, "QUEUED")
    task = tasks.complete_step(task, 0, 3)
    assert (task.state, task.steps[0].state) == ("STARTED", "COMPLETED")
    task = tasks.complete_step(task, 1, 4)
    assert (task.state, task.ended_ms) == ("COMPLETED", 4)
