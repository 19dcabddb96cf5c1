"""``fabric sim replay``: one run again, from its seed or its scenario file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from sim import compiled
from sim.display import Display
from sim.run import run
from sim.save import scenario_of, to_toml
from sim.story import causal_story, explain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``fabric sim replay``."""
    parser.add_argument("what", metavar="SEED|FILE", help="seed, SEED@MARK or scenario file")
    parser.add_argument(
        "--show", action="store_true", help="print the scenario as a file, and do not run it"
    )
    parser.add_argument(
        "--story", action="store_true", help="draw what led to the first violation"
    )
    parser.add_argument(
        "--compiled", action="store_true", help="use the compiled core that `make compiled` made"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as last line")


def main(args: argparse.Namespace | Mapping[str, Any]) -> int:
    """Run the command. Returns the exit code (5: violations, 130: interrupted)."""
    arguments = args if isinstance(args, Mapping) else vars(args)
    if arguments.get("compiled"):
        compiled.start_anew()
    scenario = scenario_of(arguments["what"])
    if arguments.get("show"):
        print(to_toml(scenario), end="")
        return 0
    as_json = bool(arguments.get("json"))
    display = Display(scenario.duration_s, sys.stderr if as_json else sys.stdout)
    try:
        result = run(scenario, display)
    finally:
        display.close()
    explain(scenario, result)
    display.table(result)
    if arguments.get("story") and result.violations:
        invariant = result.violations[0]["invariant"]
        print(f"\n{causal_story(scenario, invariant)}", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(result.to_json(), flush=True)
    if result.interrupted:
        return 130
    return 0 if result.ok else 5
