"""Dead letters: failed events, the hooks that they failed in, and how they are made to run again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import Connection

from hook_event_processor.store import audit
from hook_event_processor.store.events import Filter
from hook_event_processor.store.times import server_time
from hook_event_processor.store.waiting import DEAD

_STEP_EVENTS = 1_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed event, and whether it runs again; `missing` are those hooks that it failed in and that would not.

    Each of them is `disabled` or `removed`.
    """

    id: UUID
    runs_again: bool
    missing: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters: of these ids, if there are any, and failed in this hook, if there is one."""

    filter: Filter
    ids: Sequence[UUID] | None = None
    hook: str | None = None


# By name: a hook that was removed and added again is the one that failed, mended.
_FAILED_HOOKS = """
SELECT x.hook_name AS name FROM event_hook_executions x
WHERE x.event_id = {event} GROUP BY x.hook_name HAVING NOT bool_or(x.success)
"""

# The trigger on retry_count does the rest, as for anyone who resets by SQL.
_RETRY = f"""
WITH dead AS (
    SELECT e.id, e.failed_at FROM hook_events e
    WHERE {DEAD} AND failed_at <= %(until)s::timestamptz
      AND (failed_at, id) > (%(after)s::timestamptz, %(after_id)s)
      AND {{condition}}
    ORDER BY failed_at, id LIMIT {_STEP_EVENTS} FOR UPDATE {{others}}
), judged AS (
    SELECT dead.*, failed.runs OR %(force)s AS runs_again, failed.missing
    FROM dead CROSS JOIN LATERAL (
        SELECT coalesce(bool_or(h.enabled), count(*) = 0) AS runs,
               coalesce(jsonb_object_agg(f.name, CASE WHEN h.name IS NULL THEN 'removed' ELSE 'disabled' END)
                        FILTER (WHERE h.enabled IS NOT TRUE), '{{{{}}}}') AS missing
        FROM ({_FAILED_HOOKS.format(event="dead.id")}) AS f LEFT JOIN hooks h ON h.name = f.name
    ) AS failed
), retried AS (
    UPDATE hook_events SET retry_count = 0, processing_errors = NULL
    WHERE id IN (SELECT id FROM judged WHERE runs_again) AND NOT %(dry_run)s
)
SELECT id, runs_again, missing, failed_at::text FROM judged ORDER BY judged.failed_at, id
"""


def retry(
    connection: Connection,
    wanted: Wanted,
    *,
    force: bool = False,
    dry_run: bool = False,
    reason: str | None = None,
) -> Iterator[DeadLetter]:
    """Make the events run again that are failed now, in small steps, and yield each; `reason` is for the audit.

    An event is left as it is when none of the hooks that it failed in would
    run: it would be completed without them. `force` retries it all the same.
    """
    condition, values = wanted.filter.condition()
    if wanted.ids is not None:
        condition += " AND e.id = ANY(%(ids)s)"
    if wanted.hook is not None:
        condition += f" AND %(hook)s IN ({_FAILED_HOOKS.format(event='e.id')})"
    # What somebody else has locked is passed over, unless it is asked for by its id.
    statement = _RETRY.format(condition=condition, others="SKIP LOCKED" if wanted.ids is None else "")
    values |= {"ids": wanted.ids, "hook": wanted.hook, "force": force, "dry_run": dry_run}
    # What fails again meanwhile is not taken a second time.
    until = server_time(connection) if wanted.ids is None else "infinity"
    values |= {"until": until, "after": "-infinity", "after_id": UUID(int=0)}
    while True:
        with audit.because(connection, reason):  # a transaction for each step
            rows = connection.execute(statement, values).fetchall()
        if not rows:
            return
        yield from (DeadLetter(*row[:3]) for row in rows)
        values |= {"after": rows[-1][3], "after_id": rows[-1][0]}
