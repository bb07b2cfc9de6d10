"""Bursts of changes: who was told of one looks when it is over, or after a while."""

from __future__ import annotations

from typing import Generic, TypeVar

Who = TypeVar("Who")
# Twice the time in which changes are told: less is no quiet, but the wait for what is told next.
_QUIET_SECONDS = 0.4
LONGEST_SECONDS = 2.0


class Settling(Generic[Who]):
    """Whose changes go on. Not for several threads at once."""

    def __init__(self) -> None:
        self._times: dict[Who, tuple[float, float]] = {}  # of the first and the last change

    def __contains__(self, who: Who) -> bool:
        return who in self._times

    def begin(self, who: Who, now: float) -> None:
        """A change, now: the first of a burst, or another one."""
        first, _ = self._times.get(who, (now, now))
        self._times[who] = (first, now)

    def forget(self, who: Who) -> None:
        self._times.pop(who, None)

    def take(self, now: float) -> list[Who]:
        """Those whose burst is over, or has gone on for long enough."""
        over = [who for who, times in self._times.items() if _due(times) <= now]
        for who in over:
            del self._times[who]
        return over

    def next_due(self) -> float | None:
        """When the next is over if nothing more comes; None without any."""
        return min(map(_due, self._times.values()), default=None)


def _due(times: tuple[float, float]) -> float:
    first, last = times
    return min(last + _QUIET_SECONDS, first + LONGEST_SECONDS)
