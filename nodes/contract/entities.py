"""What the cloud remembers: one dataclass a kind, as kept in the store.

Each class names its ``KIND``, the document kind.  Entities of a tenant (ticket, project, VM, task)
live in the tenant's shard, so that one entry of one log can change them together; flavors live in
the root shard.  Times are epoch milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from nodes.contract.quota import QuotaLine

# --- states ---------------------------------------------------------------------------------------

QUEUED: Final = "QUEUED"
STARTED: Final = "STARTED"
COMPLETED: Final = "COMPLETED"
ERROR: Final = "ERROR"
#: Task states after which nothing more happens.
ENDED: Final = (COMPLETED, ERROR)

CREATING: Final = "CREATING"
READY: Final = "READY"
PENDING_DELETE: Final = "PENDING_DELETE"
STOPPED: Final = "STOPPED"
ATTACHED: Final = "ATTACHED"

#: Phases of an attempt to create a VM on a host.
PLACED: Final = "PLACED"
VOID: Final = "VOID"
LEFT: Final = "LEFT"

# --- entity kinds on the wire ---------------------------------------------------------------------

TENANT: Final = "tenant"
RESOURCE_TICKET: Final = "resource-ticket"
PROJECT: Final = "project"
VM: Final = "vm"
EPHEMERAL_DISK: Final = "ephemeral-disk"
PERSISTENT_DISK: Final = "persistent-disk"
FLAVOR_KINDS: Final = (VM, EPHEMERAL_DISK, PERSISTENT_DISK)


@dataclass(slots=True, frozen=True)
class ApiError:
    """An error as a task's step keeps it."""

    code: str
    message: str | None = None
    data: dict[str, str] | None = None


@dataclass(slots=True, frozen=True)
class Step:
    operation: str
    state: str
    queued_ms: int
    started_ms: int | None = None
    ended_ms: int | None = None
    errors: tuple[ApiError, ...] = ()
    warnings: tuple[ApiError, ...] = ()


@dataclass(slots=True, frozen=True)
class Task:
    """One operation on one entity. ``project_id`` is set for tasks on VMs and disks."""

    KIND: ClassVar[str] = "task"

    id: str
    operation: str
    state: str
    entity_kind: str
    entity_id: str
    entity: str  # kind and id together: an index
    queued_ms: int
    started_ms: int | None = None
    ended_ms: int | None = None
    steps: tuple[Step, ...] = ()
    project_id: str | None = None


@dataclass(slots=True, frozen=True)
class Work:
    """An unfinished task, for workers to find. Gone once the task has ended.

    Whoever changes ``holder`` by compare-and-set holds the task; every step it stores checks and
    raises the document's version, which is also the heartbeat that others watch.
    """

    KIND: ClassVar[str] = "work"

    id: str  # the task's
    operation: str
    entity_id: str
    holder: str | None = None
    beat: int = 0
    reap: tuple[str, ...] = ()  # flavors to look at once the VM is gone
    trace: str = ""  # of the request that asked for it, for logs


@dataclass(slots=True, frozen=True)
class SecurityGroup:
    name: str
    inherited: bool


@dataclass(slots=True, frozen=True)
class Tenant:
    """``named`` once the root shard has given it its name; before that nobody sees it."""

    KIND: ClassVar[str] = TENANT

    id: str
    name: str
    security_groups: tuple[SecurityGroup, ...] = ()
    named: bool = False


@dataclass(slots=True, frozen=True)
class Ticket:
    """A resource ticket: what a tenant may give to its projects.

    ``lines`` are the limits as given; ``limits`` and ``usage`` are what the store debits (see
    :mod:`nodes.contract.quota`).
    """

    KIND: ClassVar[str] = RESOURCE_TICKET

    id: str
    name: str
    tenant_id: str
    lines: tuple[QuotaLine, ...]
    limits: dict[str, int]
    usage: dict[str, int]


@dataclass(slots=True, frozen=True)
class Project:
    KIND: ClassVar[str] = PROJECT

    id: str
    name: str
    tenant_id: str
    ticket_id: str
    ticket_name: str
    lines: tuple[QuotaLine, ...]
    limits: dict[str, int]
    usage: dict[str, int]
    security_groups: tuple[SecurityGroup, ...] = ()


@dataclass(slots=True, frozen=True)
class Flavor:
    """``kind`` is the kind of entity it is for."""

    KIND: ClassVar[str] = "flavor"

    id: str
    name: str
    kind: str
    state: str
    cost: tuple[QuotaLine, ...]


@dataclass(slots=True, frozen=True)
class Disk:
    """An ephemeral disk; it lives in its VM. ``cost`` holds the capacity that was debited too."""

    id: str
    name: str
    flavor: str
    flavor_id: str
    state: str
    capacity_gb: int
    boot: bool
    cost: tuple[QuotaLine, ...] = ()


@dataclass(slots=True, frozen=True)
class Affinity:
    kind: str
    id: str


@dataclass(slots=True, frozen=True)
class Attempt:
    """One try to create the VM on one host, stored before the host is told to create.

    ``key`` and ``attempt`` are the placement's, as the host's books hold them.  ``phase`` is
    ``PLACED``, then ``VOID`` once the host acknowledged that nothing of it is left, or ``LEFT``
    when the host died first (then a :class:`Leftover` is on record).
    """

    key: str
    attempt: int
    node_id: int
    address: str
    reservation_id: int
    phase: str = PLACED


@dataclass(slots=True, frozen=True)
class Leftover:
    """What a dead host may still hold: a copy of a VM that was given up there.

    It is removed when the host comes back.
    """

    KIND: ClassVar[str] = "leftover"

    id: str
    vm_id: str
    attempt: Attempt


@dataclass(slots=True, frozen=True)
class Vm:
    """A VM with all it owns. ``lock`` is the unfinished task that works on it."""

    KIND: ClassVar[str] = VM

    id: str
    name: str
    project_id: str
    tenant_id: str
    flavor: str
    flavor_id: str
    cost: tuple[QuotaLine, ...]
    state: str
    source_image_id: str
    disks: tuple[Disk, ...]
    lock: str | None = None
    affinities: tuple[Affinity, ...] = ()
    networks: tuple[str, ...] = ()
    environment: dict[str, str] | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] | None = None
    flavor_ids: tuple[str, ...] = ()  # all flavors it uses, its disks' too: an index
    host: str | None = None
    datastore: str | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def whole_cost(self) -> tuple[QuotaLine, ...]:
        """Everything that it was debited: its own cost and its disks'."""
        return (*self.cost, *(line for disk in self.disks for line in disk.cost))
