"""Removing one event with its executions."""

from __future__ import annotations

from uuid import UUID

from psycopg import Connection


def delete(connection: Connection, event_id: UUID) -> tuple[int, int]:
    """Remove an event with its executions, unless it is being processed; returns how many of each."""
    with connection.transaction():
        gone = connection.execute(
            """
            DELETE FROM hook_events
            WHERE id = %s AND (processed OR (lease_token IS NOT NULL AND available_at > now()) IS NOT TRUE)
            """,
            (event_id,),
        ).rowcount
        if not gone:
            return 0, 0
        # A statement of its own sees what a claim has recorded while the first one waited for it.
        runs = connection.execute("DELETE FROM event_hook_executions WHERE event_id = %s", (event_id,)).rowcount
    return gone, runs
