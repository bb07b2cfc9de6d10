"""The schema as operators read it: comments, states, and what its triggers do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from factories import ago, insert_event
from psycopg import Connection, sql

from hook_event_processor.store.database import Database

pytestmark = pytest.mark.store

CHANNEL = "public.hook_events"
KEYS = "hashtext('public.hook_events')"


def test_every_object_has_a_comment(connection: Connection) -> None:
    uncommented = connection.execute(
        """
        WITH objects AS (
            SELECT 'pg_class'::regclass AS kind, oid, 0 AS part, relname::text AS name
            FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'p') AND relnamespace = 'public'::regnamespace
            UNION ALL
            SELECT 'pg_class'::regclass, c.oid, a.attnum, c.relname || '.' || a.attname
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relkind IN ('r', 'v', 'm', 'p') AND c.relnamespace = 'public'::regnamespace
              AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL
            SELECT 'pg_class'::regclass, i.oid, 0, i.relname
            FROM pg_class i
            WHERE i.relkind = 'i' AND i.relnamespace = 'public'::regnamespace
              AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.oid)
            UNION ALL
            SELECT 'pg_proc'::regclass, oid, 0, proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION ALL
            SELECT 'pg_trigger'::regclass, oid, 0, tgname FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL
            -- Not primary keys, nor the one whose name the server chose for a table that may be adopted.
            SELECT 'pg_constraint'::regclass, oid, 0, conname FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'u', 'x')
              AND conname <> 'hook_events_retry_count_check')
        SELECT name FROM objects o
        WHERE NOT EXISTS (
            SELECT FROM pg_description d
            WHERE d.classoid = o.kind AND d.objoid = o.oid AND d.objsubid = o.part AND d.description <> '')
        """
    ).fetchall()
    assert uncommented == []


@pytest.mark.parametrize("state", ["pending", "scheduled", "retrying", "processing", "completed", "failed"])
def test_the_view_names_each_state(connection: Connection, state: str) -> None:
    event_id = insert_event(connection, state)
    status = {"scheduled": "pending", "retrying": "pending"}.get(state, state)
    assert connection.execute("SELECT status, state FROM events WHERE id = %s", (event_id,)).fetchone() == (
        status,
        state,
    )


def test_a_lease_that_has_ended_counts_as_pending(connection: Connection) -> None:
    insert_event(connection, "processing", available_at=ago(seconds=1))
    assert connection.execute("SELECT status, state FROM events").fetchone() == ("pending", "pending")


def test_the_view_joins_the_type_and_finds_the_context(connection: Connection) -> None:
    insert_event(connection, source="task", action="failed", metadata={"stack": "production", "agent_id": "a1"})
    insert_event(connection, source="custom", action="", payload={"stack": "staging", "session_id": "s1"})
    rows = connection.execute("SELECT type, stack, agent_id, session_id FROM events ORDER BY seq").fetchall()
    assert rows == [("task.failed", "production", "a1", None), ("custom", "staging", None, "s1")]


def test_the_view_tells_when_it_happened_and_the_last_error(connection: Connection) -> None:
    happened = ago(hours=2)
    insert_event(connection, "retrying", occurred_at=happened, processing_errors=["first", "second"])
    assert connection.execute('SELECT "timestamp", error FROM events').fetchone() == (happened, "second")


@contextmanager
def _sleeper(database: Database) -> Iterator[Connection]:
    """A session that listens and holds the sleeper's key, as a processor does that is about to sleep."""
    with database.session("sleeper") as session:
        session.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        assert session.execute(f"SELECT pg_try_advisory_lock({KEYS}, 2)").fetchone() == (True,)
        yield session


def _heard(session: Connection) -> list[str]:
    """What was notified up to now: a notification of this session's own ends the list."""
    session.execute("SELECT pg_notify(%s, 'end')", (CHANNEL,))
    heard = []
    for notification in session.notifies(timeout=10):
        if notification.payload == "end":
            return heard
        heard.append(notification.payload)
    raise AssertionError("no notification came back")


def test_an_insert_wakes_a_sleeper(database: Database, connection: Connection) -> None:
    with _sleeper(database) as sleeper:
        insert_event(connection)
        assert _heard(sleeper) == ["insert"]


def test_an_insert_of_many_rows_wakes_once(database: Database, connection: Connection) -> None:
    with _sleeper(database) as sleeper:
        connection.execute("INSERT INTO hook_events (source, action) SELECT 'a', 'b' FROM generate_series(1, 100)")
        assert _heard(sleeper) == ["insert"]


def test_copy_wakes_a_sleeper(database: Database, connection: Connection) -> None:
    with _sleeper(database) as sleeper:
        with connection.cursor() as cursor, cursor.copy("COPY hook_events (source, action) FROM STDIN") as copy:
            copy.write_row(("a", "b"))
        assert _heard(sleeper) == ["insert"]


def test_nobody_is_notified_while_nobody_sleeps(database: Database, connection: Connection) -> None:
    with _sleeper(database) as sleeper:
        sleeper.execute(f"SELECT pg_advisory_unlock({KEYS}, 2)")
        insert_event(connection)
        assert _heard(sleeper) == []


def test_a_sleeper_cannot_take_its_key_while_an_insert_is_in_flight(database: Database, connection: Connection) -> None:
    take = f"SELECT pg_try_advisory_lock({KEYS}, 2)"
    with database.session("sleeper") as sleeper:
        with connection.transaction():
            insert_event(connection)
            assert sleeper.execute(take).fetchone() == (False,)
        assert sleeper.execute(take).fetchone() == (True,)


def test_inserts_never_wait_for_a_sleeper_or_each_other(database: Database, connection: Connection) -> None:
    with _sleeper(database), database.session("other") as other, connection.transaction(), other.transaction():
        insert_event(connection)
        insert_event(other)


def test_a_setting_keeps_an_insert_from_notifying(database: Database, connection: Connection) -> None:
    """Two-phase commit cannot follow NOTIFY; its writers turn it off."""
    with _sleeper(database) as sleeper:
        connection.execute("SET hook_events.notify = 'off'")
        insert_event(connection)
        insert_event(connection, "failed")
        connection.execute("UPDATE hook_events SET retry_count = 0")
        assert _heard(sleeper) == []


def test_the_transaction_has_its_number_before_the_row_has_its_seq(connection: Connection) -> None:
    """A seq below a claimed one can then only belong to a transaction that the claim's snapshot knows."""
    connection.execute(
        "CREATE FUNCTION number_is_assigned() RETURNS boolean LANGUAGE sql VOLATILE"
        " AS 'SELECT pg_current_xact_id_if_assigned() IS NOT NULL'"
    )
    connection.execute("ALTER TABLE hook_events ADD COLUMN assigned boolean DEFAULT number_is_assigned()")
    connection.execute("INSERT INTO hook_events (source, action) VALUES ('a', 'b')")
    with connection.cursor() as cursor, cursor.copy("COPY hook_events (source, action) FROM STDIN") as copy:
        copy.write_row(("a", "b"))
    assert connection.execute("SELECT assigned FROM hook_events WHERE assigned IS NOT NULL").fetchall() == [(True,)] * 2


def test_a_reset_event_is_due_at_once_and_announced(database: Database, connection: Connection) -> None:
    insert_event(connection, "failed")
    with _sleeper(database) as sleeper:
        connection.execute("UPDATE hook_events SET retry_count = 0, processing_errors = NULL")
        assert _heard(sleeper) == ["reset"]
    row = connection.execute("SELECT failed_at, available_at <= clock_timestamp(), lease_token FROM hook_events")
    assert row.fetchone() == (None, True, None)


@pytest.mark.parametrize("state", ["pending", "retrying", "processing", "completed"])
def test_a_reset_leaves_what_has_not_failed(connection: Connection, state: str) -> None:
    event_id = insert_event(connection, state)
    columns = "SELECT available_at, lease_token, failed_at, processed FROM hook_events WHERE id = %s"
    before = connection.execute(columns, (event_id,)).fetchone()
    connection.execute("UPDATE hook_events SET retry_count = 0")
    assert connection.execute(columns, (event_id,)).fetchone() == before


def test_a_failed_event_that_is_called_processed_stays_processed(connection: Connection) -> None:
    insert_event(connection, "failed")
    connection.execute("UPDATE hook_events SET retry_count = 0, processed = TRUE")
    assert connection.execute("SELECT failed_at IS NULL, status FROM events").fetchone() == (False, "completed")


@pytest.mark.parametrize(
    ("change", "reloads"),
    [
        ("enabled = FALSE", True),
        ("priority = 3", True),
        ("version = 2", True),
        ("run_count = run_count + 1, last_run = now()", False),
        ("description = 'other'", False),
    ],
)
def test_processors_reload_when_what_runs_has_changed(
    database: Database, connection: Connection, change: str, reloads: bool
) -> None:
    connection.execute("INSERT INTO hooks (name, event_types) VALUES ('greet', '{greeting.sent}')")
    [revision] = connection.execute("SELECT revision FROM hook_registry").fetchone() or []
    with _sleeper(database) as sleeper:
        connection.execute(f"UPDATE hooks SET {change}")
        assert _heard(sleeper) == (["hooks"] if reloads else [])
    assert connection.execute("SELECT revision FROM hook_registry").fetchone() == (revision + reloads,)


def test_two_schemas_wake_their_own_sleepers_only(database: Database, connection: Connection) -> None:
    connection.execute("CREATE SCHEMA other")
    connection.execute("CREATE TABLE other.hook_events (LIKE hook_events INCLUDING ALL)")
    connection.execute(
        "CREATE TRIGGER wake BEFORE INSERT ON other.hook_events FOR EACH STATEMENT EXECUTE FUNCTION hook_events_wake()"
    )
    with _sleeper(database) as sleeper:
        connection.execute("INSERT INTO other.hook_events (source, action) VALUES ('a', 'b')")
        assert _heard(sleeper) == []
