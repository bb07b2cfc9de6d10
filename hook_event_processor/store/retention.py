"""Removing events with their executions: one, or all that are old."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

from psycopg import Connection

_STEP_PAGES = 256  # of the table, in one short transaction


def delete(connection: Connection, event_id: UUID) -> tuple[int, int]:
    """Remove an event with its executions, unless it is being processed; returns how many of each."""
    row = connection.execute(
        """
        WITH gone AS (
            DELETE FROM hook_events
            WHERE id = %s AND (processed OR (lease_token IS NOT NULL AND available_at > now()) IS NOT TRUE)
            RETURNING id
        ), runs AS (
            DELETE FROM event_hook_executions WHERE event_id IN (SELECT id FROM gone) RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM runs)
        """,
        (event_id,),
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def clean_up(
    connection: Connection, older_than: timedelta, *, failed: bool, report: Callable[[float], None] = lambda _: None
) -> tuple[int, int]:
    """Remove what was completed before `older_than` ago, with its executions; returns how many of each.

    `failed` also removes dead letters of that age. Executions of that age
    whose event was removed by other means go, too. `report` is given the
    fraction of the work that is done.
    """
    row = connection.execute("SELECT now() - %s", (older_than,)).fetchone()
    values = {"before": row[0] if row else None, "failed": failed}
    events = runs = 0
    for first, last, done in _steps(connection, "hook_events"):
        gone = connection.execute(_CLEAN_EVENTS, {**values, "first": first, "last": last}).fetchone()
        events, runs = (events + gone[0], runs + gone[1]) if gone else (events, runs)
        report(done / 2)
    for first, last, done in _steps(connection, "event_hook_executions"):
        runs += connection.execute(_CLEAN_EXECUTIONS, {**values, "first": first, "last": last}).rowcount
        report(0.5 + done / 2)
    return events, runs


_CLEAN_EVENTS = """
WITH gone AS (
    DELETE FROM hook_events
    WHERE ctid >= %(first)s::tid AND ctid < %(last)s::tid
      AND (processed AND coalesce(processed_at, created_at) < %(before)s
           OR %(failed)s AND NOT processed AND failed_at < %(before)s)
    RETURNING id
), runs AS (
    DELETE FROM event_hook_executions WHERE event_id IN (SELECT id FROM gone) RETURNING 1
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM runs)
"""
_CLEAN_EXECUTIONS = """
DELETE FROM event_hook_executions x
WHERE x.ctid >= %(first)s::tid AND x.ctid < %(last)s::tid AND x.executed_at < %(before)s
  AND NOT EXISTS (SELECT FROM hook_events e WHERE e.id = x.event_id)
"""


def _steps(connection: Connection, table: str) -> Iterator[tuple[str, str, float]]:
    """The table in ranges of pages, which need no index: first and last ctid, and the fraction that is done."""
    row = connection.execute(
        "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::bigint", (table,)
    ).fetchone()
    pages = int(row[0]) if row else 0
    for page in range(0, pages, _STEP_PAGES):
        yield f"({page},0)", f"({page + _STEP_PAGES},0)", min(1.0, (page + _STEP_PAGES) / pages)
