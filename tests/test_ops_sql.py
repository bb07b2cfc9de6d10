"""The operators' queries in ops/sql, each run by psql as its page says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from factories import ago, insert_event, insert_execution
from psql import psql, rows
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer

pytestmark = pytest.mark.store

FOLDER = Path(__file__).parent.parent / "ops/sql"
FILES = sorted(FOLDER.glob("*.sql"))
UNKNOWN = "handle_unknown_event"
TASK = {"source": "task", "action": "failed"}
FILE = {"source": "file", "action": "changed"}


def _ask(database: Database, name: str, **variables: int) -> list[dict[str, str]]:
    settings = [f"--set={variable}={value}" for variable, value in variables.items()]
    return rows(psql(database, *settings, f"--file={FOLDER / name}.sql"))


def test_there_are_queries() -> None:
    assert len(FILES) >= 9


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_file_begins_with_what_it_answers(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    assert first.startswith("-- ")
    assert first.endswith(".")
    assert len(first) <= 120


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_query_finds_its_rows_by_an_index(connection: Connection, database: Database, file: Path) -> None:
    """Years of history are never read by accident: with sequential scans priced out, none is left."""
    connection.execute(
        "INSERT INTO hook_events (source, action, processed, processed_at)"
        " SELECT 'old', '', TRUE, now() FROM generate_series(1, 500)"
    )
    connection.execute("VACUUM ANALYZE hook_events")
    scans = "SELECT sum(pg_stat_get_numscans(t::regclass)) FROM unnest('{hook_events,event_hook_executions}'::text[]) t"
    before = connection.execute(scans).fetchone()
    printed = psql(
        database,
        *("-c", "SET enable_seqscan = off"),
        f"--file={file}",
        *("-c", "SELECT pg_stat_force_next_flush()"),
        *("-c", scans),
    )
    assert before == (int(printed.splitlines()[-1]),)


@pytest.fixture
def reader(server: EmbeddedServer, database: Database, connection: Connection) -> Iterator[str]:
    """A role with the privileges that docs/sql.md names for reading, which the test's role may take on."""
    name = f"reader_{os.getpid()}"
    owner = connection.info.user
    page = (FOLDER.parent.parent / "docs/sql.md").read_text()
    [grants] = re.findall(r"CREATE ROLE reader LOGIN;\n(.*?)```", page, re.DOTALL)
    target = make_conninfo(server.administration, dbname=connection.info.dbname)
    with psycopg.connect(target, autocommit=True) as administrator:
        administrator.execute(
            f"CREATE ROLE {name}; {grants.replace('TO reader', f'TO {name}')} GRANT {name} TO {owner}"
        )
        yield name
        administrator.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_role_that_may_only_read_gets_every_answer(connection: Connection, database: Database, reader: str) -> None:
    for state in ("pending", "completed", "failed", "processing"):
        insert_execution(connection, insert_event(connection, state, created_at=ago(minutes=9)))
    as_reader = Database(make_conninfo(database.conninfo, options=f"-c role={reader}"))
    for file in FILES:
        seen, all_rows = (psql(who, f"--file={file}").splitlines() for who in (as_reader, database))
        assert len(seen) == len(all_rows), file.name
    assert _ask(as_reader, "latency")[0]["events"] == "1"


def test_backlog_counts_what_waits_by_type_and_state(connection: Connection, database: Database) -> None:
    insert_event(connection, created_at=ago(hours=2, minutes=3), **TASK)
    insert_event(connection, priority=2, **TASK)
    insert_event(connection, "scheduled", **TASK)
    insert_event(connection, "scheduled", available_at=ago(seconds=1), **TASK)
    insert_event(connection, "retrying", **TASK)
    insert_event(connection, "paused", **TASK)
    insert_event(connection, "processing", **FILE)
    insert_event(connection, "completed", created_at=ago(hours=4), **FILE)
    insert_event(connection, "failed", created_at=ago(hours=4), **FILE)
    task, file = _ask(database, "backlog")
    assert task.pop("oldest").startswith("02:03:")
    none = dict.fromkeys(("claimable", "scheduled", "backing_off", "paused", "leased"), "0")
    counts = {"events": "6", "claimable": "3", "scheduled": "1", "backing_off": "1", "paused": "1"}
    assert task == {**none, **TASK, **counts}
    assert file.pop("oldest").startswith("00:01:")
    assert file == {**none, **FILE, "events": "1", "leased": "1"}


def _took(connection: Connection, milliseconds: float, **columns: object) -> None:
    created_at = ago(minutes=5)
    processed_at = created_at + timedelta(milliseconds=milliseconds)
    insert_event(connection, "completed", **{"created_at": created_at, "processed_at": processed_at, **columns})


def test_latency_gives_percentiles_by_source(connection: Connection, database: Database) -> None:
    for milliseconds in range(1, 102):
        _took(connection, milliseconds, **TASK)
    _took(connection, 500, **FILE)
    insert_event(connection, "completed", created_at=ago(hours=3), processed_at=ago(hours=2), **TASK)
    everything, file, task = _ask(database, "latency")
    assert (everything["source"], everything["events"], everything["max_ms"]) == ("(all)", "102", "500.0")
    assert (file["source"], file["median_ms"]) == ("file", "500.0")
    assert task == {
        "source": "task",
        "events": "101",
        "median_ms": "51.0",
        "p95_ms": "96.0",
        "p99_ms": "100.0",
        "max_ms": "101.0",
    }


def test_latency_of_a_scheduled_event_is_counted_from_its_time(connection: Connection, database: Database) -> None:
    created_at, available_at = ago(minutes=9), ago(minutes=5)
    processed_at = available_at + timedelta(milliseconds=7)
    _took(connection, 0, created_at=created_at, available_at=available_at, processed_at=processed_at)
    assert _ask(database, "latency")[0]["max_ms"] == "7.0"


def test_latency_of_a_leased_event_is_counted_from_its_creation(connection: Connection, database: Database) -> None:
    _took(connection, 300, available_at=ago(minutes=4))
    assert _ask(database, "latency")[0]["max_ms"] == "300.0"


def test_latency_looks_at_the_newest_events_only(connection: Connection, database: Database) -> None:
    for _ in range(10):
        _took(connection, 1)
    assert _ask(database, "latency", events=4)[0]["events"] == "4"


def test_errors_by_hook_groups_by_the_first_line_of_the_error(connection: Connection, database: Database) -> None:
    last = uuid4()
    refused = {"success": False, "error": "refused\nstack traceback:\n  line 3"}
    insert_execution(connection, uuid4(), "deploy", executed_at=ago(minutes=9), **refused)
    insert_execution(connection, last, "deploy", executed_at=ago(minutes=2), **refused)
    insert_execution(connection, uuid4(), "deploy", success=False, result="timeout", error="took longer than 30 s")
    insert_execution(connection, uuid4(), "deploy")
    insert_execution(connection, uuid4(), "old", executed_at=ago(hours=2), **refused)
    first, second = _ask(database, "errors_by_hook")
    assert (first["hook"], first["result"], first["error"], first["failures"]) == ("deploy", "failed", "refused", "2")
    assert UUID(first["last_event"]) == last
    assert (second["result"], second["failures"]) == ("timeout", "1")
    assert [row["hook"] for row in _ask(database, "errors_by_hook", minutes=180)] == ["deploy", "deploy", "old"]


def _insert_processor(connection: Connection, node: str, heartbeat_at: datetime, state: str = "running") -> None:
    connection.execute(
        "INSERT INTO hook_processors (node, host, pid, version, state, wake, workers, started_at, heartbeat_at)"
        " VALUES (%s, 'here', 1, '0.1.0', %s, 'listen', 100, %s, %s)",
        (node, state, ago(hours=1), heartbeat_at),
    )


def test_leases_tell_whether_their_holder_is_alive(connection: Connection, database: Database) -> None:
    _insert_processor(connection, "here:1", ago(seconds=1))
    _insert_processor(connection, "here:2", ago(minutes=5))
    held = {
        node: str(insert_event(connection, "processing", claimed_by=node, available_at=ago(seconds=ended)))
        for node, ended in (("here:3", 60), ("here:2", 20), ("here:1", -12))
    }
    insert_event(connection, "scheduled")
    leases = _ask(database, "leases")
    assert [(row["id"], row["claimed_by"], row["processor"]) for row in leases] == [
        (held["here:3"], "here:3", "unknown"),
        (held["here:2"], "here:2", "silent"),
        (held["here:1"], "here:1", "running"),
    ]
    assert [row["attempt"] for row in leases] == ["1", "1", "1"]
    assert leases[0]["ends_in"].startswith("-00:01:0")


def test_stuck_lists_what_nobody_claims(connection: Connection, database: Database) -> None:
    fresh = insert_event(connection, created_at=ago(minutes=9))
    insert_event(connection, created_at=ago(minutes=8), priority=1)
    due = insert_event(connection, "retrying", available_at=ago(minutes=3))
    ended = insert_event(connection, "processing", available_at=ago(minutes=2))
    insert_event(connection, created_at=ago(seconds=1))
    for state in ("scheduled", "processing", "completed", "failed"):
        insert_event(connection, state, created_at=ago(minutes=9))
    assert [(row["kind"], row["events"], UUID(row["oldest_event"])) for row in _ask(database, "stuck")] == [
        ("due", "1", due),
        ("fresh", "2", fresh),
        ("lease ended", "1", ended),
    ]
    assert [row["kind"] for row in _ask(database, "stuck", seconds=160)] == ["due", "fresh"]


def test_unrouted_counts_what_only_the_unknown_handler_served(connection: Connection, database: Database) -> None:
    connection.execute(
        "INSERT INTO hooks (id, name, kind, event_types) VALUES (7, %s, 'python', '{*}'), (8, 'greet', 'lua', '{*}')",
        (UNKNOWN,),
    )
    for minutes in (30, 20, 10):
        last = insert_event(connection, "completed", **FILE)
        insert_execution(connection, last, UNKNOWN, hook_id=7, executed_at=ago(minutes=minutes))
    insert_execution(connection, insert_event(connection, "completed", **TASK), UNKNOWN, hook_id=7)
    insert_execution(connection, insert_event(connection, "completed", source="greeting"), "greet", hook_id=8)
    insert_execution(
        connection, insert_event(connection, "completed", source="old"), UNKNOWN, hook_id=7, executed_at=ago(days=2)
    )
    file, task = _ask(database, "unrouted")
    assert (file["source"], file["action"], file["events"], UUID(file["last_event"])) == ("file", "changed", "3", last)
    assert (task["source"], task["action"], task["events"]) == ("task", "failed", "1")


def test_slowest_hooks_come_first(connection: Connection, database: Database) -> None:
    for duration in range(1, 102):
        insert_execution(connection, uuid4(), "quick", duration_ms=duration / 10)
    insert_execution(connection, uuid4(), "slow", duration_ms=30_000, success=False, result="timeout")
    insert_execution(connection, uuid4(), "past", duration_ms=90_000, executed_at=ago(hours=2))
    slow, quick = _ask(database, "slowest_hooks")
    assert slow == {
        "hook": "slow",
        "runs": "1",
        "mean_ms": "30000.00",
        "p95_ms": "30000.00",
        "max_ms": "30000.00",
        "total_seconds": "30.0",
        "timeouts": "1",
    }
    assert (quick["runs"], quick["mean_ms"], quick["p95_ms"], quick["total_seconds"]) == ("101", "5.10", "9.60", "0.5")


def test_throughput_counts_each_minute(connection: Connection, database: Database) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=3)
    event_id = uuid4()
    insert_execution(connection, event_id, executed_at=minute)
    insert_execution(connection, event_id, "other", executed_at=minute + timedelta(seconds=59), success=False)
    insert_execution(connection, uuid4(), executed_at=minute + timedelta(seconds=30))
    minutes = _ask(database, "throughput")
    assert len(minutes) == 15
    busy = [row for row in minutes if row["runs"] != "0"]
    assert [(row["events"], row["runs"], row["failed_runs"]) for row in busy] == [("2", "3", "1")]
    assert len(_ask(database, "throughput", minutes=60)) == 60


def test_dead_letters_are_listed_newest_first_with_their_last_error(connection: Connection, database: Database) -> None:
    older = insert_event(connection, "failed", failed_at=ago(hours=2), processing_errors=["a", "gave up\ntraceback"])
    newer = insert_event(connection, "failed", failed_at=ago(hours=1), retry_count=5)
    insert_event(connection, "retrying")
    letters = _ask(database, "dead_letters")
    assert [(UUID(row["id"]), row["attempts"], row["last_error"]) for row in letters] == [
        (newer, "5", "third attempt"),
        (older, "3", "gave up"),
    ]
    assert [UUID(row["id"]) for row in _ask(database, "dead_letters", limit=1)] == [newer]


def test_processors_that_stopped_writing_are_silent(connection: Connection, database: Database) -> None:
    _insert_processor(connection, "here:1", ago(seconds=1))
    _insert_processor(connection, "here:2", ago(minutes=5))
    _insert_processor(connection, "here:3", ago(minutes=6), "stopped")
    assert [(row["node"], row["state"]) for row in _ask(database, "processors")] == [
        ("here:1", "running"),
        ("here:2", "silent"),
        ("here:3", "stopped"),
    ]


def test_table_health_counts_dead_rows(connection: Connection, database: Database) -> None:
    connection.execute("ALTER TABLE hook_events SET (autovacuum_enabled = off)")
    connection.execute("INSERT INTO hook_events (source, action) SELECT 'a', 'b' FROM generate_series(1, 100)")
    connection.execute("UPDATE hook_events SET processed = TRUE WHERE id IN (SELECT id FROM hook_events LIMIT 25)")
    connection.execute("SELECT pg_stat_force_next_flush()")
    health = {row["table"]: row for row in _ask(database, "table_health")}
    assert set(health) >= {"hook_events", "event_hook_executions", "hooks", "hook_versions", "hook_processors"}
    events = health["hook_events"]
    assert (events["live_rows"], events["dead_rows"], events["dead_pct"]) == ("100", "25", "20.0")


def test_index_health_lists_the_indexes_of_the_hot_path(database: Database) -> None:
    names = {row["index"] for row in _ask(database, "index_health")}
    assert names >= {"hook_events_fresh", "hook_events_prioritized", "hook_events_due", "hook_events_pkey"}


def test_transactions_name_who_waits_for_whom(connection: Connection, database: Database) -> None:
    with database.session("holder") as holder, holder.transaction():
        holder.execute("SELECT count(*) FROM hook_events")
        [row] = _ask(database, "transactions")
        assert (int(row["pid"]), row["state"]) == (holder.info.backend_pid, "idle in transaction")
        assert row["query"] == "SELECT count(*) FROM hook_events"
