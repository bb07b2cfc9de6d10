"""Publishing from SQL: hook_publish and plain INSERT, by triggers and by roles that may do nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from factories import ago, insert_event
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer

pytestmark = pytest.mark.store

ID = UUID("6b7e1b3a-58a5-4c1c-9a53-3a6f3a3f7a11")


def _from_the_page(beginning: str) -> str:
    """The example in docs/sql.md that begins so."""
    page = Path(__file__).parent.parent / "docs/sql.md"
    [example] = re.findall(rf"```sql\n({beginning}.*?)```", page.read_text(), re.DOTALL)
    return str(example)


def _publish(connection: Connection, arguments: str, *values: Any, prefix: str = "") -> UUID:
    row = connection.execute(f"SELECT {prefix}hook_publish({arguments})", values).fetchone()
    assert row is not None
    event_id: UUID = row[0]
    return event_id


def _event(connection: Connection, event_id: UUID) -> dict[str, Any]:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute("SELECT * FROM hook_events WHERE id = %s", (event_id,)).fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("event_type", "source", "action"),
    [
        ("task.failed", "task", "failed"),
        ("custom", "custom", ""),
        ("system.disk.full", "system", "disk.full"),
        ("PreToolUse/tool_invocation", "PreToolUse", "tool_invocation"),
        ("com.example/order.paid", "com.example", "order.paid"),
        ("a/b/c", "a", "b/c"),
        ("task.", "task", ""),
        ("größe.geändert", "größe", "geändert"),
    ],
)
def test_a_type_is_split_at_its_first_dot_or_slash(
    connection: Connection, event_type: str, source: str, action: str
) -> None:
    event = _event(connection, _publish(connection, "%s", event_type))
    assert (event["source"], event["action"]) == (source, action)


@pytest.mark.parametrize("event_type", ["", ".failed", "/failed", None])
def test_a_type_without_a_source_is_refused(connection: Connection, event_type: str | None) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"an event type such as task\.failed is needed"):
        _publish(connection, "%s::text", event_type)


def test_every_argument_arrives(connection: Connection) -> None:
    event_id = _publish(
        connection,
        "type => 'deploy.started', payload => '{\"commit\": \"abc\"}', resource => 'service', resource_id => 'web',"
        " stack => 'production', priority => 2, id => %s, metadata => '{\"correlation_id\": \"c1\"}',"
        " occurred_at => '2026-01-02 03:04:05+00'",
        ID,
    )
    event = _event(connection, event_id)
    assert event_id == ID
    assert {name: event[name] for name in ("resource", "resource_id", "payload", "metadata", "priority")} == {
        "resource": "service",
        "resource_id": "web",
        "payload": {"commit": "abc"},
        "metadata": {"correlation_id": "c1", "stack": "production"},
        "priority": 2,
    }
    assert (event["occurred_at"], event["available_at"]) == (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None)


def test_null_arguments_count_as_not_given(connection: Connection) -> None:
    event_id = _publish(connection, "'a.b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL")
    plain = _event(connection, _publish(connection, "'a.b'"))
    event = _event(connection, event_id)
    for name in ("id", "seq", "created_at"):
        del plain[name], event[name]
    assert event == plain


def test_a_null_of_json_counts_as_not_given(connection: Connection) -> None:
    for more in ("", ", delay => '1 hour'"):
        event_id = _publish(connection, f"'a.b', 'null', metadata => 'null', stack => 'production'{more}")
        event = _event(connection, event_id)
        assert (event["payload"], event["metadata"]) == ({}, {"stack": "production"})
    event = _event(connection, _publish(connection, "'a.b', metadata => 'null'"))
    assert event["metadata"] == {}


@pytest.mark.parametrize("metadata", ["[1]", "[]", '"text"', "5", "true"])
@pytest.mark.parametrize("stack", ["production", None])
def test_metadata_that_is_no_object_is_refused(connection: Connection, metadata: str, stack: str | None) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"metadata is an object such as \{"):
        _publish(connection, "'a.b', metadata => %s::jsonb, stack => %s", metadata, stack)


def test_an_id_that_the_database_makes_is_a_uuid_of_version_7(connection: Connection) -> None:
    event_id = _publish(connection, "'a.b'")
    made_at = datetime.fromtimestamp((event_id.int >> 80) / 1000, UTC)
    assert event_id.version == 7
    assert abs((made_at - datetime.now(UTC)).total_seconds()) < 60


def test_publishing_an_id_again_changes_nothing(connection: Connection) -> None:
    first = _publish(connection, "'a.b', '{\"n\": 1}', id => %s", ID)
    second = _publish(connection, "'c.d', '{\"n\": 2}', id => %s", ID)
    assert first == second == ID
    assert connection.execute("SELECT source, payload FROM hook_events").fetchall() == [("a", {"n": 1})]


def test_a_delay_is_counted_from_now(connection: Connection) -> None:
    event_id = _publish(connection, "'a.b', delay => '1 hour'")
    row = connection.execute(
        "SELECT state, available_at - clock_timestamp() BETWEEN '59 min' AND '1 hour' FROM events WHERE id = %s",
        (event_id,),
    ).fetchone()
    assert row == ("scheduled", True)


@pytest.mark.parametrize("delay", ["0", "-1 hour"])
def test_no_delay_or_one_that_is_over_is_at_once(connection: Connection, delay: str) -> None:
    event_id = _publish(connection, "'a.b', delay => %s::interval", delay)
    assert _event(connection, event_id)["available_at"] is None


def test_a_priority_out_of_range_is_refused(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="hook_events_priority_range"):
        _publish(connection, "'a.b', priority => 11")


def test_an_event_is_published_with_its_transaction_or_not_at_all(connection: Connection) -> None:
    with connection.transaction(force_rollback=True):
        _publish(connection, "'a.b'")
    assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (0,)


def test_what_a_caller_has_on_its_search_path_takes_the_place_of_nothing(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA theirs; CREATE TABLE theirs.hook_events (LIKE hook_events INCLUDING DEFAULTS)")
    for function in (
        "hook_uuidv7() RETURNS uuid", "clock_timestamp() RETURNS timestamptz", "strpos(text, text) RETURNS integer",
        "split_part(text, text, integer) RETURNS text", "substr(text, integer) RETURNS text",
        "length(text) RETURNS integer", "jsonb_build_object(text, text) RETURNS jsonb",
        "jsonb_typeof(jsonb) RETURNS text",
    ):  # fmt: skip
        body = "LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        connection.execute(f"CREATE FUNCTION theirs.{function} {body}")
    connection.execute("SET search_path TO theirs, pg_catalog")
    ids = [
        _publish(connection, f"'a.b', stack => 'production', {more}", prefix="public.")
        for more in ("priority => 2", "delay => '1 hour'", "id => gen_random_uuid()")
    ]
    connection.execute("SET search_path TO public")
    for event_id in ids:
        event = _event(connection, event_id)
        assert (event["source"], event["action"], event["metadata"]) == ("a", "b", {"stack": "production"})


def test_a_call_writes_no_more_wal_than_an_insert(connection: Connection) -> None:
    def records(statement: str) -> int:
        """The fewest of some runs: what else happens to a page now and then is left out."""
        explain = f"EXPLAIN (ANALYZE, WAL, FORMAT JSON) {statement}"
        plans = [connection.execute(explain).fetchone() for _ in range(5)]
        return min(int(plan[0][0]["Plan"]["WAL Records"]) for plan in plans if plan)

    insert = records("INSERT INTO hook_events (source, action) VALUES ('a', 'b')")
    assert records("SELECT hook_publish('a.b')") == insert


def test_a_plain_insert_needs_source_and_action_only(connection: Connection) -> None:
    row = connection.execute("INSERT INTO hook_events (source, action) VALUES ('a', 'b') RETURNING *").fetchone()
    assert row is not None
    assert connection.execute("SELECT type, state, priority, data FROM events").fetchone() == ("a.b", "pending", 5, {})


@pytest.fixture
def orders(connection: Connection) -> Connection:
    """A table in a schema of its own whose trigger publishes: docs/sql.md's example."""
    connection.execute("CREATE SCHEMA shop; CREATE TABLE shop.orders (id bigint PRIMARY KEY, total numeric NOT NULL)")
    connection.execute(_from_the_page("CREATE FUNCTION"))
    return connection


def test_a_trigger_publishes_whatever_its_search_path(orders: Connection) -> None:
    orders.execute("SET search_path TO shop")
    orders.execute("INSERT INTO orders VALUES (1, 9.5), (2, 10)")
    assert orders.execute("SELECT type, resource_id, data FROM public.events ORDER BY seq").fetchall() == [
        ("order.paid", "1", {"id": 1, "total": 9.5}),
        ("order.paid", "2", {"id": 2, "total": 10}),
    ]


@pytest.fixture
def publisher(server: EmbeddedServer, database: Database) -> Iterator[Connection]:
    """A session as a role with the privileges that docs/sql.md names for publishing, and no others."""
    role = sql.Identifier(f"publisher_{os.getpid()}")
    conninfo = make_conninfo(server.administration, dbname=conninfo_to_dict(database.conninfo)["dbname"])
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(role))
        for statement in re.findall(r"GRANT .*?;", _from_the_page("CREATE ROLE publisher"), re.DOTALL):
            connection.execute(statement.replace("TO publisher", f"TO publisher_{os.getpid()}"))
        connection.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(role))
        yield connection
        connection.execute("RESET SESSION AUTHORIZATION")
        connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_role_that_may_only_insert_can_publish(publisher: Connection, connection: Connection) -> None:
    assert _publish(publisher, "'a.b', id => %s, delay => '1 hour', stack => 'production'", ID) == ID
    assert _publish(publisher, "'a.b', id => %s", ID) == ID
    publisher.execute("INSERT INTO hook_events (source, action) VALUES ('plain', 'insert')")
    with publisher.cursor() as cursor, cursor.copy("COPY hook_events (source, action) FROM STDIN") as copy:
        copy.write_row(("plain", "copy"))
    assert connection.execute("SELECT type FROM events ORDER BY seq").fetchall() == [
        ("a.b",),
        ("plain.insert",),
        ("plain.copy",),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM hook_events",
        "UPDATE hook_events SET processed = TRUE",
        "DELETE FROM hook_events",
        "INSERT INTO hook_events (source, action, processed) VALUES ('a', 'b', TRUE)",
        "SELECT source_text FROM hook_versions",
        "INSERT INTO hooks (name, event_types) VALUES ('mine', '{*}')",
    ],
)
def test_a_role_that_may_only_insert_can_do_nothing_else(publisher: Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        publisher.execute(statement)


def test_a_publisher_wakes_a_sleeper(publisher: Connection, database: Database) -> None:
    with database.session("sleeper") as sleeper:
        sleeper.execute('LISTEN "public.hook_events"')
        sleeper.execute("SELECT pg_try_advisory_lock(hashtext('public.hook_events'), 2)")
        _publish(publisher, "'a.b'")
        assert [n.payload for n in sleeper.notifies(timeout=10, stop_after=1)] == ["insert"]


def test_an_archive_made_by_hand_loses_no_event_that_comes_of_age_meanwhile(connection: Connection) -> None:
    events = set()
    for statement in _from_the_page("CREATE TABLE hook_events_archive").strip().split(";\n"):
        events.add(insert_event(connection, "completed", created_at=ago(days=40)))
        connection.execute(statement)
    assert len(events) > 1
    assert {row[0] for row in connection.execute("SELECT id FROM hook_events")} == events
