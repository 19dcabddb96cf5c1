"""The create requests: parsed, checked against field rules and spec rules, not yet against state.

Every ``read_*`` takes the parsed JSON body and returns a spec or raises ``InvalidJson`` or
``InvalidEntity`` (:class:`fabric.errors.BadInput`), in the contract's order of checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from fabric.errors import BadInput
from nodes.contract.entities import EPHEMERAL_DISK, FLAVOR_KINDS, VM, Affinity
from nodes.contract.fields import NO_UPPER_END, Reader, root
from nodes.contract.quota import MAX_AMOUNT, SCALE, SUBDIVIDE_KEY, QuotaLine, amount_of

_AFFINITY_KINDS: Final = ("vm", "disk", "host", "datastore", "portGroup")
_DISK_KINDS: Final = (EPHEMERAL_DISK, "ephemeral")
#: Longest quota key: with its unit it fits a text on the wire.
MAX_KEY: Final = 200
#: Quota lines of one spec, and disks of one VM: their documents and indexes stay within bounds.
MAX_LINES: Final = 60
MAX_DISKS: Final = 60
#: Two of these on one VM can never be met, and the contract quotes the message.
_ONE_ONLY: Final = (("host", "host"), ("datastore", "datastore"))


@dataclass(slots=True, frozen=True)
class TenantSpec:
    name: str
    security_groups: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class TicketSpec:
    name: str
    limits: tuple[QuotaLine, ...]


@dataclass(slots=True, frozen=True)
class ProjectSpec:
    """``percent`` is set when the limits are a share of the ticket's."""

    name: str
    ticket_name: str
    limits: tuple[QuotaLine, ...]
    percent: Fraction | None
    security_groups: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class FlavorSpec:
    name: str
    kind: str
    cost: tuple[QuotaLine, ...]


@dataclass(slots=True, frozen=True)
class DiskSpec:
    name: str
    flavor: str
    capacity_gb: int | None
    boot: bool


@dataclass(slots=True, frozen=True)
class VmSpec:
    name: str
    flavor: str
    source_image_id: str
    disks: tuple[DiskSpec, ...]
    affinities: tuple[Affinity, ...]
    networks: tuple[str, ...]
    environment: dict[str, str]
    tags: tuple[str, ...]


def read_tenant(body: Any) -> TenantSpec:
    reader = root(body)
    spec = TenantSpec(reader.name("name"), reader.texts("securityGroups"))
    reader.finish()
    return spec


def read_ticket(body: Any) -> TicketSpec:
    reader = root(body)
    name = reader.name("name")
    limits = _lines(reader, "limits")
    reader.finish()
    _distinct("limits", limits)
    return TicketSpec(name, limits)


def read_project(body: Any) -> ProjectSpec:
    reader = root(body)
    name = reader.name("name")
    ticket = reader.object("resourceTicket")
    ticket_name = ""
    limits: tuple[QuotaLine, ...] = ()
    if ticket is not None:
        ticket_name = ticket.name("name")
        limits = _lines(ticket, "limits")
    groups = reader.texts("securityGroups")
    reader.finish()
    _distinct("resourceTicket.limits", limits)
    return ProjectSpec(name, ticket_name, limits, _percent(limits), groups)


def read_flavor(body: Any) -> FlavorSpec:
    reader = root(body)
    name = reader.name("name")
    kind = reader.choice("kind", FLAVOR_KINDS)
    cost = _lines(reader, "cost")
    reader.finish()
    _distinct("cost", cost)
    if kind != VM and any(line.key == f"{kind}.capacity" for line in cost):
        raise BadInput(
            f"cost must not contain {kind}.capacity (was {kind}.capacity): the server adds it"
        )
    return FlavorSpec(name, kind, cost)


def read_vm(body: Any) -> VmSpec:
    reader = root(body)
    spec = VmSpec(
        name=reader.name("name"),
        flavor=reader.name("flavor"),
        source_image_id=reader.text("sourceImageId") or "",
        disks=tuple(_disk(disk) for disk in reader.objects("attachedDisks", 1, MAX_DISKS)),
        affinities=tuple(_affinity(item) for item in reader.objects("affinities")),
        networks=reader.texts("networks"),
        environment=reader.text_map("environment"),
        tags=tuple(dict.fromkeys(reader.texts("tags"))),
    )
    reader.finish()
    _check_vm(spec)
    return spec


def _disk(reader: Reader) -> DiskSpec:
    name, flavor = reader.name("name"), reader.name("flavor")
    reader.choice("kind", _DISK_KINDS)
    return DiskSpec(
        name, flavor, reader.integer("capacityGb", 1, NO_UPPER_END), reader.boolean("bootDisk")
    )


def _affinity(reader: Reader) -> Affinity:
    kind = reader.choice("kind", _AFFINITY_KINDS)
    entity_id = reader.text("id") or ""
    if reader.has("id") and not entity_id:
        reader.violation(reader.path("id"), f"size must be between 1 and {NO_UPPER_END}", "")
    return Affinity(kind, entity_id)


def _check_vm(spec: VmSpec) -> None:
    """Check the rules that concern the spec as a whole."""
    boots = sum(disk.boot for disk in spec.disks)
    if boots != 1:
        raise BadInput(f"attachedDisks must hold exactly one boot disk (was {boots})")
    kinds = [affinity.kind for affinity in spec.affinities]
    for kind, what in _ONE_ONLY:
        if kinds.count(kind) > 1:
            raise BadInput(f"A VM can only be affixed on one {what}")
    if "vm" in kinds:
        raise BadInput("A VM cannot have an affinity of kind vm")
    if "disk" in kinds and ("host" in kinds or "datastore" in kinds):
        raise BadInput("An affinity to a host or datastore cannot be combined with one to a disk")
    if not spec.source_image_id:
        raise BadInput("sourceImageId may not be empty (was )")
    for index, disk in enumerate(spec.disks):
        if not disk.boot and disk.capacity_gb is None:
            raise BadInput(f"attachedDisks[{index}].capacityGb may not be null (was null)")


def _lines(reader: Reader, member: str) -> tuple[QuotaLine, ...]:
    out = []
    for item in reader.objects(member, 1, MAX_LINES):
        key = item.text("key") or ""
        if item.has("key") and not 1 <= len(key) <= MAX_KEY:
            item.violation(item.path("key"), f"size must be between 1 and {MAX_KEY}", key)
        elif not key.isprintable():
            item.violation(item.path("key"), "must be printable", repr(key))
        unit = item.enum("unit", tuple(SCALE))
        value: int | Decimal = item.number("value", 0, MAX_AMOUNT // SCALE[unit or "COUNT"])
        out.append(QuotaLine(key, amount_of(value, unit) if unit else 0, unit))
    return tuple(out)


def _distinct(path: str, lines: tuple[QuotaLine, ...]) -> None:
    seen = set()
    for line in lines:
        if line.key in seen:
            raise BadInput(f"{path} must name each key once (was {line.key})")
        seen.add(line.key)


def _percent(limits: tuple[QuotaLine, ...]) -> Fraction | None:
    """Return the share, when the limits are exactly one ``subdivide.percent`` in COUNT."""
    if len(limits) != 1 or (limits[0].key, limits[0].unit) != (SUBDIVIDE_KEY, "COUNT"):
        return None
    line = limits[0]
    percent = Fraction(line.amount, SCALE["COUNT"])
    if not 1 <= percent <= 100:
        raise BadInput(f"{SUBDIVIDE_KEY} must be between 1 and 100 (was {line.value})")
    return percent
