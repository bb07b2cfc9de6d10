"""Archiving to tables of the same database: hook_archived_events and hook_archived_executions."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import Connection, sql

from hook_event_processor.errors import ArchiveRefused
from hook_event_processor.store.cleanup.removal import TAKEN, Gone, Place, remove

ARCHIVES = {"hook_events": "hook_archived_events", "event_hook_executions": "hook_archived_executions"}


def columns_of(connection: Connection, table: str) -> list[str]:
    """The columns of a table, in their order."""
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attgenerated = '' ORDER BY attnum",
        (table,),
    )
    return [row[0] for row in rows]


class TableArchive:
    """Moves events and their executions in one statement: they are in one place or the other, at every moment."""

    def __init__(self, connection: Connection) -> None:
        """Raises ArchiveRefused when the archive lacks a column that the events have."""
        lists = {}
        for table, archive in ARCHIVES.items():
            columns = columns_of(connection, table)
            missing = [name for name in columns if name not in columns_of(connection, archive)]
            if missing:
                raise ArchiveRefused(
                    f"{archive} lacks the columns {', '.join(missing)} of {table}: add them (ALTER TABLE {archive}"
                    " ADD COLUMN …), with the same types"
                )
            lists[table] = sql.SQL(", ").join(map(sql.Identifier, columns)).as_string(connection)
        events, runs = lists.values()
        self.statement = f"""{TAKEN.format(events=events, executions=runs)}
, kept AS (
    INSERT INTO hook_archived_events ({events}) SELECT {events} FROM gone RETURNING id
), kept_runs AS (
    INSERT INTO hook_archived_executions ({runs}) SELECT {runs} FROM runs RETURNING 1
)
SELECT (SELECT array_agg(id) FROM kept), (SELECT count(*) FROM kept_runs)
""".replace("%", "%%").replace("%%(", "%(")

    def move(self, connection: Connection, places: Sequence[Place]) -> Gone:
        """Move these events, where they still lie and have ended."""
        return remove(connection, places, self.statement)
