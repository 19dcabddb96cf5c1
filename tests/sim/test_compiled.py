"""The compiled core does exactly what the plain one does. Skips where it is not built."""

import json
import subprocess
import sys

import pytest

from sim import compiled

COMMAND = (sys.executable, "-m", "sim.run", "--json")


def run(*words: str) -> dict[str, object]:
    done = subprocess.run(
        [*COMMAND, *words], cwd=compiled.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize(
    "words",
    [
        ("--hosts", "40", "--duration", "75", "--kill", "40", "--place-rate", "10", "--seed", "3"),
        ("--hosts", "24", "--duration", "20", "--place-rate", "10", "--loss-ppm", "50000"),
        ("--hosts", "12", "--duration", "12", "--place-rate", "5", "--fidelity"),
    ],
    ids=["crashes", "loss", "every hop encoded"],
)
def test_same_hash_plain_and_compiled(words: tuple[str, ...]) -> None:
    if compiled.problem():
        pytest.skip(f"SKIPPED, nothing compared: {compiled.problem()}")
    plain, fast = run(*words), run(*words, "--compiled")
    assert (plain["compiled"], fast["compiled"]) == (False, True)
    assert plain["messages"] and plain["events"]
    for figure in ("trace_hash", "events", "messages", "placements", "violations", "converged_s"):
        assert plain[figure] == fast[figure], figure


def test_a_core_of_other_sources_is_refused(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(compiled, "FOLDER", tmp_path)
    assert "not built" in compiled.problem()
    (tmp_path / "sources.sha256").write_text("of another time")
    assert "other sources" in compiled.problem()
    with pytest.raises(compiled.CompiledCoreError, match="make compiled"):
        compiled.start_anew()
