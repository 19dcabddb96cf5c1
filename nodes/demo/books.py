"""The audit at the end of the demo: the books of all hosts, laid beside what was promised.

Nothing is believed: the rows of each host are added up here, and compared with its capacity and
with the sums that it tells; each placement that the demo holds as confirmed must be on exactly one
host, and each VM that the REST front lists must be on the host that it names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fabric.errors import CheckFailed
from fabric.machine import Contact, Message
from fabric.wire.host import Audit, AuditAsk, ReservationInfo, VmInfo

Ask = Callable[[Contact, Message], Awaitable[Message]]


class Row(Protocol):
    """What a VM and a reservation have in common in the books."""

    key: str
    vm_id: str
    cpu: int
    memory_mb: int
    disk_mb: int


@dataclass(slots=True)
class Book:
    """All pages of one host's books."""

    name: str
    cpu: int
    cpu_used: int
    memory_mb: int
    memory_used_mb: int
    vms: list[VmInfo] = field(default_factory=list)
    reservations: list[ReservationInfo] = field(default_factory=list)

    def rows(self) -> Iterable[Row]:
        """Everything that takes room, provisional reservations included."""
        yield from self.vms
        yield from self.reservations

    def confirmed(self) -> Iterable[Row]:
        """What somebody confirmed: it never expires."""
        yield from self.vms
        yield from (row for row in self.reservations if row.expires_at == 0)

    def fault(self) -> str:
        """Say why these books cannot be, or return nothing."""
        cpu = sum(row.cpu for row in self.rows())
        memory_mb = sum(row.memory_mb for row in self.rows())
        if cpu > self.cpu or memory_mb > self.memory_mb:
            return (f"{self.name}: {cpu} of {self.cpu} vCPUs and {memory_mb} of {self.memory_mb} "
                    "MB are promised")
        if (cpu, memory_mb) != (self.cpu_used, self.memory_used_mb):
            return (f"{self.name}: rows add up to {cpu} vCPUs and {memory_mb} MB, the sums say "
                    f"{self.cpu_used} and {self.memory_used_mb}")
        return ""


@dataclass(slots=True)
class Verdict:
    """What the audit found. Lists hold keys, host faults and VM ids; all should be empty."""

    lost: list[str]
    doubled: list[str]
    faults: list[str]
    missing_vms: list[str]
    rows: int

    def check(self) -> None:
        """Raise :class:`CheckFailed` if anything is wrong."""
        wrong = [
            f"{len(found)} {what} ({', '.join(found[:3])})"
            for what, found in (
                ("placements lost", self.lost),
                ("placements confirmed twice", self.doubled),
                ("hosts with impossible books", self.faults),
                ("VMs of the REST API on no host", self.missing_vms),
            )
            if found
        ]
        if wrong:
            raise CheckFailed("the audit found " + "; ".join(wrong))


async def read_book(ask: Ask, name: str, host: Contact) -> Book:
    """Read all pages of one host's books; begins again when they changed in between."""
    for _ in range(10):
        book = await _read_pages(ask, name, host)
        if book is not None:
            return book
    raise CheckFailed(f"the books of {name} changed ten times while they were read")


async def _read_pages(ask: Ask, name: str, host: Contact) -> Book | None:
    book: Book | None = None
    version, vm_after, reservation_after = -1, "", 0
    while True:
        page = await ask(host, AuditAsk(vm_after, reservation_after))
        assert isinstance(page, Audit)
        if book is None:
            book = Book(name, page.cpu, page.cpu_used, page.memory_mb, page.memory_used_mb)
            version = page.version
        elif page.version != version:
            return None
        book.vms.extend(page.vms)
        book.reservations.extend(page.reservations)
        if not page.more:
            return book
        if page.vms:
            vm_after = page.vms[-1].vm_id
        if page.reservations:
            reservation_after = page.reservations[-1].reservation_id


def audit(books: Iterable[Book], promised: Iterable[str], vms: Mapping[str, str]) -> Verdict:
    """Compare books with promises: confirmed keys, and the front's VMs (id -> any text)."""
    books = list(books)
    holders: defaultdict[str, set[str]] = defaultdict(set)
    vm_ids: set[str] = set()
    rows = 0
    for book in books:
        rows += sum(1 for _ in book.rows())
        vm_ids.update(vm.vm_id for vm in book.vms)
        for row in book.confirmed():
            holders[row.key].add(book.name)
    return Verdict(
        lost=sorted(key for key in promised if key not in holders),
        doubled=sorted(key for key, names in holders.items() if len(names) > 1),
        faults=[fault for book in books if (fault := book.fault())],
        missing_vms=sorted(set(vms) - vm_ids),
        rows=rows,
    )
