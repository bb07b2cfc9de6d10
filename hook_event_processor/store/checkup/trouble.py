"""What goes wrong with events and hooks: dead letters, unrouted types, ended leases, runs that fail or are slow."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.store.pauses import IN_FORCE
from hook_event_processor.store.waiting import DEAD, DUE, FLOOR, FRESH, PRIORITIZED

# Only the newest count: an examination must stay quick on a table of any size.
COUNT_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Events that have failed for one cause; `example` is the newest."""

    cause: str
    count: int
    type: str
    example: UUID


# Numbers, ids and quoted texts differ from event to event, and the cause does not.
_DEAD_LETTERS = rf"""
WITH newest AS (
    SELECT id, source, action, failed_at,
           coalesce(split_part(processing_errors[array_length(processing_errors, 1)], E'\n', 1), 'no reason given')
               AS error
    FROM hook_events WHERE {DEAD}
    ORDER BY failed_at DESC LIMIT %s
)
SELECT left(min(error), 200) AS cause, count(*) AS count,
       (array_agg(concat_ws('.', source, nullif(action, '')) ORDER BY failed_at DESC))[1] AS type,
       (array_agg(id ORDER BY failed_at DESC))[1] AS example
FROM newest
GROUP BY regexp_replace(error, '[0-9a-f]{{8}}-[0-9a-f-]{{27}}|[0-9]+|''[^'']*''|"[^"]*"', '…', 'g')
ORDER BY count DESC, cause LIMIT 10
"""


def dead_letters(connection: Connection) -> list[DeadLetters]:
    """The newest dead letters by cause, the most frequent first."""
    with connection.cursor(row_factory=class_row(DeadLetters)) as cursor:
        return cursor.execute(_DEAD_LETTERS, (COUNT_LIMIT,)).fetchall()


@dataclass(frozen=True, slots=True)
class Unrouted:
    """A kind of event that nothing but the unknown handler served."""

    source: str
    action: str
    stack: str | None
    count: int
    example: UUID


_UNROUTED = """
WITH newest AS (
    SELECT event_id, id FROM event_hook_executions
    WHERE hook_id = (SELECT id FROM hooks WHERE name = %(handler)s) ORDER BY id DESC LIMIT %(limit)s
)
SELECT v.source, v.action, v.stack, count(*) AS count, (array_agg(v.id ORDER BY x.id DESC))[1] AS example
FROM newest x JOIN events v ON v.id = x.event_id
WHERE v.created_at > now() - interval '1 day'
  -- What a processor or a daemon tells of itself need not be for anybody.
  AND coalesce(v.metadata #>> '{origin,component}', '') NOT IN ('processor', 'watcher')
GROUP BY v.source, v.action, v.stack ORDER BY count DESC, v.source, v.action LIMIT 100
"""


def unrouted(connection: Connection, handler: str) -> list[Unrouted]:
    """What the unknown handler has served in the last day, the most frequent first; no events of the product's own."""
    with connection.cursor(row_factory=class_row(Unrouted)) as cursor:
        return cursor.execute(_UNROUTED, {"handler": handler, "limit": COUNT_LIMIT}).fetchall()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Events that could be taken and are not: how many, since when in seconds, by whom they were held last."""

    count: int
    seconds: float
    holders: list[str]
    example: UUID


_ENDED_LEASES = f"""
SELECT count(*) AS count, extract(epoch FROM now() - min(available_at))::float8 AS seconds,
       coalesce(array_agg(DISTINCT claimed_by) FILTER (WHERE claimed_by IS NOT NULL), '{{}}') AS holders,
       (array_agg(id ORDER BY available_at))[1] AS example
FROM (SELECT id, available_at, claimed_by FROM hook_events
      WHERE {DUE} AND lease_token IS NOT NULL AND available_at < now() - %(seconds)s * interval '1 s'
      ORDER BY available_at LIMIT %(limit)s) AS few
HAVING count(*) > 0
"""
# Each part has an index of its own; the oldest of those that are due, not of those that are ordered by seq.
_LATE = f"""
SELECT count(*) AS count, extract(epoch FROM now() - greatest(min(since), 'epoch'))::float8 AS seconds,
       '{{}}'::text[] AS holders, (array_agg(id ORDER BY since))[1] AS example
FROM (
    (SELECT id, created_at AS since FROM hook_events
     WHERE {FRESH} AND seq > {FLOOR}
     ORDER BY seq LIMIT %(limit)s)
    UNION ALL
    (SELECT id, created_at FROM hook_events
     WHERE {PRIORITIZED}
     ORDER BY priority, seq LIMIT %(limit)s)
    UNION ALL
    (SELECT id, available_at FROM hook_events
     WHERE {DUE} AND lease_token IS NULL AND available_at < now()
     ORDER BY available_at LIMIT %(limit)s)
) AS few
WHERE since < now() - %(seconds)s * interval '1 s'
HAVING count(*) > 0
"""


def ended_leases(connection: Connection, seconds: float) -> Waiting | None:
    """The events whose lease ended so long ago, and that nobody has taken since."""
    return _waiting(connection, _ENDED_LEASES, seconds)


def late(connection: Connection, seconds: float) -> Waiting | None:
    """The events that have been due for so long, and that nobody has taken."""
    return _waiting(connection, _LATE, seconds)


def _waiting(connection: Connection, statement: str, seconds: float) -> Waiting | None:
    with connection.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(statement, {"seconds": seconds, "limit": COUNT_LIMIT}).fetchone()


@dataclass(frozen=True, slots=True)
class HookRuns:
    """The newest runs of a hook's version that runs now, within an hour; durations in milliseconds."""

    name: str
    runs: int
    failed: int
    p95_ms: float
    timeout_ms: float
    error: str | None


_RUNS = rf"""
SELECT h.name, count(*) AS runs, count(*) FILTER (WHERE NOT x.success) AS failed,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY x.duration_ms) AS p95_ms, h.timeout_seconds * 1000 AS timeout_ms,
       left(split_part((array_agg(x.error ORDER BY x.id DESC) FILTER (WHERE NOT x.success))[1], E'\n', 1), 200) AS error
FROM hooks h, LATERAL (
    SELECT id, success, duration_ms, error, version, executed_at FROM event_hook_executions
    WHERE hook_id = h.id ORDER BY id DESC LIMIT %s
) AS x
WHERE h.enabled AND x.version = h.version AND x.executed_at > now() - interval '1 hour'
  AND NOT EXISTS (SELECT FROM hook_pauses WHERE scope = 'hook' AND hook_pauses.name = h.name AND {IN_FORCE})
GROUP BY h.name, h.timeout_seconds ORDER BY h.name
"""


def hook_runs(connection: Connection, newest: int) -> list[HookRuns]:
    """How the newest runs ended of each hook that is enabled and not paused, by name."""
    with connection.cursor(row_factory=class_row(HookRuns)) as cursor:
        return cursor.execute(_RUNS, (newest,)).fetchall()
