"""What the fabric needs of a host: the protocols that ``agent`` implements.

The books are a deterministic state machine of their own, without I/O: they decide, and hand back
what must be durable before the answer may leave (:class:`Answer`).  The peer that holds them sends
``Answer.body`` as a promise behind ``Answer.writes``, so a reservation that was answered is found
again after ``kill -9``.  Nobody but the books decides about a host's capacity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fabric.machine import Contact, Message, Sink, Write
from fabric.tree.summary import Summary
from fabric.wire.placement import Reserve

#: Keys of everything that books store begin with this.
HOST_PREFIX = b"host/"


@dataclass(slots=True)
class Answer:
    """A decided answer, and what must be on disk before it may be told.

    Without a ``body`` the answer comes later, from :meth:`HostBooks.driven`; the writes are due.
    """

    body: Message | None
    writes: tuple[Write, ...] = ()


class HostBooks(Protocol):
    """Capacity, reservations and VMs of one host. All calls are synchronous and deterministic."""

    @property
    def due(self) -> int:
        """When :meth:`tick` wants to be called next (µs), ``NEVER`` if not at all."""

    def restore(self, stored: Iterable[tuple[bytes, bytes]], now: int, out: Sink) -> None:
        """Load what was durable (keys begin with :data:`HOST_PREFIX`), before anything else.

        Hypervisor calls that a crash interrupted are put out again.
        """

    def summary(self) -> Summary:
        """Return this host's summary; the same object until something in it changes."""

    def reserve(self, ask: Reserve, now: int) -> Answer:
        """Re-check everything and reserve atomically: ``Reserved`` or ``HostRefused``."""

    def call(self, body: Message, token: int, now: int, out: Sink) -> Answer:
        """Carry out a message of ``fabric.wire.host`` for the caller known here as ``token``."""

    def driven(
        self, op: int, result: Any, error: str | None, now: int, out: Sink
    ) -> Sequence[tuple[int, Answer]]:
        """Take what the hypervisor driver said of call ``op``: answers by caller token.

        Token 0 is nobody: only the writes matter.
        """

    def tick(self, now: int, out: Sink) -> tuple[Write, ...]:
        """Expire what is over, try again what failed. Returns the writes."""


class HostDriver(Protocol):
    """The hypervisor, as the runtime calls it."""

    async def execute(self, call: Any) -> Any:
        """Carry out one call that books put out with ``drive``. Idempotent.

        Returns the result for ``Driven.result``; raises ``FabricError``, whose code becomes
        ``Driven.error``.
        """

    async def close(self) -> None:
        """Let go of connections and files."""


class Host(Protocol):
    """What ``fabric.open(host=...)`` takes: a host's description that makes its parts."""

    def books(self, me: Contact) -> HostBooks:
        """Return empty books for the peer ``me``."""

    def driver(self, data_dir: str | None) -> HostDriver:
        """Return the driver; it keeps what it must remember below ``data_dir``, if given."""
