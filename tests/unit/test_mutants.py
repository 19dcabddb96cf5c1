"""The catalogue of planted bugs fits the code, and the hunt for them does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.mutants import report
from sim.mutants.catalogue import SUBJECTS, all_mutants
from sim.mutants.hunt import Catch, checkout
from sim.mutants.mutant import Edit, Mutant, StaleMutant


@pytest.mark.parametrize("mutant", all_mutants(), ids=lambda mutant: mutant.name)
def test_each_mutant_fits_the_code_and_leaves_python(mutant: Mutant, tmp_path: Path) -> None:
    for edit in mutant.edits:
        copy = tmp_path / edit.file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((checkout() / edit.file).read_text(encoding="utf-8"), encoding="utf-8")
    mutant.apply(tmp_path)
    for edit in mutant.edits:
        source = (tmp_path / edit.file).read_text(encoding="utf-8")
        compile(source, edit.file, "exec")


def test_names_are_unique() -> None:
    names = [mutant.name for mutant in all_mutants()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("text", ["", "a = 1\na = 1\n"])
def test_a_mutant_that_does_not_fit_once_is_no_mutant(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(text)
    mutant = Mutant("m", "nothing", (Edit("x.py", "a = 1\n", "a = 2\n"),))
    with pytest.raises(StaleMutant, match=r"m: its text stands \d times in x.py"):
        mutant.apply(tmp_path)
    assert (tmp_path / "x.py").read_text() == text


def test_the_page_lists_every_mutant_and_says_what_was_missed() -> None:
    catches = [Catch(mutant.name, "two-owners", "", 3, 4) for mutant in all_mutants()]
    catches[0] = Catch(catches[0].name, seeds=40)
    sound = [Catch("unchanged", seeds=20, arena="swarm"), Catch("unchanged", seeds=40)]
    page = report.markdown(catches, sound, 40)
    assert "passes the same seeds of all arenas (60 runs)" in page
    assert f"**{len(catches) - 1} of {len(catches)} caught" in page
    assert page.count("**missed**") == 1
    for subject, mutants in SUBJECTS.items():
        assert f"## {subject}\n" in page
        assert all(f"| {mutant.name} |" in page for mutant in mutants)
