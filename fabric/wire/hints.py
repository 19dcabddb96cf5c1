"""The annotations of a record's fields, also where mypyc compiled its class.

Wire form and fingerprints are made from annotations (``Annotated[tuple[News, ...], many(64)]``).
mypyc keeps only their bare types (``tuple``), so for a compiled class they are read again from the
source that lies beside the shared object.
"""

from __future__ import annotations

import ast
import pkgutil
import sys
import typing
from typing import Any


def field_hints(cls: type[Any]) -> dict[str, Any]:
    """Return the full annotations of ``cls`` by field, bounds included."""
    module = sys.modules[cls.__module__]
    if str(module.__file__).endswith(".py"):
        return typing.get_type_hints(cls, include_extras=True)
    package, _, name = cls.__module__.rpartition(".")
    source = pkgutil.get_data(package, f"{name}.py")
    if source is None:
        raise TypeError(f"the source of {cls.__module__} is not beside its compiled form")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            return {
                field.target.id: eval(ast.unparse(field.annotation), vars(module))
                for field in node.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            }
    raise TypeError(f"{cls.__qualname__} is not at the top of {cls.__module__}")
