"""Settings: precedence of the three sources, and errors that say what, where and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabric.errors import ConfigError
from nodes.config import Config, resolve, unknown_environment
from nodes.settings import SETTINGS, Kind

CELLS = ("leaf_min", "leaf_max")


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "fabric.toml"
    path.write_text(text)
    return str(path)


def refused(tmp_path: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        resolve(CELLS, {}, {}, write(tmp_path, text))
    return caught.value


def test_defaults_when_nobody_says_anything() -> None:
    config = resolve(("listen", "join", "candidate", "leaf_max"), {}, {})
    assert config.text("listen") == "tcp://127.0.0.1:0"
    assert config.names("join") == ()
    assert config.flag("candidate") is False
    assert config.number("leaf_max") == 32
    assert not config.given("leaf_max")


def test_flags_override_environment_which_overrides_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "leaf_max = 10\nleaf_min = 5\ntimeout_s = 3\n")
    wanted = (*CELLS, "timeout_s")
    config = resolve(
        wanted, {"leaf_max": "12"}, {"FABRIC_LEAF_MAX": "11", "FABRIC_LEAF_MIN": "6"}, file
    )
    assert config.number("leaf_max") == 12
    assert config.number("leaf_min") == 6
    assert config.seconds("timeout_s") == 3.0


def test_every_setting_can_be_given_in_all_three_ways(tmp_path: Path) -> None:
    samples: dict[Kind, tuple[str, str]] = {
        Kind.INT: ("40", "40"),
        Kind.SECONDS: ("4.5", "4.5"),
        Kind.FLAG: ("true", "true"),
        Kind.PATH: ("some/where", '"some/where"'),
        Kind.COORDINATOR: ("zookeeper://127.0.0.1", '"zookeeper://127.0.0.1"'),
        Kind.ADDRESS: ("tcp://127.0.0.1:1", '"tcp://127.0.0.1:1"'),
        Kind.ADDRESSES: ("tcp://127.0.0.1:1", '["tcp://127.0.0.1:1"]'),
        Kind.HTTP: ("127.0.0.1:1", '"127.0.0.1:1"'),
        Kind.NAMES: ("a,b", '["a", "b"]'),
        Kind.NODE: ("2a", '"2a"'),
    }
    for name, setting in SETTINGS.items():
        text, toml = samples.get(setting.kind, ("", ""))
        if setting.kind is Kind.TEXT:
            text = setting.choices[0] if setting.choices else "x"
            toml = f'"{text}"'
        values = [
            resolve((name,), {name: text}, {}).values[name],
            resolve((name,), {}, {setting.env: text}).values[name],
            resolve((name,), {}, {}, write(tmp_path, f"{name} = {toml}\n")).values[name],
        ]
        assert values[0] == values[1] == values[2] != None, name  # noqa: E711


def test_error_of_a_file_names_file_line_key_value_and_reason(tmp_path: Path) -> None:
    error = refused(tmp_path, "# cells\nleaf_min = 4\n\nleaf_max = 900\n")
    assert error.message.endswith(
        "fabric.toml, line 4: leaf_max must be between 2 and 128 (was 900)"
    )
    assert error.data["field"] == "leaf_max"
    assert error.data["line"] == "4"
    assert error.data["file"].endswith("fabric.toml")


def test_unknown_key_is_refused_with_a_hint(tmp_path: Path) -> None:
    error = refused(tmp_path, 'leaf_max = 8\nleef_min = 4\n')
    assert "line 2: leef_min is no setting (was 4); did you mean leaf_min?" in error.message


def test_unknown_table_is_refused(tmp_path: Path) -> None:
    assert "line 1: cells is no setting" in refused(tmp_path, "[cells]\nmax = 3\n").message


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('leaf_max = "many"', "must be a whole number (was 'many')"),
        ("leaf_max = 8.5", "must be a whole number (was 8.5)"),
        ("leaf_max = true", "must be a whole number (was True)"),
        ("timeout_s = nan", "must be between 0.1 and 3600 (was nan)"),
        ("candidate = 1", "must be true or false (was 1)"),
        ('candidate = "maybe"', "must be true or false (was 'maybe')"),
        ('host = "vmware"', "must be one of: sim (was 'vmware')"),
        ('listen = "127.0.0.1:1"', "must look like tcp://127.0.0.1:7001"),
        ('listen = "tcp://127.0.0.1"', "must end with HOST:PORT"),
        ('listen = "tcp://127.0.0.1:99999"', "must have a port between 0 and 65535"),
        ('join = ["tcp://a:1", 7]', "must be a list of addresses"),
        ('node_id = "xyz"', "must be 16 hexadecimal digits, not all zero (was 'xyz')"),
        ('data_dir = ""', "must not be empty"),
        ("leaf_max = [1", "not valid TOML"),
    ],
)
def test_bad_values_are_refused_even_when_the_command_does_not_use_them(
    tmp_path: Path, line: str, reason: str
) -> None:
    assert reason in refused(tmp_path, line + "\n").message


def test_same_reason_from_flag_and_environment() -> None:
    with pytest.raises(ConfigError, match=r"^--leaf-max must be between 2 and 128 \(was '1'\)$"):
        resolve(CELLS, {"leaf_max": "1"}, {})
    with pytest.raises(
        ConfigError, match=r"^environment variable FABRIC_LEAF_MAX must be between 2 and 128"
    ):
        resolve(CELLS, {}, {"FABRIC_LEAF_MAX": "1"})


def test_bounds_that_no_split_can_keep_are_refused() -> None:
    with pytest.raises(ConfigError, match="two of at least leaf_min = 12"):
        resolve(CELLS, {"leaf_max": "20"}, {})
    assert resolve(CELLS, {"leaf_max": "3", "leaf_min": "2"}, {}).number("leaf_min") == 2


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        resolve(CELLS, {}, {}, str(tmp_path / "nowhere.toml"))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 0"):
        resolve(CELLS, {}, {}, str(binary))


def test_misspelt_environment_is_told_and_foreign_is_not() -> None:
    warnings = unknown_environment({"FABRIC_LEEF_MAX": "1", "FABRIC_CFG_PATH": "x", "HOME": "/"})
    assert len(warnings) == 1
    assert "did you mean FABRIC_LEAF_MAX" in warnings[0]


def test_getters_of_unset_settings() -> None:
    config: Config = resolve(("data_dir", "peer"), {}, {})
    assert config.path("data_dir") is None
    assert config.text("peer") == ""
