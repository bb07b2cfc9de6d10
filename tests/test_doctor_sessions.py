"""`hep doctor sessions` and `growth`: what others hold is named with who holds it, and what grows is cleaned."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from clinic import Clinic
from commands import Hep
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from waiting import wait_for

from hook_event_processor.doctor import growth, sessions
from hook_event_processor.store import embedded
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer
from hook_event_processor.store.migrate import migrate


@pytest.fixture
def connection(clinic: Clinic) -> Iterator[Connection]:
    with clinic.database.session("tests") as connection:
        yield connection


@contextmanager
def _somebody(clinic: Clinic, name: str) -> Iterator[Connection]:
    """A session of the product's role in another program; it may be ended meanwhile."""
    connection = psycopg.connect(clinic.database.conninfo, application_name=name)
    try:
        yield connection
    finally:
        connection.close()


def _settle(connection: Connection) -> None:
    """Have the server's counts of rows be as they are."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("SELECT 1")


def test_an_insert_guard_held_too_long_is_found_with_its_holder(
    clinic: Clinic, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _somebody(clinic, "a slow writer") as writer:
        writer.execute("INSERT INTO hook_events (source, action) VALUES ('task', 'failed')")
        assert clinic.findings("sessions") == []
        monkeypatch.setattr(sessions, "GUARD_SECONDS", 0.0)
        found = clinic.mends("sessions", "insert-guard")
        assert f"process {writer.info.backend_pid} (hep, a slow writer, idle in transaction)" in found["what"]
        with pytest.raises(psycopg.OperationalError):
            writer.execute("SELECT 1")
    assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (0,)


def test_an_insert_guard_that_the_role_may_not_see_is_told_of_by_its_transactions(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "GUARD_SECONDS", 0.0)
    with clinic.as_superuser() as stranger, stranger.transaction():
        stranger.execute("INSERT INTO hook_events (source, action) VALUES ('task', 'failed')")
        assert clinic.findings("sessions", "insert-guard") == []
        monkeypatch.setattr(sessions, "SNAPSHOT_TRANSACTIONS", -1)
        assert "since when this role may not see" in clinic.mends("sessions", "insert-guard")["what"]
        stranger.close()


def test_a_vacuum_holds_nothing_back(clinic: Clinic, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    at_it = (
        "SELECT FROM pg_stat_progress_vacuum JOIN pg_stat_activity USING (pid)"
        " WHERE application_name = 'a slow vacuum' AND backend_xmin IS NOT NULL"
    )
    connection.execute("INSERT INTO hook_events (source, action) SELECT 'a', 'b' FROM generate_series(1, 6000)")
    monkeypatch.setattr(sessions, "SNAPSHOT_SECONDS", 0.0)
    with _somebody(clinic, "a slow vacuum") as slow:
        slow.autocommit = True
        slow.execute("SET vacuum_cost_delay = 100")
        slow.execute("SET vacuum_cost_limit = 1")
        slow.pgconn.send_query(b"VACUUM hook_events")
        wait_for(lambda: connection.execute(at_it).rowcount == 1, 10)
        assert clinic.findings("sessions") == []
        assert connection.execute(at_it).rowcount == 1
        slow.cancel_safe()
    connection.execute("TRUNCATE hook_events")


def test_a_held_snapshot_is_found_with_its_holder(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    with _somebody(clinic, "a report") as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT 1")
        assert clinic.findings("sessions") == []
        monkeypatch.setattr(sessions, "SNAPSHOT_SECONDS", 0.0)
        assert "a report" in clinic.mends("sessions", "held-snapshot")["what"]


def test_the_holder_that_the_role_may_not_see_is_ended_by_somebody_who_may(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SNAPSHOT_TRANSACTIONS", -1)
    with clinic.as_superuser() as stranger, stranger.transaction():
        stranger.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        stranger.execute("SELECT 1")
        found = clinic.only("sessions", "held-snapshot")
        assert "since when this role may not see" in found["what"]
        assert found["mend"][0].endswith("# as a superuser")
        clinic.mend(found)
        assert clinic.findings("sessions") == []
        stranger.close()


def test_what_other_roles_hold_is_noted_until_the_role_may_see_since_when(clinic: Clinic) -> None:
    with clinic.as_superuser() as stranger, stranger.transaction():
        stranger.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        stranger.execute("SELECT 1")
        found = clinic.only("sessions", "unseen-sessions")
        assert f"sessions of {stranger.info.user} hold snapshots" in found["what"]
        clinic.mend(found)
        assert clinic.findings("sessions") == []
    with clinic.as_superuser() as stranger:
        stranger.execute("REVOKE pg_monitor FROM hep")


def test_a_queue_of_notifications_that_fills_up_is_found(
    clinic: Clinic, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds a million pages: two are filled, and that is made to be too many."""
    with _somebody(clinic, "a deaf listener") as listener:
        listener.execute("LISTEN anything")
        listener.commit()
        listener.execute("SELECT 1")
        for _ in range(4):
            connection.execute("SELECT pg_notify('anything', repeat('x', 7000) || random())")
        assert clinic.findings("sessions") == []
        monkeypatch.setattr(sessions, "QUEUE_USAGE", 0.0)
        assert "a deaf listener" in clinic.mends("sessions", "notify-queue")["what"]


def test_dead_rows_are_found_and_vacuumed(
    clinic: Clinic, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "DEAD_ROWS", 500)
    for how in (clinic.mends, clinic.fixes):
        # It may come by just now, and be the first.
        connection.execute("ALTER TABLE hook_events SET (autovacuum_enabled = off)")
        connection.execute("INSERT INTO hook_events (source, action) SELECT 'a', 'b' FROM generate_series(1, 600)")
        connection.execute("DELETE FROM hook_events")
        _settle(connection)
        assert how("growth", "dead-rows")["what"].startswith("hook_events has 60")
    connection.execute("ALTER TABLE hook_events RESET (autovacuum_enabled)")


def test_a_bloated_index_is_found_and_built_anew(
    clinic: Clinic, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "BLOAT_BYTES", 100_000)
    connection.execute("CREATE INDEX somebodys_own ON hook_events (resource_id, id)")
    rows = "SELECT 'a', 'b', priority FROM generate_series(1, 6000), (VALUES (1), (5)) AS each (priority)"
    connection.execute(f"INSERT INTO hook_events (source, action, priority) {rows}")
    assert clinic.findings("growth", "index-bloat") == []  # it is full
    connection.execute("DELETE FROM hook_events")
    connection.execute("VACUUM (ANALYZE) hook_events")
    found = {one["what"].split()[0]: one for one in clinic.findings("growth", "index-bloat")}
    assert found.keys() == {"hook_events_fresh", "hook_events_prioritized"}  # what claims read, and nothing else
    clinic.mend(found["hook_events_prioritized"])
    fixed = clinic.document("growth", "--fix")
    assert len(fixed["fixed"]) == 1
    assert fixed["findings"] == []
    connection.execute("DROP INDEX somebodys_own")


def test_a_table_that_autovacuum_leaves_out_is_found(clinic: Clinic, connection: Connection) -> None:
    for how in (clinic.mends, clinic.fixes):
        connection.execute("ALTER TABLE hook_events SET (autovacuum_enabled = off)")
        assert "hook_events" in how("growth", "autovacuum-off")["what"]


@pytest.fixture(scope="module")
def odd_server(reachable_path: Path) -> Iterator[EmbeddedServer]:
    """A server that prepares transactions, archives in vain, decodes its log, and vacuums nothing by itself."""
    home = reachable_path / "odd"
    settings = {
        "max_prepared_transactions": "5",
        "wal_level": "logical",
        "archive_mode": "on",
        "archive_command": "/bin/false",
        "autovacuum": "off",
    }
    with embedded.start(home) as server, psycopg.connect(server.administration, autocommit=True) as connection:
        for name, value in settings.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")  # type: ignore[call-overload]
    with embedded.start(home) as server:
        with Database(server.conninfo).session("tests") as connection:
            migrate(connection)
        yield server


@pytest.fixture
def odd(offline_hep: Hep, odd_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    monkeypatch.setenv("DATABASE_URL", odd_server.conninfo)
    return Clinic(offline_hep, Database(odd_server.conninfo), odd_server)


def test_a_prepared_transaction_that_nobody_ends_is_found(odd: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    with _somebody(odd, "two phases") as session:
        session.execute("SET hook_events.notify = 'off'")
        session.execute("INSERT INTO hook_events (source, action) VALUES ('a', 'b')")
        session.execute("PREPARE TRANSACTION 'it''s mine'")
    assert odd.findings("sessions") == []
    monkeypatch.setattr(sessions, "SNAPSHOT_SECONDS", 0.0)
    assert "it's mine" in odd.mends("sessions", "prepared-transaction")["what"]


def test_a_replication_slot_that_holds_a_snapshot_is_found(odd: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    odd.administer("SELECT pg_create_logical_replication_slot('a_consumer', 'pgoutput')")
    assert odd.findings("sessions") == []
    monkeypatch.setattr(sessions, "SNAPSHOT_TRANSACTIONS", -1)
    found = odd.only("sessions", "slot-snapshot")
    assert "a_consumer" in found["what"]
    odd.mend(found)
    with odd.as_superuser() as connection:
        assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (0,)


def test_a_replication_slot_that_is_in_use_is_taken_from_who_reads_it(
    odd: Clinic, odd_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SNAPSHOT_TRANSACTIONS", -1)
    odd.administer("CREATE PUBLICATION everything FOR ALL TABLES")
    odd.administer("SELECT pg_create_logical_replication_slot('in_use', 'pgoutput')")
    database = conninfo_to_dict(odd_server.conninfo)["dbname"]
    reading = make_conninfo(odd_server.administration, dbname=database, replication="database")
    with psycopg.connect(reading, autocommit=True) as reader:
        options = "proto_version '1', publication_names 'everything'"
        reader.pgconn.exec_(f"START_REPLICATION SLOT in_use LOGICAL 0/0 ({options})".encode())
        wait_for(lambda: bool(odd.only("sessions", "slot-snapshot")["mend"][1:]), 10)
        found = odd.only("sessions", "slot-snapshot")
        assert all(str(reader.info.backend_pid) in command for command in found["mend"])
        odd.mend(found)  # it shows who reads it
        odd.mend(found, 1)
        assert odd.findings("sessions", "slot-snapshot") == []
        reader.close()
    odd.administer("DROP PUBLICATION everything")


def test_a_replication_slot_that_keeps_the_log_is_found(odd: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    odd.administer("SELECT pg_create_physical_replication_slot('a_replica', true)")
    odd.administer("SELECT pg_logical_emit_message(false, 'x', repeat('x', 2000000))")
    assert odd.findings("growth", "wal-kept") == []
    monkeypatch.setattr(growth, "WAL_BYTES", 1 << 20)
    found = odd.mends("growth", "wal-kept")
    assert "a_replica keeps" in found["what"]
    assert "not in use" in found["what"]


def test_archiving_that_fails_is_found(odd: Clinic) -> None:
    """It is mended where archive_command is: here with one that works."""
    odd.administer("SELECT pg_switch_wal()")
    wait_for(lambda: bool(odd.findings("growth", "archiving-fails")), 20)
    odd.administer("ALTER SYSTEM SET archive_command = '/bin/true'")
    odd.administer("SELECT pg_reload_conf()")
    # A file that is full has the archiver look again at once.
    odd.administer("SELECT pg_logical_emit_message(false, 'x', 'x')")
    odd.administer("SELECT pg_switch_wal()")
    wait_for(lambda: not odd.findings("growth", "archiving-fails"), 90)


def test_a_server_that_vacuums_nothing_is_found(odd: Clinic) -> None:
    found = odd.only("growth", "autovacuum-off")
    assert found["what"] == "autovacuum is off"
    odd.mend(found, 0)
    odd.mend(found, 1)
    wait_for(lambda: not odd.findings("growth", "autovacuum-off"), 10)


needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 and "CI" not in os.environ, reason="mounting a small file system needs root: run as root"
)


@needs_mounts
def test_the_databases_disk_that_is_full_is_found(
    offline_hep: Hep, reachable_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that may not know where it is, is told nothing of it."""
    small = reachable_path / "small-server"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "hep-small", str(small)], check=True)
    try:
        with embedded.start(small) as server:
            monkeypatch.setenv("DATABASE_URL", server.conninfo)
            clinic = Clinic(offline_hep, Database(server.conninfo), server)
            with Database(server.conninfo).session("tests") as connection:
                migrate(connection)
            with (small / "large").open("wb") as large:
                # PostgreSQL may need another file of its log.
                os.posix_fallocate(large.fileno(), 0, shutil.disk_usage(small).free - 18_000_000)
            assert clinic.findings("growth") == []
            clinic.administer("GRANT pg_read_all_settings TO hep")
            found = clinic.only("growth", "disk-full")
            assert "the disk of the database at " in found["what"]
            clinic.mend(found)  # it shows what takes the room
            (small / "large").unlink()
            assert clinic.findings("growth") == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@needs_mounts
def test_a_disk_that_is_full_is_found(
    offline_hep: Hep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd_server: EmbeddedServer
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "hep-small", str(small)], check=True)
    try:
        monkeypatch.setenv("HEP_HOME", str(small / "home"))
        clinic = Clinic(offline_hep, Database(odd_server.conninfo), odd_server)
        assert clinic.findings("files") == []
        (small / "large").write_bytes(b"x" * 2_000_000)
        found = clinic.only("files", "disk-full")
        assert f"{small} has 0.1 of 2 MB left" in found["what"]
        clinic.mend(found)  # it shows what takes the room
        (small / "large").unlink()
        assert clinic.findings("files") == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
