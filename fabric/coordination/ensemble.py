"""Where a ZooKeeper ensemble is and how to speak to it, from one address.

    zookeeper://h1:2181,h2:2181,h3:2181/chroot?auth_file=/etc/fabric/zookeeper.auth&tls_ca=ca.pem

``auth_file`` names a file that holds ``user:password`` on one line and that nobody else may read;
``auth_env`` names an environment variable with the same.  A secret is never part of the address:
addresses end up in process lists and logs.  Like peers without keys, a client without credentials
speaks to this machine only.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from fabric.errors import ConfigError

SCHEME: Final = "zookeeper://"
DEFAULT_PORT: Final = 2181
#: Fabric's nodes lie below this one where the address names none.
DEFAULT_CHROOT: Final = "/fabric"
#: ZooKeeper's own default bounds are 4 s and 40 s (2 and 20 ticks of 2 s).
DEFAULT_SESSION_S: Final = 4.0
MIN_SESSION_S: Final = 1.0
MAX_SESSION_S: Final = 60.0
#: Ensembles have three, five or seven voters; more are observers.
MAX_SERVERS: Final = 31
_MAX_ADDRESS: Final = 2048
_MAX_SECRET_BYTES: Final = 1024
_OPTIONS: Final = ("auth_file", "auth_env", "session_s", "tls_ca", "tls_cert", "tls_key")


@dataclass(frozen=True, slots=True)
class Ensemble:
    """One parsed address. ``credentials`` is ``user:password``, read when the address was."""

    servers: str
    chroot: str
    session_s: float
    credentials: str = field(default="", repr=False)
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{SCHEME}{self.servers}{self.chroot}"


def is_ensemble(address: object) -> bool:
    """Whether ``address`` is one of ZooKeeper, and not a directory."""
    return isinstance(address, str) and address.startswith(SCHEME)


def parse_ensemble(address: str, environ: Mapping[str, str] = os.environ) -> Ensemble:
    """Read an address and the credentials that it names.

    Raises :class:`ConfigError`, whose text never holds a secret.
    """
    if len(address) > _MAX_ADDRESS:
        raise _bad(f"is longer than {_MAX_ADDRESS} characters")
    if not address.startswith(SCHEME):
        raise _bad("must look like zookeeper://127.0.0.1:2181/fabric")
    rest, _, query = address.removeprefix(SCHEME).partition("?")
    servers, slash, path = rest.partition("/")
    if "@" in servers:
        raise _bad("must not hold a password: name a file with ?auth_file=, "
                   "or an environment variable with ?auth_env=")
    options = _options(query)
    hosts = [_server(text) for text in servers.split(",")]
    if len(hosts) > MAX_SERVERS:
        raise _bad(f"names {len(hosts)} servers, more than {MAX_SERVERS}")
    credentials = _credentials(options, environ)
    if not credentials and not all(_is_loopback(host) for host, _ in hosts):
        raise _bad("is on another machine, which needs credentials: ?auth_file= or ?auth_env=")
    return Ensemble(
        ",".join(f"{host}:{port}" for host, port in hosts),
        _chroot(slash + path),
        _session(options.get("session_s")),
        credentials,
        *_tls(options),
    )


def _bad(why: str, option: str = "") -> ConfigError:
    what = f"option {option} of the ZooKeeper address" if option else "the ZooKeeper address"
    return ConfigError(f"{what} {why}", {"field": option or "coordinator"})


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise _bad(f"is not known (known are: {', '.join(_OPTIONS)})", f"{name[:40]!r}")
        if name in options:
            raise _bad("is given twice", name)
        if not value or "\0" in value:
            raise _bad("has no usable value", name)
        options[name] = value
    return options


def _server(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, _, port_text = text.rpartition("]")
        host, port_text = host + "]", port_text.removeprefix(":")
    else:
        host, _, port_text = text.partition(":")
    if not host or any(c.isspace() for c in host) or (":" in host) != host.startswith("["):
        raise _bad(f"holds the server {text[:80]!r}, which is not HOST:PORT")
    if not port_text:
        return host, DEFAULT_PORT
    if not (port_text.isascii() and port_text.isdigit()) or not 0 < int(port_text) < 65536:
        raise _bad(f"holds the server {text[:80]!r}, whose port is not between 1 and 65535")
    return host, int(port_text)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _chroot(path: str) -> str:
    path = path.rstrip("/")
    if not path:
        return DEFAULT_CHROOT
    for part in path[1:].split("/"):
        if not part or part in (".", "..", "zookeeper") or not part.isprintable():
            raise _bad(f"has the impossible path {path[:80]!r}")
    return path


def _session(text: str | None) -> float:
    if text is None:
        return DEFAULT_SESSION_S
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not MIN_SESSION_S <= value <= MAX_SESSION_S:
        raise _bad(
            f"must be between {MIN_SESSION_S:g} and {MAX_SESSION_S:g} seconds (was {text[:20]!r})",
            "session_s",
        )
    return value


def _credentials(options: Mapping[str, str], environ: Mapping[str, str]) -> str:
    if "auth_file" in options and "auth_env" in options:
        raise _bad("and auth_env exclude each other", "auth_file")
    if "auth_env" in options:
        name = options["auth_env"]
        if name not in environ:
            raise _bad(f"names the environment variable {name[:80]}, which is not set", "auth_env")
        return _checked(environ[name], "auth_env")
    if "auth_file" in options:
        return _checked(_secret_file(Path(options["auth_file"]), "auth_file"), "auth_file")
    return ""


def _secret_file(path: Path, option: str) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise _bad(f"names {path}, which cannot be read: {error.strerror}", option) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _bad(f"names {path}, which others may read: chmod 600 it", option)
    if len(raw) > _MAX_SECRET_BYTES:
        raise _bad(f"names {path}, which is larger than {_MAX_SECRET_BYTES} bytes", option)
    return raw.decode(errors="replace").strip()


def _checked(text: str, option: str) -> str:
    user, colon, password = text.partition(":")
    if not (user and colon and password) or any(not c.isprintable() for c in text):
        raise _bad("leads to something else than user:password on one line", option)
    return text


def _tls(options: Mapping[str, str]) -> tuple[str, str, str]:
    ca, cert, key = (options.get(name, "") for name in ("tls_ca", "tls_cert", "tls_key"))
    if (cert or key) and not ca:
        raise _bad("is missing: it names the certificates that the servers' are checked by",
                   "tls_ca")
    if bool(cert) != bool(key):
        raise _bad("and tls_key go together", "tls_cert")
    for name, path in (("tls_ca", ca), ("tls_cert", cert), ("tls_key", key)):
        if path and not Path(path).is_file():
            raise _bad(f"names {path}, which is no file", name)
    return ca, cert, key
