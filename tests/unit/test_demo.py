"""The demo's parts that need no processes: the audit, the scene, the picture."""

from __future__ import annotations

import pytest
from rich.console import Console

from fabric.errors import CheckFailed
from fabric.machine import Contact, Message
from fabric.wire.host import Audit, AuditAsk, ReservationInfo, VmInfo
from nodes.demo.books import Book, audit, read_book
from nodes.demo.live import LiveView
from nodes.demo.scene import CellView, PeerState, PeerView, Progress, Scene, StageState


def reservation(key: str, number: int = 1, cpu: int = 1, expires_at: int = 0) -> ReservationInfo:
    return ReservationInfo(number, key, 1, key, cpu, 1024, 0, "", expires_at)


def vm(key: str, cpu: int = 1) -> VmInfo:
    return VmInfo(key, "STOPPED", key, 1, 1, cpu, 1024, 0, "", "image")


def book(name: str, *rows: ReservationInfo | VmInfo, cpu: int = 4) -> Book:
    used = sum(row.cpu for row in rows), sum(row.memory_mb for row in rows)
    return Book(
        name, cpu, used[0], 65536, used[1],
        [row for row in rows if isinstance(row, VmInfo)],
        [row for row in rows if isinstance(row, ReservationInfo)],
    )


def test_books_that_agree_pass_the_audit() -> None:
    verdict = audit([book("a", reservation("k1")), book("b", vm("k2"))], ["k1", "k2"], {"k2": ""})
    verdict.check()
    assert verdict.rows == 2


def test_a_confirmed_key_on_no_host_is_lost() -> None:
    verdict = audit([book("a", reservation("k1", expires_at=99))], ["k1"], {})
    assert verdict.lost == ["k1"]
    with pytest.raises(CheckFailed, match=r"1 placements lost \(k1\)"):
        verdict.check()


def test_a_key_confirmed_on_two_hosts_is_doubled() -> None:
    verdict = audit([book("a", reservation("k1")), book("b", reservation("k1"))], ["k1"], {})
    assert verdict.doubled == ["k1"]
    with pytest.raises(CheckFailed, match="confirmed twice"):
        verdict.check()


def test_a_provisional_second_reservation_is_no_double() -> None:
    rows = book("a", reservation("k1")), book("b", reservation("k1", expires_at=99))
    audit(rows, ["k1"], {}).check()


def test_more_promised_than_there_is() -> None:
    verdict = audit([book("a", reservation("k1", 1, cpu=3), vm("k2", cpu=2))], [], {})
    assert verdict.faults == ["a: 5 of 4 vCPUs and 2048 of 65536 MB are promised"]


def test_sums_that_do_not_add_up() -> None:
    wrong = book("a", reservation("k1"))
    wrong.cpu_used = 2
    assert "rows add up to 1 vCPUs" in audit([wrong], [], {}).faults[0]


def test_a_vm_of_the_front_that_no_host_has() -> None:
    verdict = audit([book("a", vm("v1"))], [], {"v1": "STOPPED", "v2": "STOPPED"})
    assert verdict.missing_vms == ["v2"]


async def test_books_are_read_page_by_page_and_again_when_they_changed() -> None:
    asked: list[AuditAsk] = []
    versions = [1, 2, 3, 3]

    async def ask(host: Contact, body: Message) -> Message:
        asked.append(body)
        first = body.vm_after == ""
        rows = (vm("a"),) if first else (vm("b"),)
        return Audit(versions[len(asked) - 1], 4, 2, 65536, 2048, (), False, rows, (), first)

    found = await read_book(ask, "host", Contact(1, "tcp://127.0.0.1:1"))
    assert [row.vm_id for row in found.vms] == ["a", "b"]
    assert [body.vm_after for body in asked] == ["", "a", "", "a"]
    assert found.fault() == ""


def scene() -> Scene:
    scene = Scene(("first", "second"))
    for number in range(1, 5):
        name = f"p{number:02d}"
        scene.peers[name] = PeerView(name, node_id=number, state=PeerState.ALIVE, load=0.5)
    scene.peers["p03"].state = PeerState.KILLED
    scene.cells = {
        100: CellView(100, 0, False, 1, (101, 102), 0),
        101: CellView(101, 100, True, 1, (1, 2), 1),
        102: CellView(102, 100, True, 4, (3, 4), 1),
    }
    scene.chairman = 2
    return scene


def painted(what: Scene, width: int, height: int) -> str:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(LiveView(what, console).render(), height=height)
    return capture.get()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 10)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    lines = painted(scene(), width, height).rstrip("\n").split("\n")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_the_picture_shows_tree_owner_chairman_and_stage() -> None:
    what = scene()
    what.end(what.begin(0), "it worked")
    text = painted(what, 120, 40)
    assert "root p01" in text
    assert "leaf p04" in text
    assert "♛p02" in text
    assert "✔ first" in text and "it worked" in text


def test_the_picture_shows_placements_then_the_simulation() -> None:
    what = scene()
    what.counters.wanted, what.counters.confirmed, what.counters.in_flight = 400, 123, 16
    assert "123/400  16 in flight" in painted(what, 80, 24)
    what.simulation = Progress(0.5, "30 s virtual  1.4x")
    text = painted(what, 80, 24)
    assert "30 s virtual  1.4x" in text and "123/400" not in text


def test_a_failed_stage_is_marked() -> None:
    what = scene()
    what.begin(1)
    what.break_off(StageState.FAILED)
    assert [stage.state for stage in what.stages] == [StageState.WAITING, StageState.FAILED]
    assert "✘ second" in painted(what, 120, 40)


def test_before_there_is_a_tree_the_peers_are_shown() -> None:
    what = scene()
    what.cells = {}
    assert "p04" in painted(what, 80, 24)
