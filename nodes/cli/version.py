"""``fabric version``: what is installed, without importing anything heavy."""

from __future__ import annotations

import platform
from importlib import metadata

from nodes.cli.output import Exit, Output
from nodes.config import Config

DISTRIBUTION = "gossip-fabric"


def installed_version() -> str:
    """Return the version of the installed distribution; a bare source tree has none."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0 (source tree, not installed)"


def run(config: Config, out: Output) -> int:
    """Print the version of Fabric and of Python."""
    version = installed_version()
    out.line(f"{DISTRIBUTION} {version} (Python {platform.python_version()})")
    out.object(
        {"distribution": DISTRIBUTION, "version": version, "python": platform.python_version()}
    )
    return Exit.OK
