"""The command ``fabric``.

``main`` imports no more than the command needs, so that ``fabric version`` and ``fabric --help``
answer at once, and nothing at all of the package ``fabric`` before it knows that it is ours: SSH
Fabric installs a package of the same name, and whichever came last owns its ``__init__``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

#: A public name of our package, which its ``__init__`` must therefore mention.
_MARK = b"open_blocking"
#: Exit code 4: this machine does not give what is needed (see ``nodes.cli.output``).
_MACHINE = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    stranger = foreign_package()
    if stranger is not None and words[:1] != ["doctor"]:
        return _refuse(stranger, "--json" in words)
    from nodes.cli.run import run

    return run(words)


def foreign_package() -> Path | None:
    """Return where another distribution's package ``fabric`` hides ours; ``None`` if it is ours."""
    spec = importlib.util.find_spec("fabric")
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    if origin is None or origin.suffix != ".py" or _MARK in origin.read_bytes():
        return None
    return origin


def _refuse(stranger: Path, as_json: bool) -> int:
    message = (
        f"{stranger} belongs to another distribution (SSH Fabric?), not to gossip-fabric: "
        "see fabric doctor"
    )
    print(f"fabric: MissingDependency: {message}", file=sys.stderr)
    if as_json:
        data = {"field": "package", "value": str(stranger)}
        error = {"code": "MissingDependency", "message": message, "data": data}
        print(json.dumps({"error": error}))
    return _MACHINE
