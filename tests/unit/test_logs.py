"""Logs: both forms, traces that may stand in them, and what the tracer says of messages."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from fabric.machine import Contact
from fabric.placement.request import PlacementRequest
from fabric.runtime.tracing import CARRIERS, LOG, TRACE, Tracer, acceptable
from fabric.wire.common import Failure, Request, Response
from fabric.wire.gossip import Ping
from fabric.wire.host import CreateVm
from fabric.wire.placement import HostCall, Place, Reserve
from nodes import logs

ME, OTHER = Contact(0xA, "a"), Contact(0xB, "b")
REQUEST = PlacementRequest("key-1", "vm-1", 1, 1, trace="trace-1")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_carry_the_trace_of_their_task(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("json", "info")
    token = TRACE.set("abc")
    logging.getLogger("nodes.worker").info("task %s begins", "t1")
    TRACE.reset(token)
    logging.getLogger("nodes.worker").info("no task")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("fabric").exception("failed")
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["trace"] for line in told] == ["abc", None, None]
    assert told[0]["message"] == "task t1 begins"
    assert (told[0]["level"], told[0]["logger"]) == ("info", "nodes.worker")
    assert "ValueError: bad" in told[2]["exception"]


def test_text_lines_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("text", "info")
    logging.getLogger("front").warning("GET %s", "/a\n12:00:00.000 CRITICAL forged")
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert " WARNING front GET /a\\n12:00:00.000 CRITICAL forged\n" in told


def test_below_the_level_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("text", "error")
    logging.getLogger("fabric.requests").info("x")
    assert capsys.readouterr().err == ""
    assert Tracer.wanted(1) is None
    logs.setup("text", "info")
    assert Tracer.wanted(1) is not None


@pytest.mark.parametrize("trace", ["", "x" * 65, "a b", "a\nb", "ä", 'a"b', "{}", "../x"])
def test_traces_that_are_not_logged(trace: str) -> None:
    assert not acceptable(trace)


def test_traces_that_are() -> None:
    assert acceptable("0a1b") and acceptable("6f9619ff-8b86-d011-b42d-00cf4fc964ff")


def test_messages_are_told_by_type_and_ids(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    tracer = Tracer(ME.node_id)
    create = CreateVm("vm-1", "key-1", 3, 77, "secret-image")
    place = Place(REQUEST, 1, ME, 1, ME, 1, 4, 1000)
    assert tracer.received(0xB, Request(1, OTHER, 1000, create, "trace-1")) == "trace-1"
    assert tracer.received(0xB, place) == "trace-1"
    assert tracer.received(0xB, HostCall(1, OTHER, create, "two words")) == ""
    tracer.sent(OTHER, Reserve(REQUEST, 1, ME, 1, ME, 1), "")
    tracer.sent(OTHER, Response(1, Failure("Conflict", "its message may say anything")), "trace-1")
    tracer.sent(OTHER, Ping(1, 1, 1, 1, 1, ()), "trace-1")
    tracer.ended("PlaceAsk", "trace-1", 1500, "done")
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [
        "Request CreateVm from 000000000000000b",
        "Place from 000000000000000b",
        "Reserve to 000000000000000b",
        "Response Failure Conflict to 000000000000000b",
        "PlaceAsk: done after 1.5 ms",
    ]
    assert {record.__dict__["trace"] for record in caplog.records} == {"trace-1"}
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert fields[0] == {"peer": "000000000000000a", "event": "received", "type": "Request",
                         "body": "CreateVm", "key": "key-1", "vm_id": "vm-1",
                         "reservation_id": 77, "attempt": 3}
    assert fields[2]["key"] == "key-1" and fields[2]["vm_id"] == "vm-1"
    assert "secret-image" not in str(fields) and "anything" not in str(fields)


def test_what_carries_a_trace_says_so() -> None:
    place = Place(REQUEST, 1, ME, 1, ME, 1, 4, 1000)
    assert CARRIERS[Place](place) == "trace-1"
    again = PlacementRequest("key-1", "vm-1", 1, 1, trace="other")
    assert again == REQUEST  # the same request, whoever asks for it
