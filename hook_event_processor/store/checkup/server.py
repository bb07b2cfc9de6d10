"""The server itself: its version and clock, its connections, who we are to it, and what fills its disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection
from psycopg.rows import class_row

_READINGS = 3


def clock_ahead(connection: Connection, now: Callable[[], float] = time.time) -> tuple[float, float]:
    """How many seconds the server's clock is ahead of `now`, and how far that may be wrong: half a round trip."""
    readings = []
    for _ in range(_READINGS):
        sent = now()
        began = time.monotonic()
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        half = (time.monotonic() - began) / 2
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        readings.append((half, row[0] - sent - half))
    half, ahead = min(readings)
    return ahead, half


@dataclass(frozen=True, slots=True)
class Connections:
    """Limits of connections, None for no limit, and how many there are; `all_limit` is what is not reserved."""

    all_limit: int
    all_used: int
    database: str
    database_limit: int | None
    database_used: int
    role: str
    role_limit: int | None
    role_used: int


_CONNECTIONS = """
WITH used AS (
    SELECT count(*) AS everywhere, count(*) FILTER (WHERE datname = current_database()) AS here,
           count(*) FILTER (WHERE usename = current_user) AS mine
    FROM pg_stat_activity
    -- Of others' sessions a role without more rights sees the role and the database, and not the type.
    WHERE backend_type = 'client backend' OR backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL
)
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int AS all_limit,
       used.everywhere AS all_used,
       d.datname AS database, nullif(d.datconnlimit, -1) AS database_limit, used.here AS database_used,
       r.rolname AS role, nullif(r.rolconnlimit, -1) AS role_limit, used.mine AS role_used
FROM used, pg_database d, pg_roles r
WHERE d.datname = current_database() AND r.rolname = current_user
"""


def connections(connection: Connection) -> Connections:
    """How many connections there are, and how many there may be."""
    with connection.cursor(row_factory=class_row(Connections)) as cursor:
        found = cursor.execute(_CONNECTIONS).fetchone()
    assert found is not None  # noqa: S101 - we are somebody, somewhere
    return found


def backend(connection: Connection) -> int:
    """The process id of the server's session that answers now."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    return int(row[0])


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot: which process reads it (None: it is not in use), how much WAL the server keeps for it, and
    how many transactions its snapshot is old.
    """

    name: str
    active_pid: int | None
    retained_bytes: int
    lost: bool
    snapshot_age: int


_SLOTS = """
SELECT slot_name AS name, active_pid,
       coalesce(pg_wal_lsn_diff(
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn
       ), 0)::bigint AS retained_bytes,
       coalesce(wal_status, '') = 'lost' AS lost,
       greatest(coalesce(age(xmin), 0), coalesce(age(catalog_xmin), 0)) AS snapshot_age
FROM pg_replication_slots ORDER BY slot_name
"""


def slots(connection: Connection) -> list[Slot]:
    """Every replication slot of the server."""
    with connection.cursor(row_factory=class_row(Slot)) as cursor:
        return cursor.execute(_SLOTS).fetchall()


def archiving_fails_since(connection: Connection) -> tuple[datetime, str] | None:
    """When archiving last failed, and on which file, if nothing was archived after that; None where it works."""
    row = connection.execute(
        "SELECT last_failed_time, last_failed_wal FROM pg_stat_archiver"
        " WHERE current_setting('archive_mode') <> 'off'"
        " AND last_failed_time > coalesce(last_archived_time, '-infinity')"
    ).fetchone()
    return (row[0], row[1]) if row else None


def data_directory(connection: Connection) -> str | None:
    """Where the server's data lie on its host; None for a role that may not know."""
    row = connection.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone()
    return str(row[0]) if row else None


def queue_usage(connection: Connection) -> float:
    """How full the queue of notifications is, from 0 to 1."""
    row = connection.execute("SELECT pg_notification_queue_usage()").fetchone()
    return float(row[0]) if row else 0.0


def autovacuum_runs(connection: Connection) -> tuple[bool, bool]:
    """Whether the server has autovacuum on, and counts changes, without which it does nothing."""
    row = connection.execute(
        "SELECT current_setting('autovacuum')::bool, current_setting('track_counts')::bool"
    ).fetchone()
    return (bool(row[0]), bool(row[1])) if row else (True, True)


def is_superuser(connection: Connection) -> bool:
    """Whether this session may do everything."""
    return connection.info.parameter_status("is_superuser") == "on"
