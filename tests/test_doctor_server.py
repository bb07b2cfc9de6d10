"""`hep doctor server` and `wake`: limits, privileges, clocks, and poolers in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from clinic import Clinic
from deaf import deaf_proxy
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from hook_event_processor.doctor import checkup, pooler, server
from hook_event_processor.store.database import Database
from hook_event_processor.store.migrate import migrate

sys.path.insert(0, str(Path(__file__).parent.parent))
from ops.chaos import pooler as pgbouncer


@pytest.fixture
def connection(clinic: Clinic) -> Iterator[Connection]:
    with clinic.database.session("tests") as connection:
        yield connection


def test_a_server_that_nobody_has_tried_is_found(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such server to be had: one says that it is."""
    with deaf_proxy(clinic.database.conninfo) as between:
        monkeypatch.setenv("DATABASE_URL", between.conninfo)
        for version, said in (("13.22", "13.22"), ("19beta1", "19.0")):
            between.version = version
            found = clinic.only("server", "server-version")
            assert found["what"] == f"the server is PostgreSQL {said}"
            assert "on a server of 14 to 18" in found["mend"][0]
        between.version = "18.1"
        assert clinic.findings("server", "server-version") == []
        between.version = ""
        assert clinic.findings("server") == []


def test_a_clock_that_is_wrong_is_found(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the second: this host's clock is a function's answer here."""
    with monkeypatch.context() as wrong:
        wrong.setattr(server, "now", lambda: time.time() - 90)
        found = clinic.only("server", "clock-skew")
        assert found["what"] == "the database's clock is 90.0 s ahead of this host's"
        wrong.setattr(server, "now", lambda: time.time() + 90)
        assert "behind" in clinic.only("server", "clock-skew")["what"]
    assert clinic.findings("server", "clock-skew") == []


def test_a_host_whose_clock_is_wrong_is_found(clinic: Clinic, tmp_path: Path) -> None:
    faketime = shutil.which("faketime") or pytest.skip("faketime is not installed")
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": clinic.database.conninfo, "HEP_HOME": str(tmp_path)}

    def found(shift: str) -> list[str]:
        doctor = [sys.executable, "-m", "hook_event_processor", "doctor", "server", "--format", "json"]
        command = [faketime, "-f", shift, *doctor]
        finished = subprocess.run(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, timeout=60)
        return [one["what"] for one in json.loads(finished.stdout)["findings"] if one["kind"] == "clock-skew"]

    for shift, which in (("+1h", "behind"), ("-1h", "ahead of")):
        [what] = found(shift)
        assert f"s {which} this host's" in what
    assert found("+0s") == []


def test_too_few_connections_for_a_processor_are_found(clinic: Clinic) -> None:
    for limited in ('ROLE "hep"', f'DATABASE "{clinic.database.conninfo.split("dbname=")[1].split()[0]}"'):
        clinic.administer(f"ALTER {limited} CONNECTION LIMIT 12")
        try:
            found = clinic.mends("server", "connections")
            assert "of 12 connections" in found["what"]
            assert "a processor takes up to 17" in found["what"]
        finally:
            clinic.administer(f"ALTER {limited} CONNECTION LIMIT -1")


def test_connections_that_are_nearly_all_in_use_are_found(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "sessions_of_processor", lambda _: 1)
    with ExitStack() as crowd:
        for _ in range(19):
            crowd.enter_context(psycopg.connect(clinic.database.conninfo))
        clinic.administer('ALTER ROLE "hep" CONNECTION LIMIT 21')
        try:
            clinic.mends("server", "connections-nearly-used")
        finally:
            clinic.administer('ALTER ROLE "hep" CONNECTION LIMIT -1')


def test_privileges_that_a_processor_needs_are_found(clinic: Clinic, connection: Connection) -> None:
    connection.execute("REVOKE INSERT, UPDATE ON event_hook_executions, hook_processors FROM hep")
    first, second = clinic.findings("server", "privileges")
    assert first["what"] == "the role hep may not INSERT on event_hook_executions"
    assert second["what"] == "the role hep may not INSERT, UPDATE on hook_processors"
    clinic.mend(first)
    clinic.mend(second)
    assert clinic.findings("server") == []


def test_privileges_in_a_schema_of_another_name_are_granted_there(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_SCHEMA", "Theirs")
    with Database(clinic.database.conninfo, "Theirs").session("tests") as connection:
        migrate(connection, "Theirs")
        connection.execute("REVOKE SELECT ON hooks FROM hep")
        clinic.mends("server", "privileges")
        connection.execute('DROP SCHEMA "Theirs" CASCADE')


def test_the_role_of_processors_lacks_nothing(clinic: Clinic) -> None:
    """sql/roles.sql and what the doctor asks for agree."""
    from hook_event_processor.store import migrate
    from hook_event_processor.store.checkup import tables

    with clinic.as_superuser() as connection:
        connection.execute("BEGIN")
        connection.execute(migrate.text_of("roles.sql").encode())
        connection.execute("SET LOCAL ROLE hook_processor")
        lacking = tables.lacking(connection, server.NEEDED)
        connection.execute("ROLLBACK")
    assert lacking == {}


def test_what_the_role_may_not_see_is_noted(clinic: Clinic, connection: Connection) -> None:
    connection.execute("REVOKE SELECT ON watchers FROM hep")
    found = clinic.only("watchers", "not-allowed")
    assert "permission denied for table watchers" in found["what"]
    clinic.mend(clinic.only("server", "privileges"))
    assert clinic.findings("watchers", "not-allowed") == []


def test_a_superuser_is_more_than_is_needed(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    with clinic.as_superuser() as connection:
        info = connection.info
        conninfo = make_conninfo(host=info.host, port=info.port, user=info.user, dbname=info.dbname)
    monkeypatch.setenv("DATABASE_URL", conninfo)
    assert "postgres is a superuser" in clinic.only("server", "superuser")["what"]
    monkeypatch.setenv("DATABASE_URL", clinic.database.conninfo)
    assert clinic.findings("server") == []


def test_a_check_that_cannot_end_says_so_and_stops_no_other(
    clinic: Clinic, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkup, "CHECK_SECONDS", 0.2)
    with connection.transaction():
        connection.execute("LOCK TABLE hooks")
        document = clinic.document("hooks", "sessions")
    assert [one["kind"] for one in document["findings"]] == ["check-failed"]
    assert [area["state"] for area in document["areas"]] == ["ok", "warning"]
    assert clinic.document("hooks", "sessions")["findings"] == []


def test_polling_by_choice_is_noted(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN", "off")
    assert clinic.document("wake")["ok"]
    assert clinic.only("wake", "listen-off")["mend"] == ["LISTEN=on  # in the settings"]
    monkeypatch.setenv("LISTEN", "on")
    assert clinic.findings("wake") == []


def test_notifications_that_do_not_arrive_are_found_until_they_do(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deaf_proxy(clinic.database.conninfo) as between:
        monkeypatch.setenv("DATABASE_URL", between.conninfo)
        between.deaf = True
        assert clinic.only("wake", "no-notifications")
        between.deaf = False
        assert clinic.findings("wake") == []


def test_a_database_that_is_away_is_found_until_it_is_back(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf_proxy(clinic.database.conninfo) as between:
        monkeypatch.setenv("DATABASE_URL", between.conninfo)
        assert clinic.findings("database") == []
        between.cut()
        assert "the database cannot be reached" in clinic.only("database", "database-away")["what"]
        between.mend()
        assert clinic.findings("database") == []


needs_pgbouncer = pytest.mark.skipif(
    pgbouncer.program() is None and "CI" not in os.environ, reason="pgbouncer is not installed"
)


@needs_pgbouncer
def test_a_pooler_that_lends_sessions_by_transaction_is_found(
    clinic: Clinic, reachable_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = reachable_path / "transaction"
    place.mkdir(mode=0o755)
    with pgbouncer.pooler(place, clinic.database.conninfo, "transaction") as between:
        monkeypatch.setenv("DATABASE_URL", between.conninfo)
        assert "pool_mode=transaction" in clinic.only("wake", "transaction-pooler")["what"]
        # As with one that cannot be told from a server: nothing is heard through it.
        monkeypatch.setattr(pooler, "lends_sessions", lambda _: False)
        monkeypatch.setattr(pooler, "PROBE_SECONDS", 0.3)
        assert clinic.only("wake", "no-notifications")
    monkeypatch.setenv("DATABASE_URL", clinic.database.conninfo)
    assert clinic.findings("wake") == []


@needs_pgbouncer
def test_a_pooler_that_keeps_sessions_is_no_harm(
    clinic: Clinic, reachable_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = reachable_path / "session"
    place.mkdir(mode=0o755)
    with pgbouncer.pooler(place, clinic.database.conninfo, "session") as between:
        monkeypatch.setenv("DATABASE_URL", between.conninfo)
        assert clinic.findings("wake") == []
