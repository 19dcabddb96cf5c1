"""The tree in lines, and the live picture of ``fabric tree --watch``."""

from __future__ import annotations

import io

from rich.console import Console

from fabric.errors import OwnerUnknown
from fabric.machine import Contact
from fabric.survey import TreeCell
from fabric.tree.summary import host_summary
from fabric.wire.gossip import ALIVE, DEAD, SUSPECT
from fabric.wire.peer import MemberRow
from fabric.wire.seeing import EventRow
from fabric.wire.tree import NO_ORDER, CellRecord
from nodes.cli.ask import duration
from nodes.cli.tree import Scene, _picture, tree_lines, tree_object


def row(
    key: int, state: int = ALIVE, observer: bool = False, incarnation: int = 1 << 16
) -> MemberRow:
    summary = host_summary(
        labels=(), cpu=16, cpu_free=14, memory_mb=65536, memory_free_mb=61440, disk_free_mb=1, vms=1
    )
    contact = Contact(key, f"tcp://127.0.0.1:{key}")
    return MemberRow(key, contact, state, observer, incarnation, summary)


def record(cell: int, level: int, *members: int) -> CellRecord:
    contacts = tuple(Contact(member, "") for member in members)
    return CellRecord(cell, level, 0 if level else 9, NO_ORDER, NO_ORDER, 0, contacts, (), ())


def a_tree() -> TreeCell:
    rows = (row(1), row(2, SUSPECT), row(3, DEAD), row(4, incarnation=0), row(5, observer=True))
    leaf = TreeCell(1, Contact(1, "a"), record(1, 0, 1, 2, 3, 4), rows)
    dark = TreeCell(2, None, error=OwnerUnknown("nobody speaks for this cell"))
    speakers = (row(1), row(2))
    return TreeCell(9, Contact(1, "a"), record(9, 1, 1, 2), speakers, (leaf, dark))


def test_the_tree_in_lines() -> None:
    text = "\n".join(tree_lines(a_tree()))
    assert text.splitlines()[0].startswith("root cell 9  owner 0000000000000001")
    for word in (
        "├─ leaf cell 1",
        "0000000000000002  suspect",
        "0000000000000003  dead",
        "0000000000000004  expected",
        "└─ inner cell 2  OwnerUnknown: nobody speaks",
    ):
        assert word in text
    assert "0000000000000005" not in text  # observers are no part of the tree
    assert tree_object(a_tree())["silent"] == [2]


def painted(scene: Scene) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120, height=30, force_terminal=False).print(_picture(scene))
    return stream.getvalue()


def test_the_live_picture_shows_tree_events_and_trouble() -> None:
    scene = Scene()
    assert "asking..." in painted(scene)
    scene.tree = a_tree()
    scene.events.append(EventRow(1, 1_000_000, "death", 1, 3, "host 3 is held for dead"))
    text = painted(scene)
    assert "leaf cell 1" in text and "suspect" in text and "death    host 3" in text
    assert "Ctrl-C ends" in text
    scene.problem = "DeadlineExceeded: no answer"
    assert "DeadlineExceeded: no answer" in painted(scene)
    assert "leaf cell 1" in painted(scene)  # the last picture stays


def test_durations_as_people_read_them() -> None:
    assert [duration(us) for us in (0, 820_000, 9_990_000, 42_000_000, 600_000_000)] == [
        "0.0 s",
        "0.8 s",
        "10.0 s",
        "42 s",
        "10 min",
    ]
    assert [duration(s * 1_000_000) for s in (7_200, 172_799, 172_800)] == ["2 h", "48 h", "2 d"]
