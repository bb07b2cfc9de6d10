"""Unfinished rows: one condition for each index of hook_events that finds them, and the floor under the fresh ones."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from psycopg import Connection

# hook_events_fresh holds what is done, too, so that acknowledging an event
# touches no index: whoever reads it begins at a seq, the floor at the least.
FRESH = "NOT processed AND available_at IS NULL AND failed_at IS NULL AND priority = 5"
FLOOR = "(SELECT seq FROM hook_events_floor)"
PRIORITIZED = "NOT processed AND NOT dequeued AND available_at IS NULL AND failed_at IS NULL AND priority <> 5"
DUE = "NOT processed AND NOT dequeued AND available_at IS NOT NULL AND failed_at IS NULL"
DEAD = "NOT processed AND NOT dequeued AND failed_at IS NOT NULL"

LOWEST = -(2**63)
_GIVEN = "pg_sequence_last_value(pg_get_serial_sequence('hook_events', 'seq')::regclass)"
# A seq of its writer's choice may lie above all that are still to be given.
GIVEN = f"SELECT coalesce({_GIVEN}, 0)"
# A row that is locked, or was let go by a processor that died, holds the floor.
# Of several processors one reads on at a time, and the next behind what it has read.
RAISE = f"""
WITH reached AS MATERIALIZED (
    SELECT seq FROM hook_events_floor FOR UPDATE
), wanted AS (
    SELECT least(%(upto)s, coalesce({_GIVEN}, %(upto)s))::bigint AS seq
), given AS (
    SELECT reached.seq + least(wanted.seq - reached.seq, %(step)s) AS seq FROM wanted, reached
), verified AS (
    SELECT coalesce(
        (SELECT seq - 1 FROM hook_events
         WHERE {FRESH} AND seq > (SELECT seq FROM reached) AND seq <= (SELECT seq FROM given) ORDER BY seq LIMIT 1),
        (SELECT seq FROM given)) AS seq
), raised AS (
    UPDATE hook_events_floor SET seq = verified.seq FROM verified WHERE verified.seq > hook_events_floor.seq
)
SELECT verified.seq, verified.seq = given.seq AND given.seq < wanted.seq FROM verified, given, wanted
"""
# What a statement raises the floor by, so that it takes no second. Numbers that no row
# has cost nothing: the steps grow while they are quick, towards a far sequence, say.
_STEP_SEQS, _MOST_STEPS = 100_000, 2**40
_QUICK_SECONDS = 0.05
_FAR = f"SELECT {_GIVEN} FROM hook_events_floor WHERE {_GIVEN} - seq > %s"

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


@dataclass(slots=True)
class Ascent:
    """The floor's way up, in steps, to the first row that still waits.

    Lanes know up to where nothing is uncommitted (Frontier). But they do
    not come to the end of a long history above the floor, brought in as done:
    with a mark of its own, a seq and a later transaction, it gets there first.
    """

    reached: int = 0
    _mark: tuple[int, int] | None = None
    _steps: int = 1

    @property
    def is_far(self) -> bool:
        """Whether all that was given long ago may still lie above the floor."""
        return self._mark is not None

    def look(self, connection: Connection) -> None:
        """Take a mark if the floor lies far behind; `connection` autocommits."""
        self._mark = None
        far = connection.execute(_FAR, (_STEP_SEQS,)).fetchone()
        if far is not None:
            own = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
            self._mark = (far[0], own[0]) if own else None

    def step(self, connection: Connection, known: int) -> bool:
        """Raise the floor, by a step at the most; whether another should follow at once.

        Nothing up to the seq `known` may still be uncommitted.
        """
        shown = self._shown(connection)
        upto = max(known, shown)
        if upto < self.reached:
            self.reached = 0  # the table may count anew
        more = False
        if upto > self.reached:
            began = monotonic()
            row = connection.execute(RAISE, {"upto": upto, "step": self._steps * _STEP_SEQS}).fetchone()
            self.reached, more = row or (0, False)
            is_quick = more and monotonic() - began < _QUICK_SECONDS
            self._steps = min(2 * self._steps, _MOST_STEPS) if is_quick else 1
        if shown and not more:
            self._mark = None
        return bool(more)

    def _shown(self, connection: Connection) -> int:
        """The seq of the mark, once all transactions before it have ended."""
        if self._mark is None:
            return 0
        seq, xid = self._mark
        row = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").fetchone()
        return seq if row and row[0] > xid else 0


@dataclass(slots=True)
class Patrol:
    """A look, page by page and now and then, through what lies below the floor.

    No row that waits should be there. One that was inserted with a seq of
    its writer's choice is, and is given a time, by which claims find it.
    """

    _after: int = LOWEST
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
            self._after, self._upto = LOWEST, row[0]
        values = {"after": self._after, "upto": self._upto, "limit": limit}
        last, found = connection.execute(PATROL, values).fetchone() or (None, 0)
        if last is None:
            self._upto = None
        else:
            self._after = last
        return int(found)
