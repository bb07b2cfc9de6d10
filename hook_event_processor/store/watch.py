"""What a sleeping processor asks the database: is there work, when will there be, did hooks change, who is there."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection, sql

from hook_event_processor.store import waiting
from hook_event_processor.store.database import APPLICATION

LANE_ROLE = "lane"
_LANES = f"{APPLICATION} {LANE_ROLE}%"


@dataclass(frozen=True, slots=True)
class Look:
    """`due` and `slot_due` are seconds until the next row is due (not positive: now), None without one."""

    revision: int
    fresh: bool
    due: float | None
    slot_due: float | None
    lanes: Lanes | None = None


@dataclass(frozen=True, slots=True)
class Lanes:
    """The server's process ids of all lanes of all processors of this database, and how many of them were ended."""

    pids: frozenset[int]
    ended: int


# infinity is the time of what is held.
_SOME_DAY = "available_at < 'infinity'"
# Due from the beginning is due since 1970: PostgreSQL before 17 subtracts nothing infinite.
_DUE_SINCE = "greatest(available_at, 'epoch')"
# ORDER BY and LIMIT, not EXISTS: of a table with many fresh rows PostgreSQL would
# expect to meet one soon, and read all the history that lies before the first.
LOOK = f"""
SELECT (SELECT revision FROM hook_registry),
       (SELECT seq FROM hook_events
        WHERE {waiting.FRESH} AND seq > greatest(%s, {waiting.FLOOR})
        ORDER BY seq LIMIT 1) IS NOT NULL
    OR (SELECT seq FROM hook_events
        WHERE {waiting.PRIORITIZED}
        ORDER BY priority, seq LIMIT 1) IS NOT NULL,
       extract(epoch FROM clock_timestamp() - (
           SELECT {_DUE_SINCE} FROM hook_events
           WHERE NOT needs_slot AND {waiting.DUE} AND {_SOME_DAY} ORDER BY available_at LIMIT 1))::float8,
       extract(epoch FROM clock_timestamp() - (
           SELECT {_DUE_SINCE} FROM hook_events
           WHERE needs_slot AND {waiting.DUE} AND {_SOME_DAY} ORDER BY available_at LIMIT 1))::float8"""

# Ended are those whose transaction has waited this long for its processor: a
# pid is negative then. idle_in_transaction_session_timeout does not reach them:
# they wait for the processor to read, or for the rest of what it began to send.
_PIDS = """
SELECT coalesce(array_agg(
    CASE WHEN usename = current_user AND wait_event IN ('ClientWrite', 'ClientRead')
              AND xact_start < clock_timestamp() - make_interval(secs => %s)
         -- Not with AND: outside of a transaction the condition is NULL, and AND would go on.
         THEN CASE WHEN pg_terminate_backend(pid) THEN -pid ELSE pid END
         ELSE pid END), '{}')
FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s
"""


def look(
    connection: Connection,
    floor: int,
    notify: tuple[str, str] | None = None,
    frozen_seconds: float | None = None,
) -> Look:
    """One look; fresh rows up to the seq `floor` are known to be taken.

    In the same breath, so that a processor with nothing to do sends few
    queries: `notify` is a channel and what is notified there, and with
    `frozen_seconds` the lanes are looked at, as lanes() does.
    """
    statement = LOOK
    values: list[object] = [floor]
    if notify is not None:
        statement, values = f"{statement}, pg_notify(%s, %s)", [*values, *notify]
    if frozen_seconds is not None:
        statement, values = f"{statement}, ({_PIDS})", [*values, frozen_seconds, _LANES]
    row = connection.execute(statement, values).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    due, slot_due = (None if age is None else -age for age in row[2:4])
    return Look(row[0], row[1], due, slot_due, None if frozen_seconds is None else _lanes(row[-1]))


def qualified_table(connection: Connection) -> str:
    """The event table with its schema: the name of the channel, and of the advisory keys."""
    row = connection.execute(
        "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = 'hook_events'::regclass"
    ).fetchone()
    assert row is not None  # noqa: S101 - the cast has found it
    return f"{row[0]}.hook_events"


def listen(connection: Connection, channel: str) -> None:
    """Receive what is notified on the channel."""
    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))


def notify(connection: Connection, channel: str, message: str) -> None:
    """Notify everybody who listens, this session included."""
    connection.execute("SELECT pg_notify(%s, %s)", (channel, message))


def try_key(connection: Connection, table: str, key: int) -> bool:
    """Take advisory key 1 (be the lookout) or 2 (let inserts notify) for this session, if it is free."""
    row = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s), %s)", (table, key)).fetchone()
    return row is not None and bool(row[0])


def release_keys(connection: Connection) -> None:
    """Let go of all advisory keys of this session."""
    connection.execute("SELECT pg_advisory_unlock_all()")


def lanes(connection: Connection, frozen_seconds: float) -> Lanes:
    """The lanes, of which those are ended whose transaction has waited this long for its processor."""
    row = connection.execute(_PIDS, (frozen_seconds, _LANES)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has one row
    return _lanes(row[0])


def _lanes(pids: list[int]) -> Lanes:
    return Lanes(frozenset(map(abs, pids)), sum(pid < 0 for pid in pids))
