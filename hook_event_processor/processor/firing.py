"""Schedules that are due: this processor, or another, publishes their events."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from time import monotonic

from psycopg import Connection, errors

from hook_event_processor.store import schedule_times
from hook_event_processor.store.insert import Publisher
from hook_event_processor.store.schedule_times import Fired

logger = logging.getLogger("HookEventProcessor")

# While there is a schedule: the database's clock may be set, and another processor may have died. While a right is
# lacking: nothing tells that it is granted.
_LOOK_SECONDS = 60.0
_AGAIN_SECONDS = 0.5  # somebody else has just fired it


class Firing:
    """What a processor does for schedules. `news` and `due_in` may be called from any thread."""

    def __init__(self, hurry: Callable[[], None], max_payload_size: int) -> None:
        """`hurry` is called when step() has something to do sooner than was known."""
        self._hurry = hurry
        self._max_payload_size = max_payload_size
        self._are_news = True
        self._is_planned = False
        self._due_at = math.inf
        self._refusal: str | None = None  # that was said last

    def news(self) -> None:
        """Schedules may have changed."""
        self._are_news = True
        self._hurry()

    def due_in(self, seconds: float) -> float:
        """Seconds until the next step(), `seconds` at most."""
        return max(min(seconds, self._due_at - monotonic()), 0.0)

    def step(self, connection: Connection) -> None:
        """Fire what is due. Asks nothing of the database while nothing is."""
        if self._are_news:
            self._are_news = self._is_planned = False
        elif monotonic() < self._due_at:
            return
        self._due_at = monotonic()  # what follows may be cut off
        try:
            if not self._is_planned:
                self._say(schedule_times.plan(connection))
                self._is_planned = True
            publisher = Publisher(connection, component="processor", max_payload_size=self._max_payload_size)
            fired = schedule_times.fire(connection, publisher)
            self._say(fired)
        except errors.InsufficientPrivilege as refusal:
            self._due_at = monotonic() + _LOOK_SECONDS
            said = refusal.diag.message_primary
            if said != self._refusal:
                logger.error("schedules do not fire: %s; after an upgrade, the owner runs 'hep db roles' again", said)
            self._refusal = said
            return
        self._refusal = None
        if len(fired) < schedule_times.FIRED_AT_A_TIME:  # else there may be more
            self._due_at = monotonic() + _until(schedule_times.due_in(connection))

    def _say(self, fired: list[Fired]) -> None:
        for one in fired:
            schedule = one.schedule
            if one.error is not None:
                if one.error != schedule.error:
                    logger.error("the schedule %s does not fire: %s", schedule.name, one.error)
            elif one.missed:
                done = "is fired once for them" if schedule.if_missed == "run" else "is not fired for them"
                logger.warning("the schedule %s has missed %d of its times, and %s", schedule.name, one.missed, done)
            else:
                logger.debug("the schedule %s has fired", schedule.name)


def _until(seconds: float | None) -> float:
    """Seconds until the next look, by those until the next one is due."""
    if seconds is None:
        return math.inf
    return min(seconds, _LOOK_SECONDS) if seconds > 0 else _AGAIN_SECONDS
