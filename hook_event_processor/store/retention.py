"""Removing one event with its executions."""

from __future__ import annotations

from uuid import UUID

from psycopg import Connection


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
