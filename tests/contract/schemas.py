"""Checks answers against the contract's schemas, copied into ``tests/data``.

Knows only what these schemas use of JSON Schema, and refuses to overlook anything else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

SCHEMAS: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "photon-v1-schemas.json").read_text()
)

_BY_PATH: Final = (
    (r"/status", "SystemStatus"),
    (r"/tasks|/.+/tasks", "TaskList"),
    (r"/tasks/[^/]+", "Task"),
    (r"/tenants", "TenantList"),
    (r"/tenants/[^/]+", "Tenant"),
    (r"/tenants/[^/]+/resource-tickets", "ResourceTicketList"),
    (r"/tenants/[^/]+/projects", "ProjectList"),
    (r"/resource-tickets/[^/]+", "ResourceTicket"),
    (r"/projects/[^/]+", "Project"),
    (r"/projects/[^/]+/vms", "VmList"),
    (r"/flavors", "FlavorList"),
    (r"/flavors/[^/]+", "Flavor"),
    (r"/vms/[^/]+", "Vm"),
)
_TYPES: Final[dict[str, Any]] = {
    "array": list,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "object": dict,
    "string": str,
}
_IGNORED: Final = {"description", "format", "default"}


def check_answer(method: str, path: str, status: int, body: Any) -> None:
    """Fail unless ``body`` is what the contract says of this answer."""
    if status >= 400:
        name = "ApiError"
    elif method != "GET":
        name = "Task"
    else:
        bare = path.partition("?")[0]
        name = next(name for pattern, name in _BY_PATH if re.fullmatch(pattern, bare))
    faults = list(_faults(SCHEMAS[name], body, name))
    assert not faults, faults


def _faults(schema: dict[str, Any], value: Any, at: str) -> list[str]:
    if "$ref" in schema:
        return _faults(SCHEMAS[schema["$ref"].rpartition("/")[2]], value, at)
    found: list[str] = []
    for word, wanted in schema.items():
        if word not in _IGNORED and not _RULES[word](wanted, value):
            found.append(f"{at}: {value!r:.80} breaks {word} {wanted!r:.80}")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        more = schema.get("additionalProperties", {} if not known else None)
        for key, inner in value.items():
            rule = known.get(key, more)
            if rule is None:
                found.append(f"{at}: nobody knows the member {key}")
            elif rule is not True:
                found += _faults(rule, inner, f"{at}.{key}")
    if isinstance(value, list) and "items" in schema:
        for index, inner in enumerate(value):
            found += _faults(schema["items"], inner, f"{at}[{index}]")
    return found


def _is(wanted: str | list[str], value: Any) -> bool:
    names = [wanted] if isinstance(wanted, str) else wanted
    return any(
        type(value) is int
        if name == "integer"
        else isinstance(value, _TYPES[name]) and (name == "boolean" or value is not True)
        for name in names
    )


_RULES: Final[dict[str, Any]] = {
    "type": _is,
    "enum": lambda wanted, value: value in wanted,
    "const": lambda wanted, value: value == wanted,
    "required": lambda wanted, value: set(wanted) <= set(value),
    "pattern": lambda wanted, value: re.search(wanted, value) is not None,
    "minLength": lambda wanted, value: len(value) >= wanted,
    "maxLength": lambda wanted, value: len(value) <= wanted,
    "minimum": lambda wanted, value: value is None or value >= wanted,
    "minItems": lambda wanted, value: len(value) >= wanted,
    "properties": lambda wanted, value: True,
    "additionalProperties": lambda wanted, value: True,
    "items": lambda wanted, value: True,
}
