"""Upgrades: migrations under the load of older processors, schemas of newer programs, and dumps restored elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from commands import Hep
from factories import ago, insert_event
from psycopg import Connection
from running import add_hook, all_processed, count, insert, running
from waiting import wait_for

from hook_event_processor.policy import Grants, Policy
from hook_event_processor.store import embedded
from hook_event_processor.store import migrate as migrate_module
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded.program import installed
from hook_event_processor.store.migrate import Migration, check, migrate, migrations

CHECKOUT = Path(__file__).parents[1]
PROGRAM = [sys.executable, "-m", "hook_event_processor"]
READS = 'return {execute = function(e) return e.data.n ~= nil, "read" end}'
# What a later program may want: a column, an index, a view and a function anew.
LATER = """
ALTER TABLE hook_events ADD COLUMN IF NOT EXISTS later integer NOT NULL DEFAULT 0;
ALTER TABLE event_hook_executions ADD COLUMN IF NOT EXISTS later text;
CREATE INDEX IF NOT EXISTS hook_events_later ON hook_events (later) WHERE later > 0;
DO $$ BEGIN EXECUTE pg_get_functiondef('hook_events_wake'::regproc); END $$;
"""


def _later_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, this process and those that it forks are of a program that knows one more migration."""
    known = [*migrations(), Migration(migrations()[-1].version + 1, "later", LATER)]
    monkeypatch.setattr(migrate_module, "migrations", lambda: known)


@contextmanager
def _load(database: Database) -> Iterator[list[int]]:
    """Inserts events all the time; the list says how many."""
    stopping, inserted = threading.Event(), [0]

    def run() -> None:
        with database.session("load") as connection:
            while not stopping.wait(0.02):
                insert(connection, "load.one", '{"n": 1}', count=20)
                inserted[0] += 20

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield inserted
    finally:
        stopping.set()
        thread.join()


def _runs(connection: Connection) -> tuple[Any, ...]:
    """How many runs were recorded, and of how many events."""
    row = connection.execute("SELECT count(*), count(DISTINCT event_id) FROM event_hook_executions").fetchone()
    assert row is not None
    return row


def test_a_migration_is_applied_while_processors_of_the_older_program_work(
    connection: Connection, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_hook(connection, "reads", "load.*", READS)
    with running(database, tmp_path) as older:
        with _load(database) as inserted:
            wait_for(lambda: count(connection, "processed") > 100, 30)
            _later_program(monkeypatch)
            assert migrate(connection) == 1
            so_far = inserted[0]
            wait_for(lambda: count(connection, "processed") > so_far + 200, 30)
            with running(database, tmp_path) as newer:  # beside it
                wait_for(lambda: count(connection, "processed") > so_far + 400, 30)
        wait_for(lambda: all_processed(connection), 30)
    assert _runs(connection) == (inserted[0], inserted[0])
    for process in (older, newer):
        assert not [line for line in process.log if "WARNING" in line or "ERROR" in line], process.log


def test_the_last_migrations_are_applied_while_the_program_before_them_works(
    empty_database: Database, tmp_path: Path
) -> None:
    older = _program_before_the_last_migration(tmp_path)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(older), "DATABASE_URL": empty_database.conninfo}
    subprocess.run([*PROGRAM, "db", "migrate"], env=environment, cwd=tmp_path, check=True, timeout=30)
    log = tmp_path / "older.log"
    with empty_database.session("tests") as connection:
        add_hook(connection, "reads", "load.*", READS)
        process = subprocess.Popen([*PROGRAM, "run"], env=environment, cwd=tmp_path, stderr=log.open("wb"))
        try:
            with _load(empty_database) as inserted:
                wait_for(lambda: count(connection, "processed") > 100, 30)
                assert migrate(connection) > 0
                check(connection)
                so_far = inserted[0]
                wait_for(lambda: count(connection, "processed") > so_far + 200, 30)
            wait_for(lambda: all_processed(connection), 30)
        finally:
            process.terminate()
            process.wait(30)
        assert _runs(connection) == (inserted[0], inserted[0])
    said = log.read_text()
    assert "WARNING" not in said, said
    assert "ERROR" not in said, said


def _program_before_the_last_migration(folder: Path) -> Path:
    """A checkout of what stood before the commit that added the last migration."""
    last = _git("log", "-1", "--diff-filter=A", "--format=%H", "--", "sql/*_*.sql")
    found = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{last}^"], cwd=CHECKOUT, capture_output=True)
    if not last or found.returncode != 0:
        pytest.skip("there is no history of the schema here: it takes a whole clone")
    older = folder / "older"
    older.mkdir()
    archive = subprocess.run(["git", "archive", f"{last}^"], cwd=CHECKOUT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "--extract"], cwd=older, input=archive, check=True)
    return older


def _git(*arguments: str) -> str:
    safe = f"safe.directory={CHECKOUT}"
    done = subprocess.run(["git", "-c", safe, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.fixture
def newer(connection: Connection) -> None:
    """The test's database has been migrated by a later program."""
    connection.execute("INSERT INTO hook_migrations (version, name, sha256) VALUES (9000, 'later', '')")


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("service", [("run",), ("watcher", "run")], ids=" ".join)
def test_a_service_refuses_the_schema_of_a_later_program(
    hep: Hep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: tuple[str, ...]
) -> None:
    """With a status that systemd does not try again, and with what to do."""
    monkeypatch.setenv("HEP_HOME", str(tmp_path))
    refused = subprocess.run([*PROGRAM, *service], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 78
    assert "the database has migration 9000 and this program knows only up to" in refused.stderr
    assert "install the program that the database was migrated with, or a newer one" in refused.stderr


@pytest.mark.usefixtures("newer")
def test_commands_on_the_schema_refuse_that_of_a_later_program(hep: Hep) -> None:
    for command in ("migrate", "status", "check"):
        assert "has migration 9000 and this program knows only up to" in hep.fault("db", command)


# It is effectful, has a secret and a memory of its own, and tells what it had of both.
REMEMBERS = """
return {execute = function(event)
  local secret, state = require("secret"), require("state")
  local value, reason = secret.get("token")
  return value ~= nil, value and string.format("%s %d", value, state.incr("seen")) or reason
end}
"""
SECRETS = Policy(Grants(secrets=("*",)))


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, reachable_path: Path) -> Iterator[Database]:
    """An empty database of a server that has never had anything to do with the first one."""
    with embedded.start(reachable_path / "elsewhere", request.config.getoption("--postgres")) as fresh:
        yield Database(fresh.conninfo)


def test_a_dump_restored_on_another_server_goes_on_where_it_was(
    request: pytest.FixtureRequest, hep: Hep, database: Database, connection: Connection, elsewhere: Database,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first_home, second_home = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("HEP_HOME", str(first_home))
    hep("secret", "set", "token", stdin="s3cret")
    add_hook(connection, "remembers", "kept.*", REMEMBERS)
    completed = insert(connection, "kept.before", count=3)
    with running(database, tmp_path, policy=SECRETS, home=first_home):
        wait_for(lambda: all_processed(connection), 30)
    waiting = insert(connection, "kept.after", count=4)
    failed = insert_event(connection, "failed")
    lapsed = insert_event(connection, "processing", source="kept", action="after", available_at=ago(seconds=1))

    _carry_over(database, elsewhere, tmp_path, request.config.getoption("--postgres"))

    monkeypatch.setenv("DATABASE_URL", elsewhere.conninfo)
    monkeypatch.setenv("HEP_HOME", str(second_home))
    assert hep("db", "check") == "the database's schema is this program's\n"
    second_home.mkdir()
    shutil.copy(first_home / "secret.key", second_home)  # it is in no dump
    with elsewhere.session("tests") as restored:
        highest = restored.execute("SELECT max(seq) FROM hook_events").fetchone()
        [new] = insert(restored, "kept.new")
        assert restored.execute("SELECT seq - 1 FROM hook_events WHERE id = %s", (new,)).fetchone() == highest
        add_hook(restored, "another", "other.*", READS)  # its ids go on, too
        with running(elsewhere, tmp_path, policy=SECRETS, home=second_home):
            wait_for(lambda: count(restored, "source = 'kept' AND NOT processed") == 0, 30)
        assert count(restored, "id = %s AND failed_at IS NOT NULL AND NOT processed", failed) == 1
        outputs = _outputs(restored)
    assert outputs == {f"*** {n}" for n in range(1, 10)}  # masked, and counted on
    assert _runs_of(elsewhere, [*completed, *waiting, lapsed, new]) == {1}


def _carry_over(source: Database, target: Database, folder: Path, major: int) -> None:
    """As docs/operations.md has it."""
    programs, dump = installed(major) / "bin", folder / "hep.dump"
    for command in (
        ["pg_dump", "--format=custom", f"--file={dump}", f"--dbname={source.conninfo}"],
        ["pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", f"--dbname={target.conninfo}", dump],
    ):
        done = subprocess.run([programs / command[0], *command[1:]], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def _outputs(connection: Connection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT output FROM event_hook_executions WHERE success").fetchall()}


def _runs_of(database: Database, events: list[UUID]) -> set[int]:
    with database.session("tests") as connection:
        query = "SELECT count(*) FROM event_hook_executions WHERE event_id = ANY(%s) GROUP BY event_id"
        return {row[0] for row in connection.execute(query, (events,)).fetchall()}
