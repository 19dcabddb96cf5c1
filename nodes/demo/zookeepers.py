"""A ZooKeeper ensemble of one's own: for the demo, tests and benchmarks. On 127.0.0.1 alone.

Started as plain Java processes from Debian's package, each with a directory of its own, and ended
by pid.  A server is up when it answers ``srvr`` with its mode; that it lives (``ruok``) says less.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fabric.errors import CheckFailed, MissingDependency

_JAVA: Final = Path("/usr/share/java")
JAR: Final = _JAVA / "zookeeper.jar"
#: The jar's manifest names the rest; without these there is no log, and no TLS.
_CLASS_PATH: Final = (
    JAR, *(_JAVA / name for name in (
        "slf4j-simple.jar", "netty-codec.jar", "netty-resolver.jar",
        "netty-transport-native-unix-common.jar",
    )),
)  # fmt: skip
_MAIN: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
#: Short ticks: sessions as short as one second, elections in less than one.
TICK_MS: Final = 500
_READY_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.02
_HOST: Final = "127.0.0.1"


def missing() -> str:
    """Return what is missing on this machine to run ZooKeeper, and how to get it; "" if nothing."""
    if shutil.which("java") is None or not JAR.exists():
        return "ZooKeeper is not installed (Debian: apt-get install zookeeper)"
    return ""


class Server:
    """One server. Killed, paused and started again at will; its data stay where they are."""

    def __init__(
        self,
        directory: Path,
        number: int,
        settings: Sequence[str],
        client_port: int,
        java: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = client_port
        self.address = f"{_HOST}:{client_port}"
        self._number = number
        self._java = tuple(java)
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True)
        (self.data / "myid").write_text(f"{number}\n")
        lines = (
            f"tickTime={TICK_MS}", "initLimit=20", "syncLimit=10", f"dataDir={self.data}",
            f"clientPort={client_port}", f"clientPortAddress={_HOST}",
            "admin.enableServer=false", "4lw.commands.whitelist=srvr,mntr",
            "maxClientCnxns=0", f"minSessionTimeout={2 * TICK_MS}", *settings,
        )
        (directory / "zoo.cfg").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start the process and return at once."""
        log = self.directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    "java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", *self._java,
                    "-cp", ":".join(map(str, _CLASS_PATH)), _MAIN, str(self.directory / "zoo.cfg"),
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                cwd=self.directory, env=_environment(),
            )  # fmt: skip

    def wait_ready(self) -> None:
        """Wait until it serves clients. Raises :class:`CheckFailed`."""
        deadline = time.monotonic() + _READY_S
        while not self.mode():
            if self._process is None or self._process.poll() is not None:
                raise CheckFailed(f"ZooKeeper server {self._number} died: {self.last_words()}")
            if time.monotonic() > deadline:
                raise CheckFailed(f"ZooKeeper server {self._number} does not get ready")
            time.sleep(_LOOK_AGAIN_S)

    def mode(self) -> str:
        """Return ``leader``, ``follower`` or ``standalone``; "" while it serves nobody."""
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ").strip()
        return ""

    def figures(self) -> Mapping[str, str]:
        """Return what ``mntr`` tells."""
        rows = (line.partition("\t") for line in self.ask("mntr").splitlines())
        return {name: value for name, _, value in rows}

    def ask(self, word: str) -> str:
        """Send one of ZooKeeper's four-letter words; "" where nobody answers."""
        try:
            with socket.create_connection((_HOST, self.port), timeout=2.0) as connection:
                connection.sendall(word.encode())
                parts = []
                while part := connection.recv(1 << 16):
                    parts.append(part)
        except OSError:
            return ""
        return b"".join(parts).decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone. May be called at any time."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def empty(self) -> None:
        """Forget everything. Only while it does not run."""
        shutil.rmtree(self.data / "version-2", ignore_errors=True)

    def save(self, to: Path) -> None:
        """Copy its data, as a backup would. Only while it does not run."""
        shutil.copytree(self.data / "version-2", to)

    def restore(self, copy: Path) -> None:
        """Put a saved copy in the place of its data. Only while it does not run."""
        self.empty()
        shutil.copytree(copy, self.data / "version-2")

    def last_words(self) -> str:
        """Return the end of its log."""
        with contextlib.suppress(OSError):
            text = (self.directory / "log").read_text(errors="replace")
            return " | ".join(text.strip().splitlines()[-3:])
        return "it wrote nothing"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


class LocalEnsemble:
    """One or three servers below ``directory``. Use it with ``with``: none is left behind."""

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        settings: Sequence[str] = (),
        java: Sequence[str] = (),
    ) -> None:
        if why := missing():
            raise MissingDependency(why)
        ports = _free_ports(3 * size)
        together = [
            f"server.{n}={_HOST}:{ports[size + n - 1]}:{ports[2 * size + n - 1]}"
            for n in range(1, size + 1)
        ]
        common = [*settings, *(together if size > 1 else ())]
        self.servers = [
            Server(directory / f"zookeeper-{n}", n, common, ports[n - 1], java)
            for n in range(1, size + 1)
        ]

    def __enter__(self) -> LocalEnsemble:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start all servers, and wait until they serve clients."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait_ready()

    def kill(self) -> None:
        """Kill all servers."""
        for server in self.servers:
            server.kill()

    def address(self, chroot: str = "", **options: object) -> str:
        """Return the address for ``fabric.open`` and the commands."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        servers = ",".join(server.address for server in self.servers)
        return f"zookeeper://{servers}{chroot}{'?' if query else ''}{query}"

    def leader(self) -> Server:
        """Return the server that leads (or stands alone)."""
        for server in self.servers:
            if server.mode() in ("leader", "standalone"):
                return server
        raise CheckFailed("no ZooKeeper server leads")


def _free_ports(number: int) -> list[int]:
    """Return ports that nobody uses: bound once, all at the same time, and let go."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind((_HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _environment() -> dict[str, str]:
    """A JVM needs little; ours may hold settings for another one."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "JAVA_HOME") if name in os.environ}
    return kept | {"HOME": pwd.getpwuid(os.getuid()).pw_dir}
