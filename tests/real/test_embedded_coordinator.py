"""The embedded coordinator between real processes, some of them killed at the worst moment."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.coordination.embedded import EmbeddedCoordinator, SharedDirectory
from fabric.coordination.interface import Campaign, Chair, Commit, Committed, Load, Loaded, Put
from fabric.coordination.rules import carry_out, create

#: Runs ``code`` with ``shared`` open, then waits to be killed.
_CHILD = """
import sys, time
from pathlib import Path
from fabric.coordination.embedded import SharedDirectory, _Rows
from fabric.coordination.interface import *
shared = SharedDirectory(Path(sys.argv[1]))
{code}
print("ready", flush=True)
time.sleep(600)
"""


class Child:
    """Another process; use it with ``with``."""

    def __init__(self, directory: Path, code: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD.format(code=code), str(directory)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedDirectory]:
    opened = SharedDirectory.acquire(tmp_path)
    yield opened
    opened.release()


def campaign(shared: SharedDirectory, node_id: int, lease_us: int = 60_000_000) -> Chair:
    answer = shared.carry_out(Campaign(node_id, lease_us))
    assert isinstance(answer, Chair)
    return answer


def test_a_killed_chairman_is_succeeded_when_its_lease_ends(shared: SharedDirectory) -> None:
    with Child(shared.directory, "shared.carry_out(Campaign(1, 700_000))"):
        assert campaign(shared, 2).holder == 1
    first = campaign(shared, 2)
    deadline = time.monotonic() + 10
    while not campaign(shared, 2).held:  # polling is what candidates do
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert campaign(shared, 2).epoch.lease == first.epoch.lease + 1


def test_a_process_killed_within_a_transaction_blocks_nobody(shared: SharedDirectory) -> None:
    code = "txn = shared._env.begin(write=True); txn.put(b'record/half', b'written')"
    with Child(shared.directory, code) as child:
        child.kill()
        chair = campaign(shared, 2)
        assert chair.held
        assert shared.carry_out(Commit(chair.epoch, (Put("a", 0, b"1"),))) == Committed((1,))
        loaded = shared.carry_out(Load())
        assert isinstance(loaded, Loaded)
        assert [r.path for r in loaded.records] == ["a"]


def test_readers_killed_while_reading_leave_no_slot(shared: SharedDirectory) -> None:
    with Child(shared.directory, "txns = [shared._env.begin() for _ in range(1)]"):
        pass
    assert shared._env.reader_check() == 1
    shared.carry_out(Load())


def test_of_many_processes_one_wins(shared: SharedDirectory) -> None:
    code = (
        "node = __import__('os').getpid()\n"
        "chair = shared.carry_out(Campaign(node, 60_000_000))\n"
        "if chair.held:\n"
        "    shared.carry_out(Commit(chair.epoch, (Put(f'won/{node}', 0, b''),)))\n"
    )
    children = [Child(shared.directory, code) for _ in range(4)]
    for child in children:
        child.kill()
    loaded = shared.carry_out(Load())
    assert isinstance(loaded, Loaded)
    assert len(loaded.records) == 1
    holder = campaign(shared, 1).holder
    assert loaded.records[0].path == f"won/{holder}"
    assert loaded.coordinator_id == campaign(shared, 1).coordinator_id


async def test_clients_of_one_process_share_the_directory(tmp_path: Path) -> None:
    a, b = EmbeddedCoordinator(tmp_path), EmbeddedCoordinator(tmp_path)
    first = await a.ask(Campaign(1, 60_000_000))
    await a.close()
    second = await b.ask(Campaign(2, 60_000_000))
    assert isinstance(first, Chair)
    assert isinstance(second, Chair)
    assert (second.held, second.epoch) == (False, first.epoch)
    await b.close()


def test_a_lease_of_an_earlier_boot_counts_for_nothing() -> None:
    class Rows(dict[bytes, bytes]):
        put = dict.__setitem__
        delete = dict.__delitem__

    rows = Rows()
    create(rows, 9)  # type: ignore[arg-type]

    def ask(node_id: int, now: int, boot: str) -> Chair:
        answer = carry_out(rows, Campaign(node_id, 1_000), now, boot)  # type: ignore[arg-type]
        assert isinstance(answer, Chair)
        return answer

    first = ask(1, 10_000_000, "boot one")
    assert not ask(2, 10_000_100, "boot one").held
    assert ask(2, 10_000_100, "boot two").epoch > first.epoch
    # the clock began anew and the boot has the same name: the deadline is impossibly far away
    assert ask(3, 5, "boot two").held
