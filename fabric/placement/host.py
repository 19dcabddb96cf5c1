"""What the fabric needs of a host: the protocol that ``agent`` implements.

The books are a deterministic state machine of their own, without I/O: they decide, and hand back
what must be durable before the answer may leave (:class:`Answer`).  The peer that holds them sends
``Answer.body`` as a promise behind ``Answer.writes``, so a reservation that was answered is found
again after ``kill -9``.  Nobody but the books decides about a host's capacity.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from fabric.machine import Message, Sink, Write
from fabric.tree.summary import Summary


@dataclass(slots=True)
class Answer:
    """A decided answer, and what must be on disk before it may be told."""

    body: Message
    writes: tuple[Write, ...] = ()


class HostBooks(Protocol):
    """Capacity, reservations and VMs of one host. All calls are synchronous and deterministic."""

    @property
    def due(self) -> int:
        """When :meth:`tick` wants to be called next (µs), ``NEVER`` if not at all."""

    def restore(self, stored: Iterable[tuple[bytes, bytes]], now: int, out: Sink) -> None:
        """Load what was durable (keys begin with ``b"host/"``), before anything else."""

    def summary(self) -> Summary:
        """Return this host's summary; the same object until something in it changes."""

    def reserve(self, ask: Message, now: int) -> Answer:
        """Re-check everything and reserve atomically: ``Reserved`` or ``HostRefused``."""

    def call(self, body: Message, token: int, now: int, out: Sink) -> Answer | None:
        """Carry out a host call (confirm, release, create or delete a VM, list, audit).

        ``None`` means: a hypervisor call was put out under ``token``; :meth:`driven` answers.
        """

    def driven(self, token: int, result: object, error: str | None, now: int, out: Sink) -> Answer:
        """Finish the host call ``token`` with what the hypervisor driver said."""

    def tick(self, now: int) -> tuple[Write, ...]:
        """Expire what is over. Returns the writes."""
