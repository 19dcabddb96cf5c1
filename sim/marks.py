"""The fingerprints of messages, as the engine asks for them.

In the compiled core this module is another one, written by :mod:`sim.native_marks`: one function a
message class, in machine integers.  What both give is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim.words import Word


class Marks:
    """Fingerprints of messages by what ``sim.trace`` generates for their classes."""

    __slots__ = ("_functions",)

    def __init__(
        self,
        functions: dict[type[Any], Callable[[Any, int], int]],
        field_function: Callable[[type[Any], str | None], Callable[[Any], int]] | None,
    ) -> None:
        """``field_function``: what turns one field of a class into a number (not used here)."""
        self._functions = functions

    def of(self, message: Any, sender: int) -> Word:
        """Return the fingerprint of ``message`` from ``sender``."""
        return self._functions[message.__class__](message, sender)

    def tap(self, cls: type[Any], tell: Callable[[Any], None]) -> None:
        """Show each message of class ``cls`` that a fingerprint is asked for to ``tell``."""
        function = self._functions[cls]

        def told(message: Any, sender: int) -> int:
            tell(message)
            return function(message, sender)

        self._functions[cls] = told
