"""Logs of a process: lines for people, or one JSON object a line, both with the request's trace.

Every line that belongs to a request carries its trace (``fabric.runtime.tracing``), so the logs of
all peers together tell what became of one request.  Logs go to stderr.  What is logged names types,
ids and durations; bodies, keys and certificates never are.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from fabric.runtime.tracing import TRACE


class _WithTrace(logging.Filter):
    """Gives every record the trace of the task that it comes from, unless it brings its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "trace"):
            record.trace = TRACE.get()
        return True


class TextFormatter(logging.Formatter):
    """``18:02:11.123 INFO fabric.requests [trace] text``."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created)
        trace = getattr(record, "trace", "")
        trace = f" [{trace}]" if trace else ""
        # whatever a client made up stays on one line
        text = record.getMessage().encode("unicode_escape").decode()
        line = f"{at:%H:%M:%S}.{at.microsecond // 1000:03} {record.levelname} {record.name}"
        line += f"{trace} {text}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One object a line: ``time`` (UTC), ``level``, ``logger``, ``message``, ``trace``, fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "trace": getattr(record, "trace", "") or None,
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def setup(form: str, level: str) -> None:
    """Send the logs of this process to stderr, as ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_WithTrace())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("asyncio", "kazoo", "aiohttp"):  # theirs are about them, not about us
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
