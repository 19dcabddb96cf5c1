"""From ``argv`` to a command and its resolved settings.

argparse only splits words and prints help; values stay raw texts and are read by
:mod:`nodes.config`, so that a bad flag, a bad environment variable and a bad TOML key give the same
error.  Only the command that is called gets its full parser (``sim run`` imports the simulator to
know its arguments); the others appear as one line of help.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NoReturn

from fabric.errors import ConfigError
from nodes.cli.commands import COMMANDS, Command
from nodes.cli.output import EXIT_HELP
from nodes.config import Config, Origin, parse, resolve
from nodes.settings import ENV_PREFIX, SETTINGS, Kind, Setting

#: The overview: what people want to do, and the first words of the commands for it.
GROUPS: Final = (
    ("run", ("peer", "up", "front", "demo")),
    ("see", ("status", "members", "tree", "events", "topology", "services")),
    ("use", ("place", "release")),
    ("secure", ("keys",)),
    ("simulate", ("sim",)),
    ("this installation", ("doctor", "version")),
)
#: What settings mean to a command that asks a peer; to one that runs they mean something else.
_ASKING: Final = {
    "data_dir": "ask the peer that runs on this directory",
    "keys": "directory of keys with which the peer lets us in; without keys, this machine only",
}


class HelpShown(Exception):
    """Help was asked for and printed; there is nothing more to do."""


class _Parser(argparse.ArgumentParser):
    """Raises our errors instead of exiting, and never guesses what ``--ca`` might mean."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see: {self.prog} --help)", {"field": "arguments"})

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise HelpShown


def parse_arguments(
    words: Sequence[str], environ: Mapping[str, str]
) -> tuple[Command, Config]:
    """Return the command that ``words`` name and its settings. Raises :class:`ConfigError`."""
    command, rest = _find_command(words)
    if command is None:
        _print_overview()
        raise HelpShown
    parser = _parser_of(command)
    given = vars(parser.parse_args(rest))
    file = given.pop("config", None) or environ.get(ENV_PREFIX + "CONFIG")
    config = resolve(command.settings, given, environ, file, command.defaults)
    for argument in command.arguments:
        raw = given.get(argument.name)
        config.values[argument.name] = (
            argument.default if raw is None else parse(argument, raw, Origin(_shown(argument)))
        )
    own = {*command.settings, *(argument.name for argument in command.arguments)}
    config.extra = {key: value for key, value in given.items() if key not in own}
    return command, config


def _find_command(words: Sequence[str]) -> tuple[Command | None, list[str]]:
    """Split off the command. ``None`` if only help is wanted."""
    if words and words[0] in ("--version", "-V"):
        words = ["version", *words[1:]]
    for command in COMMANDS:
        name = command.name.split()
        if list(words[: len(name)]) == name:
            return command, list(words[len(name) :])
    if not words or words[0] in ("-h", "--help", "help"):
        return None, []
    names = [c.name for c in COMMANDS if c.name.startswith(words[0] + " ")]
    if names and words[1:2] in (["-h"], ["--help"]):
        _print_group(words[0])
        raise HelpShown
    if names:
        raise ConfigError(
            f"fabric {words[0]} needs a command: {', '.join(names)}", {"field": "command"}
        )
    near = difflib.get_close_matches(words[0], [c.name for c in COMMANDS], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"no command {words[0]!r:.60}{hint} (see: fabric --help)", {"field": "command"}
    )


#: Arguments that are given by position, not by flag.
_POSITIONAL: Final = frozenset({"names", "placement", "subject"})


def _shown(setting: Setting) -> str:
    return setting.metavar if setting.name in _POSITIONAL else setting.flag


def _parser_of(command: Command) -> argparse.ArgumentParser:
    examples = "".join(
        f"  {line}\n" + (f"      {what}\n" if what else "") for line, what in command.examples
    )
    epilog = f"examples:\n{examples}" if examples else ""
    if command.settings:
        epilog += (
            "\nEvery setting is also an environment variable (--leaf-max is FABRIC_LEAF_MAX) and a "
            "key\nof a TOML file (leaf_max). Flags override the environment, which overrides the "
            "file.\n"
        )
    parser = _Parser(
        prog=f"fabric {command.name}",
        description=command.description or command.summary[0].upper() + command.summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    asks = "peer" in command.settings
    for name in command.settings:
        setting = SETTINGS[name]
        if asks and name in _ASKING:
            setting = replace(setting, help=_ASKING[name])
        _add(parser, setting, command.defaults.get(name, setting.default))
    for argument in command.arguments:
        _add(parser, argument, argument.default, lasting=False)
    command.add_more(parser)
    if command.settings:
        parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    with contextlib.suppress(argparse.ArgumentError):  # the simulator brings its own
        parser.add_argument("--json", action="store_true", help="print JSON: what happens line by "
                            "line, the result as one object at the end")
    return parser


def _add(
    parser: argparse.ArgumentParser, setting: Setting, default: object, lasting: bool = True
) -> None:
    """Add a flag. What may be set elsewhere (``lasting``) may also be taken back: ``--no-``."""
    text = setting.help.replace("%", "%%")
    if default not in (None, "", False, ()) and "default" not in text:
        text += f" (default {default})"
    if setting.name in _POSITIONAL:
        several = "+" if setting.kind is Kind.NAMES else None
        parser.add_argument(setting.name, metavar=setting.metavar, help=text, nargs=several)
    elif setting.kind is Kind.FLAG and not lasting:
        parser.add_argument(
            setting.flag, dest=setting.name, action="store_true", default=None, help=text
        )
    elif setting.kind is Kind.FLAG:
        parser.add_argument(
            setting.flag, dest=setting.name, action=argparse.BooleanOptionalAction,
            default=None, help=text,
        )
    elif setting.kind in (Kind.ADDRESSES, Kind.NAMES):
        parser.add_argument(
            setting.flag, dest=setting.name, action="append", metavar=setting.metavar, help=text
        )
    else:
        choices = f"{{{','.join(setting.choices)}}}" if setting.choices else setting.metavar
        parser.add_argument(setting.flag, dest=setting.name, metavar=choices, help=text)


def _lines_of(commands: Sequence[Command]) -> str:
    width = max(len(command.name) for command in COMMANDS)
    return "\n".join(f"  {c.name.ljust(width)}  {c.summary}" for c in commands)


def _print_group(word: str) -> None:
    commands = [c for c in COMMANDS if c.name.startswith(word + " ")]
    sys.stdout.write(f"""\
usage: fabric {word} COMMAND [...] [--json]

{_lines_of(commands)}

fabric {word} COMMAND --help tells settings and examples of one command.
""")


def _print_overview() -> None:
    commands = "\n".join(
        f"{title}:\n{_lines_of([c for c in COMMANDS if c.name.split()[0] in words])}\n"
        for title, words in GROUPS
    )
    codes = "\n".join(f"  {int(code):>3}  {text}" for code, text in EXIT_HELP.items())
    sys.stdout.write(f"""\
usage: fabric COMMAND [...] [--json]

Fabric: a gossip-based peer-to-peer fabric, the control plane of a data centre.

{commands}
first steps:
  fabric doctor                 is everything here?
  fabric demo                   watch a fabric form, break and repair itself
  fabric up --accept-any-image  a small cloud with the REST API on 127.0.0.1:9080
  fabric COMMAND --help         settings and examples of one command

exit codes:
{codes}
""")
