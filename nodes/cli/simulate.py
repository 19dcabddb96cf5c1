"""``fabric sim run``: hand over to the simulator. The only place where ``nodes`` names ``sim``.

The simulator prints its own table and, with ``--json``, its own last line.
"""

from __future__ import annotations

import argparse

from nodes.cli.output import Output
from nodes.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the simulator's arguments to ``parser``."""
    from sim.run import add_arguments as add_simulator_arguments

    add_simulator_arguments(parser)


def run(config: Config, out: Output) -> int:
    """Run the simulation; returns its exit code."""
    from sim.run import main

    return main(argparse.Namespace(**config.extra))
