"""``fabric doctor``: what is missing on this machine, and how to get it.

Each check is a small function that returns a :class:`Finding`.  *Needed* findings decide the exit
code; the others only say which feature does not work without them.  Nothing here imports more than
the standard library at module level: the doctor must run where everything else is missing.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from nodes.cli.output import Exit, Output
from nodes.cli.version import DISTRIBUTION
from nodes.config import Config

#: Each distribution that Fabric needs, and what it is for.
_PACKAGES: Final = (
    ("pyzmq", "messages between peers"),
    ("cbor2", "the wire format"),
    ("lmdb", "everything that is stored"),
    ("aiozmq", "ZeroMQ in asyncio"),
    ("aiohttp", "the REST front"),
    ("rich", "the live view of the demo"),
    ("kazoo", "ZooKeeper as coordinator"),
    ("pyvmomi", "ESX hosts"),
    ("prometheus_client", "metrics"),
)
_NEWEST_PYTHON: Final = (3, 13)
#: Measured: one peer of the demo holds about 60 descriptors; simulations need none.
_FILES: Final = 1024
#: The 10,000-host simulation at the end of the demo.
_MEMORY_MB: Final = 4096
_ZOOKEEPER_JARS: Final = ("/usr/share/java/zookeeper.jar", "/usr/share/zookeeper")


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check. ``how`` says how to get what is missing."""

    name: str
    ok: bool
    needed: bool
    detail: str
    how: str = ""

    @property
    def mark(self) -> str:
        """The word at the beginning of the line."""
        return "ok" if self.ok else "MISSING" if self.needed else "without"


def _python() -> Finding:
    version = sys.version_info[:2]
    return Finding(
        "python", (3, 11) <= version <= _NEWEST_PYTHON, True, sys.version.split()[0],
        "install Python 3.11, 3.12 or 3.13 (Debian: apt install python3 python3-venv)",
    )


def _package(distribution: str, purpose: str) -> Finding:
    """Look a package up without importing it: importing is slow, and may fail in its own way."""
    how = f"pip install {distribution}  (or: make install)"
    try:
        detail = f"{metadata.version(distribution)}, for {purpose}"
    except metadata.PackageNotFoundError:
        return Finding(distribution, False, True, f"not installed; for {purpose}", how)
    return Finding(distribution, True, True, detail)


def _curve() -> Finding:
    how = "pip install --force-reinstall --only-binary :all: pyzmq"
    try:
        import zmq
    except ImportError as error:
        return Finding("libzmq", False, True, f"cannot be loaded: {error}", how)
    curve = bool(zmq.has("curve"))
    detail = f"{zmq.zmq_version()}, CURVE encryption {'built in' if curve else 'not built in'}"
    return Finding("libzmq", curve, False, detail, how)


def _storage() -> Finding:
    try:
        import lmdb
    except ImportError as error:
        return Finding("storage", False, True, f"LMDB cannot be loaded: {error}", "make install")
    with tempfile.TemporaryDirectory(prefix="fabric-doctor-") as directory:
        try:
            with lmdb.open(directory, map_size=1 << 20) as environment:
                with environment.begin(write=True) as transaction:
                    transaction.put(b"key", b"value")
                environment.sync(True)
        except lmdb.Error as error:
            return Finding("storage", False, True, f"a write to {directory} failed: {error}",
                           "set TMPDIR to a local, writable file system")
    return Finding("storage", True, True, f"LMDB writes durably below {tempfile.gettempdir()}")


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding("open files", soft >= _FILES, False, f"{soft} (hard limit {hard})",
                   f"ulimit -n {max(_FILES, 4096)}")


def _loopback() -> Finding:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            probe.listen()
            with socket.create_connection(probe.getsockname(), timeout=2):
                pass
    except OSError as error:
        return Finding("loopback", False, True, f"127.0.0.1 does not answer: {error}",
                       "ip link set lo up")
    return Finding("loopback", True, True, "127.0.0.1 binds and answers")


def _memory() -> Finding:
    mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    cores = os.cpu_count() or 1
    return Finding("memory", mb >= _MEMORY_MB, False, f"{mb} MB, {cores} cores",
                   f"the demo's 10,000-host simulation wants {_MEMORY_MB} MB: fabric demo "
                   "--sim-hosts 1000 does with less")


def _owner_of_package() -> Finding:
    """Another distribution (SSH Fabric) owns files of a package named ``fabric`` too."""
    owners = set(metadata.packages_distributions().get("fabric", ()))
    others = sorted(owners - {DISTRIBUTION})
    here = Path(__file__).resolve().parents[2]
    imported = Path(__import__("fabric").__file__ or "").resolve().parents[1]
    if others:
        return Finding(
            "package name", False, True,
            f"the package 'fabric' is also owned by the distribution {', '.join(others)}",
            f"pip uninstall {' '.join(others)}, then pip install --force-reinstall {DISTRIBUTION}; "
            "or give each its own virtual environment",
        )
    if imported != here:
        return Finding("package name", False, True,
                       f"'fabric' is imported from {imported}, this command from {here}",
                       "unset PYTHONPATH, or run from another directory")
    return Finding("package name", True, True, f"'fabric' is {DISTRIBUTION}'s, in {imported}")


def _program(name: str, purpose: str, candidates: tuple[str, ...], package: str) -> Finding:
    for candidate in candidates:
        found = candidate if os.path.exists(candidate) else shutil.which(candidate)
        if found:
            return Finding(name, True, False, f"{found}, for {purpose}")
    return Finding(name, False, False, f"not found; only for {purpose}", f"apt install {package}")


def examine() -> Iterator[Finding]:
    """Run all checks, one at a time."""
    yield _python()
    yield _owner_of_package()
    for distribution, purpose in _PACKAGES:
        yield _package(distribution, purpose)
    checks: tuple[Callable[[], Finding], ...] = (
        _curve, _storage, _loopback, _open_files, _memory,
    )
    for check in checks:
        yield check()
    yield _program("java", "ZooKeeper", ("java",), "default-jre-headless")
    yield _program("zookeeper", "ZooKeeper as coordinator", _ZOOKEEPER_JARS, "zookeeper")
    yield _program("chromium", "pictures of the dashboard", ("chromium", "chromium-browser",
                   "google-chrome"), "chromium")


def run(config: Config, out: Output) -> int:
    """Print the findings; exit code 4 if something needed is missing."""
    findings = []
    for finding in examine():
        findings.append(finding)
        out.line(f"{finding.mark:<8} {finding.name:<13} {finding.detail}")
        if not finding.ok:
            out.line(f"{'':<8} {'':<13} -> {finding.how}")
    missing = [finding.name for finding in findings if finding.needed and not finding.ok]
    if missing:
        out.line(f"\nMissing: {', '.join(missing)}.")
    else:
        out.line("\nEverything that Fabric needs is here.")
    out.object({"ok": not missing, "missing": missing,
                "findings": [asdict(finding) for finding in findings]})
    return Exit.MACHINE if missing else Exit.OK
