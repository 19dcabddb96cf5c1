"""Writes out the ``__init__`` of dataclasses, for mypyc.

A dataclass makes its ``__init__`` at run time, in plain Python, even where the class itself is
compiled: each message would be built by the interpreter.  ``dataclass`` leaves a written one alone,
so the compiled copy of a module has it written out, as in::

    def __init__(self, sender: int, message: Message) -> None:
        self.sender = sender
        self.message = message
"""

from __future__ import annotations

import ast


def with_inits(text: str) -> str:
    """Return the source ``text`` with an ``__init__`` written into each of its dataclasses."""
    lines = text.splitlines()
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    for cls in reversed(classes):
        if _is_open_dataclass(cls):
            last = max(node.end_lineno or 0 for node in cls.body)
            lines[last:last] = ["", *_init(cls)] if _fields(cls) else []
    return "\n".join([*lines, ""])


def _is_open_dataclass(cls: ast.ClassDef) -> bool:
    """Whether ``cls`` is a dataclass, not a frozen one, with an ``__init__`` of the usual kind."""
    decorators = [ast.unparse(decorator) for decorator in cls.decorator_list]
    plain = any(text.startswith("dataclass") and "frozen" not in text for text in decorators)
    fields = [ast.unparse(node) for node in _fields(cls)]
    odd = any("field(" in text or "ClassVar" in text for text in fields)
    return plain and not odd and not cls.bases and "__init__" not in _methods(cls)


def _methods(cls: ast.ClassDef) -> list[str]:
    return [node.name for node in cls.body if isinstance(node, ast.FunctionDef)]


def _fields(cls: ast.ClassDef) -> list[ast.AnnAssign]:
    return [node for node in cls.body if isinstance(node, ast.AnnAssign)]


def _init(cls: ast.ClassDef) -> list[str]:
    arguments, assignments = ["self"], []
    for node in _fields(cls):
        default = "" if node.value is None else f" = {ast.unparse(node.value)}"
        name = ast.unparse(node.target)
        arguments.append(f"{name}: {ast.unparse(node.annotation)}{default}")
        assignments.append(f"        self.{name} = {name}")
    return [f"    def __init__({', '.join(arguments)}) -> None:", *assignments]
