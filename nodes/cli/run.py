"""Parse, resolve settings, run one command, say how it ended.

Commands live in modules of their own (see :mod:`nodes.cli.commands`); each takes its resolved
:class:`~nodes.config.Config` and an :class:`~nodes.cli.output.Output`, and returns an exit code or
raises a :class:`~fabric.errors.FabricError`.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from fabric.errors import FabricError, MissingDependency
from nodes.cli.output import Exit, Output, exit_code
from nodes.cli.parser import HelpShown, parse_arguments
from nodes.config import unknown_environment

_OURS = ("fabric", "agent", "nodes", "sim")


def run(words: Sequence[str]) -> int:
    """Run the command that ``words`` name and return the exit code."""
    out = Output(as_json="--json" in words)
    try:
        return _run(words, out)
    except HelpShown:
        return Exit.OK
    except FabricError as error:
        out.error(error)
        return exit_code(error)
    except KeyboardInterrupt:
        out.note("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`fabric members | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        missing = MissingDependency(f"{error.name} is not installed (see: fabric doctor)")
        out.error(missing)
        return exit_code(missing)
    except Exception as error:
        traceback.print_exc()
        out.bug(error)
        return Exit.BUG


def _run(words: Sequence[str], out: Output) -> int:
    for warning in unknown_environment(os.environ):
        out.note(f"warning: {warning}")
    command, config = parse_arguments(words, os.environ)
    return command.load()(config, out)
