"""``fabric demo`` as a user runs it: its figures, its failures, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.cli.output import Exit
from nodes.demo.story import STAGES
from tests.real.processes import PATIENCE_S, environment, eventually

#: The whole demo with a small simulation; on two cores it takes about 20 s.
DEMO_S = 240.0
FIELDS = {
    "peers", "depth", "formed_s", "vms_over_rest", "placements", "in_flight_at_kill",
    "placements_lost", "placements_doubled", "overcommitted_hosts", "takeover_s",
    "chairman_takeover_s", "sim_hosts", "sim_speed",
}


def demo(temporary: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nodes", "demo", *words],
        env=environment() | {"TMPDIR": str(temporary)}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def processes_naming(text: str) -> list[str]:
    """Command lines of processes that name ``text``: the demo's peers name their directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if text in line:
            found.append(line)
    return found


def assert_nothing_left(temporary: Path) -> None:
    assert list(temporary.iterdir()) == []
    eventually(lambda: processes_naming(str(temporary)), lambda found: not found)


def test_the_whole_demo(tmp_path: Path) -> None:
    running = demo(tmp_path, "--json", "--sim-hosts", "100")
    stdout, stderr = running.communicate(timeout=DEMO_S)
    assert running.returncode == Exit.OK, stderr
    figures = json.loads(stdout.splitlines()[-1])
    assert figures.keys() >= FIELDS
    assert figures["peers"] >= 24 and figures["depth"] >= 3
    assert (figures["vms_over_rest"], figures["placements"]) == (10, 400)
    assert figures["in_flight_at_kill"] >= 5
    wrong = ("placements_lost", "placements_doubled", "overcommitted_hosts")
    assert [figures[name] for name in wrong] == [0, 0, 0]
    assert all(f"-- {stage}" in stderr for stage in (*STAGES[:-1], "100 hosts simulated"))
    assert_nothing_left(tmp_path)


def test_too_shallow_a_tree_fails(tmp_path: Path) -> None:
    running = demo(tmp_path, "--peers", "8", "--json")
    stdout, _ = running.communicate(timeout=DEMO_S)
    assert running.returncode == Exit.CHECK_FAILED
    error = json.loads(stdout.splitlines()[-1])["error"]
    assert error["code"] == "CheckFailed" and "depth 2, at least 3 wanted" in error["message"]
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        (STAGES[0], signal.SIGINT),
        (STAGES[4], signal.SIGINT),
        (STAGES[4], signal.SIGTERM),
        ("5,000 hosts simulated", signal.SIGINT),
    ],
)
def test_interrupted_it_leaves_nothing(
    stage: str, number: signal.Signals, tmp_path: Path
) -> None:
    running = demo(tmp_path, "--plain", "--sim-hosts", "5000")
    assert running.stdout is not None
    for line in running.stdout:
        if line.endswith(f"-- {stage}\n"):
            break
    assert processes_naming(str(tmp_path)) or stage == STAGES[0]
    os.kill(running.pid, number)
    running.communicate(timeout=PATIENCE_S)
    assert running.returncode == Exit.INTERRUPTED
    assert_nothing_left(tmp_path)


def test_on_a_terminal_it_paints_and_gives_the_screen_back(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "nodes", "demo", "--peers", "8"], start_new_session=True,
        env=environment() | {"TMPDIR": str(tmp_path), "TERM": "xterm-256color", "LINES": "30",
                             "COLUMNS": "100"},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )
    os.close(theirs)
    painted = b""
    with open(ours, "rb", buffering=0) as screen:
        try:
            while chunk := screen.read(65536):
                painted += chunk
        except OSError:
            pass  # the terminal's other end was closed: the demo has ended
    assert running.wait(PATIENCE_S) == Exit.CHECK_FAILED  # eight peers make no deep tree
    text = painted.decode()
    assert "the tree" in text and "♛p01" in text
    screen_entered, screen_left = text.rindex("\x1b[?1049h"), text.rindex("\x1b[?1049l")
    assert screen_entered < screen_left < text.rindex("CheckFailed")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    assert_nothing_left(tmp_path)
