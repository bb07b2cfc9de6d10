"""Pauses: what is not to be processed for a while, and the events that wait until it is.

An event waits with available_at = 'infinity', and with a row in
hook_paused_events for each pause that it waits for. Pausing is a deferral:
it never touches retry_count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from hook_event_processor.store import arrays, waiting
from hook_event_processor.store.pipeline import Executes

MAX_REASON = 500  # characters: it stands in lines of health and status
_STEP_EVENTS = 5_000


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause as operators see it; `events` wait for its end, counted up to COUNT_LIMIT."""

    id: int
    scope: str
    name: str
    reason: str
    paused_by: str
    paused_at: datetime
    ends_at: datetime | None
    events: int

    @property
    def subject(self) -> str:
        """What is paused."""
        return subject(self.scope, self.name)


@dataclass(frozen=True, slots=True)
class StoredPause:
    """A pause as processors read it; it ends by itself in `ends_in` seconds."""

    id: int
    scope: str
    name: str
    reason: str
    in_force: bool
    ends_in: float | None

    @property
    def told(self) -> str:
        """What is paused, and why."""
        return subject(self.scope, self.name) + (f" ({self.reason[:MAX_REASON]})" if self.reason else "")


def subject(scope: str, name: str) -> str:
    """What is paused: `everything`, `the source deploy`, `the hook notify`."""
    return "everything" if scope == "all" else f"the {scope} {name}"


COUNT_LIMIT = 10_000  # a count ends here: it must stay quick
_OPERATORS_SEE = f"""
id, scope, name, reason, paused_by, paused_at, ends_at,
(SELECT count(*) FROM (SELECT FROM hook_paused_events w WHERE w.pause_id = p.id LIMIT {COUNT_LIMIT}) AS few) AS events
"""
IN_FORCE = "resumed_at IS NULL AND (ends_at IS NULL OR ends_at > now())"


def known(connection: Connection) -> list[Pause]:
    """The pauses that are in force, the oldest first."""
    with connection.cursor(row_factory=class_row(Pause)) as cursor:
        return cursor.execute(
            f"SELECT {_OPERATORS_SEE} FROM hook_pauses p WHERE {IN_FORCE} ORDER BY paused_at, id"
        ).fetchall()


def paused_hooks(connection: Connection) -> dict[str, datetime | None]:
    """The hooks that are paused, by name, with the time when that ends by itself, if it does."""
    return dict(
        connection.execute(f"SELECT name, ends_at FROM hook_pauses WHERE scope = 'hook' AND {IN_FORCE}").fetchall()
    )


def of_event(connection: Connection, event_id: object) -> list[Pause]:
    """The pauses that an event waits for."""
    with connection.cursor(row_factory=class_row(Pause)) as cursor:
        return cursor.execute(
            """
            SELECT id, scope, name, reason, paused_by, paused_at, ends_at, 0 AS events
            FROM hook_pauses JOIN hook_paused_events ON pause_id = id WHERE event_id = %s ORDER BY paused_at, id
            """,
            (event_id,),
        ).fetchall()


def stored(connection: Connection) -> list[StoredPause]:
    """Every pause as processors read it, those that have ended included."""
    with connection.cursor(row_factory=class_row(StoredPause)) as cursor:
        return cursor.execute(
            f"SELECT id, scope, name, reason, {IN_FORCE} AS in_force,"
            " CASE WHEN isfinite(ends_at) THEN extract(epoch FROM ends_at - now())::float8 END AS ends_in"
            " FROM hook_pauses ORDER BY paused_at, id"
        ).fetchall()


_GOES_ON = "p.resumed_at IS NULL AND (p.ends_at IS NULL OR p.ends_at > now())"


def pause(
    connection: Connection, scope: str, name: str, *, reason: str, paused_by: str, lasts: timedelta | None
) -> Pause:
    """Pause something, for a while if `lasts` says so; what is paused already keeps a reason and an end unless new."""
    with connection.cursor(row_factory=class_row(Pause)) as cursor:
        [made] = cursor.execute(
            f"""
            INSERT INTO hook_pauses AS p (scope, name, reason, paused_by, ends_at)
            VALUES (%(scope)s, %(name)s, %(reason)s, %(paused_by)s, now() + %(lasts)s)
            ON CONFLICT (scope, name) DO UPDATE SET
                reason = CASE WHEN {_GOES_ON} AND excluded.reason = '' THEN p.reason ELSE excluded.reason END,
                ends_at = CASE WHEN {_GOES_ON} AND excluded.ends_at IS NULL THEN p.ends_at ELSE excluded.ends_at END,
                paused_at = CASE WHEN {_GOES_ON} THEN p.paused_at ELSE excluded.paused_at END,
                paused_by = excluded.paused_by, resumed_at = NULL
            RETURNING {_OPERATORS_SEE}
            """,
            {"scope": scope, "name": name, "reason": reason, "paused_by": paused_by, "lasts": lasts},
        ).fetchall()
    _note(connection, "paused", scope, name, ends_at=made.ends_at)
    return made


def resume(connection: Connection, scope: str, name: str) -> bool:
    """End a pause, if there is one; its events wait until let_go() has seen to them."""
    ended = connection.execute(
        "UPDATE hook_pauses SET resumed_at = now() WHERE scope = %s AND name = %s AND resumed_at IS NULL"
        " RETURNING paused_at",
        (scope, name),
    ).fetchone()
    if ended is not None:
        _note(connection, "resumed", scope, name, paused_at=ended[0])
    return ended is not None


def _note(connection: Connection, action: str, scope: str, name: str, **moments: datetime | None) -> None:
    """Have the audit tell of it, with those moments that there are."""
    kind = "processing" if scope == "all" else scope
    details = {key: moment.isoformat() for key, moment in moments.items() if moment is not None}
    connection.execute("SELECT hook_audit_note(%s, %s, %s, %s)", (action, kind, name, Jsonb(details)))


def end_by_themselves(connection: Connection) -> None:
    """End the pauses whose time is up, and those of hooks that are no more; what somebody has locked, another time."""
    due = connection.execute(
        """
        SELECT id FROM hook_pauses
        WHERE resumed_at IS NULL AND (
            ends_at <= now() OR scope = 'hook' AND NOT EXISTS (SELECT FROM hooks WHERE hooks.name = hook_pauses.name))
        FOR NO KEY UPDATE SKIP LOCKED
        """
    ).fetchall()
    if due:  # an UPDATE of nothing would have every processor reload, too
        connection.execute(
            "UPDATE hook_pauses SET resumed_at = now() WHERE id = ANY(%s) AND resumed_at IS NULL",
            ([row[0] for row in due],),
        )


HELD_IN_VAIN_SECONDS = 0.2
# A resumed pause holds nothing: whoever still knows it as one makes the event due in a moment.
# FOR SHARE: resume() waits for a transaction that holds events, and comes before or after all of it.
# SKIP LOCKED: a pause that somebody is changing may be about to end, and what else is recorded must not wait for that.
HOLD = f"""
WITH wanted (event_id, seq, pause_id) AS (
    SELECT * FROM unnest(%(ids)b, %(seqs)s::bigint[], %(pauses)s::bigint[])
), held AS MATERIALIZED (
    SELECT id FROM hook_pauses
    WHERE id IN (SELECT pause_id FROM wanted) AND resumed_at IS NULL FOR SHARE SKIP LOCKED
), noted AS (
    INSERT INTO hook_paused_events (pause_id, event_id, seq)
    SELECT pause_id, event_id, seq FROM wanted WHERE pause_id IN (SELECT id FROM held)
    ON CONFLICT DO NOTHING
)
UPDATE hook_events e SET lease_token = NULL, available_at =
    CASE WHEN waiting.held THEN timestamptz 'infinity' ELSE clock_timestamp() + interval '{HELD_IN_VAIN_SECONDS} s' END
FROM (
    SELECT event_id, bool_or(pause_id IN (SELECT id FROM held)) AS held FROM wanted GROUP BY event_id
) AS waiting
WHERE e.id = waiting.event_id AND e.id = ANY(%(ids)b)
"""


@dataclass(frozen=True, slots=True)
class Held:
    """An event that is to wait for the end of each of these pauses."""

    event_id: bytes
    seq: int
    pauses: tuple[int, ...]


def hold(session: Executes, events: Sequence[Held]) -> None:
    """The events, locked by this transaction, wait; their attempt does not count."""
    if events:
        pairs = [(event.event_id, event.seq, pause_id) for event in events for pause_id in event.pauses]
        ids, seqs, pauses = zip(*pairs, strict=True)
        values = {"ids": arrays.uuids(ids), "seqs": arrays.integers(seqs), "pauses": arrays.integers(pauses)}
        session.execute(HOLD, values)


# By their time, in their order: where they lay before, claims look no more.
# An event that somebody has locked stays, and keeps none of the others; one that is no more goes.
_LET_GO = """
WITH chosen AS MATERIALIZED (
    SELECT event_id, pause_id, seq FROM hook_paused_events WHERE pause_id = %(pause)s AND seq > %(after)s
    ORDER BY seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), ours AS MATERIALIZED (
    SELECT id FROM hook_events WHERE id IN (SELECT event_id FROM chosen) FOR NO KEY UPDATE SKIP LOCKED
), locked AS MATERIALIZED (
    SELECT id FROM hook_events WHERE id IN (SELECT event_id FROM chosen) AND id NOT IN (SELECT id FROM ours)
), gone AS (
    DELETE FROM hook_paused_events WHERE (event_id, pause_id) IN (
        SELECT event_id, pause_id FROM chosen WHERE event_id NOT IN (SELECT id FROM locked))
    RETURNING event_id, seq
), placed AS (
    SELECT event_id, row_number() OVER (ORDER BY seq) * interval '1 microsecond' AS later FROM gone
), freed AS (
    UPDATE hook_events e SET available_at = statement_timestamp() + placed.later
    FROM placed WHERE e.id = placed.event_id AND e.available_at = 'infinity' AND NOT e.processed
)
SELECT (SELECT count(*) FROM gone), (SELECT max(seq) FROM chosen)
"""

# What others are letting go is still there: it comes back if they fail.
_EMPTIED = """
SELECT id FROM hook_pauses p
WHERE resumed_at IS NOT NULL AND NOT EXISTS (SELECT FROM hook_paused_events WHERE pause_id = p.id)
FOR UPDATE SKIP LOCKED
"""
_FORGET = f"DELETE FROM hook_pauses WHERE id IN ({_EMPTIED})"


# Pauses that have ended, and those whose row somebody has deleted; one probe finds each of the few that hold events.
_ENDED = """
WITH RECURSIVE holding (id) AS (
    SELECT min(pause_id) FROM hook_paused_events
    UNION ALL
    SELECT (SELECT min(pause_id) FROM hook_paused_events WHERE pause_id > holding.id)
    FROM holding WHERE holding.id IS NOT NULL
)
SELECT id FROM hook_pauses WHERE resumed_at IS NOT NULL
UNION ALL
SELECT id FROM holding WHERE id IS NOT NULL AND NOT EXISTS (SELECT FROM hook_pauses p WHERE p.id = holding.id)
ORDER BY id
"""


def let_go(connection: Connection) -> int:
    """Let the next few thousand events go whose pause has ended; returns how many, 0 when none is left.

    The connection is in autocommit: each step is a transaction. Whoever is
    interrupted leaves the rest to the next caller, any processor for one;
    so does who finds that others have the last of them locked: see are_left().
    """
    for (pause_id,) in connection.execute(_ENDED).fetchall():
        after: int | None = waiting.LOWEST
        while after is not None:
            values = {"pause": pause_id, "after": after, "limit": _STEP_EVENTS}
            gone, after = connection.execute(_LET_GO, values).fetchone() or (0, None)
            if gone:
                return int(gone)
    if connection.execute(_EMPTIED).fetchone():  # a DELETE of nothing would have every processor reload, too
        connection.execute(_FORGET)
    return 0


def are_left(connection: Connection) -> bool:
    """Whether there are pauses that have ended and are not forgotten, or events that wait for one."""
    return connection.execute(_ENDED).fetchone() is not None
