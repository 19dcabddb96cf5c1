"""One tree of errors. Each knows its machine-readable code and its HTTP status.

Raise the most exact one; catch :class:`FabricError` at the edge.  ``data`` names what was wrong
(field, value, limit) as strings, so that a client can act on it without parsing the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class FabricError(Exception):
    """Everything Fabric raises on purpose."""

    code: ClassVar[str] = "InternalError"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str = "", data: Mapping[str, str] | None = None) -> None:
        super().__init__(message or self.code)
        self.message = message or self.code
        self.data: dict[str, str] = dict(data or {})


# --- what the caller gave us ----------------------------------------------------------------------


class BadInput(FabricError):
    """Something given from outside is not acceptable: says which field, which value and why."""

    code = "InvalidEntity"
    http_status = 400


class ConfigError(BadInput):
    """A flag, environment variable or configuration file holds something impossible."""

    code = "InvalidConfig"


class ScenarioError(BadInput):
    """A simulation scenario cannot be run as written."""

    code = "InvalidScenario"


class CompiledCoreError(BadInput):
    """The compiled core of the simulator is missing, out of date, or cannot be made here."""

    code = "CompiledCoreUnusable"


class BadFrame(BadInput):
    """Bytes from the wire are no message. Costs a counter, never more."""

    code = "BadFrame"


# --- what the machine or its surroundings refuse --------------------------------------------------


class EdgeError(FabricError):
    """The operating system, disk or network does not give what a peer needs."""

    code = "EdgeError"
    http_status = 503


class AddressInUse(EdgeError):
    code = "AddressInUse"


class NodeIdInUse(EdgeError):
    """Another process runs under our node id. ``data``: node_id, address, other_address."""

    code = "NodeIdInUse"


class DataDirectoryError(EdgeError):
    """A data directory is unwritable, of another node, of a newer version, or in use."""

    code = "DataDirectoryError"


class ForeignData(EdgeError):
    """A node of the coordinator is not what Fabric writes: by hand, or by a newer version."""

    code = "ForeignData"

    @classmethod
    def at(cls, node: str, why: str) -> ForeignData:
        """Say which node it is and what is wrong with it."""
        return cls(f"coordinator node {node} {why}", {"node": node, "reason": why})


class StorageError(EdgeError):
    """A disk write failed: the promise that hung on it is not made."""

    code = "StorageError"


class CorruptData(StorageError):
    """Stored bytes do not match their checksum. They are never served."""

    code = "CorruptData"


class StoreFull(StorageError):
    """The store is down to its reserve of disk space: it refuses writes and still serves reads."""

    code = "StoreFull"


class MissingDependency(EdgeError):
    """An optional package or program is not installed; the message says how to get it."""

    code = "MissingDependency"


# --- keys -----------------------------------------------------------------------------------------


class KeyFileError(EdgeError):
    """A key file is missing, damaged, readable by others, or does not belong to the rest."""

    code = "KeyFileError"


class Untrusted(FabricError):
    """A certificate is not good here; subclasses say why."""

    code = "Untrusted"
    http_status = 403


class OtherCluster(Untrusted):
    """It was issued by another cluster's key, or for another cluster's name."""

    code = "OtherCluster"


class CertificateExpired(Untrusted):
    code = "CertificateExpired"


class CertificateRevoked(Untrusted):
    code = "CertificateRevoked"


class KeysMissing(Untrusted):
    """One side has keys, and the other has none."""

    code = "KeysMissing"


class NotPermitted(Untrusted):
    """The certificate of whoever asks does not give the right to. ``data``: node_id, needs."""

    code = "NotPermitted"


class IncompatibleVersion(Untrusted):
    """The other side speaks a version of the wire that is too far from ours."""

    code = "IncompatibleVersion"


# --- what the fabric answers ----------------------------------------------------------------------


class Unavailable(FabricError):
    """No answer could be had in time; the request may be tried again under the same key."""

    code = "Unavailable"
    http_status = 503


class OwnerUnknown(Unavailable):
    """A cell that had to be asked has no known owner right now."""

    code = "OwnerUnknown"


class DeadlineExceeded(Unavailable):
    code = "DeadlineExceeded"


class Overloaded(Unavailable):
    """A bounded queue is full."""

    code = "Overloaded"


class Refused(FabricError):
    """No host can take the placement, and that is proven. ``explanation`` says why."""

    code = "NoSuchResource"
    http_status = 400

    def __init__(
        self,
        message: str = "",
        data: Mapping[str, str] | None = None,
        explanation: object = None,
    ) -> None:
        super().__init__(message, data)
        self.explanation = explanation


class UnknownReservation(FabricError):
    """The reservation expired, was released, or never was."""

    code = "UnknownReservation"
    http_status = 404


class Conflict(FabricError):
    """Another owner, attempt or version holds what was asked for."""

    code = "Conflict"
    http_status = 409


class HypervisorError(FabricError):
    """The hypervisor did not do what the agent asked of it."""

    code = "HypervisorError"
    http_status = 502


class NotFound(FabricError):
    code = "NotFound"
    http_status = 404


class CheckFailed(FabricError):
    """Something that must hold did not: in a demonstration, an audit, a simulation."""

    code = "CheckFailed"


# --- what the store answers -----------------------------------------------------------------------


class AlreadyExists(Conflict):
    """A document of this kind and id is there already."""

    code = "AlreadyExists"


class NameTaken(FabricError):
    """Another object of the same scope has the name. ``data``: scope, name."""

    code = "NameTaken"
    http_status = 400


class QuotaError(FabricError):
    """A debit would exceed a limit. ``data``: kind, id, key, limit, usage, newUsage."""

    code = "QuotaError"
    http_status = 400


class ContainerNotEmpty(FabricError):
    """Something still belongs to what was to be deleted. ``data``: kind, id of one such thing."""

    code = "ContainerNotEmpty"
    http_status = 400


class NotLeader(Unavailable):
    """This replica does not lead the shard. ``data["leader"]`` is a hint, if there is one."""

    code = "NotLeader"


class OutcomeUnknown(Unavailable):
    """The transaction may or may not be carried out; ask again under the same key."""

    code = "OutcomeUnknown"


# --- what is not there ----------------------------------------------------------------------------


class NotBuiltYet(FabricError):
    """Planned, described, not there. The README's status table says the same."""

    code = "NotBuiltYet"
    http_status = 501


_BY_CODE: dict[str, type[FabricError]] = {}


def _collect(cls: type[FabricError]) -> None:
    _BY_CODE.setdefault(cls.code, cls)
    for child in cls.__subclasses__():
        _collect(child)


def error_from_code(code: str, message: str, data: Mapping[str, str] | None = None) -> FabricError:
    """Rebuild an error that came over the wire; an unknown code gives a :class:`FabricError`."""
    if not _BY_CODE:
        _collect(FabricError)
    cls = _BY_CODE.get(code)
    if cls is None:
        _collect(FabricError)
        cls = _BY_CODE.get(code, FabricError)
    return cls(message, data)
