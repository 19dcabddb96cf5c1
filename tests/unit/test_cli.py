"""The command line without a fabric: parsing, help, errors as one line, exit codes, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fabric import errors
from nodes.cli import foreign_package, main
from nodes.cli.commands import COMMANDS
from nodes.cli.output import EXIT_HELP, Exit, Output, exit_code


def test_help_teaches_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == Exit.OK
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command.name} " in text
    for code, meaning in EXIT_HELP.items():
        assert f"{int(code):>3}  {meaning}" in text


@pytest.mark.parametrize("group", sorted({c.name.split()[0] for c in COMMANDS if " " in c.name}))
def test_a_group_of_commands_explains_itself(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([group, "--help"]) == Exit.OK
    text = capsys.readouterr().out
    assert text.startswith(f"usage: fabric {group} COMMAND")
    for command in COMMANDS:
        assert (f"  {command.name} " in text) == command.name.startswith(f"{group} ")


def test_a_flag_of_one_call_cannot_be_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tree", "--no-watch"]) == Exit.USAGE
    assert main(["peer", "--no-candidate"]) == Exit.USAGE  # understood: it only joins nobody
    assert "needs --join" in capsys.readouterr().err


@pytest.mark.parametrize("name", [c.name for c in COMMANDS if not c.more])
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == Exit.OK
    text = capsys.readouterr().out
    assert text.startswith(f"usage: fabric {name}")
    assert "--json" in text


def test_version_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["distribution"] == "gossip-fabric"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tre"], "no command 'tre'; did you mean tree? (see: fabric --help)"),
        (["sim"], "fabric sim needs a command: sim run, sim replay, sim fuzz, sim shrink, sim"),
        (["version", "--loud"], "unrecognized arguments: --loud (see: fabric version --help)"),
        (["peer", "--leaf-max", "1"], "--leaf-max must be between 2 and 128 (was '1')"),
        (["peer", "--leaf", "1"], "unrecognized arguments: --leaf 1 (see: fabric peer --help)"),
        (["peer", "--config", "/none.toml"], "/none.toml: cannot be read: No such file or dire"),
        (["place", "--cpu", "0"], "--cpu must be between 1 and"),
        (["release"], "the following arguments are required: PLACEMENT"),
    ],
)
def test_bad_input_is_one_clear_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"fabric: InvalidConfig: {message}")
    assert captured.err.count("\n") == 1


def test_error_in_a_configuration_file_names_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fabric.toml"
    file.write_text('listen = "tcp://127.0.0.1:0"\nleaf_maks = 3\n')
    assert main(["peer", "--config", str(file)]) == Exit.USAGE
    assert capsys.readouterr().err == (
        f"fabric: InvalidConfig: {file}, line 2: leaf_maks is no setting (was 3); "
        "did you mean leaf_max?\n"
    )


def test_error_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peer", "--listen", "nowhere", "--json"]) == Exit.USAGE
    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert error["code"] == "InvalidConfig"
    assert error["data"]["field"] == "listen"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), Exit.USAGE),
        (errors.OwnerUnknown("x"), Exit.UNAVAILABLE),
        (errors.AddressInUse("x"), Exit.MACHINE),
        (errors.Refused("x"), Exit.REFUSED),
        (errors.CheckFailed("x"), Exit.CHECK_FAILED),
        (errors.NotBuiltYet("x"), Exit.REFUSED),
        (errors.FabricError("x"), Exit.BUG),
    ],
)
def test_exit_code_of_an_error(error: errors.FabricError, code: Exit) -> None:
    assert exit_code(error) is code


def test_table_aligns_numbers_right(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).table(("name", "free"), [("a", 5), ("long name", 1000)])
    assert capsys.readouterr().out.splitlines() == [
        "name       free",
        "a             5",
        "long name  1000",
    ]


def test_with_json_people_read_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=True)
    out.line("for people")
    out.object({"for": "programs"})
    captured = capsys.readouterr()
    assert captured.out == '{"for":"programs"}\n'
    assert captured.err == "for people\n"


def test_doctor_finds_what_the_tests_run_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == Exit.OK
    result = json.loads(capsys.readouterr().out)
    names = {finding["name"]: finding for finding in result["findings"]}
    assert result["ok"] and result["missing"] == []
    assert names["storage"]["ok"] and names["libzmq"]["ok"]
    for finding in result["findings"]:
        assert finding["ok"] or finding["how"]


def test_version_imports_nothing_heavy() -> None:
    code = (
        "import sys; from nodes.cli import main; main(['version'])\n"
        "heavy = {'zmq', 'lmdb', 'aiohttp', 'kazoo', 'rich', 'asyncio', 'sim'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_told_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(words: list[str], out: Output) -> int:
        raise ModuleNotFoundError("No module named 'lmdb'", name="lmdb")

    monkeypatch.setattr("nodes.cli.run._run", absent)
    assert main(["demo"]) == Exit.MACHINE
    assert "lmdb is not installed (see: fabric doctor)" in capsys.readouterr().err


def test_a_package_of_the_same_name_is_told_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = tmp_path / "fabric" / "__init__.py"
    stranger.parent.mkdir()
    stranger.write_text("from .connection import Connection\n")
    assert foreign_package() is None
    monkeypatch.delitem(sys.modules, "fabric")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert foreign_package() == stranger
    assert main(["version", "--json"]) == Exit.MACHINE
    captured = capsys.readouterr()
    assert f"{stranger} belongs to another distribution" in captured.err
    assert json.loads(captured.out)["error"]["code"] == "MissingDependency"
