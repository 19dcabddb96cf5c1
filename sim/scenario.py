"""What a run is to do: sizes, rates, faults. Checked before anything starts.

A scenario comes from flags or from a TOML file; either way a bad value gives a
:class:`~fabric.errors.ScenarioError` that names the field, the value and the reason, and for files
the line.  A file looks like this; every key is optional::

    version = 1           # of this format; a file of another one is refused
    hosts = 200
    duration_s = 120
    seed = 7
    place_rate = 20
    leaf_max = 8
    leaf_min = 4

    [[fault]]
    kind = "cut"          # any of sim.kinds
    at_s = 30
    hosts = [0, 1, 2]
    lasts_s = 20
    one_way = true
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from fabric.errors import ConfigError, ScenarioError
from fabric.settings import Settings
from fabric.units import MS, SECOND
from sim.abandon import HOWS
from sim.faults import Fault
from sim.gray import AIMED
from sim.insiders import LIES
from sim.kinds import KINDS

#: Of scenario files. To be raised whenever files of before would mean something else.
VERSION: Final = 1
MAX_SEED: Final = (1 << 63) - 1
#: Fields of faults that name a host; candidates count from -1 downwards.
HOST_FIELDS: Final = ("host", "other")
#: Beyond this a run would not end in a day nor fit into memory.
MAX_HOSTS: Final = 1_000_000
MAX_DURATION_S: Final = 86_400
MAX_RATE: Final = 100_000


class Where(Protocol):
    """Tells where a field stands: ``file:line: ``, or nothing."""

    def __call__(self, field: str, nth: int = 0) -> str:
        """Return the place of ``field``; of a fault's field, in the ``nth`` fault."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run, fully described: the same scenario on the same commit gives the same trace hash."""

    hosts: int = 100
    duration_s: int = 60
    seed: int = 1
    #: Placements per virtual second.
    place_rate: int = 0
    #: Percent of the hosts that crash in each virtual minute.
    kill: int = 0
    #: Install a formed topology instead of forming it by joins.
    preformed: bool = False
    #: Peers beside the hosts that may become chairman.
    candidates: int = 3
    #: Hosts start evenly within this time; 0: chosen by the number of hosts.
    start_s: int = 0
    #: Encode and decode every message.
    fidelity: bool = False
    trace: bool = True
    checkers: bool = True
    #: Clocks differ from virtual time by up to this.
    skew_ms: int = 50
    loss_ppm: int = 0
    duplicate_ppm: int = 0
    #: Bounds of cells; 0: the fabric's defaults.
    leaf_min: int = 0
    leaf_max: int = 0
    inner_min: int = 0
    inner_max: int = 0
    #: One probe round.
    probe_ms: int = 1_000
    vm_life_s: int = 60
    #: Numbers of the placements that are asked for; none given: all of them.
    placements: tuple[int, ...] = ()
    #: Hosts that never start. The others keep their numbers, and with these all that is random
    #: about them.
    absent: tuple[int, ...] = ()
    #: So many placements are asked for at the same instant.
    burst: int = 1
    #: vCPUs of every host, with 4 GB of memory each; 0: a mix of sizes with more room than wanted.
    host_cpu: int = 0
    #: Percent of the placements that become VMs, that avoid a datastore, that pack hosts full.
    vm_percent: int = 0
    avoid_percent: int = 0
    pack_percent: int = 0
    #: Hosts are in so many zones, in turns, and in each of them in so many racks; 0: nobody tells.
    zones: int = 0
    racks: int = 0
    #: Calls to hypervisors that fail.
    hypervisor_fail_ppm: int = 0
    faults: tuple[Fault, ...] = ()

    def check(self, where: Where = lambda field, nth=0: "") -> Scenario:
        """Return the scenario itself, or raise; ``where`` tells the place of a field in a file."""
        for field, (low, high) in _BOUNDS.items():
            value = getattr(self, field)
            if not low <= value <= high:
                _refuse(field, value, f"must be from {low} to {high}", where(field))
        if self.kill and self.duration_s <= CALM_S:
            reason = f"must be longer than the {CALM_S} s at the end that are free of kills"
            _refuse("duration_s", self.duration_s, reason, where("duration_s"))
        for host in self.absent:
            if not 0 <= host < self.hosts:
                _refuse("absent", host, f"there are hosts 0 to {self.hosts - 1}", where("absent"))
        if len(set(self.absent)) == self.hosts:
            _refuse("absent", self.absent, "leaves no host at all", where("absent"))
        if any(number < 0 for number in self.placements):
            _refuse("placements", self.placements, "must be from 0", where("placements"))
        for nth, fault in enumerate(self.faults):
            self._check_fault(fault, nth, where)
        peer_settings(self, where)
        return self

    def _check_fault(self, fault: Fault, nth: int, where: Where) -> None:
        if fault.at_us >= self.duration_s * SECOND:
            reason = f"must be before the end of the run at {self.duration_s} s"
            _refuse("fault.at_s", fault.at_us / SECOND, reason, where("fault.at_s", nth))
        self._check_fields(fault, nth, where)
        inner = getattr(fault, "fault", None)
        if inner is None:
            return
        if not isinstance(inner, AIMED):
            reason = "must be one that hits a single host"
            _refuse("fault.fault", type(inner).__name__, reason, where("fault.fault", nth))
        self._check_fields(inner, nth, lambda field, nth=0: where("fault.fault", nth))

    def _check_fields(self, fault: Fault, nth: int, where: Where) -> None:
        for field, (low, high) in _FAULT_BOUNDS.items():
            value = getattr(fault, field, low)
            if not low <= value <= high:
                key = "fault." + field
                _refuse(key, value, f"must be from {low} to {high}", where(key, nth))
        for field, hosts in named_hosts(fault):
            key = "fault." + field
            if not hosts:
                _refuse(key, hosts, "names nobody", where(key, nth))
            for host in hosts:
                if not -self.candidates <= host < self.hosts:
                    reason = f"does not exist: there are hosts 0 to {self.hosts - 1}"
                    reason += f", candidates -1 to {-self.candidates}"
                    _refuse(key, host, reason, where(key, nth))

    @property
    def start_us(self) -> int:
        """How long hosts keep arriving: 1,000 a second, as when racks are powered on.

        Hosts of a preformed topology know each other: they start together, or they would take
        those that are late for dead.
        """
        return (self.start_s or (1 if self.preformed else max(1, self.hosts // 1000))) * SECOND


#: Kills stop so long before the end, so that convergence can be seen.
CALM_S: Final = 60

_BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "hosts": (1, MAX_HOSTS),
    "duration_s": (1, MAX_DURATION_S),
    "seed": (0, MAX_SEED),
    "place_rate": (0, MAX_RATE),
    "kill": (0, 100),
    "candidates": (1, 9),
    "start_s": (0, MAX_DURATION_S),
    "skew_ms": (0, 60_000),
    "loss_ppm": (0, 500_000),
    "duplicate_ppm": (0, 500_000),
    "leaf_min": (0, 128),
    "leaf_max": (0, 128),
    "inner_min": (0, 128),
    "inner_max": (0, 128),
    "probe_ms": (100, 60_000),
    "vm_life_s": (1, MAX_DURATION_S),
    "burst": (1, 10_000),
    "zones": (0, 1_000),
    "racks": (0, 1_000),
    "host_cpu": (0, 1_024),
    "vm_percent": (0, 100),
    "avoid_percent": (0, 100),
    "pack_percent": (0, 100),
    "hypervisor_fail_ppm": (0, 900_000),
}


#: Of fields of faults: beyond these they would mean nothing.
_FAULT_BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "loss_ppm": (0, 1_000_000),
    "duplicate_ppm": (0, 1_000_000),
    "late_ppm": (0, 1_000_000),
    "echo_ppm": (0, 1_000_000),
    "ppm": (0, 500_000),
    "factor": (1, 100_000_000),
    "count": (1, 1_000_000),
    "level": (0, 20),
    "nth": (0, MAX_HOSTS),
    "candidates": (0, 9),
}


def _refuse(field: str, value: object, reason: str, where: str = "") -> NoReturn:
    was = "" if value is None else f" (was {value!r:.80})"
    raise ScenarioError(
        f"{where}{field} {reason}{was}",
        {"field": field, "value": f"{value!r:.80}", "reason": reason},
    )


def hosts_of(fault: Fault) -> tuple[int, ...]:
    """Return the hosts that a fault names."""
    return tuple([host for _, hosts in named_hosts(fault) for host in hosts])


def named_hosts(fault: Fault) -> list[tuple[str, tuple[int, ...]]]:
    """Return the fields of a fault that name hosts, each with the hosts."""
    found = [("hosts", fault.hosts)] if hasattr(fault, "hosts") else []
    return [*found, *[(f, (getattr(fault, f),)) for f in HOST_FIELDS if hasattr(fault, f)]]


def peer_settings(scenario: Scenario, where: Where = lambda field, nth=0: "") -> Settings:
    """Return the settings that all peers of the run share. Raises ``ScenarioError``."""
    changes: dict[str, Any] = {"probe_us": scenario.probe_ms * MS}
    for name in ("leaf_min", "leaf_max", "inner_min", "inner_max"):
        value = getattr(scenario, name)
        if value:
            changes[name] = value
    try:
        return Settings(**changes)
    except ConfigError as error:
        place = where(str(error.data.get("field", "")))
        raise ScenarioError(place + error.message, error.data) from None


def read_int(field: str, text: str) -> int:
    """Read a whole number given as text. Raises :class:`ScenarioError`."""
    try:
        return int(text)
    except ValueError:
        _refuse(field, text, "must be a whole number")


# --- files ----------------------------------------------------------------------------------------


def load_scenario(path: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario file; ``changes`` (from flags) override it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read ({error})", {"field": "scenario"}) from None
    return parse_scenario(text, str(path), changes)


def parse_scenario(text: str, name: str, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario from TOML text; ``name`` stands in error messages."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column \d+\)", str(error))
        line = f":{place[1]}" if place else ""
        what = str(error).replace(place[0], "") if place else str(error)
        raise ScenarioError(f"{name}{line}: no TOML: {what}", {"field": "scenario"}) from None
    lines = _lines_of(text)

    def where(field: str, nth: int = 0) -> str:
        line = lines.get((field, nth))
        return f"{name}:{line}: " if line else f"{name}: "

    faults = table.pop("fault", [])
    if not isinstance(faults, list):
        _refuse("fault", faults, "must be written as [[fault]]", where("fault"))
    version = table.pop("version", VERSION)
    if type(version) is not int or version != VERSION:
        reason = f"must be {VERSION}: this is a scenario of another version"
        _refuse("version", version, reason, where("version"))
    values: dict[str, Any] = {}
    known = {f.name: f for f in dataclasses.fields(Scenario) if f.name != "faults"}
    for key, value in table.items():
        if key not in known:
            _refuse(key, value, f"is no key of a scenario ({', '.join(known)})", where(key))
        values[key] = _typed(key, value, type(known[key].default), where(key))
    values["faults"] = tuple([_read_fault(f, nth, where) for nth, f in enumerate(faults)])
    values.update(changes or {})
    return Scenario(**values).check(where)


def _typed(key: str, value: Any, kind: type, where: str) -> Any:
    if kind is tuple and type(value) is list and all(type(item) is int for item in value):
        return tuple(value)
    if type(value) is not kind:
        names = {int: "a whole number", bool: "true or false", tuple: "a list of whole numbers"}
        _refuse(key, value, f"must be {names[kind]}", where)
    return value


def _read_fault(entry: dict[str, Any], nth: int, of: Callable[[str, int], str]) -> Fault:
    def where(key: str) -> str:
        return of("fault." + key, nth)

    kind = entry.get("kind")
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        _refuse("fault.kind", kind, f"must be one of {', '.join(KINDS)}", where("kind"))
    values: dict[str, Any] = {}
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key, value in entry.items():
        if key == "kind":
            continue
        # people write seconds, the engine has microseconds
        field = key[:-2] + "_us" if key.endswith("_s") else key
        if field not in fields:
            _refuse("fault." + key, value, f"is no key of a {kind} fault", where(key))
        if fields[field].type == "Fault":
            # it stands in one line, whatever key is wrong
            inner = value if isinstance(value, dict) else {}
            values[field] = _read_fault(inner, nth, lambda key, nth: of("fault.fault", nth))
            continue
        values[field] = _fault_value(key, value, str(fields[field].type), where(key))
    for name, declared in fields.items():
        if name not in values and declared.default is dataclasses.MISSING:
            shown = name[:-3] + "_s" if name.endswith("_us") else name
            _refuse("fault." + shown, None, f"is missing in a {kind} fault", where("kind"))
    fault: Fault = cls(**values)
    return fault


def _fault_value(key: str, value: Any, annotation: str, where: str) -> Any:
    if key.endswith("_s"):
        if type(value) not in (int, float) or not 0 <= value <= MAX_DURATION_S:
            _refuse("fault." + key, value, f"must be seconds from 0 to {MAX_DURATION_S}", where)
        return round(value * SECOND)
    if annotation.startswith("tuple"):
        if type(value) is not list or not all(type(i) is int for i in value):
            _refuse("fault." + key, value, "must be a list of whole numbers", where)
        return tuple(value)
    words = {"How": HOWS, "Lie": LIES}.get(annotation)
    if words is not None:
        if value not in words:
            _refuse("fault." + key, value, f"must be one of {', '.join(words)}", where)
        return value
    if annotation == "bool":
        return _typed("fault." + key, value, bool, where)
    if type(value) is not int or (value < 0 and key not in HOST_FIELDS):
        _refuse("fault." + key, value, "must be a whole number, not negative", where)
    return value


def _lines_of(text: str) -> dict[tuple[str, int], int]:
    """Return the line of each key: ``(key, 0)``, and ``("fault.key", n)`` in the n-th fault."""
    lines: dict[tuple[str, int], int] = {}
    prefix, nth = "", -1
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*\[\[\s*fault\s*\]\]", line):
            prefix, nth = "fault.", nth + 1
            lines.setdefault(("fault", 0), number)
            lines[("fault.kind", nth)] = number  # until there is one
        elif other := re.match(r"\s*\[+\s*([A-Za-z0-9_-]+)", line):
            prefix = other[1] + "."
            lines.setdefault((other[1], 0), number)
        else:
            key = re.match(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*=""", line)
            if key and (key[1] == "kind" or (prefix + key[1], max(nth, 0)) not in lines):
                lines[(prefix + key[1], max(nth, 0))] = number
    return lines
