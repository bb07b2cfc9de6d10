"""How long each hook takes, and what follows: the size of its chunks, and whether it still counts as fast."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

CHUNK_SECONDS = 0.01  # of work that crosses into Lua in one call
MAX_CHUNK = 1000
# A pure hook slower than this runs under a lease, beside the claim; one that
# has become twice as fast again returns.
SLOW_SECONDS = 0.05
CLAIM_SECONDS = 0.35  # of work that one claim takes
CLAIM_BYTES = 8 * 1024 * 1024  # of JSON that one claim takes
_FIRST_CLAIM = 50  # events, while nothing is known of their hooks
_WEIGHT = 0.2  # of the latest chunk in the average


@dataclass(slots=True)
class Pace:
    """The recent average of one hook's runs, in seconds; None before the first."""

    seconds: float | None = None
    slow: bool = False

    def note(self, durations: Sequence[float]) -> None:
        mean = sum(durations) / len(durations)
        self.seconds = mean if self.seconds is None else (1 - _WEIGHT) * self.seconds + _WEIGHT * mean
        self.slow = self.seconds > (SLOW_SECONDS / 2 if self.slow else SLOW_SECONDS)

    def overran(self) -> None:
        """A run was cut off: it took longer than a claim can wait."""
        self.seconds = max(self.seconds or 0.0, 2 * SLOW_SECONDS)
        self.slow = True

    @property
    def chunk(self) -> int:
        """How many events cross at once: one until a run was timed."""
        if self.seconds is None:
            return 1
        return max(1, min(MAX_CHUNK, int(CHUNK_SECONDS / max(self.seconds, 1e-6))))


class Stride:
    """How many events one claim takes: what runs in well under the time that it may be held, and is not too big."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._by_time = float(min(_FIRST_CLAIM, batch_size))
        self._by_size = float(batch_size)

    @property
    def limit(self) -> int:
        """Events for the next claim."""
        return max(1, int(min(self._by_time, self._by_size, self._batch_size)))

    def ran(self, events: float, seconds: float) -> None:
        """So many of a claim's events ran in this time."""
        # Up step by step: a claim that was cut short says little of the next.
        self._by_time = min(events * CLAIM_SECONDS / max(seconds, 1e-6), 2 * self.limit)

    def moved(self, events: int) -> None:
        """So many events of a claim took no time here: they were handed on, or no hook takes them."""
        self._by_time = max(self._by_time, min(2.0 * events, 2 * self.limit))

    def claimed(self, events: int, size: int) -> None:
        """So many events had so many bytes of JSON."""
        self._by_size = min(CLAIM_BYTES * events / max(size, 1), 2 * self._by_size)


class Paces:
    """The pace of every hook version of this processor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paces: dict[tuple[int, int], Pace] = {}

    def of(self, hook_id: int, version: int) -> Pace:
        """The pace of a hook's version; a new text starts anew."""
        key = (hook_id, version)
        pace = self._paces.get(key)
        if pace is None:
            with self._lock:
                pace = self._paces.setdefault(key, Pace())
        return pace
