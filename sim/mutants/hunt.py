"""The hunt: scratch copies, one process per mutant, and limits on what a mutant may do.

The packages are copied and compiled once; each mutant gets a copy of that copy, so the checkout is
never touched and nothing is left behind.  A run that raises, dies or does not end is caught as
well: a bug that stops a peer in such a way would be noticed.
"""

from __future__ import annotations

import compileall
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sim.mutants.mutant import STORE, Mutant

#: What a scratch copy holds: all that runs in the simulator, and the replicas of the tests.
PACKAGES: Final = ("fabric", "agent", "nodes", "sim", "tests/sim")
#: A seed takes a second or two; a mutant whose run does not end within this is caught by that.
SEED_TIMEOUT_S: Final = 60.0
#: Others work on this machine too.
NICE: Final = 10


@dataclass(slots=True)
class Catch:
    """What became of one mutant (or of the unchanged code)."""

    name: str
    invariant: str | None = None
    """What noticed it; ``None``: nothing did."""
    detail: str = ""
    seed: int = -1
    at_s: float | None = None
    """Virtual time at which it was noticed, where that is known."""
    arena: str = ""
    seeds: int = 0
    """Runs that ended, the last of them with a violation if there was one."""
    cpu_s: float = 0.0
    slowest_s: float = 0.0

    @property
    def caught(self) -> bool:
        return self.invariant is not None


def checkout() -> Path:
    """Return the root of the checkout that this module belongs to. Raises ``FileNotFoundError``."""
    root = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        if not (root / package).is_dir():
            raise FileNotFoundError(
                f"mutants are planted in a checkout: {root / package} is missing"
            )
    return root


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """Give a compiled copy of the packages, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="fabric-mutants-") as name:
        base = Path(name) / "base"
        left_out = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
        for package in PACKAGES:
            shutil.copytree(root / package, base / package, ignore=left_out)
        compileall.compile_dir(str(base), quiet=2, workers=1)
        yield base


def hunt(base: Path, mutant: Mutant, seeds: int) -> Catch:
    """Plant ``mutant`` in a copy of ``base`` and run up to ``seeds`` seeds."""
    with tempfile.TemporaryDirectory(prefix=f"{mutant.name}-", dir=base.parent) as name:
        copy = Path(name) / "copy"
        shutil.copytree(base, copy)
        mutant.apply(copy)
        return run_seeds(copy, mutant.name, mutant.arena, 0, seeds)


def run_seeds(root: Path, name: str, arena: str, first: int, end: int) -> Catch:
    """Run seeds on the code at ``root`` in one process."""
    catch = Catch(name, arena=arena)
    runner = ["tests.sim.store_arena"] if arena == STORE else ["sim.mutants.arena", arena]
    words = [sys.executable, "-m", *runner, str(first), str(end)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        words,
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.nice(max(NICE - os.nice(0), 0)),
    )
    _LIVE[process.pid] = process
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    assert process.stderr is not None
    errors: list[str] = []
    readers = (
        threading.Thread(target=_read, args=(process.stdout, lines.put), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, errors.append), daemon=True),
    )
    for reader in readers:
        reader.start()
    try:
        for seed in range(first, end):
            line = lines.get(timeout=SEED_TIMEOUT_S)
            if not line:  # it ended without having said what became of this seed
                process.wait()
                readers[1].join()
                catch.invariant, catch.seed = "process-died", seed
                catch.detail = "".join(errors).strip().rsplit("\n", 1)[-1][:300]
                catch.seeds += 1
                break
            _note(catch, json.loads(line))
            if catch.caught:
                break
    except queue.Empty:
        catch.invariant, catch.seed = "run-does-not-end", first + catch.seeds
        catch.detail = f"not done after {SEED_TIMEOUT_S:.0f} s"
        catch.seeds += 1
    finally:
        process.kill()
        process.wait()
        del _LIVE[process.pid]
        for reader in readers:
            reader.join()
        process.stdout.close()
        process.stderr.close()
    return catch


def _read(stream: Any, put: Callable[[str], None]) -> None:
    for line in stream:
        put(line)
    put("")


def _note(catch: Catch, line: dict[str, Any]) -> None:
    catch.seeds += 1
    catch.cpu_s = round(catch.cpu_s + line["cpu_s"], 2)
    catch.slowest_s = max(catch.slowest_s, line["cpu_s"])
    if line["invariant"] is not None:
        catch.invariant = line["invariant"]
        catch.detail = line["detail"]
        catch.seed = line["seed"]
        catch.at_s = line["at_s"]


#: Processes that run now, so that an interrupted hunt leaves none behind.
_LIVE: Final[dict[int, subprocess.Popen[str]]] = {}
_INTERRUPTED: Final = threading.Event()


@contextmanager
def _workers(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool that ends at once when the hunt is interrupted."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    except BaseException:
        _INTERRUPTED.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(_LIVE.values()):
            process.kill()
        raise
    finally:
        pool.shutdown()


def hunt_all(
    base: Path, mutants: list[Mutant], seeds: int, jobs: int, done: Callable[[Catch], None]
) -> list[Catch]:
    """Hunt all ``mutants``, ``jobs`` at a time; ``done`` is called for each as it ends."""

    def one(mutant: Mutant) -> Catch:
        catch = hunt(base, mutant, seeds)
        if not _INTERRUPTED.is_set():
            done(catch)
        return catch

    with _workers(jobs) as pool:
        return list(pool.map(one, mutants))


def blame_nothing(base: Path, arenas: list[str], seeds: int, jobs: int) -> list[Catch]:
    """Run all seeds on the unchanged code, in ``jobs`` parts. What is caught is a false alarm."""
    parts = [
        (arena, seeds * part // jobs, seeds * (part + 1) // jobs)
        for arena in arenas
        for part in range(jobs)
    ]

    def one(part: tuple[str, int, int]) -> Catch:
        arena, first, end = part
        return run_seeds(base, f"unchanged/{arena}/{first}..{end - 1}", arena, first, end)

    with _workers(jobs) as pool:
        return list(pool.map(one, parts))
