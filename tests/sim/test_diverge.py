"""Runs under other hash seeds and interpreters: the same, and if not, the first event is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fabric.errors import ScenarioError
from sim import compiled, diverge
from sim.diverge import HASH_SEEDS, Variant, campaign, first_difference, observe
from sim.fuzz import Results
from sim.run import run
from sim.save import to_toml
from sim.scenario import Scenario
from sim.trace import WINDOW

SCENARIO = Scenario(hosts=20, duration_s=20, seed=3, place_rate=5)
ONE, OTHER = (Variant(sys.executable, seed) for seed in HASH_SEEDS)

#: An interpreter whose peers do something that depends on the hash seed, after fifteen seconds.
INTERPRETER = f"""\
#!{sys.executable}
import runpy, sys
from fabric.peer.compose import Peer

receive = Peer.receive
offset = hash("x") % 1000  # what the order of a set of texts would come to

def receive_with_bug(self, sender, message, now, out):
    receive(self, sender, message, now, out)
    if self.me.address == "sim://host-7" and 15_000_000 < now - 1_700_000_000_000_000 < 15_500_000:
        out.wake(now + 100_000 + offset)

Peer.receive = receive_with_bug
sys.argv[:] = ["sim.diverge", *sys.argv[sys.argv.index("-m") + 2 :]]
runpy.run_module("sim.diverge", run_name="__main__")
"""


@pytest.fixture
def interpreter(tmp_path: Path) -> str:
    path = tmp_path / "python"
    path.write_text(INTERPRETER)
    path.chmod(0o755)
    return str(path)


def test_two_hash_seeds_give_the_same_run() -> None:
    assert first_difference(SCENARIO, ONE, OTHER) is None


def test_a_planted_nondeterminism_is_named(interpreter: str) -> None:
    one, other = (Variant(interpreter, seed) for seed in HASH_SEEDS)
    found = first_difference(SCENARIO, one, other)
    assert found is not None
    assert found.window >= 1
    for line in (found.one, found.other):
        at, _, name, what = line.split()[:4]
        assert 14.9 < float(at) < 15.6
        assert (name, what) == ("host-7", "wake")
    assert found.one != found.other
    assert len(found.before) == diverge.CONTEXT
    assert first_difference(SCENARIO, one, one) is None


def test_the_command_tells_where_an_interpreter_differs(
    interpreter: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(to_toml(SCENARIO))
    words = {"what": str(path), "hash_seeds": "0", "compiled": "no", "json": True}
    assert diverge.main({**words, "python": [interpreter]}) == 5
    captured = capsys.readouterr()
    _, other = json.loads(captured.out.splitlines()[-1])["difference"]
    assert "host-7   wake" in other
    assert "first difference: word " in captured.err


def test_a_campaign_names_the_seeds_that_differ(
    interpreter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(seed: int) -> Scenario:  # the planted bug strikes host 7, which seed 1 has not
        return Scenario(hosts=6 if seed == 1 else 9, duration_s=17, seed=seed)

    monkeypatch.setattr(diverge, "swarm", draw)
    told: list[int] = []
    assert campaign([1, 2], [ONE, OTHER], 2, told.append) == []
    assert told == [2, 4]
    assert campaign([1, 2], [ONE, Variant(interpreter, "0")], 2) == [2]


def test_a_campaign_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diverge, "swarm", lambda seed: Scenario(hosts=3, duration_s=3, seed=seed))
    asked: list[int] = []
    ask = Variant.ask

    def counted(self: Variant, scenarios: list[Scenario], window: int = -1) -> list[dict[str, Any]]:
        asked.extend(scenario.seed for scenario in scenarios)
        return ask(self, scenarios, window)

    monkeypatch.setattr(Variant, "ask", counted)
    results = Results(tmp_path, "these")
    assert campaign([1, 2], [ONE, OTHER], 1, results=results) == []
    results.close()
    again = Results(tmp_path, "these")
    told: list[int] = []
    assert campaign([1, 2, 3], [ONE, OTHER], 1, told.append, again) == []
    again.close()
    assert asked == [1, 2, 1, 2, 3, 3]
    assert told == [5, 6]


def test_observing_changes_nothing() -> None:
    plain = run(SCENARIO)
    seen = observe(SCENARIO)
    assert seen["hash"] == plain.trace_hash == seen["windows"][-1]
    logged = observe(SCENARIO, len(seen["windows"]) - 2)
    assert len(logged["words"]) >= WINDOW
    assert logged["lines"][-1][0] <= len(logged["words"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"what": "1", "seeds": "1..2"}, "give either"),
        ({}, "give either"),
        ({"what": "1", "hash_seeds": "0"}, "only one way to run"),
        ({"what": "1", "hash_seeds": "0,-1"}, "must be from 0"),
        ({"what": "1", "python": ["/nowhere/python"]}, "/nowhere/python, .*No such file"),
        ({"what": "1", "python": ["/bin/false"]}, "cannot run"),
    ],
)
def test_bad_input_is_refused(words: dict[str, object], says: str) -> None:
    defaults = {"hash_seeds": "0", "python": [], "compiled": "no"}
    with pytest.raises(ScenarioError, match=says):
        diverge.main({**defaults, **words})


def test_a_core_that_is_not_built_is_not_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled, "problem", lambda: "not built: run `make compiled`")
    words = {"hash_seeds": "0,1", "python": [], "compiled": "auto"}
    assert [v.compiled for v in diverge.variants_from(words, sys.stderr)] == [False, False]
    assert "not compared with the compiled core" in capsys.readouterr().err
    with pytest.raises(ScenarioError, match="make compiled"):
        diverge.variants_from({**words, "compiled": "yes"}, sys.stderr)
