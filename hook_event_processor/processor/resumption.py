"""The end of pauses: by themselves, when their time is up, and what is done with the events that waited."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from psycopg import Connection

from hook_event_processor.registry import Pauses
from hook_event_processor.store import pauses as store

_MAX_STEPS = 5  # at a time: others have their turn


class Resumption:
    """What a processor does for the end of pauses. `set` and `due_in` may be called from any thread."""

    def __init__(self, hurry: Callable[[], None]) -> None:
        """`hurry` is called when step() may have something to do sooner than was known."""
        self._hurry = hurry
        self._pauses = Pauses()
        self._are_news = True  # also that there are none: somebody may have deleted what held events
        self._ends_at: float | None = None

    def set(self, pauses: Pauses) -> None:
        """These are the pauses now."""
        self._pauses, self._are_news = pauses, True
        self._ends_at = None if pauses.ends_in is None else monotonic() + pauses.ends_in
        if self._ends_at is not None or pauses.left:
            self._hurry()

    def due_in(self, seconds: float) -> float:
        """Seconds until the next step(), `seconds` at most."""
        if self._ends_at is None:
            return seconds
        return min(seconds, max(self._ends_at - monotonic(), 0.0) + 0.01)

    def step(self, connection: Connection) -> None:
        """End what is to end, and let events go; other processors may do the same meanwhile."""
        pauses, are_news, self._are_news = self._pauses, self._are_news, False
        if not (pauses.everything or pauses.sources or pauses.hooks or pauses.left or are_news):
            return
        if self._ends_at is not None and monotonic() >= self._ends_at:
            self._ends_at = None
        over = False
        try:
            store.end_by_themselves(connection)
            over = self._let_go(connection)
        finally:
            if not over:  # where somebody has deleted the pause, nothing else tells that there is more to do
                self._are_news = True

    def _let_go(self, connection: Connection) -> bool:
        """Whether all events have gone that may."""
        for _ in range(_MAX_STEPS):
            if not store.let_go(connection):
                return not store.are_left(connection)
        self._hurry()
        return False
