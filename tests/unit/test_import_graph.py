"""Who may import whom, and what protocol code may not touch: read from the source, not by running.

Two rules keep the protocols deterministic and the layers apart:

* ``fabric`` <- ``agent`` <- ``nodes``, and ``sim`` sees ``fabric``, ``agent`` and the role machines
  of ``nodes``.  ``nodes`` reaches ``sim`` only from the command line's own modules, in functions.
* Modules outside :data:`EDGE` are protocol: no clock, no randomness, no sockets, no threads, at
  module or function level, and no import of an edge module at module level.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("fabric", "agent", "nodes", "sim")

#: Modules (and everything below them) that touch the world.
EDGE = {
    "fabric",  # __init__: the public names, loaded when first used
    "fabric.adopting",
    "fabric.api",
    "fabric.blocking",
    "fabric.client",
    "fabric.cloudstore.storage",
    "fabric.coordination.embedded",
    "fabric.coordination.ensemble",
    "fabric.coordination.memory",
    "fabric.coordination.nodes",
    "fabric.coordination.registry",
    "fabric.coordination.service_nodes",
    "fabric.coordination.service_rows",
    "fabric.coordination.session",
    "fabric.coordination.watchdog",
    "fabric.coordination.zookeeper",
    "fabric.runtime",
    "fabric.storage",
    "fabric.survey",
    "fabric.transport",
    "agent",  # __init__: the public names
    "agent.host",
    "agent.drivers.simulated_edge",
}
#: In ``fabric`` and ``agent`` an edge name covers its submodules, except these two themselves.
EXACT = {"fabric", "agent"}
#: The protocol part of ``nodes``: role machines, driven by the simulator too.
ROLE_MACHINES = "nodes.roles"

FORBIDDEN = {
    *("aiohttp", "aiozmq", "asyncio", "concurrent", "datetime", "fcntl", "kazoo", "lmdb"),
    *("multiprocessing", "os", "pathlib", "queue", "random", "secrets", "select", "selectors"),
    *("signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "uuid", "zmq"),
}


class Import(NamedTuple):
    importer: str
    imported: str
    line: int
    in_function: bool
    for_types: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports_of(module: str, tree: ast.AST) -> Iterator[Import]:
    def walk(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, child.lineno, in_function, for_types)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}:{child.lineno}: relative import"
                assert child.module is not None
                for alias in child.names:
                    name = f"{child.module}.{alias.name}"
                    imported = name if name in MODULES else child.module
                    yield Import(module, imported, child.lineno, in_function, for_types)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, in_function or function, for_types or is_type_checking(child))

    return walk(tree, False, False)


IMPORTS = [
    found
    for module, path in MODULES.items()
    for found in imports_of(module, ast.parse(path.read_text(), str(path)))
]


def is_edge(module: str) -> bool:
    if module in EDGE:
        return True
    parts = module.split(".")
    above = {".".join(parts[:i]) for i in range(1, len(parts))}
    return bool(above & (EDGE - EXACT))


def is_protocol(module: str) -> bool:
    package = module.split(".", 1)[0]
    if package in ("fabric", "agent"):
        return not is_edge(module)
    return module == ROLE_MACHINES or module.startswith(ROLE_MACHINES + ".")


def allowed_layer(found: Import) -> bool:
    source, target = found.importer.split(".", 1)[0], found.imported.split(".", 1)[0]
    if source == target or target not in PACKAGES:
        return True
    if source == "fabric":
        return False
    if source == "agent":
        return target == "fabric"
    if source == "nodes":
        return target in ("fabric", "agent") or found.in_function or found.for_types
    role_machine = found.imported.startswith(ROLE_MACHINES)
    return target in ("fabric", "agent") or role_machine


def report(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def test_layers_import_in_one_direction() -> None:
    breaches = [found for found in IMPORTS if not allowed_layer(found)]
    assert not breaches, report(breaches)


def test_protocol_code_touches_nothing_outside() -> None:
    breaches = [
        found
        for found in IMPORTS
        if is_protocol(found.importer) and found.imported.split(".", 1)[0] in FORBIDDEN
    ]
    assert not breaches, report(breaches)


def test_protocol_code_imports_no_edge() -> None:
    breaches = [
        found
        for found in IMPORTS
        if is_protocol(found.importer) and is_edge(found.imported) and not found.for_types
    ]
    assert not breaches, report(breaches)


def test_nothing_installed_imports_what_is_not() -> None:
    strangers = {"tests", "benchmarks", "tools", "conftest", "pytest", "hypothesis"}
    breaches = [found for found in IMPORTS if found.imported.split(".", 1)[0] in strangers]
    assert not breaches, report(breaches)


def test_every_edge_module_exists() -> None:
    assert set(MODULES) >= EDGE


@pytest.mark.parametrize(
    ("code", "imported"),
    [
        ("def f():\n    import time", "time"),
        ("class A:\n    async def f(self):\n        from os import path", "os"),
        ("try:\n    import socket\nexcept ImportError: pass", "socket"),
    ],
)
def test_the_reader_finds_imports_at_every_level(code: str, imported: str) -> None:
    assert [found.imported for found in imports_of("m", ast.parse(code))] == [imported]


@pytest.mark.parametrize("package", ["fabric", "agent"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    code = f"import sys, {package}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = {name.split(".", 1)[0] for name in done.stdout.split()}
    heavy = {"zmq", "aiozmq", "lmdb", "aiohttp", "kazoo", "pyVmomi", "asyncio", "rich"}
    assert not loaded & heavy
