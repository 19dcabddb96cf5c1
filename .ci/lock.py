"""Print pinned versions of all that Fabric and its development need, for ``requirements.lock``.

    python .ci/lock.py > requirements.lock

Asks pip to resolve ``pyproject.toml`` with its development extra afresh (nothing is installed) and
pins what it chose, so that every checkout gets the same versions.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

HEADER = """\
# Pinned versions for `make install`: run-time and development dependencies. Made by `make lock`.
"""


def main() -> int:
    project = tomllib.loads(Path("pyproject.toml").read_text())
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["dev"],
    ]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
    command += ["--ignore-installed", "--report", "-", *wanted]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    pins = sorted(
        f"{item['metadata']['name'].lower()}=={item['metadata']['version']}"
        for item in report["install"]
    )
    print(HEADER + "\n".join(pins))
    return 0


if __name__ == "__main__":
    sys.exit(main())
