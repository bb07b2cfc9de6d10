"""When schedules fire next: processors work it out, and fire what is due."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection, DataError, IntegrityError, ProgrammingError
from psycopg.errors import ForeignKeyViolation

from hook_event_processor.errors import HookEventProcessorError, ScheduleRefused
from hook_event_processor.store import own_events
from hook_event_processor.store.insert import Publisher
from hook_event_processor.store.schedules import ALL, COLUMNS, Schedule, get, read
from hook_event_processor.store.times import server_time, transaction_time
from hook_event_processor.timestamp import rfc3339

# One that fires later than this has missed its time: no processor was there.
_MISSED_SECONDS = 60.0
_MAX_COUNTED = 1_000  # times that were missed
FIRED_AT_A_TIME = 100

# Unless it was planned, or changed, by somebody else meanwhile.
_KEEP_NEXT = """
INSERT INTO hook_schedule_times (schedule_id, next_at, error)
SELECT id, %(next_at)s, %(error)s FROM hook_schedules
WHERE id = %(id)s AND enabled AND (cron, every_seconds, timezone)
    IS NOT DISTINCT FROM (%(cron)s::text, %(every_seconds)s::double precision, %(timezone)s::text)
ON CONFLICT (schedule_id) DO UPDATE SET next_at = excluded.next_at, error = excluded.error
WHERE hook_schedule_times.next_at IS NULL
"""
_KEEP_FIRED = """
UPDATE hook_schedule_times SET next_at = %(next_at)s, last_at = coalesce(%(last_at)s, last_at), error = %(error)s
WHERE schedule_id = %(id)s
"""
DUE = f"""
SELECT {COLUMNS} FROM hook_schedule_times t JOIN hook_schedules s ON s.id = t.schedule_id
WHERE t.next_at <= now() AND s.enabled ORDER BY t.next_at LIMIT {FIRED_AT_A_TIME} FOR UPDATE OF t SKIP LOCKED
"""
# What is held by SQL has an infinite time; PostgreSQL before 17 subtracts nothing infinite.
_DUE_IN = """
SELECT extract(epoch FROM min(greatest(t.next_at, 'epoch')) - clock_timestamp())::float8
FROM hook_schedule_times t JOIN hook_schedules s ON s.id = t.schedule_id WHERE s.enabled AND t.next_at < 'infinity'
"""


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of a schedule that was due: `missed` times had passed without it; `error` None: it is well."""

    schedule: Schedule
    missed: int = 0
    error: str | None = None


def fire(connection: Connection, publisher: Publisher) -> list[Fired]:
    """Fire what is due, each schedule once, by whichever processor comes first; what is left is due still."""
    with connection.transaction():
        now = transaction_time(connection)
        return [_fire(connection, schedule, now, publisher) for schedule in read(connection, DUE)]


def _fire(connection: Connection, schedule: Schedule, now: datetime, publisher: Publisher) -> Fired:
    due_at = schedule.next_at or now
    next_at, fired_at, missed, error = None, None, 0, None
    try:
        next_at = next(schedule.timing.after(now))
        if (now - due_at).total_seconds() > _MISSED_SECONDS:
            missed = schedule.timing.count(due_at, now, _MAX_COUNTED)
        with connection.transaction():
            if missed:
                times = {"expected_time": rfc3339(due_at), "actual_time": rfc3339(now), "missed_runs": missed}
                told = {**times, **schedule.runs, "next_run": rfc3339(next_at)}
                own_events.tell(connection, schedule.own_event("missed", told))
            if not missed or schedule.if_missed == "run":
                publisher.publish_event(schedule.event(due_at, next_at))
                fired_at = now
    except (HookEventProcessorError, DataError, IntegrityError, ProgrammingError) as fault:
        error, fired_at = " ".join(str(fault).split()), None
    values = {"id": schedule.id, "next_at": next_at, "last_at": fired_at, "error": error}
    connection.execute(_KEEP_FIRED, values)
    return Fired(schedule, missed, error)


def planned(connection: Connection, schedule: Schedule) -> Schedule:
    """The schedule with the time of its next event; one that is known stays. Raises ScheduleRefused."""
    if not schedule.enabled or schedule.next_at is not None:
        return schedule
    _keep_next(connection, schedule, next(schedule.timing.after(server_time(connection))), None)
    return get(connection, schedule.name)


def plan(connection: Connection) -> list[Fired]:
    """Work out when those fire that were written past the command line; returns those that cannot."""
    unplanned = read(connection, f"{ALL} WHERE s.enabled AND t.next_at IS NULL ORDER BY s.id")
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


def _keep_next(connection: Connection, schedule: Schedule, next_at: datetime | None, error: str | None) -> None:
    times = {name: getattr(schedule, name) for name in ("id", "cron", "every_seconds", "timezone")}
    connection.execute(_KEEP_NEXT, {**times, "next_at": next_at, "error": error})


def due_in(connection: Connection) -> float | None:
    """Seconds until the next one is due, negative for one that is; None when none will be."""
    row = connection.execute(_DUE_IN).fetchone()
    return None if row is None else row[0]
