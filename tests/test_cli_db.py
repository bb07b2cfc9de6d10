"""`hep db`, `hep config` and `hep status`, and the example of settings."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import seed
from commands import Hep
from dotenv import dotenv_values
from factories import ago, insert_event
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from hook_event_processor import settings
from hook_event_processor.settings import VARIABLES
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import psql_program
from hook_event_processor.store.migrate import check, migrations

EXAMPLE = Path(__file__).parents[1] / ".env.example"
PASSWORD = "s3cret&word"
FOR_PSQL = "\\set ON_ERROR_STOP on\n"


@pytest.fixture
def fresh(hep: Hep, empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> Hep:
    """The command line on a database that has not been migrated."""
    monkeypatch.setenv("DATABASE_URL", empty_database.conninfo)
    return hep


def test_migrate_applies_what_is_missing(fresh: Hep, empty_database: Database) -> None:
    assert all(known["state"] == "pending" for known in fresh.document("db", "status", "--format", "json"))
    assert "run 'hep db migrate'" in fresh.fault("db", "check")
    *applied, total = fresh("db", "migrate").splitlines()
    assert applied == [f"applied {m.version:04d} {m.name}" for m in migrations()]
    assert total == f"{len(applied)} migrations applied"
    assert fresh("db", "migrate") == "nothing to apply: the database is up to date\n"
    assert fresh("db", "check") == "the database's schema is this program's\n"
    assert fresh("db", "status").splitlines()[1].split() == ["0001", "hook_events", "applied"]


def test_what_sql_prints_migrates_as_well(fresh: Hep, empty_database: Database) -> None:
    script = fresh("db", "migrate", "--sql")
    with empty_database.session("tests") as connection:
        connection.execute(script.removeprefix(FOR_PSQL).encode())
        check(connection)
    assert fresh("db", "migrate", "--sql") == ""


def test_sql_is_no_document(fresh: Hep) -> None:
    for command, what in (
        (("migrate", "--sql"), "--sql prints SQL: --format json is for what was applied"),
        (("roles", "--print"), "--print prints SQL: --format json is for the roles that were made"),
    ):
        finished = fresh.run("db", *command, "--format", "json")
        assert (finished.status, finished.fault) == (2, f"hep: {what}")


def test_what_sql_prints_ends_at_the_first_error(fresh: Hep, empty_database: Database) -> None:
    """psql by itself would go on with what comes after, and say that all is well."""
    with empty_database.session("tests") as connection:
        connection.execute("CREATE VIEW event_hook_executions AS SELECT 1")
        command = [str(psql_program()), "-X", "-q", "-d", empty_database.conninfo]
        script = fresh("db", "migrate", "--sql")
        finished = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60, check=False)
        assert finished.returncode == 3
        assert "event_hook_executions" in finished.stderr
        assert connection.execute("SELECT to_regclass('watchers')").fetchone() == (None,)


def test_what_sql_prints_adopts_the_table_where_it_is(fresh: Hep, empty_database: Database) -> None:
    """Not beside it, in a schema of the user's name, which comes first in the search_path."""
    with empty_database.session("tests") as connection:
        connection.execute(seed.TABLE)
        connection.execute(f'CREATE SCHEMA "{connection.info.user}"')
        assert 'SET search_path TO "public"' in fresh("db", "migrate", "--sql")


def test_what_sql_prints_asks_for_no_schema_that_exists(
    fresh: Hep, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_SCHEMA", "own")
    assert 'CREATE SCHEMA IF NOT EXISTS "own"' in fresh("db", "migrate", "--sql")
    with empty_database.session("tests") as connection:
        connection.execute("CREATE SCHEMA own")
        assert "CREATE SCHEMA" not in fresh("db", "migrate", "--sql")


@pytest.mark.parametrize("limit", ["statement_timeout", "transaction_timeout"])
def test_a_roles_limits_end_no_migration(fresh: Hep, empty_database: Database, limit: str) -> None:
    with empty_database.session("tests") as connection:
        if connection.info.server_version < 170_000 and limit == "transaction_timeout":
            pytest.skip("PostgreSQL has no transaction_timeout before 17")
        name = sql.Identifier(connection.info.dbname)
        connection.execute(seed.TABLE)
        many = "SELECT gen_random_uuid(), 'a', 'b', '', '' FROM generate_series(1, 60000)"
        connection.execute(f"INSERT INTO hook_events (id, source, action, resource, resource_id) {many}")
        connection.execute(sql.SQL("ALTER DATABASE {} SET {} = '100ms'").format(name, sql.Identifier(limit)))
        fresh("db", "migrate")
        connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))


def test_times_are_read_whatever_the_style_of_dates(hep: Hep, connection: Connection) -> None:
    hep("events", "emit", "a.b")
    name = sql.Identifier(connection.info.dbname)
    for setting in ("DateStyle = 'German'", "IntervalStyle = 'iso_8601'"):
        connection.execute(sql.SQL("ALTER DATABASE {} SET " + setting).format(name))
    [event] = hep.document("events", "list", "--format", "json")
    assert datetime.fromisoformat(event["created_at"]) > ago(minutes=1)


def test_a_schema_of_its_own(fresh: Hep, empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_SCHEMA", "Automation")
    fresh("db", "migrate")
    fresh("events", "emit", "a.b")
    with empty_database.session("tests") as connection:
        assert connection.execute('SELECT count(*) FROM "Automation".hook_events').fetchone() == (1,)
    monkeypatch.setenv("DB_SCHEMA", "other")
    script = fresh("db", "migrate", "--sql")
    with empty_database.session("tests") as connection:
        connection.execute(script.removeprefix(FOR_PSQL).encode())
        assert connection.execute("SELECT count(*) FROM other.hook_events").fetchone() == (0,)


@pytest.mark.parametrize(
    "command",
    [
        ("events", "list"),
        ("events", "list", "--type", "a.*"),
        ("events", "emit", "a.b"),
        ("events", "get", "0"),
        ("events", "retry", "--failed"),
        ("events", "cleanup", "--older-than", "1d"),
        ("events", "tail"),
        ("hook", "list"),
        ("hook", "logs", "x"),
        ("status",),
    ],
)
def test_a_database_without_migrations_says_what_to_do(fresh: Hep, command: tuple[str, ...]) -> None:
    assert fresh.fault(*command) == ("hep: the database has not been migrated for this program: run 'hep db migrate'")


def _url(hep: Hep, monkeypatch: pytest.MonkeyPatch, conninfo: str, *options: str) -> str:
    monkeypatch.setenv("DATABASE_URL", conninfo)
    return hep("db", "url", *options).rstrip("\n")


def test_url_leads_into_the_database(hep: Hep, monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    printed = _url(hep, monkeypatch, database.conninfo)
    with Database(printed).session("tests") as connection:
        assert connection.info.dbname in database.conninfo


@pytest.mark.parametrize(
    ("parameters", "url"),
    [
        ({"host": "h", "port": "5433", "dbname": "d b"}, "postgresql://u@h:5433/d%20b"),
        ({"host": "/run/x", "dbname": "d"}, "postgresql://u@/d?host=%2Frun%2Fx"),
        ({"host": "a,b", "port": "1,2", "dbname": "d"}, "postgresql://u@/d?host=a%2Cb&port=1%2C2"),
        ({"hostaddr": "::1", "dbname": "d"}, "postgresql://u@/d?hostaddr=%3A%3A1"),
    ],
)
def test_url_has_a_password_only_when_asked(
    hep: Hep, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, str], url: str
) -> None:
    conninfo = make_conninfo(user="u", password=PASSWORD, **parameters)
    assert _url(hep, monkeypatch, conninfo) == url
    assert _url(hep, monkeypatch, conninfo, "--with-password") == url.replace("u@", "u:s3cret%26word@")


def test_psql_gets_all_arguments(database: Database, tmp_path: Path, hep: Hep) -> None:
    insert = "INSERT INTO hook_events (source, action) VALUES ('a', 'b') RETURNING source"
    command = [sys.executable, "-m", "hook_event_processor", "db", "psql", "-At", "-q", "--command", insert]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "a\n", "")
    assert "psql's own" in hep("db", "psql", "--help")


def test_psql_is_the_one_of_the_system_for_a_server_elsewhere(
    hep: Hep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The wheel's knows no TLS."""
    own = tmp_path / "psql"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    called: list[str] = []

    def replaced(program: str, *_: Any) -> None:
        called.append(program)
        raise OSError(2, "stopped here")

    monkeypatch.setattr("os.execve", replaced)
    for host in ("db.example", "/run/hep-embedded"):
        monkeypatch.setenv("DATABASE_URL", make_conninfo(host=host, user="u", sslmode="verify-full"))
        assert "stopped here" in hep.fault("db", "psql")
    assert called == [str(own), str(psql_program())]


def test_psql_is_given_the_password_where_others_cannot_read_it(hep: Hep, monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, Any] = {}

    def replaced(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        called.update(arguments=arguments, environment=environment)
        raise OSError(2, "stopped here")

    monkeypatch.setattr("os.execve", replaced)
    monkeypatch.setenv("DB_SCHEMA", "Automation")
    of_key = "that of the client's key"
    monkeypatch.setenv("DATABASE_URL", make_conninfo(host="h", user="u", password=PASSWORD, sslpassword=of_key))
    assert "stopped here" in hep.fault("db", "psql", "-l")
    assert PASSWORD not in " ".join(called["arguments"])
    assert of_key not in " ".join(called["arguments"])
    assert "service=hep" in " ".join(called["arguments"])
    assert Path(called["environment"]["PGSERVICEFILE"]).read_text() == f"[hep]\nsslpassword={of_key}\n"
    assert 'search_path="Automation"' in " ".join(called["arguments"])
    assert called["arguments"][-1] == "-l"
    assert called["environment"]["PGPASSWORD"] == PASSWORD


def _config(hep: Hep, *arguments: str) -> dict[str, tuple[str, str]]:
    listed = hep.document(*arguments, "config", "--format", "json")
    return {setting["name"]: (setting["value"], setting["from"]) for setting in listed}


def test_config_names_every_setting_and_where_it_comes_from(
    hep: Hep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("BATCH_SIZE=50\nWORKERS=7\nPOLL_INTERVAL=\nRETRY_DELAY=5\n")
    monkeypatch.setenv("WORKERS", "8")
    monkeypatch.setenv("RETRY_DELAY", " ")
    monkeypatch.setenv("HEP_HOME", str(tmp_path))
    shown = _config(hep)
    assert set(shown) == {"DATABASE_URL", "HEP_HOME", *VARIABLES}
    assert shown["BATCH_SIZE"] == ("50", ".env")
    assert shown["WORKERS"] == ("8", "environment")
    assert shown["POLL_INTERVAL"] == ("1", "default")
    assert shown["RETRY_DELAY"] == ("1", "default")
    assert shown["HOOK_MEMORY_MB"] == ("32", "default")
    assert shown["LISTEN"] == ("on", "default")
    assert shown["HEP_HOME"] == (str(tmp_path), "environment")
    assert _config(hep, "--log-level", "debug")["LOG_LEVEL"] == ("DEBUG", "--log-level")


def test_a_name_beside_a_settings_in_the_file_is_noted(hep: Hep, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WORKRES=5\nworkers=6\nSHOP_PORT=80\nWORKERS=7\nDB_HOST=h\nPGSSLCRL=/crl\n")
    finished = hep.run("config")
    assert finished.status == 0
    assert finished.errors.splitlines() == [
        "note: .env: WORKRES is no setting; did you mean WORKERS?",
        "note: .env: workers is no setting; did you mean WORKERS?",
    ]


@pytest.mark.parametrize("command", [("run",), ("watcher", "run"), ("reload",), ("events", "cleanup")])
def test_a_service_ends_with_78_where_the_file_is_broken(hep: Hep, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / ".env").write_text('WORKERS="5\n')
    finished = hep.run(*command)
    assert finished.status == 78
    assert finished.errors == "hep: .env:1 is no setting: it takes NAME=value, with any quote closed\n"


@pytest.mark.parametrize(
    ("variables", "origin"),
    [
        ({"DATABASE_URL": f"postgresql://u:{PASSWORD}@h/d"}, "environment"),
        ({"PGHOST": "h", "PGPASSWORD": PASSWORD}, "environment: PGHOST"),
        ({"DB_PASSWORD": PASSWORD}, "environment: DB_PASSWORD"),
    ],
)
def test_config_masks_the_password(
    hep: Hep, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], origin: str
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for form in ("table", "json"):
        assert PASSWORD not in hep("config", "--format", form)
    value, said = _config(hep)["DATABASE_URL"]
    assert "password=***" in value
    assert said == origin


def test_config_names_a_credential(hep: Hep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "db_password").write_text(PASSWORD)
    assert _config(hep)["DATABASE_URL"][1] == "systemd credential"
    monkeypatch.setenv("PGHOST", "elsewhere")
    assert _config(hep)["DATABASE_URL"][1] == "environment: PGHOST"
    (tmp_path / "database_url").write_text("postgresql://here/d")
    assert _config(hep)["DATABASE_URL"] == ("dbname=d host=here", "systemd credential")
    monkeypatch.setenv("DATABASE_URL", "postgresql://given/d")
    assert _config(hep)["DATABASE_URL"] == ("dbname=d host=given", "environment")


def test_the_example_has_every_setting_at_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = set(dotenv_values(EXAMPLE, interpolate=False))
    others = {"DATABASE_URL", "DB_PASSWORD", "DB_HOST", "DB_PORT", "DB_USER", "DB_NAME", "HEP_HOME"}
    assert names == {*VARIABLES, *others}
    assert settings.load({}, EXAMPLE) == settings.load({}, tmp_path / "none")
    below_home = {"HOOK_FILE_ROOTS", "HOOK_SECRET_KEY_FILE"}
    for variable, (attribute, _) in VARIABLES.items():
        value = getattr(settings.load({}, EXAMPLE), attribute)
        assert (dotenv_values(EXAMPLE)[variable] == "") == (value in ("", (), None) or variable in below_home)


def test_the_example_has_a_comment_for_each_setting() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if "=" in line and not line.startswith("#"):
            assert lines[number - 1].startswith("# "), line


def _processor(connection: Connection, node: str, seconds_ago: int = 1, **columns: Any) -> None:
    stats = {
        "processed": 41900, "succeeded": 41800, "failed": 4, "retried": 2, "errors": 0, "unrouted": 7,
        "rate_1m": 1234.5, "latency_p50_ms": 1.6, "latency_p99_ms": 12.3, "leased": 3,
    }  # fmt: skip
    row = {"state": "running", "wake": "listen", "busy": 3, "stuck": 1, "stats": Jsonb(stats), **columns}
    connection.execute(
        "INSERT INTO hook_processors (node, host, pid, version, state, wake, workers, busy, stuck, stats, heartbeat_at)"
        " VALUES (%(node)s, 'h', 1, '1', %(state)s, %(wake)s, 100, %(busy)s, %(stuck)s, %(stats)s,"
        " now() - make_interval(secs => %(ago)s))",
        {**row, "node": node, "ago": seconds_ago},
    )


def test_status_of_a_new_database(hep: Hep) -> None:
    shown = hep("status")
    assert "none: start one with ./ops/up or 'hep run'" in shown
    assert "0 pending" in shown


def test_status_is_one_screen(hep: Hep, connection: Connection) -> None:
    for state in ("pending", "scheduled", "retrying", "processing", "failed", "failed"):
        insert_event(connection, state=state)
    _processor(connection, "h:1")
    _processor(connection, "h:2", wake="poll", busy=0, stuck=0)
    _processor(connection, "h:3", seconds_ago=60)
    _processor(connection, "h:4", state="stopped")
    shown = hep("status")
    for expected in (
        "PostgreSQL",
        "2 running, 1 lost",
        "3 of 200 busy, 1 stuck",
        "1 pending, the oldest due for 1m0",
        "1 retrying, 1 scheduled, 1 processing",
        "2,469.0 events/s",
        "83,800 processed",
        "2 events: 'hep events list --status failed' lists them",
        "LISTEN",
        "polling",
    ):
        assert expected in shown
    assert "h:4" not in shown
    assert len(shown.splitlines()) <= 24
    document = hep.document("status", "--format", "json")
    assert [processor["alive"] for processor in document["processors"]] == [True, True, False]
    backlog = document["backlog"]
    assert [backlog[name] for name in ("pending", "scheduled", "retrying", "processing", "failed")] == [1, 1, 1, 1, 2]


def test_status_counts_a_large_backlog_only_so_far(hep: Hep, connection: Connection) -> None:
    connection.execute("INSERT INTO hook_events (source, action) SELECT 'a', 'b' FROM generate_series(1, 10001)")
    assert "at least 10,000 pending" in hep("status")
