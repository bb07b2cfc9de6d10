"""Lanes that wait for work."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from time import monotonic

from hook_event_processor.telemetry.watchdog import Progress


class Idlers:
    """Lanes that have nothing to do, and the bell that they ring when they begin to wait.

    Whoever wakes them says by tend() that it is there; when it has not for
    `patience` seconds, its connection say no longer answers, they wake by
    themselves.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._tended_at = monotonic()
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._missed = False
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._rope, False)
        self.stopping = False

    @property
    def bell(self) -> int:
        """A file descriptor that becomes readable when it is rung."""
        return self._bell

    def ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            os.write(self._rope, b"!")

    def hush(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._bell, 4096)

    def tend(self) -> None:
        """Say that somebody looks, and will wake them."""
        self._tended_at = monotonic()

    def wait(self, progress: Progress) -> None:
        """Wait to be woken, as long as there is somebody to do so."""
        woken = threading.Event()
        with self._lock:
            if self._missed or self.stopping:
                self._missed = False
                return
            self._waiting.append(woken)
        self.ring()
        while not woken.wait(1.0):
            progress.mark()
            if monotonic() - self._tended_at > self._patience:
                self._give_up(woken)
                return

    def _give_up(self, woken: threading.Event) -> None:
        with self._lock, suppress(ValueError):  # woken just now
            self._waiting.remove(woken)

    def wake(self, *, remember: bool) -> None:
        """Wake one lane; with none waiting, `remember` that the next one need not wait."""
        with self._lock:
            if self._waiting:
                self._waiting.pop().set()
            elif remember:
                self._missed = True

    def wake_all(self) -> None:
        with self._lock:
            while self._waiting:
                self._waiting.pop().set()

    @property
    def any(self) -> bool:
        return bool(self._waiting)
