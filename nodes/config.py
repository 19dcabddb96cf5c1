"""Reading settings: flags override the environment, which overrides a TOML file.

How it works
------------
:func:`resolve` takes the three sources and returns one :class:`Config`; every value passes through
the same parser, so an impossible value reads the same wherever it came from, and says where that
was.  :data:`~nodes.settings.SETTINGS` is the one table that names, bounds and explains them.

A file (``--config FILE``, or ``FABRIC_CONFIG``) may hold settings of several commands; each command
takes its own.  Keys that no command knows are refused: a misspelt key that is silently ignored
costs an afternoon.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from fabric.coordination.ensemble import is_ensemble, parse_ensemble
from fabric.errors import BadInput, ConfigError
from fabric.ids import format_id, parse_id
from fabric.limits import MAX_ADDRESS
from nodes.settings import ENV_PREFIX, SETTINGS, Kind, Setting, Value

#: A configuration file is read whole; nobody writes one of this size by hand.
MAX_CONFIG_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from, for the error that may have to name it."""

    label: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.label}" if self.file else self.label


@dataclass(slots=True)
class Config:
    """Resolved settings of one command. Typed getters, since each kind is known to its caller."""

    values: dict[str, Value]
    origins: dict[str, Origin] = field(default_factory=dict)
    #: What a command that brings its own arguments parsed itself.
    extra: dict[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str:
        return cast(str, self.values[name] or "")

    def number(self, name: str) -> int:
        return cast(int, self.values[name])

    def seconds(self, name: str) -> float:
        return float(cast(float, self.values[name]))

    def flag(self, name: str) -> bool:
        return bool(self.values[name])

    def names(self, name: str) -> tuple[str, ...]:
        return cast(tuple[str, ...], self.values[name] or ())

    def path(self, name: str) -> Path | None:
        value = self.values[name]
        return Path(cast(str, value)) if value else None

    def given(self, name: str) -> bool:
        """Whether somebody set it, or it is the default."""
        return name in self.origins


def resolve(
    wanted: Sequence[str],
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file: str | None = None,
    defaults: Mapping[str, Value] | None = None,
) -> Config:
    """Merge the three sources for the settings ``wanted``. Raises :class:`ConfigError`.

    ``flags`` holds raw texts (or booleans, or lists of texts) as the command line gave them;
    ``defaults`` replaces defaults of the table for one command.
    """
    from_file = read_file(file) if file else {}
    config = Config({})
    for name in wanted:
        setting = SETTINGS[name]
        raw, origin = _first(setting, flags, environ, from_file)
        if origin is None:
            config.values[name] = (defaults or {}).get(name, setting.default)
            continue
        config.values[name] = parse(setting, raw, origin)
        config.origins[name] = origin
    _check_together(config)
    return config


def _first(
    setting: Setting,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    from_file: Mapping[str, tuple[object, Origin]],
) -> tuple[object, Origin | None]:
    if flags.get(setting.name) is not None:
        return flags[setting.name], Origin(setting.flag)
    if environ.get(setting.env):
        return environ[setting.env], Origin(f"environment variable {setting.env}")
    if setting.name in from_file:
        return from_file[setting.name]
    return None, None


def unknown_environment(environ: Mapping[str, str]) -> list[str]:
    """Return one warning per ``FABRIC_*`` variable that looks like a misspelt setting.

    Only a warning: other programs named Fabric own variables of that prefix too.
    """
    known = {setting.env for setting in SETTINGS.values()} | {ENV_PREFIX + "CONFIG"}
    warnings = []
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            if near:
                warnings.append(f"environment variable {name} is not used; did you mean {near[0]}?")
    return warnings


# --- the TOML file --------------------------------------------------------------------------------


def read_file(file: str) -> dict[str, tuple[object, Origin]]:
    """Read a TOML file whose keys are settings. Raises :class:`ConfigError`."""
    text = _read_text(file)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}", {"file": file}) from None
    found: dict[str, tuple[object, Origin]] = {}
    for key, value in document.items():
        origin = Origin(key, file, _line_of(text, key))
        if key not in SETTINGS:
            near = difflib.get_close_matches(key, SETTINGS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"{origin} is no setting (was {_show(value)}){hint}", _data(key, value, origin)
            )
        parse(SETTINGS[key], value, origin)  # refuse it even if this command does not use it
        found[key] = (value, origin)
    return found


def _read_text(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            raw = stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{file}: cannot be read: {reason}", {"file": file}) from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{file}: larger than {MAX_CONFIG_BYTES} bytes", {"file": file})
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 at byte {error.start}", {"file": file}) from None


def _line_of(text: str, key: str) -> int:
    """Return the line on which ``key`` is set. ``tomllib`` does not tell, so look for it."""
    quoted = re.escape(key)
    pattern = re.compile(rf"\s*(?:{quoted}|\"{quoted}\"|'{quoted}')\s*[=.]|\s*\[\[?\s*{quoted}\b")
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.match(line):
            return number
    return 1


# --- values ---------------------------------------------------------------------------------------


def parse(setting: Setting, raw: object, origin: Origin) -> Value:
    """Turn a raw value into the setting's kind, or raise a :class:`ConfigError` that explains."""
    try:
        return _PARSERS[setting.kind](setting, raw)
    except ConfigError as error:  # says itself what may be shown of the value
        raise ConfigError(f"{origin}: {error.message}", error.data) from None
    except ValueError as error:
        raise ConfigError(
            f"{origin} {error} (was {_show(raw)})", _data(setting.name, raw, origin)
        ) from None


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _data(key: str, value: object, origin: Origin) -> dict[str, str]:
    data = {"field": key, "value": _show(value)}
    if origin.file:
        data |= {"file": origin.file, "line": str(origin.line)}
    return data


def _text(setting: Setting, raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"must be {setting.kind.value}")
    if "\0" in raw:
        raise ValueError("must not hold a NUL character")
    if setting.choices and raw not in setting.choices:
        raise ValueError(f"must be one of: {', '.join(setting.choices)}")
    return raw


def _path(setting: Setting, raw: object) -> str:
    path = _text(setting, raw)
    if not path.strip():
        raise ValueError("must not be empty")
    return os.path.expanduser(path)


def _coordinator(setting: Setting, raw: object) -> str:
    if not is_ensemble(raw):
        return _path(setting, raw)
    address = _text(setting, raw)
    parse_ensemble(address)
    return address


def _number(setting: Setting, raw: object) -> float:
    """Read a number; ``True`` is none, though Python thinks so."""
    whole = setting.kind is Kind.INT
    if isinstance(raw, str):
        try:
            raw = int(raw) if whole else float(raw)
        except ValueError:
            raise ValueError(f"must be {setting.kind.value}") from None
    allowed = int if whole else (int, float)
    if isinstance(raw, bool) or not isinstance(raw, allowed):
        raise ValueError(f"must be {setting.kind.value}")
    low = float("-inf") if setting.low is None else setting.low
    high = float("inf") if setting.high is None else setting.high
    if not low <= raw <= high:
        raise ValueError(f"must be between {low:g} and {high:.16g}")
    return raw


_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def _flag(setting: Setting, raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in _TRUE | _FALSE:
        return raw.lower() in _TRUE
    raise ValueError(f"must be {setting.kind.value}")


def check_address(text: str) -> str:
    """Return ``text`` if it is a transport address, else raise :class:`ValueError`."""
    scheme, _, rest = text.partition("://")
    if len(text) > MAX_ADDRESS:
        raise ValueError(f"must not be longer than {MAX_ADDRESS} characters")
    if scheme == "inproc" and rest:
        return text
    if scheme != "tcp":
        raise ValueError("must look like tcp://127.0.0.1:7001")
    _check_host_port(rest)
    return text


def _check_host_port(text: str) -> None:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal():
        raise ValueError("must end with HOST:PORT, like 127.0.0.1:7001")
    if int(port) > 65535:
        raise ValueError("must have a port between 0 and 65535")
    if host.startswith("[") != host.endswith("]") or any(c.isspace() for c in host):
        raise ValueError("has an impossible host name")


def check_loopback(host: str) -> None:
    """Refuse an address that others than this machine reach. Raises :class:`ConfigError`."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise ConfigError(
            f"--metrics must be a loopback address like 127.0.0.1:9100: metrics are served "
            f"without authentication (was {host})",
            {"field": "metrics", "value": host},
        )


def _address(setting: Setting, raw: object) -> str:
    return check_address(_text(setting, raw))


def _http(setting: Setting, raw: object) -> str:
    text = _text(setting, raw)
    _check_host_port(text)
    return text


def _node(setting: Setting, raw: object) -> str:
    text = _text(setting, raw)
    try:
        return format_id(parse_id(text))
    except BadInput:
        raise ValueError(f"must be {setting.kind.value}, not all zero") from None


def _listed(setting: Setting, raw: object) -> tuple[str, ...]:
    """Return a list from a TOML array, repeated flags, or one text separated by commas."""
    if isinstance(raw, str):
        raw = [raw]
    if not isinstance(raw, list | tuple) or not all(isinstance(item, str) for item in raw):
        raise ValueError(f"must be {setting.kind.value}")
    items = [part.strip() for item in raw for part in item.split(",")]
    return tuple(item for item in items if item)


def _addresses(setting: Setting, raw: object) -> tuple[str, ...]:
    return tuple(check_address(item) for item in _listed(setting, raw))


_PARSERS: Final[Mapping[Kind, Callable[[Setting, object], Value]]] = {
    Kind.TEXT: _text,
    Kind.INT: _number,
    Kind.SECONDS: _number,
    Kind.FLAG: _flag,
    Kind.PATH: _path,
    Kind.COORDINATOR: _coordinator,
    Kind.ADDRESS: _address,
    Kind.ADDRESSES: _addresses,
    Kind.HTTP: _http,
    Kind.NAMES: _listed,
    Kind.NODE: _node,
}


def _check_together(config: Config) -> None:
    """Refuse values that are each possible, but not together."""
    for low_name, high_name in (("leaf_min", "leaf_max"), ("inner_min", "inner_max")):
        if low_name not in config.values or high_name not in config.values:
            continue
        low, high = config.number(low_name), config.number(high_name)
        if high < 2 * low - 1:
            name = high_name if config.given(high_name) else low_name
            origin = config.origins.get(name, Origin(name))
            raise ConfigError(
                f"{origin} cannot be: a cell of {high_name} + 1 = {high + 1} members must split "
                f"into two of at least {low_name} = {low} (was {config.values[name]})",
                _data(name, config.values[name], origin),
            )
