"""What commands print, and the exit codes.

People read lines on stdout.  With ``--json`` stdout holds only JSON, whose last line is one object
with the result, and everything meant for people goes to stderr.  An error is one clear line (code,
message, field), never a traceback; with ``--json`` the last line is ``{"error": {...}}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

from fabric.errors import BadInput, CheckFailed, EdgeError, FabricError, NotBuiltYet, Unavailable


class Exit(IntEnum):
    """The exit codes of ``fabric``. The table in ``fabric --help`` and the README is this one."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNAVAILABLE = 3
    MACHINE = 4
    CHECK_FAILED = 5
    BUG = 70
    INTERRUPTED = 130


EXIT_HELP: Final[Mapping[Exit, str]] = {
    Exit.OK: "done",
    Exit.REFUSED: "the fabric answered no: refused, not found, conflict, not built yet",
    Exit.USAGE: "bad input: a flag, environment variable, configuration or scenario file",
    Exit.UNAVAILABLE: "no answer in time; the same request may be tried again",
    Exit.MACHINE: "this machine does not give what is needed: port, directory, package",
    Exit.CHECK_FAILED: "something that must hold did not (demo, sim run)",
    Exit.BUG: "a bug in Fabric; the traceback is on stderr",
    Exit.INTERRUPTED: "ended by Ctrl-C, cleaned up",
}

_BY_ERROR: Final[tuple[tuple[type[FabricError], Exit], ...]] = (
    (BadInput, Exit.USAGE),
    (EdgeError, Exit.MACHINE),
    (Unavailable, Exit.UNAVAILABLE),
    (CheckFailed, Exit.CHECK_FAILED),
    (NotBuiltYet, Exit.REFUSED),
)


def exit_code(error: FabricError) -> Exit:
    """Return the exit code that tells of ``error``."""
    for cls, code in _BY_ERROR:
        if isinstance(error, cls):
            return code
    return Exit.BUG if type(error) is FabricError else Exit.REFUSED


class Output:
    """Where a command prints. One per run of ``main``."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def line(self, text: str = "") -> None:
        """Print a line for people."""
        print(text, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def note(self, text: str) -> None:
        """Print a line beside the result: a warning, a hint."""
        print(f"fabric: {text}", file=sys.stderr, flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print aligned columns; numbers to the right."""
        texts = [[str(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(header, *texts, strict=True)]
        right = [bool(rows) and all(isinstance(row[i], int) for row in rows)
                 for i in range(len(header))]
        for row in [list(header), *texts]:
            cells = [
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(row, widths, right, strict=True)
            ]
            self.line("  ".join(cells).rstrip())

    def object(self, value: Mapping[str, Any]) -> None:
        """Print one JSON object as a line, if JSON is wanted. The last one is the result."""
        if self.as_json:
            print(json.dumps(value, separators=(",", ":")), flush=True)

    def error(self, error: FabricError) -> None:
        """Print an error as one line; its message already names field, value and reason."""
        message = " ".join(error.message.split())
        print(f"fabric: {error.code}: {message}", file=sys.stderr, flush=True)
        self.object(
            {"error": {"code": error.code, "message": error.message, "data": error.data}}
        )

    def bug(self, error: Exception) -> None:
        """Say that this is our fault."""
        self.note(f"InternalError: {error!r}; this is a bug in Fabric, please report it")
        self.object({"error": {"code": "InternalError", "message": repr(error), "data": {}}})
