"""Every SQL statement of the original service's document, over 53 rows, with answers computed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
import seed
from factories import ago, insert_event
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer

pytestmark = pytest.mark.store

PRE = {"source": "PreToolUse", "action": "tool_invocation"}
POST = {"source": "PostToolUse", "action": "tool_completion"}
PROMPT = {"source": "UserPromptSubmit", "action": "prompt_submitted"}
STOP = {"source": "Stop", "action": "session_stopped"}
END = {"source": "SessionEnd", "action": "session_ended"}
SYSTEM = {"source": "system", "action": "error"}


def _minutes(count: int) -> dict[str, Any]:
    return {"created_at": ago(minutes=count)}


def _processed(connection: Connection, seconds: float, created: dict[str, Any], **columns: Any) -> UUID:
    took = {"processed_at": created["created_at"] + timedelta(seconds=seconds)}
    return insert_event(connection, "completed", **created, **took, **columns)


@pytest.fixture
def rows(connection: Connection) -> dict[str, list[UUID]]:
    """29 processed and 24 unprocessed events, by what they stand for."""
    dead = {"retry_count": 3, "processing_errors": ["timeout", "timeout", "gave up"]}
    retried = {"retry_count": 1, "processing_errors": ["timeout"]}
    return {
        "quick": [_processed(connection, 1, _minutes(3 * n), **POST) for n in range(1, 13)],
        "slow": [_processed(connection, seconds, _minutes(10), **PRE) for seconds in (6, 7, 8, 9)],
        "retried": [
            _processed(connection, 3, _minutes(20), **PROMPT, **retried),
            _processed(connection, 12, _minutes(20), **PROMPT, retry_count=1, processing_errors=["refused"]),
            _processed(connection, 20, _minutes(30), **PRE, retry_count=2, processing_errors=["a", "timeout"]),
            _processed(connection, 30, _minutes(180), **PRE, retry_count=3, processing_errors=["a", "b", "timeout"]),
        ],
        "old": [
            *(_processed(connection, 2, {"created_at": ago(days=40)}, **POST) for _ in range(4)),
            _processed(connection, 2, {"created_at": ago(days=41)}, **POST, retry_count=1, processing_errors=["old"]),
        ],
        "earlier": [_processed(connection, 4, _minutes(120), **POST) for _ in range(3)],
        "delayed": [_processed(connection, 5100, _minutes(90), **STOP)],
        "pending": [insert_event(connection, "pending", **_minutes(1), **END) for _ in range(5)],
        "scheduled": [insert_event(connection, "scheduled", **_minutes(3), **END) for _ in range(2)],
        "retrying": [insert_event(connection, "retrying", **_minutes(4), **POST, **retried) for _ in range(3)],
        "leased": [insert_event(connection, "processing", **_minutes(5), **PROMPT) for _ in range(2)],
        "dead": [
            insert_event(connection, "failed", **_minutes(50), **PRE, **dead),
            insert_event(connection, "failed", **_minutes(6 * 60), **PRE, **dead),
            insert_event(connection, "failed", **_minutes(7 * 60), **PRE, **{**dead, "retry_count": 5}),
        ],
        "dead elsewhere": [insert_event(connection, "failed", **_minutes(8 * 60), **STOP, **dead)],
        "dead for days": [
            insert_event(connection, "failed", **_minutes(2 * 24 * 60), **PRE, **dead),
            *(
                insert_event(
                    connection,
                    "failed",
                    created_at=ago(days=days),
                    **SYSTEM,
                    retry_count=3,
                    processing_errors=["disk full"],
                )
                for days in range(3, 10)
            ),
        ],
    }


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("statement", "answer"),
    [
        (seed.COUNT_ALL, [(53,)]),
        (seed.COUNT_UNPROCESSED, [(24,)]),
        (seed.COUNT_PROCESSED, [(29,)]),
        # Processed within the hour: 12 quick ones, 4 slow, 3 retried, and the delayed one.
        (seed.ERROR_RATE, [(17, 3, Decimal("15.00"))]),
        (seed.SUCCESS_ERROR_RATE, [(Decimal("15.00"),)]),
        (
            seed.ERROR_ANALYSIS,
            [
                ("system", "error", 7, ["disk full"]),
                ("PreToolUse", "tool_invocation", 6, ["gave up", "timeout"]),
                ("PostToolUse", "tool_completion", 4, ["old", "timeout"]),
                ("UserPromptSubmit", "prompt_submitted", 2, ["refused", "timeout"]),
                ("Stop", "session_stopped", 1, ["gave up"]),
            ],
        ),
    ],
)
def test_a_statement_has_the_answer_computed_by_hand(
    connection: Connection, statement: str, answer: list[tuple[Any, ...]]
) -> None:
    assert connection.execute(statement).fetchall() == answer


@pytest.mark.usefixtures("rows")
def test_statistics_of_the_events_created_within_the_hour(connection: Connection) -> None:
    """12 of 1 s, 6 + 7 + 8 + 9, 3 + 12 and 20 seconds: 77 seconds for 19 events."""
    [(processed, pending, retried, average)] = connection.execute(seed.STATISTICS).fetchall()
    assert (processed, pending, retried) == (19, 13, 7)
    assert round(average, 6) == Decimal("4.052632")


@pytest.mark.usefixtures("rows")
def test_time_of_the_events_processed_within_the_hour(connection: Connection) -> None:
    """The 77 seconds of the statistics and one event that took 5,100: 5,177 seconds for 20 events."""
    [(average, longest)] = connection.execute(seed.WITHIN_FIVE_SECONDS).fetchall()
    assert (round(average, 6), longest) == (Decimal("258.85"), Decimal("5100"))


def test_events_over_five_seconds_are_listed_slowest_first(connection: Connection, rows: dict[str, list[UUID]]) -> None:
    slow, retried = rows["slow"], rows["retried"]
    assert connection.execute(seed.OVER_TARGET).fetchall() == [
        (rows["delayed"][0], "Stop", "session_stopped", 5100),
        (retried[2], "PreToolUse", "tool_invocation", 20),
        (retried[1], "UserPromptSubmit", "prompt_submitted", 12),
        (slow[3], "PreToolUse", "tool_invocation", 9),
        (slow[2], "PreToolUse", "tool_invocation", 8),
        (slow[1], "PreToolUse", "tool_invocation", 7),
        (slow[0], "PreToolUse", "tool_invocation", 6),
    ]


def test_the_ten_newest_events_with_three_retries_are_listed(
    connection: Connection, rows: dict[str, list[UUID]]
) -> None:
    dead = ["timeout", "timeout", "gave up"]
    days = rows["dead for days"]
    assert connection.execute(seed.RETRY_COUNTS).fetchall() == [
        (rows["dead"][0], "PreToolUse", "tool_invocation", 3, dead),
        (rows["retried"][3], "PreToolUse", "tool_invocation", 3, ["a", "b", "timeout"]),
        (rows["dead"][1], "PreToolUse", "tool_invocation", 3, dead),
        (rows["dead"][2], "PreToolUse", "tool_invocation", 5, dead),
        (rows["dead elsewhere"][0], "Stop", "session_stopped", 3, dead),
        (days[0], "PreToolUse", "tool_invocation", 3, dead),
        *((event_id, "system", "error", 3, ["disk full"]) for event_id in days[1:5]),
    ]


def test_the_archive_takes_what_was_processed_a_month_ago_and_can_be_put_back(
    connection: Connection, rows: dict[str, list[UUID]]
) -> None:
    before = connection.execute("SELECT * FROM hook_events ORDER BY id").fetchall()
    assert connection.execute(seed.ARCHIVE).rowcount == 5
    assert connection.execute(seed.DELETE_ARCHIVED).rowcount == 5
    assert connection.execute("SELECT count(*) FROM hook_events WHERE id = ANY(%s)", (rows["old"],)).fetchone() == (0,)
    connection.execute("INSERT INTO hook_events SELECT * FROM hook_events_archive")
    assert connection.execute("SELECT * FROM hook_events ORDER BY id").fetchall() == before


def test_the_reset_brings_failed_events_back_by_itself(connection: Connection, rows: dict[str, list[UUID]]) -> None:
    assert connection.execute(seed.RESET).rowcount == 4  # one of them was processed, in its fourth attempt
    again = connection.execute(
        "SELECT id FROM hook_events WHERE NOT processed AND available_at <= clock_timestamp() AND failed_at IS NULL"
        " AND lease_token IS NULL AND retry_count = 0 AND processing_errors IS NULL"
    ).fetchall()
    assert {event_id for (event_id,) in again} == set(rows["dead"])
    states = connection.execute("SELECT state FROM events WHERE id = ANY(%s)", (rows["dead"],)).fetchall()
    assert states == [("pending",)] * 3


def test_the_reset_leaves_other_sources_older_events_and_processed_ones(
    connection: Connection, rows: dict[str, list[UUID]]
) -> None:
    connection.execute(seed.RESET)
    others = [*rows["dead elsewhere"], *rows["dead for days"]]
    assert connection.execute(
        "SELECT state, count(*) FROM events WHERE id = ANY(%s) GROUP BY state", (others,)
    ).fetchall() == [("failed", 9)]
    assert connection.execute(
        "SELECT processed, available_at FROM hook_events WHERE id = %s", (rows["retried"][3],)
    ).fetchone() == (True, None)


def test_locks_on_the_table_are_listed(database: Database, connection: Connection) -> None:
    insert_event(connection)
    with database.session("holder") as holder, holder.transaction():
        holder.execute("SELECT FROM hook_events FOR UPDATE")
        cursor = connection.execute(seed.LOCKS)
        names = [column.name for column in cursor.description or []]
        locks = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        assert {(lock["pid"], lock["mode"], lock["granted"]) for lock in locks if lock["mode"] == "RowShareLock"} == {
            (holder.info.backend_pid, "RowShareLock", True)
        }


@pytest.fixture
def original_database(server: EmbeddedServer) -> Iterator[str]:
    """A connection string for a database of the name that the statement holds."""
    with psycopg.connect(server.administration, autocommit=True) as administrator:
        administrator.execute("CREATE DATABASE omninode_bridge TEMPLATE template0")
        yield make_conninfo(server.conninfo, dbname="omninode_bridge")
        administrator.execute("DROP DATABASE omninode_bridge WITH (FORCE)")


def test_transactions_that_are_not_idle_are_listed_oldest_first(original_database: str) -> None:
    with (
        psycopg.connect(original_database) as holder,
        psycopg.connect(original_database, autocommit=True) as idle,
        psycopg.connect(original_database, autocommit=True) as asking,
    ):
        holder.execute("SELECT 'long-running'")
        idle.execute("SELECT 'done'")
        answer = asking.execute(seed.TRANSACTIONS).fetchall()
        assert [(pid, state) for pid, state, _, _ in answer] == [
            (holder.info.backend_pid, "idle in transaction"),
            (asking.info.backend_pid, "active"),
        ]
        assert answer[0][3] == "SELECT 'long-running'"
        assert answer[0][2] < answer[1][2]
