"""Migrations: new databases, adopted tables, refusals, and two at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import seed
from factories import ago
from psql import psql
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo
from tenacity import wait_none

from hook_event_processor.errors import SchemaError
from hook_event_processor.store import migrate as migrate_module
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer
from hook_event_processor.store.migrate import Migration, _folder, check, migrate, migrations, status

pytestmark = pytest.mark.store

SEED_COLUMNS = (
    "id, source, action, resource, resource_id, payload, metadata, processed, processing_errors, retry_count,"
    " created_at, processed_at"
)


@pytest.fixture
def empty(empty_database: Database) -> Iterator[Connection]:
    """A session on a database without any table."""
    with empty_database.session("tests") as connection:
        yield connection


@pytest.fixture
def seeded(empty: Connection) -> Connection:
    """The original table with an old backlog of 20 events, one of them retried, and 10 processed events."""
    empty.execute(seed.TABLE)
    for n in range(30):
        empty.execute(
            "INSERT INTO hook_events (id, source, action, resource, resource_id, payload, metadata, created_at,"
            " processed, processed_at) VALUES (gen_random_uuid(), 'PostToolUse', 'tool_completion', 'tool', %(n)s,"
            """ '{"tool_name": "Bash"}', '{"hook_type": "PostToolUse"}', %(at)s, %(done)s,"""
            " CASE WHEN %(done)s THEN %(at)s::timestamptz END)",
            {"n": str(n), "at": ago(hours=30 - n), "done": n % 3 == 0},
        )
    # Its new version lies behind all others, as it does in a table with retries.
    empty.execute("UPDATE hook_events SET retry_count = 1, processing_errors = '{refused}' WHERE resource_id = '1'")
    return empty


def _seed_rows(connection: Connection) -> list[Any]:
    return connection.execute(f"SELECT {SEED_COLUMNS} FROM hook_events ORDER BY id").fetchall()


def test_a_new_database_gets_every_migration_once(empty: Connection) -> None:
    assert migrate(empty) == len(migrations())
    assert migrate(empty) == 0
    check(empty)


def test_each_file_is_reported_as_it_is_applied(empty: Connection) -> None:
    reported: list[Migration] = []
    migrate(empty, report=reported.append)
    assert [migration.version for migration in reported] == [migration.version for migration in migrations()]


def test_an_adopted_table_keeps_every_value(seeded: Connection) -> None:
    before = _seed_rows(seeded)
    migrate(seeded)
    assert _seed_rows(seeded) == before


def test_an_adopted_backlog_is_processed_oldest_first(seeded: Connection) -> None:
    migrate(seeded)
    order = seeded.execute("SELECT resource_id::int FROM hook_events WHERE NOT processed ORDER BY seq").fetchall()
    assert [n for (n,) in order] == [n for n in range(30) if n % 3]
    assert seeded.execute("SELECT count(DISTINCT seq), min(seq), max(seq) FROM hook_events").fetchone() == (30, 1, 30)


def test_events_after_an_adoption_come_behind_the_backlog(seeded: Connection) -> None:
    migrate(seeded)
    row = seeded.execute("INSERT INTO hook_events (source, action) VALUES ('a', 'b') RETURNING seq").fetchone()
    assert row == (31,)


def test_adopted_events_that_had_been_given_up_are_failed(seeded: Connection) -> None:
    seeded.execute("UPDATE hook_events SET retry_count = 3 WHERE resource_id IN ('3', '4')")
    migrate(seeded)
    rows = seeded.execute("SELECT resource_id, state FROM events WHERE retry_count = 3 ORDER BY 1").fetchall()
    assert rows == [("3", "completed"), ("4", "failed")]


def test_a_table_of_another_kind_is_refused_and_left_alone(empty: Connection) -> None:
    empty.execute("CREATE TABLE hook_events (id bigint PRIMARY KEY, source text)")
    with pytest.raises(SchemaError, match=r"0001: there is something else named hook_events .* lacks id uuid, source"):
        migrate(empty)
    columns = empty.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'hook_events'::regclass AND attnum > 0")
    assert columns.fetchall() == [("id",), ("source",)]


def test_a_view_of_that_name_is_refused(empty: Connection) -> None:
    empty.execute("CREATE VIEW hook_events AS SELECT gen_random_uuid() AS id")
    with pytest.raises(SchemaError, match=r"there is something else named hook_events"):
        migrate(empty)


@pytest.mark.parametrize("name", ["hooks", "events", "event_hook_executions", "hook_processors"])
def test_another_table_under_one_of_our_names_is_refused(empty: Connection, name: str) -> None:
    empty.execute(sql.SQL("CREATE TABLE {} (number integer)").format(sql.Identifier(name)))
    with pytest.raises(SchemaError, match=r"^migration 000\d: .+"):
        migrate(empty)


def test_a_newer_schema_is_refused(connection: Connection) -> None:
    connection.execute("INSERT INTO hook_migrations (version, name, sha256) VALUES (9000, 'later', '')")
    for action in (status, check, migrate):
        with pytest.raises(SchemaError, match="has migration 9000 and this program knows only up to"):
            action(connection)


def test_a_migration_that_this_program_lacks_among_those_it_knows_is_refused(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = [migration for migration in migrations() if migration.version != 3]
    monkeypatch.setattr(migrate_module, "migrations", lambda: lacking)
    for action in (status, check, migrate):
        with pytest.raises(SchemaError, match="has migration 0003 and this program does not know it: install"):
            action(connection)


def test_a_database_without_an_encoding_is_refused(server: EmbeddedServer) -> None:
    with psycopg.connect(server.administration, autocommit=True) as administration:
        administration.execute("CREATE DATABASE no_encoding TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
        try:
            with Database(make_conninfo(server.administration, dbname="no_encoding")).session("tests") as connection:
                for action in (status, check, migrate):
                    with pytest.raises(SchemaError, match="SQL_ASCII, and events are Unicode: create one with"):
                        action(connection)
        finally:
            administration.execute("DROP DATABASE no_encoding WITH (FORCE)")


def test_what_is_missing_is_pending(empty: Connection) -> None:
    with pytest.raises(SchemaError, match=r"lacks the migrations 0001, .*hep db migrate"):
        check(empty)
    assert {applied.state for applied in status(empty)} == {"pending"}


def test_a_file_that_was_applied_with_another_text_is_changed(connection: Connection) -> None:
    connection.execute("UPDATE hook_migrations SET sha256 = 'other' WHERE version = 2")
    assert [applied.migration.version for applied in status(connection) if applied.state == "changed"] == [2]
    with pytest.raises(SchemaError, match="0002 were applied with another text"):
        check(connection)
    assert migrate(connection) == 0


def test_two_migrators_at_once_apply_every_file_once(empty_database: Database) -> None:
    start = threading.Barrier(2)

    def run(_: int) -> int:
        with empty_database.session("tests") as connection:
            start.wait(10)
            return migrate(connection)

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(run, range(2)))
    assert sum(counts) == len(migrations())
    with empty_database.session("tests") as connection:
        check(connection)


@contextmanager
def _somebody_reading(database: Database) -> Iterator[Connection]:
    with database.session("reader") as reader:
        reader.execute("SET idle_in_transaction_session_timeout = 0")
        reader.execute("BEGIN")
        reader.execute("SELECT FROM hook_events")
        yield reader


def test_a_table_in_use_is_tried_again(
    seeded: Connection, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "BEGUN", migrate_module.BEGUN.replace("'3s'", "'100ms'"))
    with _somebody_reading(empty_database) as reader, ThreadPoolExecutor(1) as pool:
        migrated = pool.submit(migrate, seeded)
        _wait_for_a_lock(reader)
        assert not migrated.done()
        reader.execute("COMMIT")
        assert migrated.result(60) == len(migrations())


def _wait_for_a_lock(connection: Connection) -> None:
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'hook_events'::regclass"
    while connection.execute(waiting).fetchone() == (False,):
        pass


def test_a_table_in_use_for_long_is_given_up_with_a_clear_sentence(
    seeded: Connection, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "BEGUN", migrate_module.BEGUN.replace("'3s'", "'10ms'"))
    monkeypatch.setattr(migrate_module, "wait_random_exponential", lambda **_: wait_none())
    with _somebody_reading(empty_database), pytest.raises(SchemaError, match="0001 did not get its table locks in 8"):
        migrate(seeded)
    assert {applied.state for applied in status(seeded)} == {"pending"}


def test_every_file_can_run_twice_and_by_psql(seeded: Connection, empty_database: Database) -> None:
    """What psql applied, and what happens between two runs, is left as it is."""
    before = _seed_rows(seeded)
    _run_by_psql(empty_database)
    # Later rows with an earlier date keep their places: processors have passed them by.
    seeded.execute("INSERT INTO hook_events (source, action, created_at) VALUES ('late', '', now() - interval '1 y')")
    seeded.execute("INSERT INTO hook_events (source, action, retry_count) VALUES ('many', '', 3)")
    order = seeded.execute("SELECT id, seq, failed_at FROM hook_events ORDER BY seq").fetchall()
    _run_by_psql(empty_database)
    assert seeded.execute("SELECT id, seq, failed_at FROM hook_events ORDER BY seq").fetchall() == order
    assert migrate(seeded) == len(migrations())  # records what psql had done
    check(seeded)
    seeded.execute("DELETE FROM hook_events WHERE source IN ('late', 'many')")
    assert _seed_rows(seeded) == before


def _run_by_psql(database: Database) -> None:
    files = [f"--file={file}" for file in sorted(_folder().glob("0*.sql"))]
    psql(Database(make_conninfo(database.conninfo, options="-c client_min_messages=warning")), *files)


def test_hooks_that_would_never_end_get_an_end_and_what_is_too_long_stays(
    empty: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "migrations", lambda: [one for one in migrations() if one.version < 27])
    migrate(empty)
    given = {"nan": "NaN", "endless": "Infinity", "long": "7200", "short": "1e-9", "even": "30"}
    for name, timeout in given.items():
        empty.execute(
            "INSERT INTO hooks (name, event_types, timeout_seconds) VALUES (%s, '{a.b}', %s)", (name, timeout)
        )
    empty.execute(
        "INSERT INTO hook_versions (hook_id, version, source_text, sha256)"
        " SELECT id, 1, repeat('x', 300000), '' FROM hooks"
    )
    monkeypatch.undo()
    assert migrate(empty) == len(migrations()) - 26
    ended = empty.execute("SELECT name, timeout_seconds FROM hooks").fetchall()
    assert dict(ended) == {"nan": 3600.0, "endless": 3600.0, "long": 3600.0, "short": 0.01, "even": 30.0}
    assert empty.execute("UPDATE hooks SET run_count = run_count + 1").rowcount == 5
    assert empty.execute("SELECT count(*) FROM hook_versions").fetchone() == (5,)


def test_a_chosen_schema_is_made_and_nothing_lands_outside_it(empty_database: Database) -> None:
    elsewhere = Database(empty_database.conninfo, "Event$")
    with elsewhere.session("tests") as connection:
        migrate(connection, "Event$")
        check(connection)
        connection.execute("INSERT INTO hook_events (source, action) VALUES ('a', 'b')")
        connection.execute("SELECT hook_publish('a.b')")
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)
    with empty_database.session("tests") as connection:
        assert _our_schemas(connection) == [("Event$",)]


def _our_schemas(connection: Connection) -> list[Any]:
    return connection.execute(
        "SELECT DISTINCT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE relname ~ '^(hook|event)'"
    ).fetchall()


def test_a_schema_name_too_long_for_a_channel_is_refused(empty_database: Database) -> None:
    name = "s" * 52
    with (
        Database(empty_database.conninfo, name).session("tests") as connection,
        pytest.raises(SchemaError, match="longer than 51 bytes"),
    ):
        migrate(connection, name)


@contextmanager
def _ordinary_role(server: EmbeddedServer, database: Database) -> Iterator[tuple[Connection, str]]:
    """A session as a role that owns a schema of its own name and may do nothing else, and that name."""
    name = f"tenant_{os.getpid()}"
    role = sql.Identifier(name)
    conninfo = make_conninfo(
        server.administration, dbname=psycopg.conninfo.conninfo_to_dict(database.conninfo)["dbname"]
    )
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(role))
        connection.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(role, role))
        connection.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(role))
        yield connection, name
        connection.execute("RESET SESSION AUTHORIZATION")
        connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_role_that_only_owns_its_schema_can_migrate_and_publish(
    server: EmbeddedServer, empty_database: Database
) -> None:
    with _ordinary_role(server, empty_database) as (connection, name):
        migrate(connection)
        check(connection)
        connection.execute("SELECT hook_publish('a.b')")
        assert _our_schemas(connection) == [(name,)]


def test_a_table_further_down_the_search_path_is_adopted_where_it_is(empty: Connection) -> None:
    """Under "$user", public a table in public is not shadowed by a new one."""
    empty.execute(seed.TABLE)
    empty.execute("CREATE SCHEMA own")
    empty.execute("SET search_path TO own, public")
    migrate(empty)
    assert _our_schemas(empty) == [("public",)]


def test_a_role_without_the_privilege_is_told_which(server: EmbeddedServer, database: Database) -> None:
    with _ordinary_role(server, database) as (connection, _):
        connection.execute("SET search_path TO public")
        with pytest.raises(SchemaError, match="cannot be read: permission denied for table hook_migrations"):
            migrate(connection)


def test_a_search_path_without_any_schema_is_refused(empty: Connection) -> None:
    empty.execute("SET search_path TO nowhere")
    with pytest.raises(SchemaError, match="no schema of the search_path exists: set DB_SCHEMA"):
        migrate(empty)


ACCEPTED = [
    "retry_count = 10",
    "processed = TRUE",
    "processed_at = created_at",
    "processed = FALSE, processed_at = created_at + interval '1 day'",
    "processed = TRUE, processed_at = now(), retry_count = 7",
    "payload = '[1]', metadata = '\"text\"'",
    "source = '', action = '', resource = '', resource_id = ''",
    "created_at = 'infinity'",
    "created_at = '-infinity', processed_at = 'infinity'",
    "processing_errors = '{NULL}'",
]
REFUSED = [
    "retry_count = 11",
    "retry_count = -1",
    "processed_at = created_at - interval '1 us'",
    "source = NULL",
    "payload = NULL",
    "resource = repeat('x', 256)",
]


@pytest.mark.parametrize("change", [*ACCEPTED, *REFUSED])
def test_no_row_is_refused_that_the_original_table_accepts(seeded: Connection, change: str) -> None:
    migrate(seeded)
    seeded.execute("CREATE SCHEMA original")
    seeded.execute(f"SET search_path TO original; {seed.TABLE}; RESET search_path")
    assert _accepts(seeded, "public", change) == _accepts(seeded, "original", change) == (change in ACCEPTED)


def _accepts(connection: Connection, schema: str, change: str) -> bool:
    connection.execute(f"SET search_path TO {schema}")
    connection.execute(
        "INSERT INTO hook_events (id, source, action, resource, resource_id)"
        " VALUES ('00000000-0000-4000-8000-000000000000', 's', 'a', 'r', 'i')"
    )
    try:
        connection.execute(f"UPDATE hook_events SET {change} WHERE id = '00000000-0000-4000-8000-000000000000'")
    except psycopg.Error:
        return False
    return True
