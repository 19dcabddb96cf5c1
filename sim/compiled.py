"""The compiled core: the typed protocol code as C, for long runs.  Optional; nothing depends on it.

``make compiled`` (``python -m sim.compiled``) copies the packages to ``build/compiled`` and has
mypyc compile the modules of :data:`CORE` there, so the checkout itself stays plain Python.
``fabric sim run --compiled`` starts the same command anew with that folder first on the path.
The trace hash of a run is the same either way: ``tests/sim/test_compiled.py``.

A copy that was made from other sources than those here is refused, never used by accident.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

import fabric.machine
from fabric.errors import CompiledCoreError
from sim import explicit, native_marks

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "build" / "compiled"
PACKAGES: Final = ("fabric", "agent", "nodes", "sim")

#: What is compiled: machines, their messages and tables, and the simulator's engine.  Not the
#: codec and the trace, which write their code at run time, and nothing of the edge.  Some modules
#: have another form there, in machine integers: ``sim/native/`` and ``sim/native_marks.py``.
CORE: Final = (
    "fabric/machine.py",
    "fabric/stream.py",
    "fabric/settings.py",
    "fabric/gossip/*.py",
    "fabric/peer/*.py",
    "fabric/placement/*.py",
    "fabric/tree/*.py",
    "fabric/wire/common.py",
    "fabric/wire/gossip.py",
    "fabric/wire/host.py",
    "fabric/wire/peer.py",
    "fabric/wire/placement.py",
    "fabric/wire/tree.py",
    "agent/books.py",
    "agent/lifecycle.py",
    "agent/records.py",
    "sim/checkers.py",
    "sim/checks/*.py",
    "sim/convergence.py",
    "sim/disk.py",
    "sim/engine.py",
    "sim/inspect.py",
    "sim/marks.py",
    "sim/network.py",
    "sim/roll.py",
    "sim/streams.py",
    "sim/words.py",
)

#: Set for the process that was started anew, so that it cannot happen twice.
_STARTED: Final = "FABRIC_COMPILED_STARTED"
_STAMP: Final = "sources.sha256"
#: One shared object, whose functions call each other: without these every call goes through a table
#: and none is inlined.
_CFLAGS: Final = "-fno-semantic-interposition -fvisibility=hidden"


def running() -> bool:
    """Tell whether this process runs the compiled core."""
    return not str(fabric.machine.__file__).endswith(".py")


def problem() -> str:
    """Return why the compiled core cannot be used here, or ``""``."""
    stamp = FOLDER / _STAMP
    if not stamp.exists():
        return "the compiled core is not built: run `make compiled`"
    if stamp.read_text() != fingerprint():
        return "the compiled core was made from other sources: run `make compiled` again"
    return ""


def start_anew() -> None:
    """Go on in a process that runs the compiled core. Raises :class:`CompiledCoreError`."""
    if running():
        return
    why = problem()
    if not why and _STARTED in os.environ:
        why = f"{FOLDER} does not come first on the path"
    if why:
        raise CompiledCoreError(why)
    sys.stdout.flush()
    environment = {**os.environ, "PYTHONPATH": str(FOLDER), _STARTED: "1"}
    # -P: or the working directory, often the checkout, would come first
    os.execve(sys.executable, [sys.executable, "-P", *sys.orig_argv[1:]], environment)


def build() -> None:
    """Make ``build/compiled``. Raises :class:`CompiledCoreError` where something is missing."""
    _check_tools()
    scratch = FOLDER.with_name("compiled.new")
    shutil.rmtree(scratch, ignore_errors=True)
    made_from = fingerprint()
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / package, scratch / package, ignore=ignored)
    modules = [str(p.relative_to(scratch)) for pattern in CORE for p in _matches(scratch, pattern)]
    _make_native(scratch, modules)
    done = subprocess.run(
        [sys.executable, "-m", "mypyc", *modules],
        cwd=scratch,
        env={**os.environ, "MYPYC_OPT_LEVEL": "3", "CFLAGS": _CFLAGS},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CompiledCoreError(f"mypyc failed:\n{(done.stdout + done.stderr)[-4000:]}")
    shutil.rmtree(scratch / "build")  # the C code and its objects
    (scratch / _STAMP).write_text(made_from)
    shutil.rmtree(FOLDER, ignore_errors=True)
    scratch.rename(FOLDER)


def _make_native(scratch: Path, modules: list[str]) -> None:
    """Put in what is written in another way for mypyc."""
    names = [module.removesuffix(".py").replace("/", ".") for module in modules]
    (scratch / "sim/marks.py").write_text(native_marks.source(names))
    shutil.copy(scratch / "sim/native/words.py", scratch / "sim/words.py")
    shutil.copy(scratch / "sim/native/stream.py", scratch / "fabric/stream.py")
    shutil.rmtree(scratch / "sim/native")
    for module in modules:
        path = scratch / module
        path.write_text(explicit.with_inits(path.read_text()))
    # drivers and stand-ins that are not compiled subclass these
    machine = scratch / "fabric/machine.py"
    text = machine.read_text()
    open_ = "@mypyc_attr(allow_interpreted_subclasses=True)"
    for old, new in (
        ("\nclass Sink:", f"\n{open_}\nclass Sink:"),
        ("\nclass Machine:", f"\n{open_}\nclass Machine:"),
        ("\nfrom typing import", "\nfrom mypy_extensions import mypyc_attr\nfrom typing import"),
    ):
        if text.count(old) != 1:
            raise CompiledCoreError(f"fabric/machine.py has no {old.strip()!r}")
        text = text.replace(old, new)
    machine.write_text(text)


def _matches(folder: Path, pattern: str) -> Iterator[Path]:
    for path in sorted(folder.glob(pattern)):
        if path.name != "__init__.py":
            yield path


def _check_tools() -> None:
    if not (ROOT / "pyproject.toml").exists() or running():
        raise CompiledCoreError("compile from a checkout of the sources, not an installed package")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise CompiledCoreError(f"no C compiler ({compiler}). As root: apt-get install gcc")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise CompiledCoreError("no headers of Python. As root: apt-get install python3-dev")
    try:
        import mypyc  # noqa: F401
    except ImportError:
        raise CompiledCoreError("mypy is not installed: run `make install`") from None


def fingerprint() -> str:
    """Return a hash over all sources and the interpreter."""
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {sysconfig.get_platform()}".encode())
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(f"{path.relative_to(ROOT)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> NoReturn:
    """Build, and say how to use it."""
    try:
        build()
    except CompiledCoreError as error:
        sys.exit(f"make compiled: {error.message}")
    print(f"compiled core in {FOLDER}; use it with `fabric sim run --compiled`")
    sys.exit(0)


if __name__ == "__main__":
    main()
