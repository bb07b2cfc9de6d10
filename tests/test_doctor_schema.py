"""`hep doctor schema`: what differs from the migrations is named, and brought back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import psycopg
import pytest
import seed
from clinic import Clinic
from commands import Hep
from psycopg import Connection
from waiting import wait_for

from hook_event_processor.doctor.schema import DESCRIPTION, expected
from hook_event_processor.store.checkup import tables
from hook_event_processor.store.checkup.objects import Object, objects
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer
from hook_event_processor.store.migrate import migrate

pytestmark = pytest.mark.store

_HALF_BUILT = "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'hook_events_due'::regclass"


@pytest.fixture
def connection(clinic: Clinic) -> Iterator[Connection]:
    with clinic.database.session("tests") as connection:
        yield connection


def test_the_description_is_what_the_migrations_make(connection: Connection) -> None:
    """Otherwise: ops/schema, and commit what it writes."""
    made = {(one.kind, one.name): one for one in objects(connection)}
    assert made.keys() == expected().keys()
    for key, described in expected().items():
        texts = {Object(*key, "", text, True).meaning for text in described["texts"].values()}
        assert made[key].meaning in texts, "run ops/schema"


def test_the_description_is_sorted_one_object_a_line() -> None:
    text = files("hook_event_processor.doctor").joinpath(DESCRIPTION).read_text(encoding="utf-8")
    keys = [(one["kind"], one["name"]) for one in json.loads(text)]
    assert keys == sorted(keys)
    assert len(text.splitlines()) == len(keys) + 2


def test_a_schema_that_was_migrated_is_found_well(clinic: Clinic) -> None:
    assert clinic.findings("schema") == []


def test_an_adopted_table_is_found_well(
    empty_database: Database, offline_hep: Hep, monkeypatch: pytest.MonkeyPatch, server: EmbeddedServer
) -> None:
    with empty_database.session("tests") as connection:
        connection.execute(seed.TABLE)
        migrate(connection)
    monkeypatch.setenv("DATABASE_URL", empty_database.conninfo)
    assert Clinic(offline_hep, empty_database, server).findings("schema") == []


def test_a_schema_of_another_name_is_found_well(
    empty_database: Database, offline_hep: Hep, monkeypatch: pytest.MonkeyPatch, server: EmbeddedServer
) -> None:
    database = Database(empty_database.conninfo, "Theirs")
    with database.session("tests") as connection:
        migrate(connection, "Theirs")
    monkeypatch.setenv("DATABASE_URL", database.conninfo)
    monkeypatch.setenv("DB_SCHEMA", "Theirs")
    clinic = Clinic(offline_hep, database, server)
    assert clinic.findings("schema") == []
    with database.session("tests") as connection:
        connection.execute("DROP FUNCTION hook_publish")
    assert "hook_publish" in clinic.fixes("schema", "object-missing")["what"]
    with database.session("tests") as connection:
        connection.execute("""SET search_path TO public; SELECT "Theirs".hook_publish('a.b')""")


def test_pending_migrations_are_found_and_applied(clinic: Clinic, connection: Connection) -> None:
    connection.execute("DELETE FROM hook_migrations WHERE version = (SELECT max(version) FROM hook_migrations)")
    assert clinic.mends("schema", "migrations-pending")["mend"] == ["hep db migrate"]


def test_migrations_of_another_build_are_found(clinic: Clinic, connection: Connection) -> None:
    """They cannot be mended but by the right program: here its hash is set back."""
    kept = connection.execute("SELECT sha256 FROM hook_migrations WHERE version = 2").fetchone()
    connection.execute("UPDATE hook_migrations SET sha256 = 'x' WHERE version = 2")
    assert "0002" in clinic.only("schema", "migrations-changed")["what"]
    connection.execute("UPDATE hook_migrations SET sha256 = %s WHERE version = 2", kept)
    assert clinic.findings("schema") == []


def test_a_newer_schema_is_found(clinic: Clinic, connection: Connection) -> None:
    """It is mended by a newer program, which is not at hand."""
    connection.execute("INSERT INTO hook_migrations (version, name, sha256) VALUES (9999, 'x', 'x')")
    assert "9999" in clinic.only("schema", "schema-newer")["what"]
    connection.execute("DELETE FROM hook_migrations WHERE version = 9999")
    assert clinic.findings("schema") == []


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        ("DROP INDEX hook_events_due", "the index hook_events_due is missing"),
        ("DROP VIEW events", "the view events is missing"),
        ("DROP FUNCTION hook_publish", "the function hook_publish("),
        ("DROP TRIGGER hook_events_wake ON hook_events", "the trigger hook_events.hook_events_wake is missing"),
    ],
)
def test_what_is_missing_is_made_again(clinic: Clinic, connection: Connection, harm: str, what: str) -> None:
    connection.execute(harm)  # type: ignore[call-overload]
    assert what in clinic.fixes("schema", "object-missing")["what"]
    assert clinic.findings("schema") == []


def test_a_function_that_is_not_for_everybody_comes_back_so(clinic: Clinic, connection: Connection) -> None:
    connection.execute("DROP FUNCTION hook_audit_note")
    clinic.fixes("schema", "object-missing")
    connection.execute("GRANT EXECUTE ON FUNCTION hook_audit_note TO PUBLIC")
    clinic.fixes("schema", "object-different")


@pytest.mark.parametrize(
    ("harm", "command"),
    [
        ("DROP INDEX hook_events_due", 1),
        ("ALTER TABLE hook_processors DROP COLUMN stuck", 0),
        ("ALTER TABLE hook_events DROP CONSTRAINT hook_events_priority_range", 0),
        # What these are made by is changed by migrations that do not name them, or not last.
        *((f"DROP TABLE {table}", 0) for table in ("hook_state_locks", "hosts", "watchers", "hook_events_floor")),
    ],
)
def test_what_is_missing_is_made_again_by_the_command(
    clinic: Clinic, connection: Connection, harm: str, command: int
) -> None:
    connection.execute(harm)  # type: ignore[call-overload]
    clinic.mends("schema", "object-missing", command)
    assert clinic.findings("schema") == []


@pytest.mark.parametrize("table", ["hooks", "hook_schedules"])
def test_a_table_that_others_refer_to_is_made_again_with_their_references(
    clinic: Clinic, connection: Connection, table: str
) -> None:
    connection.execute(f"DROP TABLE {table} CASCADE")  # type: ignore[call-overload]
    found = {one["what"]: one for one in clinic.findings("schema", "object-missing")}
    clinic.mend(found[f"the table {table} is missing"])
    reference = clinic.only("schema", "object-unsound")  # for what refers to rows that are gone
    assert "is not validated" in reference["what"]
    clinic.mend(reference, 0)
    clinic.mend(reference, 1)
    assert clinic.findings("schema") == []


@pytest.mark.parametrize(
    "harm",
    [
        "CREATE OR REPLACE FUNCTION hook_events_reset() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE OR REPLACE TRIGGER hook_events_reset BEFORE UPDATE ON hook_events EXECUTE FUNCTION hook_events_reset()",
        "ALTER TABLE hook_events ALTER COLUMN priority SET DEFAULT 1",
        "ALTER TABLE hook_events ALTER COLUMN priority DROP DEFAULT",
    ],
)
def test_what_was_altered_is_made_as_it_was(clinic: Clinic, connection: Connection, harm: str) -> None:
    connection.execute(harm)  # type: ignore[call-overload]
    clinic.fixes("schema", "object-different")
    assert clinic.findings("schema") == []


@pytest.mark.parametrize(
    "harm",
    [
        "ALTER TABLE hook_processors ALTER COLUMN stuck TYPE text",
        "ALTER TABLE hook_pauses ALTER COLUMN paused_by TYPE varchar(20), ALTER COLUMN paused_by DROP NOT NULL",
        'ALTER TABLE hook_state ALTER COLUMN name TYPE text COLLATE "default"',
        "ALTER TABLE hook_processors ALTER COLUMN lost_at SET NOT NULL",
        "ALTER TABLE hook_state_locks SET UNLOGGED",
    ],
)
def test_what_was_altered_is_made_as_it_was_by_the_command(clinic: Clinic, connection: Connection, harm: str) -> None:
    connection.execute(harm)  # type: ignore[call-overload]
    assert not clinic.mends("schema", "object-different")["fixable"]
    assert clinic.findings("schema") == []


_LONGER = """
DROP VIEW events;
DROP TRIGGER hook_audit_rewritten ON hook_events;
ALTER TABLE hook_events ALTER COLUMN resource TYPE varchar(300);
"""


def test_a_column_that_a_view_reads_is_made_as_it_was_and_cuts_off_nothing(
    clinic: Clinic, connection: Connection
) -> None:
    connection.execute(_LONGER)
    clinic.document("schema", "--fix")
    connection.execute("INSERT INTO hook_events (source, action, resource) VALUES ('a', 'b', repeat('r', 256))")
    found = clinic.only("schema", "object-different")
    with pytest.raises(subprocess.CalledProcessError):
        clinic.mend(found)
    assert clinic.only("schema", "object-different") == found
    connection.execute("UPDATE hook_events SET resource = repeat('r', 255)")
    clinic.mend(found)
    assert clinic.findings("schema") == []
    assert connection.execute("SELECT length(resource) FROM hook_events").fetchone() == (255,)
    connection.execute("DELETE FROM hook_events")


def test_a_column_that_counts_no_more_counts_on(clinic: Clinic, connection: Connection) -> None:
    connection.execute("INSERT INTO hook_schedules (id, name, cron) VALUES (7, 'seventh', '0 4 * * *')")
    connection.execute("ALTER TABLE hook_schedules ALTER COLUMN id DROP IDENTITY")
    found = clinic.only("schema", "object-different")
    clinic.mend(found, 0)
    clinic.mend(found, 1)
    assert clinic.findings("schema") == []
    added = connection.execute("INSERT INTO hook_schedules (name, cron) VALUES ('next', '0 5 * * *') RETURNING id")
    assert added.fetchone() == (8,)
    connection.execute("DELETE FROM hook_schedules")


def test_a_function_that_is_for_everybody_comes_back_so(clinic: Clinic, connection: Connection) -> None:
    connection.execute("REVOKE EXECUTE ON FUNCTION hook_publish FROM PUBLIC")
    assert "hook_publish" in clinic.fixes("schema", "object-different")["what"]
    assert clinic.findings("schema") == []


def test_a_constraint_for_what_comes_may_be_validated_and_others_must_be(
    clinic: Clinic, connection: Connection
) -> None:
    connection.execute("ALTER TABLE hooks VALIDATE CONSTRAINT hooks_timeout_limits")
    assert clinic.findings("schema") == []
    connection.execute(
        "ALTER TABLE hooks DROP CONSTRAINT hooks_name_check,"
        " ADD CONSTRAINT hooks_name_check CHECK (name <> '') NOT VALID"
    )
    found = clinic.only("schema", "object-unsound")
    assert found["what"] == "the constraint hooks.hooks_name_check is not validated"
    clinic.mend(found, 0)
    clinic.mend(found, 1)
    assert clinic.findings("schema") == []


def test_an_altered_index_is_for_somebody_to_build_again(clinic: Clinic, connection: Connection) -> None:
    connection.execute("DROP INDEX hook_events_due")
    connection.execute("CREATE INDEX hook_events_due ON hook_events (available_at)")
    found = clinic.only("schema", "object-different")
    assert not found["fixable"]
    clinic.mend(found, 0)
    clinic.mend(found, 1)
    assert clinic.findings("schema") == []


def test_a_disabled_trigger_is_enabled(clinic: Clinic, connection: Connection) -> None:
    connection.execute("ALTER TABLE hook_events DISABLE TRIGGER hook_events_wake")
    assert "hook_events_wake is disabled" in clinic.fixes("schema", "object-unsound")["what"]


def test_an_index_that_was_left_half_built_is_built(clinic: Clinic, connection: Connection) -> None:
    connection.execute("DROP INDEX watchers_name")
    connection.execute(
        "INSERT INTO watchers (id, type, host, name) VALUES ('a', 'cpu', 'h', 'n'), ('b', 'cpu', 'h', 'n')"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY watchers_name ON watchers (host, name) WHERE name <> ''")
    failed = clinic.document("schema", "--fix")  # while two have one name
    assert [one["done"] for one in failed["fixed"]] == [False]
    connection.execute("DELETE FROM watchers WHERE id = 'b'")
    assert _half_built(connection) == ["watchers_name"]  # nothing is left of the attempt
    connection.execute("DELETE FROM watchers")
    assert "watchers_name is not valid" in clinic.fixes("schema", "object-unsound")["what"]
    assert clinic.findings("schema") == []


def _half_built(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").fetchall()
    return [name for (name,) in rows]


def test_an_index_that_cannot_be_made_again_leaves_nothing_half_built(clinic: Clinic, connection: Connection) -> None:
    connection.execute("DROP INDEX watchers_name")
    connection.execute(
        "INSERT INTO watchers (id, type, host, name) VALUES ('a', 'cpu', 'h', 'n'), ('b', 'cpu', 'h', 'n')"
    )
    failed = clinic.document("schema", "--fix")
    assert [one["done"] for one in failed["fixed"]] == [False]
    assert _half_built(connection) == []
    connection.execute("DELETE FROM watchers")
    assert "watchers_name is missing" in clinic.fixes("schema", "object-missing")["what"]


@pytest.mark.parametrize("harm", ["DROP INDEX hook_events_due", _HALF_BUILT])
def test_building_an_index_outlasts_a_transaction_that_is_older_than_the_lock_timeout(
    clinic: Clinic, connection: Connection, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    clinic.administer(harm)
    monkeypatch.setattr("hook_event_processor.store.database.LOCK_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("hook_event_processor.cli.doctor.SILENT_SECONDS", 0.2)
    with clinic.as_superuser() as old, ThreadPoolExecutor(1) as pool:
        old.execute("BEGIN")
        old.execute("INSERT INTO hook_events (source, action) VALUES ('a', 'b')")
        ended = pool.submit(_end_when_waited_for, old, connection)
        finished = clinic.run("schema", "--fix")
        ended.result()
    assert (finished.status, _half_built(connection)) == (0, []), finished
    assert "still mending: an index waits for transactions" in finished.errors


def _end_when_waited_for(old: Connection, connection: Connection) -> None:
    waits = (
        "SELECT FROM pg_stat_activity WHERE application_name LIKE '%% doctor' AND wait_event_type = 'Lock'"
        " AND query ~ 'INDEX CONCURRENTLY' AND clock_timestamp() - query_start > '1 s'"
    )
    try:
        wait_for(lambda: connection.execute(waits).rowcount, 10)
    finally:
        old.execute("ROLLBACK")


def test_a_session_that_has_built_an_index_waits_no_longer_than_before(connection: Connection) -> None:
    timeouts = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
    before = connection.execute(timeouts).fetchone()
    tables.rebuild(connection, "hook_events_due")
    with pytest.raises(psycopg.errors.UndefinedTable):
        tables.rebuild(connection, "no_such_index")
    assert connection.execute(timeouts).fetchone() == before


def test_what_somebody_has_added_is_noted(clinic: Clinic, connection: Connection) -> None:
    connection.execute("CREATE INDEX mine ON hook_events (resource)")
    assert clinic.document("schema")["ok"]
    assert "the index mine" in clinic.mends("schema", "object-extra")["what"]


def test_the_trigger_that_limits_publishers_is_no_stranger(clinic: Clinic, connection: Connection) -> None:
    connection.execute("INSERT INTO hook_grants (role, kind, value) VALUES ('hep', 'source', 'task')")
    assert clinic.findings("schema") == []
    connection.execute("DELETE FROM hook_grants")
