"""Events as the command line asks for them: lists, one by its id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from hook_event_processor.errors import NotFound
from hook_event_processor.store import waiting

# How far back, in seq, a list looks before it looks at everything.
_WINDOWS = (2_000, 20_000, 200_000)


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """An event as a line of a list. `error` is that of its last failed attempt."""

    id: UUID
    type: str
    source: str
    action: str
    status: str
    state: str
    resource: str
    resource_id: str
    stack: str | None
    priority: int
    retry_count: int
    error: str | None
    created_at: datetime
    processed_at: datetime | None
    seq: int


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Everything about an event. `data` and `metadata` are JSON text: jsonb holds what Python cannot.

    `available_at` is None for one that is held, too.
    """

    id: UUID
    type: str
    source: str
    action: str
    resource: str
    resource_id: str
    data: str
    metadata: str
    status: str
    state: str
    error: str | None
    processing_errors: list[str] | None
    timestamp: datetime
    created_at: datetime
    available_at: datetime | None
    processed_at: datetime | None
    failed_at: datetime | None
    stack: str | None
    agent_id: str | None
    session_id: str | None
    correlation_id: str | None
    priority: int
    retry_count: int
    claimed_by: str | None
    seq: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events; None asks for nothing. `kinds` are (source, action) pairs."""

    kinds: Sequence[tuple[str, str]] | None = None
    source: str | None = None
    status: str | None = None
    stack: str | None = None
    agent: str | None = None
    session: str | None = None
    correlation: str | None = None
    since: datetime | None = None

    def condition(self) -> tuple[str, dict[str, Any]]:
        """An SQL condition on hook_events, aliased e, and its parameters."""
        terms = ["TRUE"]
        values: dict[str, Any] = {}
        for name, term in _TERMS.items():
            if (value := getattr(self, name)) is not None:
                terms.append(term)
                values[name] = value
        if self.kinds is not None:
            terms.append(_KINDS)
            values["sources"], values["actions"] = [k[0] for k in self.kinds], [k[1] for k in self.kinds]
        if self.status is not None:
            terms.append(_STATUSES[self.status])
        return " AND ".join(terms), values


_TERMS = {
    "source": "e.source = %(source)s",
    "stack": "coalesce(e.metadata ->> 'stack', e.payload ->> 'stack') = %(stack)s",
    "agent": "coalesce(e.metadata ->> 'agent_id', e.payload ->> 'agent_id') = %(agent)s",
    "session": "coalesce(e.metadata ->> 'session_id', e.payload ->> 'session_id') = %(session)s",
    "correlation": "e.metadata ->> 'correlation_id' = %(correlation)s",
    "since": "e.created_at >= %(since)s",
}
_KINDS = "(e.source, e.action) IN (SELECT * FROM unnest(%(sources)s::text[], %(actions)s::text[]))"
# The states of the view `events`, said so that the partial indexes can answer.
_LEASED = "(e.lease_token IS NOT NULL AND e.available_at > now())"
_OPEN = "NOT e.processed AND e.failed_at IS NULL"
_HELD = "e.available_at = 'infinity'"
_STATUSES = {
    "completed": "e.processed",
    "failed": "NOT e.processed AND e.failed_at IS NOT NULL",
    "processing": f"{_OPEN} AND {_LEASED}",
    "pending": f"{_OPEN} AND {_LEASED} IS NOT TRUE",
    "retrying": f"{_OPEN} AND {_LEASED} IS NOT TRUE AND e.retry_count > 0 AND {_HELD} IS NOT TRUE",
    "scheduled": f"{_OPEN} AND {_LEASED} IS NOT TRUE AND e.retry_count = 0 AND e.available_at > now() AND NOT {_HELD}",
    "paused": f"{_OPEN} AND {_LEASED} IS NOT TRUE AND {_HELD}",
}
# Every event that is not completed lies in exactly one of these indexes.
_UNFINISHED = (
    f"{waiting.FRESH} AND e.seq > {waiting.FLOOR}",
    waiting.PRIORITIZED,
    waiting.DUE,
    waiting.DEAD,
)


def newest(connection: Connection, wanted: Filter, limit: int) -> list[ListedEvent]:
    """The newest events, newest first."""
    if wanted.kinds is not None and not wanted.kinds:
        return []
    condition, values = wanted.condition()
    values["limit"] = limit
    with connection.cursor(row_factory=class_row(ListedEvent)) as cursor:
        if wanted.status not in (None, "completed"):
            branches = (_BRANCH.format(condition=f"{condition} AND {part}") for part in _UNFINISHED)
            return cursor.execute(_LIST.format(seqs=" UNION ALL ".join(branches)), values).fetchall()
        last = last_seq(connection)
        rows: list[ListedEvent] = []
        for window in (*_WINDOWS, None):
            floor = "TRUE" if window is None or window >= last else "e.seq > %(floor)s"
            values["floor"] = last - (window or 0)
            seqs = _BRANCH.format(condition=f"{condition} AND {floor}")
            rows = cursor.execute(_LIST.format(seqs=seqs), values).fetchall()
            if len(rows) >= limit or floor == "TRUE":
                break
        return rows


LISTED = """
v.id, v.type, v.source, v.action, v.status, v.state, v.resource, v.resource_id, v.stack, v.priority, v.retry_count,
v.error, v.created_at, v.processed_at, v.seq
"""
_BRANCH = "(SELECT e.id, e.seq FROM hook_events e WHERE {condition} ORDER BY e.seq DESC LIMIT %(limit)s)"
_LIST = f"""
SELECT {LISTED}
FROM (SELECT id FROM ({{seqs}}) AS found ORDER BY seq DESC LIMIT %(limit)s) AS chosen JOIN events v USING (id)
ORDER BY v.seq DESC
"""


def last_seq(connection: Connection) -> int:
    """The last seq that was given to a row; 0 before the first."""
    row = connection.execute(
        "SELECT pg_sequence_last_value(pg_get_serial_sequence('hook_events', 'seq')::regclass)"
    ).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def kinds(connection: Connection) -> list[tuple[str, str]]:
    """Every (source, action) that has an event; jumps along the index from one to the next."""
    return connection.execute(
        """
        WITH RECURSIVE kinds AS (
            (SELECT source, action FROM hook_events ORDER BY source, action LIMIT 1)
            UNION ALL
            SELECT following.* FROM kinds CROSS JOIN LATERAL (
                SELECT e.source, e.action FROM hook_events e
                WHERE (e.source, e.action) > (kinds.source, kinds.action)
                ORDER BY e.source, e.action LIMIT 1
            ) AS following
        )
        SELECT source, action FROM kinds
        """
    ).fetchall()


def get(connection: Connection, event_id: UUID) -> StoredEvent:
    """One event. Raises NotFound."""
    with connection.cursor(row_factory=class_row(StoredEvent)) as cursor:
        event = cursor.execute(
            """
            SELECT id, type, source, action, resource, resource_id, data::text, metadata::text, status, state, error,
                   processing_errors, timestamp, created_at, nullif(available_at, 'infinity') AS available_at,
                   processed_at, failed_at, stack, agent_id,
                   session_id, correlation_id, priority, retry_count, claimed_by, seq
            FROM events WHERE id = %s
            """,
            (event_id,),
        ).fetchone()
    if event is None:
        raise NotFound(f"no event has the id {event_id}")
    return event
