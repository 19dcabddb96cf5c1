"""How task machines try again, how they take back what a host holds, how errors are shown."""

from __future__ import annotations

from typing import Final

from fabric.errors import BadInput, FabricError
from fabric.machine import Contact
from fabric.wire import host as wire
from nodes.contract.entities import Attempt
from nodes.roles.actions import Ask, Pause

#: Tries of one call before a silent host, or a fabric without an answer, is given up.
MAX_TRIES: Final = 12
#: First pause between tries; doubled each time up to the longest.
_PAUSE_MS: Final = 100
_MAX_PAUSE_MS: Final = 5_000


def pause(tries: int) -> Pause:
    """Return the pause after ``tries`` failures."""
    return Pause(min(_PAUSE_MS << tries, _MAX_PAUSE_MS))


def shown(error: FabricError) -> FabricError:
    """Return the error as a step may show it: what the contract has no code for is internal."""
    if isinstance(error, BadInput) or error.code in ("NoSuchResource", "NetworkNotFound"):
        return error
    return FabricError(f"{error.code}: {error.message}")


def contact(attempt: Attempt) -> Contact:
    return Contact(attempt.node_id, attempt.address)


def confirm(attempt: Attempt) -> Ask:
    body = wire.Confirm(attempt.key, attempt.attempt, attempt.reservation_id)
    return Ask(contact(attempt), body)


def create(attempt: Attempt, vm_id: str, image_id: str) -> Ask:
    body = wire.CreateVm(vm_id, attempt.key, attempt.attempt, attempt.reservation_id, image_id)
    return Ask(contact(attempt), body)


def release(attempt: Attempt) -> Ask:
    """Ask for the reservation back, so that a late create finds nothing to consume."""
    body = wire.Release(attempt.key, attempt.attempt, attempt.reservation_id)
    return Ask(contact(attempt), body)


def remove(attempt: Attempt, vm_id: str) -> Ask:
    return Ask(contact(attempt), wire.DeleteVm(vm_id))
