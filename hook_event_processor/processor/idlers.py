"""Lanes that wait for work."""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from time import monotonic

from hook_event_processor.telemetry.watchdog import Progress

# So soon after it began to claim, a lane is about to claim again.
_SOON_SECONDS = 0.005


class Idlers:
    """Lanes that have nothing to do, and the bell that they ring when they begin to wait.

    While a lane at work is about to claim again, it is left word of what has
    come, and no other is woken: rounds are fewer then, and find more; each
    ends with a commit, for which those of the writers have to wait.

    Whoever wakes them says by tend() that it is there; when it has not for
    `patience` seconds, its connection say no longer answers, they wake by
    themselves.
    """

    def __init__(self, lanes: int, patience: float) -> None:
        self._lanes = lanes
        self._patience = patience
        self._tended_at = monotonic()
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._word = False  # for a lane at work: there is something to claim
        self._claimed_at = 0.0
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
        """Say that somebody looks, and will wake them: one at once, for a word that a lane at work has not taken."""
        self._tended_at = monotonic()
        if self._word and self._waiting and self._soon <= 0:
            self.wake()

    def wait(self, progress: Progress) -> None:
        """Wait to be woken, as long as there is somebody to do so."""
        woken = threading.Event()
        with self._lock:
            if self._word or self.stopping:
                self._word = False
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

    def claims(self) -> None:
        """A lane begins to claim: it takes the word that it was left."""
        self._word = False
        self._claimed_at = monotonic()

    def wake(self) -> None:
        """There may be something to claim: wake one lane, or leave word with one that is about to claim again."""
        with self._lock:
            self._word = not self._waiting or self._soon > 0
            if not self._word:
                self._wake_one()

    def wake_another(self) -> None:
        """Wake one lane more, if one waits."""
        with self._lock:
            if self._waiting:
                self._wake_one()

    def _wake_one(self) -> None:
        self._claimed_at = monotonic()  # it will, in no time
        self._waiting.pop().set()

    def wake_all(self) -> None:
        with self._lock:
            while self._waiting:
                self._waiting.pop().set()

    @property
    def unneeded_seconds(self) -> float:
        """For how long none of them is needed: until one waits, or the lanes at work have not claimed for too long."""
        return max(self._soon, 0.0) if self._waiting else float("inf")

    @property
    def tend_seconds(self) -> float:
        """When to tend() again, for a word that a lane at work may not take in time; infinite without one."""
        return max(self._soon, 0.0) if self._word and self._waiting else float("inf")

    @property
    def _soon(self) -> float:
        """Seconds in which a lane at work is still about to claim again; not positive: none is."""
        return self._claimed_at + _SOON_SECONDS - monotonic() if len(self._waiting) < self._lanes else 0.0
