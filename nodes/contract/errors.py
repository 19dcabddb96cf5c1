"""Coded errors of the Photon v1 contract: the branch of Fabric's error tree that REST clients see.

Codes, HTTP statuses and message texts are the contract's; clients compare them.  What the fabric
and its store know too (``NotFound``, ``InvalidEntity``, ``NameTaken``, ``QuotaError``...) are
:mod:`fabric.errors` classes.  All classes keep the base constructor, so that an error that came
over the wire can be rebuilt; the functions build the contract's texts.  The same error may be
answered directly or be kept in a failed step of a task.
"""

from __future__ import annotations

from typing import Any

from fabric.errors import BadInput, ContainerNotEmpty, FabricError, NameTaken, NotFound

# --- the request itself ---------------------------------------------------------------------------


class InvalidJson(BadInput):
    """The body is no JSON, a member has the wrong JSON type, or an enum an unknown member."""

    code = "InvalidJson"


class InvalidQueryParams(BadInput):
    code = "InvalidQueryParams"


class InvalidPageSize(BadInput):
    code = "InvalidPageSize"


class PageExpired(NotFound):
    code = "PageExpired"


class UnsupportedMediaType(BadInput):
    """A body that is not labelled as JSON."""

    code = "UnsupportedMediaType"
    http_status = 415


class MethodNotAllowed(BadInput):
    code = "MethodNotAllowed"
    http_status = 405


class RequestTooLarge(BadInput):
    code = "RequestTooLarge"
    http_status = 413


# --- entities and their states --------------------------------------------------------------------


class StateError(BadInput):
    """The operation is not permitted in the entity's present state."""

    code = "StateError"


class ConcurrentTask(BadInput):
    """Another unfinished task holds the entity's lock."""

    code = "ConcurrentTask"


class InvalidResourceTicketSubdivide(BadInput):
    code = "InvalidResourceTicketSubdivide"


class ResourceTicketNotFound(NotFound):
    code = "ResourceTicketNotFound"


class FlavorNotFound(NotFound):
    code = "FlavorNotFound"


class InvalidFlavor(BadInput):
    """A spec names a flavor that does not exist for its kind."""

    code = "InvalidFlavor"


class InvalidFlavorState(BadInput):
    code = "InvalidFlavorState"


class ImageNotFound(NotFound):
    code = "ImageNotFound"


class VmNotFound(NotFound):
    code = "VmNotFound"


# --- what a step may fail with --------------------------------------------------------------------


class NotEnoughCpuResource(BadInput):
    code = "NotEnoughCpuResource"


class NotEnoughMemoryResource(BadInput):
    code = "NotEnoughMemoryResource"


class NotEnoughDatastoreCapacity(BadInput):
    code = "NotEnoughDatastoreCapacity"


class UnfullfillableAffinities(BadInput):
    """The spelling with double l is the wire value."""

    code = "UnfullfillableAffinities"


class NetworkNotFound(NotFound):
    code = "NetworkNotFound"


# --- the contract's texts -------------------------------------------------------------------------


def invalid_json(detail: str) -> InvalidJson:
    return InvalidJson(f"The supplied JSON could not be parsed: {detail}")


def not_found(cls: type[NotFound], label: str, entity_id: str) -> NotFound:
    """Build the 404 for an id: every kind's message and data have the same shape."""
    return cls(f"{label} id '{entity_id}' not found", {"id": entity_id})


def name_taken(kind: str, name: str) -> NameTaken:
    label = kind.replace("-", " ")
    return NameTaken(f"{label[:1].upper()}{label[1:]} name '{name}' already taken")


def state_error(operation: str, kind: str, entity_id: str, state: str) -> StateError:
    return StateError(
        f"Invalid operation {operation} for {kind}/{entity_id} in state {state}",
        {"id": entity_id, "kind": kind, "operation": operation, "state": state},
    )


def container_not_empty(kind: str, entity_id: str, what: str) -> ContainerNotEmpty:
    message = f"{kind} {entity_id} still has {what}"
    return ContainerNotEmpty(message, {"kind": kind, "id": entity_id, "message": message})


def invalid_flavor(kind: str, name: str) -> InvalidFlavor:
    return InvalidFlavor(
        f"Flavor {name} is not found for kind {kind}", {"kind": kind, "flavor": name}
    )


def to_json(error: FabricError) -> dict[str, Any]:
    """Render the contract's ``ApiError``."""
    return {"code": error.code, "message": error.message, "data": dict(error.data)}
