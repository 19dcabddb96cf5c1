"""``fabric sim ...``: hand over to the simulator. The only place where ``nodes`` names ``sim``.

The simulator prints its own tables and, with ``--json``, its own last line.
"""

from __future__ import annotations

import argparse
from importlib import import_module

from nodes.cli.output import Output
from nodes.config import Config


def _add(tool: str, parser: argparse.ArgumentParser) -> None:
    import_module(f"sim.{tool}").add_arguments(parser)


def _main(tool: str, config: Config) -> int:
    code: int = import_module(f"sim.{tool}").main(argparse.Namespace(**config.extra))
    return code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim run`` to ``parser``."""
    _add("run", parser)


def run(config: Config, out: Output) -> int:
    """Run one simulation; returns its exit code."""
    return _main("run", config)


def add_replay_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim replay`` to ``parser``."""
    _add("replay", parser)


def replay(config: Config, out: Output) -> int:
    """Run a seed or a file again; returns the exit code."""
    return _main("replay", config)


def add_fuzz_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim fuzz`` to ``parser``."""
    _add("fuzz", parser)


def fuzz(config: Config, out: Output) -> int:
    """Run many seeds; returns the exit code."""
    return _main("fuzz", config)


def add_shrink_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim shrink`` to ``parser``."""
    _add("shrink", parser)


def shrink(config: Config, out: Output) -> int:
    """Shrink a failing run; returns the exit code."""
    return _main("shrink", config)


def add_diverge_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim diverge`` to ``parser``."""
    _add("diverge", parser)


def diverge(config: Config, out: Output) -> int:
    """Compare runs of one scenario; returns the exit code."""
    return _main("diverge", config)
