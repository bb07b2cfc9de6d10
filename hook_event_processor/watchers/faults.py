"""What goes wrong with watchers, in the log: a few lines at a time, whatever fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

logger = logging.getLogger("Watchers")

_LINES, _SECONDS = 20, 60.0


class FaultLog:
    """At most 20 lines in a minute; how many more there were is said with the next one. May be used by any thread."""

    def __init__(self, about: str, clock: Callable[[], float] = monotonic) -> None:
        """`about` says what its lines are on."""
        self._about = about
        self._clock = clock
        self._lock = threading.Lock()
        self._began = float("-inf")
        self._lines = 0
        self._left_out = 0

    def say(self, level: int, text: str, *arguments: object, fault: BaseException | None = None) -> None:
        """Log it, or count it."""
        with self._lock:
            now = self._clock()
            if now - self._began >= _SECONDS:
                self._began, self._lines = now, 0
                if self._left_out:
                    logger.warning("%d more lines on %s were left out", self._left_out, self._about)
                    self._left_out = 0
            self._lines += 1
            if self._lines > _LINES:
                self._left_out += 1
                return
        logger.log(level, text, *arguments, exc_info=fault)
