"""A watchdog in a thread of its own: it barks when the event loop hangs, which no timer would."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Watchdog:
    """Calls ``bark``, in a thread of its own, whenever it was not fed for long, until it is."""

    def __init__(self, bark: Callable[[], None]) -> None:
        self._bark = bark
        self._condition = threading.Condition()
        self._patience_s: float | None = None
        self._fed = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="fabric-watchdog", daemon=True)

    def feed(self, patience_s: float) -> None:
        """All is well; bark when this is not said again within ``patience_s``."""
        with self._condition:
            if self._patience_s is None:
                self._thread.start()
            self._patience_s = patience_s
            self._fed += 1
            self._condition.notify()

    def stop(self) -> None:
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            while not self._stopped:
                fed = self._fed
                self._condition.wait(self._patience_s)
                if fed == self._fed and not self._stopped:
                    self._bark()
