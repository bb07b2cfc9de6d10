"""The audit trail as the command line asks for it: the runs of an event, of a hook, and their sums."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

Period = Literal["hour", "day"]


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a hook. `event_type` is None once the event is removed; `duration_ms` is wall time."""

    id: int
    event_id: UUID
    event_type: str | None
    hook_id: int
    hook_name: str
    success: bool
    result: str
    output: str | None
    error: str | None
    duration_ms: float
    executed_at: datetime
    attempt: int
    version: int
    node: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The runs of a hook in one period, which begins at `since` (UTC). Durations in milliseconds."""

    since: datetime
    runs: int
    succeeded: int
    failed: int
    median_ms: float
    p95_ms: float
    max_ms: float


_EXECUTION = """
x.id, x.event_id, v.type AS event_type, x.hook_id, x.hook_name, x.success, x.result, x.output, x.error, x.duration_ms,
x.executed_at, x.attempt, x.version, x.node
"""


def of_event(connection: Connection, event_id: UUID) -> list[Execution]:
    """All runs for an event, oldest first."""
    with connection.cursor(row_factory=class_row(Execution)) as cursor:
        return cursor.execute(
            f"""
            SELECT {_EXECUTION} FROM event_hook_executions x LEFT JOIN events v ON v.id = x.event_id
            WHERE x.event_id = %s ORDER BY x.executed_at, x.id
            """,
            (event_id,),
        ).fetchall()


# By steps through the key: as many as there are hooks, not runs.
_HOOK_NAMES = """
WITH RECURSIVE each AS (
    (SELECT hook_id, hook_name FROM event_hook_executions ORDER BY hook_id, id LIMIT 1)
    UNION ALL
    SELECT following.* FROM each, LATERAL (
        SELECT hook_id, hook_name FROM event_hook_executions WHERE hook_id > each.hook_id ORDER BY hook_id, id LIMIT 1
    ) AS following
) SELECT hook_id, hook_name FROM each
"""


def hook_names(connection: Connection) -> dict[int, str]:
    """What the hooks that have runs are called, or were before they were removed, by their ids."""
    return dict(connection.execute(_HOOK_NAMES).fetchall())


def of_hook(connection: Connection, hook_id: int, limit: int, *, only_failed: bool = False) -> list[Execution]:
    """The latest runs of a hook, newest first; `only_failed`: the latest that failed."""
    with connection.cursor(row_factory=class_row(Execution)) as cursor:
        return cursor.execute(
            f"""
            SELECT {_EXECUTION} FROM event_hook_executions x LEFT JOIN events v ON v.id = x.event_id
            WHERE x.hook_id = %s {"AND NOT x.success" if only_failed else ""} ORDER BY x.id DESC LIMIT %s
            """,
            (hook_id, limit),
        ).fetchall()


def history(connection: Connection, hook_id: int, period: Period, limit: int) -> list[Summary]:
    """The sums of a hook's runs over the last `limit` periods, newest first; a period without runs is left out."""
    with connection.cursor(row_factory=class_row(Summary)) as cursor:
        return cursor.execute(
            """
            SELECT date_trunc(%(period)s, executed_at, 'UTC') AS since,
                   count(*) AS runs,
                   count(*) FILTER (WHERE success) AS succeeded,
                   count(*) FILTER (WHERE NOT success) AS failed,
                   percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS median_ms,
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
                   max(duration_ms) AS max_ms
            FROM event_hook_executions
            WHERE hook_id = %(hook_id)s
              AND executed_at >= date_trunc(%(period)s, now(), 'UTC') - (%(limit)s - 1) * ('1 ' || %(period)s)::interval
            GROUP BY 1 ORDER BY 1 DESC
            """,
            {"period": period, "hook_id": hook_id, "limit": limit},
        ).fetchall()
