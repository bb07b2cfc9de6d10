"""How fast a cleanup goes: short steps, as much rest as work, and none while events wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg import Connection

from hook_event_processor.store import waiting

# A step is a transaction. What it takes of the server, others take a moment later.
STEP_SECONDS = 0.1
_LEAST, _MOST = 4, 1024  # pages of a table
_LOOK_SECONDS = 0.5
# Shorter waits are no backlog: a claim takes a batch, and the next one the rest.
_WAITED_SECONDS = 1.0
# Slow hooks keep a claim for most of a second: what nobody takes has stood there for longer.
_STANDING_SECONDS = 2.0

OLDEST_FRESH = f"""
SELECT seq, created_at < clock_timestamp() - interval '{_WAITED_SECONDS} s' FROM hook_events
WHERE {waiting.FRESH} AND seq > {waiting.FLOOR} ORDER BY seq LIMIT 1
"""


class Pace:
    """The size of the next step, and the rest after each.

    A step that took long makes the next one smaller. While processors work
    off a backlog nothing is done; one that nobody works off (they are down, or
    paused) is no reason to wait.
    """

    def __init__(
        self,
        connection: Connection,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connection` is in autocommit."""
        self.pages = 64
        self.waited_seconds = 0.0
        self._connection = connection
        self._sleep = sleep
        self._clock = clock
        self._looked_at = -_LOOK_SECONDS
        self._standing: int | None = None  # the seq of an event that nobody takes

    @contextmanager
    def step(self) -> Iterator[None]:
        """One transaction, and the rest after it."""
        began = self._clock()
        with self._connection.transaction():
            yield
        took = self._clock() - began
        if took > STEP_SECONDS:
            self.pages = max(_LEAST, self.pages // 2)
        elif took < STEP_SECONDS / 2:
            self.pages = min(_MOST, self.pages * 2)
        self._sleep(min(took, 10 * STEP_SECONDS))
        self._give_way()

    def _give_way(self) -> None:
        """Wait until no backlog is being worked off."""
        if self._clock() < self._looked_at + _LOOK_SECONDS:
            return
        oldest = self._oldest()
        while oldest is not None and oldest != self._standing:
            oldest = self._after(oldest)
        self._looked_at = self._clock()

    def _after(self, oldest: int) -> int | None:
        """Wait until another event has waited longest; after a while it is one that nobody takes."""
        began = self._clock()
        while (now := self._oldest()) == oldest:
            if self._clock() - began >= _STANDING_SECONDS:
                self._standing = oldest
                return oldest
            self._sleep(_LOOK_SECONDS)
        self.waited_seconds += self._clock() - began
        return now

    def _oldest(self) -> int | None:
        """The seq of the fresh event that has waited longest, if that is long."""
        row = self._connection.execute(OLDEST_FRESH).fetchone()
        return int(row[0]) if row is not None and row[1] else None
