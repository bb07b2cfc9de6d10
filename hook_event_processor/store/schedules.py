"""Schedules: events at times, as operators change them and processors fire them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from psycopg import Connection, DataError, IntegrityError, ProgrammingError
from psycopg.errors import ForeignKeyViolation
from psycopg.rows import class_row
from psycopg.types.json import Jsonb, set_json_loads

from hook_event_processor.errors import EventRefused, HookEventProcessorError, NotFound, ScheduleRefused
from hook_event_processor.event import MAX_NAME, NewEvent, split_type
from hook_event_processor.same_json import is_same
from hook_event_processor.store import own_events
from hook_event_processor.store.events import server_time
from hook_event_processor.store.insert import Published, Publisher, encoded, stored_text
from hook_event_processor.store.own_events import OwnEvent
from hook_event_processor.timestamp import rfc3339
from hook_event_processor.timing import Timing

TRIGGERED = "schedule.triggered"
MAX_SCHEDULES = 10_000
# One that fires later than this has missed its time: no processor was there.
MISSED_SECONDS = 60.0
_MAX_COUNTED = 1_000  # times that were missed
FIRED_AT_A_TIME = 100


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
                "the payload holds a number of more than 64 bits, or is nested too deeply: give the schedule another"
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


_COLUMNS = """
s.id, s.name, s.cron, s.every_seconds, s.timezone, s.event_type, s.payload, s.stack, s.priority, s.if_missed, s.enabled,
s.created_at, s.updated_at, t.next_at, t.last_at, t.error
"""
_ALL = f"SELECT {_COLUMNS} FROM hook_schedules s LEFT JOIN hook_schedule_times t ON t.schedule_id = s.id"
_DEFINITION = ("cron", "every_seconds", "timezone", "event_type", "payload", "stack", "priority", "if_missed")
_PUT = """
INSERT INTO hook_schedules (name, cron, every_seconds, timezone, event_type, payload, stack, priority, if_missed)
VALUES (%(name)s, %(cron)s, %(every_seconds)s, %(timezone)s, %(event_type)s, %(payload)s, %(stack)s, %(priority)s,
        %(if_missed)s)
ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, every_seconds = excluded.every_seconds,
    timezone = excluded.timezone, event_type = excluded.event_type, payload = excluded.payload, stack = excluded.stack,
    priority = excluded.priority, if_missed = excluded.if_missed, updated_at = now()
"""
# Unless it was planned, or changed, by somebody else meanwhile.
_KEEP_NEXT = """
INSERT INTO hook_schedule_times (schedule_id, next_at, error)
SELECT id, %(next_at)s, %(error)s FROM hook_schedules
WHERE id = %(id)s AND enabled AND (cron, every_seconds, timezone)
    IS NOT DISTINCT FROM (%(cron)s::text, %(every_seconds)s::double precision, %(timezone)s::text)
ON CONFLICT (schedule_id) DO UPDATE SET next_at = excluded.next_at, error = excluded.error
WHERE hook_schedule_times.next_at IS NULL
"""
_TRY_AGAIN = "UPDATE hook_schedule_times SET error = NULL WHERE schedule_id = %s AND error IS NOT NULL"
_KEEP_FIRED = """
UPDATE hook_schedule_times SET next_at = %(next_at)s, last_at = coalesce(%(last_at)s, last_at), error = %(error)s
WHERE schedule_id = %(id)s
"""
DUE = f"""
SELECT {_COLUMNS} FROM hook_schedule_times t JOIN hook_schedules s ON s.id = t.schedule_id
WHERE t.next_at <= now() AND s.enabled ORDER BY t.next_at LIMIT {FIRED_AT_A_TIME} FOR UPDATE OF t SKIP LOCKED
"""
_DUE_IN = """
SELECT extract(epoch FROM min(t.next_at) - clock_timestamp())::float8
FROM hook_schedule_times t JOIN hook_schedules s ON s.id = t.schedule_id WHERE s.enabled
"""


def known(connection: Connection) -> list[Schedule]:
    """All schedules by name."""
    return _read(connection, f"{_ALL} ORDER BY s.name")


def find(connection: Connection, name: str) -> Schedule | None:
    """The schedule of that name, or None."""
    return next(iter(_read(connection, f"{_ALL} WHERE s.name = %s", (name,))), None)


def get(connection: Connection, name: str) -> Schedule:
    """The schedule of that name. Raises NotFound."""
    schedule = find(connection, name)
    if schedule is None:
        raise NotFound(f"there is no schedule {name!r}: 'hep schedule list' lists them")
    return schedule


def put(connection: Connection, new: NewSchedule, max_payload_size: int) -> tuple[str, Schedule]:
    """Make a schedule, or change the one of that name; returns what was done (added, changed or unchanged) and it.

    Raises EventRefused when its event could not be published.
    """
    wanted = {
        "cron": new.timing.cron,
        "every_seconds": new.timing.every,
        "timezone": new.timing.timezone,
        **{name: getattr(new, name) for name in ("event_type", "payload", "stack", "priority", "if_missed")},
    }
    stored_text("payload", new.payload, max_payload_size)
    with connection.transaction():
        before = find(connection, new.name)
        changes = {} if before is None else _changes(before, wanted)
        if before is not None and not changes:
            return "unchanged", before
        if before is None and len(known(connection)) >= MAX_SCHEDULES:
            raise ScheduleRefused(f"there are {MAX_SCHEDULES:,} schedules, as many as there may be: remove some")
        connection.execute(_PUT, {**wanted, "name": new.name, "payload": Jsonb(new.payload)})
        if before is not None:
            connection.execute(_TRY_AGAIN, (before.id,))
        after = _planned(connection, get(connection, new.name))
        stored_text("payload", after.event(after.updated_at).payload, max_payload_size)  # with the fields of its own
        if before is None:
            payload = {"cron_expr": after.when, "workflow_name": after.event_type, **after.runs}
            _tell(connection, "created", after, payload)
        else:
            _tell(connection, "updated", after, {"changes": changes, **after.runs})
    return "added" if before is None else "changed", after


def _changes(before: Schedule, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What is different, before and after."""
    pairs = {name: [getattr(before, name), wanted[name]] for name in _DEFINITION}
    return {name: pair for name, pair in pairs.items() if not is_same(*pair)}


def set_enabled(connection: Connection, name: str, enabled: bool) -> bool:
    """Enable or disable a schedule; False when it is so already. Raises NotFound."""
    with connection.transaction():
        before = get(connection, name)
        if before.enabled == enabled:
            return False
        connection.execute(
            "UPDATE hook_schedules SET enabled = %s, updated_at = now() WHERE id = %s", (enabled, before.id)
        )
        after = _planned(connection, get(connection, name))
        word = "enabled" if enabled else "disabled"
        _tell(connection, word, after, {f"{word}_by": own_events.actor(), **after.runs})
    return True


def remove(connection: Connection, name: str) -> None:
    """Remove a schedule; its events stay. Raises NotFound."""
    with connection.transaction():
        schedule = get(connection, name)
        connection.execute("DELETE FROM hook_schedules WHERE id = %s", (schedule.id,))
        _tell(connection, "deleted", schedule, {"deleted_by": own_events.actor()})


def run(connection: Connection, name: str, publisher: Publisher) -> tuple[str, Published]:
    """Have a schedule publish its event now, beside its times; returns its type and what became of it.

    Raises NotFound or EventRefused.
    """
    with connection.transaction():
        schedule = get(connection, name)
        published = publisher.publish_event(schedule.event(_now(connection)))
        connection.execute("SELECT hook_audit_note('run', 'schedule', %s)", (name,))
    return schedule.event_type, published


def _planned(connection: Connection, schedule: Schedule) -> Schedule:
    """The schedule with the time of its next event; one that is known stays. Raises ScheduleRefused."""
    if not schedule.enabled or schedule.next_at is not None:
        return schedule
    _keep_next(connection, schedule, next(schedule.timing.after(server_time(connection))), None)
    return get(connection, schedule.name)


def _keep_next(connection: Connection, schedule: Schedule, next_at: datetime | None, error: str | None) -> None:
    times = {name: getattr(schedule, name) for name in ("id", "cron", "every_seconds", "timezone")}
    connection.execute(_KEEP_NEXT, {**times, "next_at": next_at, "error": error})


def _tell(connection: Connection, word: str, schedule: Schedule, payload: Mapping[str, Any]) -> None:
    event = OwnEvent(
        f"schedule.{word}",
        {"schedule_name": schedule.name, "schedule_id": str(schedule.id), **payload},
        ("schedule", schedule.name),
        schedule.stack,
    )
    own_events.tell(connection, event)


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of a schedule that was due: `missed` times had passed without it; `error` None: it is well."""

    schedule: Schedule
    missed: int = 0
    error: str | None = None


def fire(connection: Connection, publisher: Publisher) -> list[Fired]:
    """Fire what is due, each schedule once, by whichever processor comes first; what is left is due still."""
    with connection.transaction():
        now = _now(connection)
        return [_fire(connection, schedule, now, publisher) for schedule in _read(connection, DUE)]


def _fire(connection: Connection, schedule: Schedule, now: datetime, publisher: Publisher) -> Fired:
    due_at = schedule.next_at or now
    next_at, fired_at, missed, error = None, None, 0, None
    try:
        next_at = next(schedule.timing.after(now))
        if (now - due_at).total_seconds() > MISSED_SECONDS:
            missed = schedule.timing.count(due_at, now, _MAX_COUNTED)
        with connection.transaction():
            if missed:
                times = {"expected_time": rfc3339(due_at), "actual_time": rfc3339(now), "missed_runs": missed}
                _tell(connection, "missed", schedule, {**times, **schedule.runs, "next_run": rfc3339(next_at)})
            if not missed or schedule.if_missed == "run":
                publisher.publish_event(schedule.event(due_at, next_at))
                fired_at = now
    except (HookEventProcessorError, DataError, IntegrityError, ProgrammingError) as fault:
        error, fired_at = " ".join(str(fault).split()), None
    values = {"id": schedule.id, "next_at": next_at, "last_at": fired_at, "error": error}
    connection.execute(_KEEP_FIRED, values)
    return Fired(schedule, missed, error)


def plan(connection: Connection) -> list[Fired]:
    """Work out when those fire that were written past the command line; returns those that cannot."""
    unplanned = _read(connection, f"{_ALL} WHERE s.enabled AND t.next_at IS NULL ORDER BY s.id")
    return [fired for schedule in unplanned if (fired := _plan(connection, schedule)).error is not None]


def _plan(connection: Connection, schedule: Schedule) -> Fired:
    next_at, error = None, None
    try:
        next_at = next(schedule.timing.after(server_time(connection)))
    except ScheduleRefused as fault:
        error = str(fault)
    if next_at is not None or error != schedule.error:
        with suppress(ForeignKeyViolation):  # it was removed meanwhile
            _keep_next(connection, schedule, next_at, error)
    return Fired(schedule, error=error)


def due_in(connection: Connection) -> float | None:
    """Seconds until the next one is due, negative for one that is; None when none will be."""
    row = connection.execute(_DUE_IN).fetchone()
    return None if row is None else row[0]


def _now(connection: Connection) -> datetime:
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM
    now: datetime = row[0]
    return now


def _read(connection: Connection, statement: str, values: Iterable[object] = ()) -> list[Schedule]:
    with connection.cursor(row_factory=class_row(Schedule)) as cursor:
        set_json_loads(_payload, cursor)
        return cursor.execute(statement, tuple(values)).fetchall()


def _payload(text: str | bytes) -> Any:
    """What JSON says; None where it is more than an event can carry."""
    try:
        value = json.loads(text)
        encoded("payload", value)
    except (ValueError, RecursionError, EventRefused):
        return None
    return value
