"""Unfinished rows: one condition for each index of hook_events that finds them, and the floor under the fresh ones."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection

# hook_events_fresh holds what is done, too, so that acknowledging an event
# touches no index: whoever reads it begins at a seq, the floor at the least.
FRESH = "NOT processed AND available_at IS NULL AND failed_at IS NULL AND priority = 5"
FLOOR = "(SELECT seq FROM hook_events_floor)"
PRIORITIZED = "NOT processed AND NOT dequeued AND available_at IS NULL AND failed_at IS NULL AND priority <> 5"
DUE = "NOT processed AND NOT dequeued AND available_at IS NOT NULL AND failed_at IS NULL"
DEAD = "NOT processed AND NOT dequeued AND failed_at IS NOT NULL"

_LOWEST = -(2**63)
# A row that is locked, or was let go by a processor that died, holds the floor.
# A seq of its writer's choice may lie above all that are still to be given.
RAISE = f"""
WITH given AS (
    SELECT least(%(upto)s, coalesce(pg_sequence_last_value(
        pg_get_serial_sequence('hook_events', 'seq')::regclass), %(upto)s))::bigint AS seq
), verified AS (
    SELECT coalesce(
        (SELECT seq - 1 FROM hook_events
         WHERE {FRESH} AND seq > {FLOOR} AND seq <= (SELECT seq FROM given) ORDER BY seq LIMIT 1),
        (SELECT seq FROM given)) AS seq
), raised AS (
    UPDATE hook_events_floor SET seq = verified.seq FROM verified WHERE verified.seq > hook_events_floor.seq
)
SELECT seq FROM verified
"""

PATROL = """
WITH passed AS MATERIALIZED (
    SELECT id, seq, processed FROM hook_events
    WHERE available_at IS NULL AND failed_at IS NULL AND priority = 5 AND seq > %(after)s AND seq <= %(upto)s
    ORDER BY seq LIMIT %(limit)s
), lost AS (
    SELECT e.id FROM hook_events e JOIN passed ON passed.id = e.id
    WHERE NOT passed.processed AND NOT e.processed AND e.available_at IS NULL FOR UPDATE OF e SKIP LOCKED
), found AS (
    UPDATE hook_events SET available_at = clock_timestamp() WHERE id IN (SELECT id FROM lost) RETURNING 1
)
SELECT (SELECT max(seq) FROM passed), (SELECT count(*) FROM found)
"""
# The longer the history, the less often: from a minute to a day.
_BEGIN_PATROL = """
UPDATE hook_events_floor SET patrolled_at = now()
WHERE patrolled_at IS NULL
   OR patrolled_at < now() - least(greatest(seq / 500, 60), 86400) * interval '1 second' RETURNING seq
"""


def floor(connection: Connection) -> int:
    """The seq up to which no row is fresh and of the default priority."""
    row = connection.execute(f"SELECT {FLOOR}").fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def raise_floor(connection: Connection, upto: int) -> int:
    """Raise the floor to `upto`, or to the first row that still waits below it; returns how far that was.

    Nothing up to `upto` may still be uncommitted: lanes know (claim.Cursor).
    """
    row = connection.execute(RAISE, {"upto": upto}).fetchone()
    return int(row[0]) if row else 0


@dataclass(slots=True)
class Patrol:
    """A look, page by page and now and then, through what lies below the floor.

    No row that waits should be there. One that was inserted with a seq of
    its writer's choice is, and is given a time, by which claims find it.
    """

    _after: int = _LOWEST
    _upto: int | None = None

    @property
    def under_way(self) -> bool:
        return self._upto is not None

    def step(self, connection: Connection, limit: int) -> int:
        """Look at the next `limit` rows, or begin anew when it is time; returns how many were found waiting."""
        if self._upto is None:
            row = connection.execute(_BEGIN_PATROL).fetchone()
            if row is None:
                return 0
            self._after, self._upto = _LOWEST, row[0]
        values = {"after": self._after, "upto": self._upto, "limit": limit}
        last, found = connection.execute(PATROL, values).fetchone() or (None, 0)
        if last is None:
            self._upto = None
        else:
            self._after = last
        return int(found)
