"""Schedules, events at times: as they are stored and read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

import orjson
from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import set_json_loads

from hook_event_processor.errors import EventRefused, NotFound, ScheduleRefused
from hook_event_processor.event import MAX_NAME, NewEvent, split_type
from hook_event_processor.store.own_events import OwnEvent
from hook_event_processor.store.stored_json import encoded
from hook_event_processor.timestamp import rfc3339
from hook_event_processor.timing import Timing

TRIGGERED = "schedule.triggered"


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule as it is to be. `if_missed` is run or skip."""

    name: str
    timing: Timing
    event_type: str = TRIGGERED
    payload: Mapping[str, Any] = field(default_factory=dict)
    stack: str | None = None
    priority: int = 5
    if_missed: str = "run"

    def __post_init__(self) -> None:
        """Raises ScheduleRefused for a name that events could not carry."""
        if not 0 < len(self.name) <= MAX_NAME or not self.name.isprintable() or self.name != self.name.strip():
            raise ScheduleRefused(
                f"{self.name[: MAX_NAME + 10]!r} is no name for a schedule: it takes 1 to {MAX_NAME} characters"
                " that can be printed, the first and the last no space"
            )


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is stored.

    `next_at` None: it is disabled, or no processor has worked it out yet.
    `payload` None: the database holds one that no event can carry.
    """

    id: int
    name: str
    cron: str | None
    every_seconds: float | None
    timezone: str
    event_type: str
    payload: Mapping[str, Any] | None
    stack: str | None
    priority: int
    if_missed: str
    enabled: bool
    created_at: datetime
    updated_at: datetime
    next_at: datetime | None
    last_at: datetime | None
    error: str | None

    @property
    def timing(self) -> Timing:
        """Raises ScheduleRefused when it was written past the command line and has no times."""
        return Timing(self.cron, self.every_seconds, self.timezone)

    @property
    def when(self) -> str:
        """Its times as people write them."""
        try:
            return self.timing.text
        except ScheduleRefused:
            return self.cron or f"every {self.every_seconds}s"

    @property
    def runs(self) -> dict[str, str]:
        """When it fires next and fired last, as its events tell it."""
        times = {"next_run": self.next_at, "last_run": self.last_at}
        return {name: rfc3339(at) for name, at in times.items() if at is not None}

    def times(self, after: datetime, count: int) -> list[datetime]:
        """So many times that follow; none of one that is disabled, or has none."""
        try:
            return list(islice(self.timing.after(after), count)) if self.enabled else []
        except ScheduleRefused:
            return []

    def event(self, at: datetime, next_at: datetime | None = None) -> NewEvent:
        """What it publishes for a time, with the next one that is known now. Raises EventRefused."""
        source, action = split_type(self.event_type)
        if self.payload is None:
            raise EventRefused(
                "the payload holds a number that is too large, or is nested too deeply: give the schedule another"
            )
        payload = {
            **self.payload,
            "schedule_name": self.name,
            "schedule_id": str(self.id),
            "workflow_name": self.event_type,
            "expected_time": rfc3339(at),
            **self.runs,
        }
        if next_at is not None:
            payload["next_run"] = rfc3339(next_at)
        return NewEvent(
            source,
            action,
            payload,
            resource="schedule",
            resource_id=self.name,
            metadata={"stack": self.stack} if self.stack else {},
            priority=self.priority,
            occurred_at=at,
        )

    def own_event(self, word: str, payload: Mapping[str, Any]) -> OwnEvent:
        """What the product tells of it: schedule.created, say."""
        names = {"schedule_name": self.name, "schedule_id": str(self.id)}
        return OwnEvent(f"schedule.{word}", {**names, **payload}, ("schedule", self.name), self.stack)


COLUMNS = """
s.id, s.name, s.cron, s.every_seconds, s.timezone, s.event_type, s.payload, s.stack, s.priority, s.if_missed, s.enabled,
s.created_at, s.updated_at, t.next_at, t.last_at, t.error
"""
ALL = f"SELECT {COLUMNS} FROM hook_schedules s LEFT JOIN hook_schedule_times t ON t.schedule_id = s.id"


def known(connection: Connection) -> list[Schedule]:
    """All schedules by name."""
    return read(connection, f"{ALL} ORDER BY s.name")


def find(connection: Connection, name: str) -> Schedule | None:
    """The schedule of that name, or None."""
    return next(iter(read(connection, f"{ALL} WHERE s.name = %s", (name,))), None)


def get(connection: Connection, name: str) -> Schedule:
    """The schedule of that name. Raises NotFound."""
    schedule = find(connection, name)
    if schedule is None:
        raise NotFound(f"there is no schedule {name!r}: 'hep schedule list' lists them")
    return schedule


def read(connection: Connection, statement: str, values: Iterable[object] = ()) -> list[Schedule]:
    """Those that a statement gives: its columns are COLUMNS."""
    with connection.cursor(row_factory=class_row(Schedule)) as cursor:
        set_json_loads(_payload, cursor)
        return cursor.execute(statement, tuple(values)).fetchall()


def _payload(text: str | bytes) -> Any:
    """What JSON says; None where it is more than an event can carry."""
    try:
        value = orjson.loads(text)
        encoded("payload", value)
    except (ValueError, RecursionError, EventRefused):
        return None
    return value
