"""Build the wheel, install it in an empty environment, and run the README's Python there.

    python .ci/check_wheel.py

The environment gets the wheel and the pinned dependencies, nothing of the checkout: what only works
because the source tree is the current directory fails here.  Every fenced ``python`` block of the
README is run as its own program in an empty directory.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What a user gets, and nothing else: tests, benchmarks and tools stay in the checkout.
PACKAGES = {"fabric", "agent", "nodes", "sim"}


def run(*command: str | Path, cwd: Path) -> str:
    """Run ``command``; show what it said when it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"failed ({done.returncode}): {' '.join(map(str, command))}")
    return done.stdout


def build(into: Path) -> Path:
    """Build the wheel with this environment's setuptools and return its path."""
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", into, ROOT),
        cwd=into,
    )
    (wheel,) = into.glob("*.whl")
    return wheel


def check_contents(python: Path, cwd: Path) -> None:
    """Fail when something else than our packages was installed, or type information is missing."""
    code = (
        "from importlib.metadata import files\n"
        "print('\\n'.join(str(f) for f in files('gossip-fabric')))"
    )
    installed = run(python, "-c", code, cwd=cwd).split()
    tops = {name.split("/")[0] for name in installed if ".dist-info" not in name}
    tops -= {"..", "__pycache__"}  # the command, outside the packages' directory
    if tops != PACKAGES:
        raise SystemExit(f"the wheel installs {sorted(tops)}, not {sorted(PACKAGES)}")
    for package in PACKAGES:
        if f"{package}/py.typed" not in installed:
            raise SystemExit(f"the wheel lacks {package}/py.typed")


def main() -> int:
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    if not blocks:
        raise SystemExit("README.md holds no Python to run")
    with tempfile.TemporaryDirectory(prefix="fabric-wheel-") as name:
        scratch = Path(name)
        wheel = build(scratch)
        venv.create(scratch / "venv", with_pip=True)
        python = scratch / "venv" / "bin" / "python"
        quiet = ("--quiet", "--disable-pip-version-check")
        run(
            *(python, "-m", "pip", "install", *quiet, "-c", ROOT / "requirements.lock", wheel),
            cwd=scratch,
        )
        check_contents(python, scratch)
        print(run(scratch / "venv" / "bin" / "fabric", "version", cwd=scratch), end="")
        for number, block in enumerate(blocks, 1):
            program = scratch / f"readme_{number}.py"
            program.write_text(block)
            print(f"README.md, Python block {number}:")
            print(run(python, "-W", "error", program, cwd=scratch), end="")
    print(f"wheel checked: {wheel.name}, {len(blocks)} README blocks ran")
    return 0


if __name__ == "__main__":
    sys.exit(main())
