"""How the whole stands: processors, backlog, failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from hook_event_processor.store import waiting as rows

# A count ends here: it must stay quick on a table of any size.
COUNT_LIMIT = 10_000
# Processors write their row every few seconds.
FRESH_SECONDS = 12
_FORGOTTEN_HOURS = 1
TOLD = "degraded"  # in the health of a processor that has told so, until it has recovered


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor as it last said of itself, `age_seconds` ago."""

    node: str
    host: str
    instance: str
    pid: int
    version: str
    state: str
    wake: str
    workers: int
    busy: int
    stuck: int
    started_at: datetime
    heartbeat_at: datetime
    stats: Mapping[str, Any]
    health: Mapping[str, Any]
    age_seconds: float

    @property
    def alive(self) -> bool:
        return self.state != "stopped" and self.age_seconds <= FRESH_SECONDS


@dataclass(frozen=True, slots=True)
class Backlog:
    """Events by state, each counted up to COUNT_LIMIT; `oldest_seconds` is how long the first has been due."""

    pending: int
    scheduled: int
    retrying: int
    processing: int
    paused: int
    failed: int
    oldest_seconds: float | None


def processors(connection: Connection) -> list[Processor]:
    """Every processor that has not stopped, and was heard of in the last hour."""
    with connection.cursor(row_factory=class_row(Processor)) as cursor:
        return cursor.execute(
            """
            SELECT node, host, instance, pid, version, state, wake, workers, busy, stuck, started_at, heartbeat_at,
                   stats, health, extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 AS age_seconds
            FROM hook_processors
            WHERE state <> 'stopped' AND heartbeat_at > now() - make_interval(hours => %s)
            ORDER BY node
            """,
            (_FORGOTTEN_HOURS,),
        ).fetchall()


def waiting(connection: Connection, floor: int = 0) -> int:
    """How many events could be claimed now, counted up to COUNT_LIMIT; fresh ones up to the seq `floor` are taken."""
    row = connection.execute(_READY, {"limit": COUNT_LIMIT, "floor": floor}).fetchone()
    return int(row[0]) if row else 0


def oldest_waiting(connection: Connection, floor: int = 0) -> float | None:
    """How long, in seconds, the first event has been ready that needs no worker slot; None when there is none."""
    row = connection.execute(_OLDEST, {"floor": floor}).fetchone()
    return row[0] if row else None


def backlog(connection: Connection) -> Backlog:
    """What waits, runs, and was given up."""
    with connection.cursor(row_factory=class_row(Backlog)) as cursor:
        row = cursor.execute(_BACKLOG, {"limit": COUNT_LIMIT}).fetchone()
    return row or Backlog(0, 0, 0, 0, 0, 0, None)


_WAITING = f"{rows.DUE} AND (lease_token IS NOT NULL AND available_at > now()) IS NOT TRUE"
# Each part has an index of its own, and ends at the limit.
_READY = f"""
SELECT least(%(limit)s,
    (SELECT count(*) FROM (SELECT FROM hook_events
        WHERE {rows.FRESH} AND seq > greatest(%(floor)s, {rows.FLOOR})
        ORDER BY seq LIMIT %(limit)s) AS fresh)
    + (SELECT count(*) FROM (SELECT FROM hook_events
        WHERE {rows.PRIORITIZED} LIMIT %(limit)s) AS prioritized)
    + (SELECT count(*) FROM (SELECT FROM hook_events
        WHERE {rows.DUE} AND available_at <= now() LIMIT %(limit)s) AS due))
"""
# A writer may say any time; one that is infinite says nothing of how long a row has waited.
_OLDEST = f"""
SELECT extract(epoch FROM clock_timestamp() - min(since))::float8 FROM (VALUES
    ((SELECT created_at FROM hook_events
        WHERE {rows.FRESH} AND seq > greatest(%(floor)s, {rows.FLOOR}) ORDER BY seq LIMIT 1)),
    ((SELECT created_at FROM hook_events WHERE {rows.PRIORITIZED} ORDER BY priority, seq LIMIT 1)),
    ((SELECT available_at FROM hook_events
        WHERE NOT needs_slot AND {rows.DUE} AND available_at <= now() ORDER BY available_at LIMIT 1))
) AS oldest (since) WHERE isfinite(since)
"""
_BACKLOG = f"""
WITH fresh AS (
    SELECT created_at AS due_at FROM hook_events
    WHERE {rows.FRESH} AND seq > {rows.FLOOR} ORDER BY seq LIMIT %(limit)s
), prioritized AS (
    SELECT created_at AS due_at FROM hook_events
    WHERE {rows.PRIORITIZED} LIMIT %(limit)s
), due AS (
    SELECT available_at AS due_at FROM hook_events
    WHERE {_WAITING} AND retry_count = 0 AND available_at <= now() LIMIT %(limit)s
), retrying AS (
    SELECT available_at AS due_at FROM hook_events
    WHERE {_WAITING} AND retry_count > 0 AND available_at < 'infinity' LIMIT %(limit)s
), waiting AS (
    TABLE fresh UNION ALL TABLE prioritized UNION ALL TABLE due UNION ALL
    SELECT due_at FROM retrying WHERE due_at <= now()
)
SELECT
    least(%(limit)s, (SELECT count(*) FROM fresh) + (SELECT count(*) FROM prioritized) + (SELECT count(*) FROM due))
        AS pending,
    (SELECT count(*) FROM (SELECT FROM hook_events
        WHERE {_WAITING} AND retry_count = 0 AND available_at > now() AND available_at < 'infinity'
        LIMIT %(limit)s) AS few) AS scheduled,
    (SELECT count(*) FROM (SELECT FROM hook_events
        WHERE {rows.DUE} AND available_at = 'infinity' LIMIT %(limit)s) AS few) AS paused,
    (SELECT count(*) FROM retrying) AS retrying,
    (SELECT count(*) FROM (SELECT FROM hook_events
        WHERE {rows.DUE} AND lease_token IS NOT NULL AND available_at > now() LIMIT %(limit)s) AS few) AS processing,
    (SELECT count(*) FROM (SELECT FROM hook_events
        WHERE {rows.DEAD} LIMIT %(limit)s) AS few) AS failed,
    (SELECT extract(epoch FROM now() - min(due_at))::float8 FROM waiting WHERE isfinite(due_at)) AS oldest_seconds
"""


_SAY = """
INSERT INTO hook_processors AS p
    (node, host, instance, pid, version, state, wake, workers, busy, stuck, stats, health, started_at, heartbeat_at)
VALUES (%(node)s, %(host)s, %(instance)s, %(pid)s, %(version)s, %(state)s, %(wake)s, %(workers)s, %(busy)s, %(stuck)s,
        %(stats)s, %(health)s, clock_timestamp(), clock_timestamp())
ON CONFLICT (node) DO UPDATE SET
    host = excluded.host, instance = excluded.instance, pid = excluded.pid, version = excluded.version,
    state = excluded.state, wake = excluded.wake, workers = excluded.workers, busy = excluded.busy,
    stuck = excluded.stuck, stats = excluded.stats, health = excluded.health, heartbeat_at = excluded.heartbeat_at,
    started_at = CASE WHEN %(anew)s THEN excluded.started_at ELSE p.started_at END,
    lost_at = CASE WHEN %(anew)s THEN nullif(p.lost_at, 'infinity') ELSE p.lost_at END
"""
_FORGET = "DELETE FROM hook_processors WHERE heartbeat_at < now() - make_interval(hours => %s)"


def say(connection: Connection, processor: Mapping[str, Any], *, anew: bool = False) -> None:
    """Write a processor's own row: the columns of Processor but for the times; `stats` and `health` become JSON.

    `anew`: for the first time, perhaps over the row of another process of the
    same name. Of a host with a fixed name, such as a container's, it may be.
    """
    stored = {"stats": Jsonb(processor["stats"]), "health": Jsonb(processor.get("health", {}))}
    connection.execute(_SAY, {**processor, **stored, "anew": anew})


@dataclass(frozen=True, slots=True)
class Health:
    """A processor that is silent, or heard of again, after so many seconds."""

    node: str
    host: str
    instance: str
    seconds: float


# One that was started in its place: not before it fell silent.
SUCCESSOR = f"""
SELECT FROM hook_processors q
WHERE q.host = p.host AND q.instance = p.instance AND q.node <> p.node AND q.started_at > p.heartbeat_at
  AND q.state <> 'stopped' AND q.heartbeat_at > now() - interval '{FRESH_SECONDS} s'
"""
_IS_SILENT = f"""
(lost_at IS NULL AND state <> 'stopped' AND heartbeat_at < now() - interval '{FRESH_SECONDS} s'
 AND NOT EXISTS ({SUCCESSOR}))
"""
# One that told of health.degraded (TOLD), and was ended for it: it cannot tell that this is over.
_IS_REPLACED = f"""
(lost_at IS NULL AND p.health ? '{TOLD}' AND (state = 'stopped' OR heartbeat_at < now() - interval '{FRESH_SECONDS} s')
 AND EXISTS ({SUCCESSOR} AND NOT q.health ? '{TOLD}'))
"""
_IS_BACK = f"""
(lost_at < 'infinity' AND (heartbeat_at > lost_at OR EXISTS ({SUCCESSOR})) OR {_IS_REPLACED})
"""
# Whether find_silent() or find_back() would find any.
HAS_NEWS = f"EXISTS (SELECT FROM hook_processors p WHERE {_IS_SILENT} OR {_IS_BACK})"
_SILENT = f"""
UPDATE hook_processors p SET lost_at = now()
WHERE {_IS_SILENT}
RETURNING node, host, instance, extract(epoch FROM now() - heartbeat_at)::float8 AS seconds
"""
_BACK = f"""
WITH back AS (
    SELECT node, lost_at, CASE WHEN heartbeat_at > lost_at THEN NULL ELSE timestamptz 'infinity' END AS new
    FROM hook_processors p
    WHERE {_IS_BACK}
    FOR UPDATE
)
UPDATE hook_processors p SET lost_at = back.new FROM back WHERE p.node = back.node
RETURNING p.node, p.host, p.instance,
    extract(epoch FROM now() - coalesce(back.lost_at, heartbeat_at))::float8 AS seconds
"""


def find_silent(connection: Connection) -> list[Health]:
    """Mark the processors that are silent and have no successor; each is returned once, to one caller."""
    with connection.cursor(row_factory=class_row(Health)) as cursor:
        return cursor.execute(_SILENT).fetchall()


def find_back(connection: Connection) -> list[Health]:
    """The processors that were silent, or degraded as they ended, and are back or replaced; each is returned once."""
    with connection.cursor(row_factory=class_row(Health)) as cursor:
        return cursor.execute(_BACK).fetchall()


def forget(connection: Connection) -> None:
    """Remove the rows of processors that were not heard of for long."""
    connection.execute(_FORGET, (_FORGOTTEN_HOURS,))
