"""Plans of a cleanup: a step reads its own pages and finds the rest by an index, however long the history is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import Connection

from hook_event_processor.store.cleanup import counted, events, executions, pace, removal, to_files
from hook_event_processor.store.database import Database

EVENTS = 20_000
ROWS = 500
PAGES = {"first": "(8,0)", "last": "(40,0)"}


@pytest.fixture(scope="module")
def long_history(shared_database: Database) -> Iterator[Connection]:
    """Completed events, two runs each, and some that wait."""
    with shared_database.session("tests") as connection:
        connection.execute(
            "INSERT INTO hook_events (source, action, processed, created_at, processed_at)"
            " SELECT 'task', 'done', TRUE, now() - interval '9 days', now() - interval '8 days'"
            " FROM generate_series(1, %s)",
            (EVENTS,),
        )
        connection.execute(
            "INSERT INTO event_hook_executions (event_id, hook_id, hook_name, success, duration_ms, executed_at)"
            " SELECT id, hook, 'greet', TRUE, 1, now() - interval '8 days'"
            " FROM hook_events, generate_series(1, 2) AS hook"
        )
        connection.execute("INSERT INTO hook_events (source, action) SELECT 'task', 'new' FROM generate_series(1, 100)")
        connection.execute("UPDATE hook_events_floor SET seq = (SELECT max(seq) FROM hook_events WHERE processed)")
        connection.execute("VACUUM ANALYZE hook_events, event_hook_executions")
        yield connection


def plan(connection: Connection, statement: str, values: Any = None) -> dict[str, Any]:
    """The plan of a statement, as it ran; nothing of it stays."""
    with connection.transaction(force_rollback=True):
        row = connection.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values).fetchone()
    assert row is not None
    found: dict[str, Any] = row[0][0]["Plan"]
    return found


def scans(plan: dict[str, Any]) -> set[tuple[str, str]]:
    """How each table is read: (kind of scan, table or index)."""
    found = set()
    if "Scan" in plan["Node Type"] and ("Relation Name" in plan or "Index Name" in plan):
        found.add((plan["Node Type"], plan.get("Index Name", plan.get("Relation Name", ""))))
    for child in plan.get("Plans", []):
        found |= scans(child)
    return found


def blocks(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def some(connection: Connection, count: int) -> dict[str, Any]:
    rows = connection.execute(
        "SELECT ctid::text, id, 'default', xmin::text FROM hook_events WHERE processed LIMIT %s", (count,)
    ).fetchall()
    return removal.values([removal.Place(*row) for row in rows])


def test_a_step_reads_its_own_pages_once(long_history: Connection) -> None:
    values = {**PAGES, "before": "now", "upto": None, "failed_before": None}
    found = plan(long_history, events.CANDIDATES.format(stack=counted.STACK), values)
    assert scans(found) == {("Tid Range Scan", "hook_events")}
    assert blocks(found) <= 40


@pytest.mark.parametrize("statement", [removal.REMOVE, removal.REMOVE_WRITTEN, to_files.ROWS])
def test_events_and_their_executions_are_found_by_address_and_by_index(
    long_history: Connection, statement: str
) -> None:
    found = plan(long_history, statement, some(long_history, ROWS))
    of_tables = {scan for scan in scans(found) if scan[1] not in ("taken", "gone", "runs")}
    assert {kind for kind, _ in of_tables} <= {"Tid Scan", "Index Scan", "Bitmap Heap Scan", "Bitmap Index Scan"}
    assert "event_hook_executions_event" in {name for _, name in of_tables}
    assert blocks(found) <= 25 * ROWS


def test_old_executions_look_their_event_up_by_its_id(long_history: Connection) -> None:
    found = plan(long_history, executions.OLD.format(stack="NULL"), {**PAGES, "before": "now"})
    assert scans(found) == {("Tid Range Scan", "event_hook_executions"), ("Index Scan", "hook_events_pkey")}


def test_a_hooks_runs_are_counted_and_removed_along_the_key(long_history: Connection) -> None:
    values = {"hook": 1, "before": EVENTS // 2, "limit": 50}
    found = plan(long_history, executions.RUNS.format(stack="NULL::text"), values)
    assert {name for _, name in scans(found)} == {"event_hook_executions_pkey", "hook_events_pkey"}
    assert blocks(found) <= 50 * 6


def test_the_look_at_the_backlog_reads_a_few_blocks(long_history: Connection) -> None:
    found = plan(long_history, pace.OLDEST_FRESH)
    assert "hook_events_fresh" in {name for _, name in scans(found)}
    assert blocks(found) <= 10
