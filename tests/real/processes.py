"""Helpers for tests that run ``fabric`` as processes of their own."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fabric.transport.authority import ClusterKeys
from fabric.wire.trust import CANDIDATE

ROOT = Path(__file__).resolve().parents[2]
#: Nothing here takes longer unless it is broken, on however slow a machine.
PATIENCE_S = 60.0
SMALL_CELLS = ("--leaf-min", "2", "--leaf-max", "3", "--inner-min", "2", "--inner-max", "3")


_NAMES = (f"n{number}" for number in itertools.count())


@functools.cache
def cluster() -> ClusterKeys:
    """The keys of the cluster that all tests of one run share."""
    directory = tempfile.TemporaryDirectory(prefix="fabric-keys-")
    atexit.register(directory.cleanup)
    return ClusterKeys.create(Path(directory.name) / "keys", "tests")


@functools.cache
def keys_of(data_dir: str) -> str:
    """The directory of the keys that belong to a data directory."""
    keys = cluster().issue(next(_NAMES), rights=CANDIDATE, valid_s=86_400)
    return str(keys.directory)


def with_keys(words: tuple[str, ...]) -> tuple[str, ...]:
    """Give a peer keys, the same again on the same data directory."""
    if "--keys" in words:
        return words
    data_dir = words[words.index("--data-dir") + 1] if "--data-dir" in words else object()
    return (*words, "--keys", keys_of(data_dir))  # type: ignore[arg-type]


def environment() -> dict[str, str]:
    """The environment of a child: this source tree, and no settings of the caller's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FABRIC_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def fabric(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ``fabric WORDS`` to its end; what is no peer has the operator's keys."""
    keys = {} if words[0] == "peer" else {"FABRIC_KEYS": str(cluster().directory)}
    return subprocess.run(
        [sys.executable, "-m", "nodes", *words], env=environment() | keys | more,
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )


def result_of(*words: str, **more: str) -> dict[str, Any]:
    """Run ``fabric WORDS --json``, expect it to work, and return its last line."""
    done = fabric(*words, "--json", **more)
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class PeerProcess:
    """A running ``fabric peer --json``, with keys."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nodes", "peer", *with_keys(words), "--json"],
            env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate(timeout=PATIENCE_S)[1])
        self.said = json.loads(line)
        self.address: str = self.said["address"]
        self.node_id: str = self.said["node_id"]

    def end(self, number: signal.Signals) -> tuple[int, dict[str, Any]]:
        """Send a signal; return exit code and the last JSON object."""
        self.process.send_signal(number)
        stdout, _ = self.process.communicate(timeout=PATIENCE_S)
        last = stdout.splitlines()[-1] if stdout else "{}"
        return self.process.returncode, json.loads(last)


@contextmanager
def peers() -> Iterator[Callable[..., PeerProcess]]:
    """Give a function that starts peers; those that still run at the end are killed."""
    started: list[PeerProcess] = []

    def start(*words: str) -> PeerProcess:
        started.append(PeerProcess(*words))
        return started[-1]

    try:
        yield start
    finally:
        for peer in started:
            peer.process.kill()
            peer.process.communicate(timeout=PATIENCE_S)


def eventually(look: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """Look again and again until what is seen is as ``wanted``; return it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen = look()
        if wanted(seen):
            return seen
        assert time.monotonic() < deadline, f"last seen: {seen}"
        time.sleep(0.1)
