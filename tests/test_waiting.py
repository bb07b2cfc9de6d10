"""Where unfinished rows are found: the floor under the fresh ones, and what keeps each row in an index of its state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from factories import insert_event
from psycopg import Connection, OperationalError
from running import count, running
from waiting import wait_for

from hook_event_processor.store import ack, arrays, waiting, watch
from hook_event_processor.store.claim import Claims
from hook_event_processor.store.database import Database
from hook_event_processor.store.frontier import Frontier
from hook_event_processor.store.pipeline import Pipeline

pytestmark = pytest.mark.store


def _seq(connection: Connection, event_id: UUID) -> int:
    row = connection.execute("SELECT seq FROM hook_events WHERE id = %s", (event_id,)).fetchone()
    assert row is not None
    return int(row[0])


def _found(connection: Connection, condition: str) -> bool:
    return bool(count(connection, condition))


def _set(connection: Connection, event_id: UUID, assignment: str) -> None:
    connection.execute(f"UPDATE hook_events SET {assignment} WHERE id = %s", (event_id,))


def test_acknowledging_writes_no_index_entry(database: Database) -> None:
    with database.session("tests") as connection:
        arrays.register(connection)
        connection.execute(
            "INSERT INTO hook_events (source, action) SELECT 'task', 'done' FROM generate_series(1, 500)"
        )
        with connection.transaction():
            claim = Claims(Pipeline(connection, may_prepare=lambda: True), Frontier(), 1_000).take(500, 0, 1.0)
            ack.processed(connection, [row.ctid for row in claim.rows])
        connection.execute("SELECT pg_stat_force_next_flush()")
        updated = connection.execute(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'hook_events'"
        ).fetchone()
    assert len(claim.rows) == 500
    assert updated == (500, 500)


def _raised(connection: Connection, known: int) -> int:
    """How far the floor rises with what lanes know."""
    ascent = waiting.Ascent()
    while ascent.step(connection, known):
        pass
    return ascent.reached


def test_the_floor_rises_to_the_first_row_that_waits(connection: Connection) -> None:
    events = [insert_event(connection) for _ in range(4)]
    for event_id in (events[0], events[1], events[3]):
        _set(connection, event_id, "processed = TRUE")
    last = _seq(connection, events[3])
    assert _raised(connection, last) == _seq(connection, events[1])
    _set(connection, events[2], "processed = TRUE")
    assert _raised(connection, last) == last == waiting.floor(connection)


def test_a_seq_above_all_that_were_given_does_not_raise_the_floor(connection: Connection) -> None:
    given = _seq(connection, insert_event(connection, "completed"))
    insert_event(connection, "completed", seq=2**62)
    assert _raised(connection, 2**62) == given


def _bring_in(connection: Connection, count: int) -> None:
    connection.execute(
        "INSERT INTO hook_events (source, action, processed, processed_at)"
        " SELECT 'a', 'b', TRUE, now() FROM generate_series(1, %s)",
        (count,),
    )


def test_the_floor_rises_in_steps(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_STEP_SEQS", 3)
    monkeypatch.setattr(waiting, "_QUICK_SECONDS", 0.0)
    _bring_in(connection, 7)
    waits = _seq(connection, insert_event(connection))
    ascent = waiting.Ascent()
    steps = [(ascent.step(connection, waits), waiting.floor(connection)) for _ in range(3)]
    assert steps == [(True, waits - 5), (True, waits - 2), (False, waits - 1)]


def test_of_processors_that_raise_the_floor_at_once_each_row_is_read_by_one(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_STEP_SEQS", 200)
    _bring_in(connection, 500)
    waits = _seq(connection, insert_event(connection))
    with ThreadPoolExecutor() as threads, database.session("one") as one, database.session("other") as other:
        for read, floor in ((200, 400), (1, waits - 1)):
            with one.transaction():
                waiting.Ascent().step(one, waits)
                raising = threads.submit(_read_by_a_step, other, waits)
                wait_for(lambda: _waits_for_a_lock(connection, other), 5)
            assert (raising.result(), waiting.floor(connection)) == (read, floor)


def _read_by_a_step(connection: Connection, known: int) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")  # of the steps before
    with connection.transaction():
        waiting.Ascent().step(connection, known)
        statement = "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'hook_events'"
        row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def _waits_for_a_lock(connection: Connection, other: Connection) -> bool:
    statement = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
    return connection.execute(statement, (other.info.backend_pid,)).fetchone() == (True,)


def test_numbers_that_no_row_has_are_passed_in_few_steps(connection: Connection) -> None:
    """Of a sequence that was set far ahead, for a row that came back with a number of its writer's choice."""
    connection.execute("SELECT setval('hook_events_seq_seq', 4000000000000000000)")
    waits = _seq(connection, insert_event(connection))
    ascent = waiting.Ascent()
    assert sum(1 for _ in iter(lambda: ascent.step(connection, waits), False)) < 100
    assert waiting.floor(connection) == waits - 1


def test_a_long_history_that_was_brought_in_lies_below_the_floor_though_no_lane_came_to_its_end(
    connection: Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_STEP_SEQS", 1000)
    ascent = waiting.Ascent()
    _bring_in(connection, 500)
    ascent.look(connection)
    assert not ascent.is_far
    with database.session("writer") as writer, writer.transaction(force_rollback=True):
        insert_event(writer)  # whose seq is smaller, and which may be committed yet
        _bring_in(connection, 2000)
        ascent.look(connection)
        assert ascent.is_far
        assert not ascent.step(connection, 0)
        assert waiting.floor(connection) == 0
    while ascent.step(connection, 0):
        pass
    assert not ascent.is_far
    assert waiting.floor(connection) == 2501


def test_the_floor_never_falls(connection: Connection) -> None:
    last = _seq(connection, insert_event(connection, "completed"))
    _raised(connection, last)
    _raised(connection, last - 1)
    assert waiting.floor(connection) == last


@pytest.mark.parametrize(
    ("state", "assignment"),
    [
        ("completed", "processed = FALSE"),
        ("completed", "processed = FALSE, processed_at = NULL, retry_count = 0"),
        ("scheduled", "available_at = NULL"),
        ("retrying", "available_at = NULL"),
        ("failed", "failed_at = NULL"),
    ],
)
@pytest.mark.parametrize("priority", [5, 3])
def test_what_is_made_pending_by_hand_is_due_at_once(
    connection: Connection, state: str, assignment: str, priority: int
) -> None:
    """Its seq may lie below the floor, and some of its hooks may have succeeded: of fresh rows nobody would ask."""
    event_id = insert_event(connection, state, priority=priority)
    _set(connection, event_id, assignment)
    assert _found(connection, f"{waiting.DUE} AND available_at <= clock_timestamp()")


def test_a_row_that_takes_the_default_priority_is_due_at_once(connection: Connection) -> None:
    event_id = insert_event(connection, priority=1)
    assert _found(connection, waiting.PRIORITIZED)
    _set(connection, event_id, "priority = 5")
    assert _found(connection, waiting.DUE)


@pytest.mark.parametrize(("state", "priority"), [("pending", 1), ("pending", 9), ("scheduled", 5), ("failed", 5)])
def test_what_is_done_by_hand_leaves_the_indexes(connection: Connection, state: str, priority: int) -> None:
    event_id = insert_event(connection, state, priority=priority)
    _set(connection, event_id, "processed = TRUE, processed_at = now()")
    assert _found(connection, "processed AND dequeued")


@pytest.mark.parametrize("column", ["priority", "available_at", "failed_at"])
def test_what_comes_in_as_done_is_in_no_index(connection: Connection, column: str) -> None:
    connection.execute(
        f"INSERT INTO hook_events (source, action, {column}, processed, processed_at)"
        f" VALUES ('a', 'b', {'1' if column == 'priority' else 'now()'}, TRUE, now())"
    )
    assert _found(connection, "processed AND dequeued")


def test_what_comes_in_as_done_and_is_passed_by_the_floor_is_written_once(connection: Connection) -> None:
    connection.execute("INSERT INTO hook_events (source, action, processed) VALUES ('a', 'b', TRUE)")
    connection.execute(
        "INSERT INTO hook_events (source, action, processed, dequeued, priority) VALUES ('a', 'b', TRUE, TRUE, 1)"
    )
    # Neither has a second version.
    assert connection.execute("SELECT ctid::text, dequeued FROM hook_events ORDER BY seq").fetchall() == [
        ("(0,1)", False),
        ("(0,2)", True),
    ]


def test_an_emptied_table_may_count_anew(connection: Connection) -> None:
    _raised(connection, _seq(connection, insert_event(connection, "completed")))
    connection.execute("TRUNCATE hook_events RESTART IDENTITY")
    assert waiting.floor(connection) == 0


def test_a_floor_that_was_raised_before_the_table_was_emptied_rises_again(connection: Connection) -> None:
    ascent = waiting.Ascent()
    for events in (3, 2):
        last = [_seq(connection, insert_event(connection, "completed")) for _ in range(events)][-1]
        ascent.step(connection, last)
        assert waiting.floor(connection) == last == events
        connection.execute("TRUNCATE hook_events RESTART IDENTITY")


def test_a_patrol_finds_a_row_whose_writer_chose_an_old_seq(connection: Connection) -> None:
    for _ in range(10):
        insert_event(connection, "completed")
    connection.execute("UPDATE hook_events_floor SET seq = (SELECT max(seq) FROM hook_events)")
    connection.execute("INSERT INTO hook_events (source, action, seq) VALUES ('a', 'b', 0), ('a', 'c', 2)")
    patrol = waiting.Patrol()
    assert [patrol.step(connection, 4) for _ in range(5)] == [2, 0, 0, 0, 0]
    assert count(connection, waiting.DUE) == 2
    assert not patrol.under_way


def test_a_processor_raises_the_floor_and_one_that_follows_begins_there(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    connection.execute("INSERT INTO hook_events (source, action) SELECT 'task', 'done' FROM generate_series(1, 3000)")
    with running(database, tmp_path):
        wait_for(lambda: count(connection, "NOT processed") == 0, 20)
        insert_event(connection)
        wait_for(lambda: waiting.floor(connection) >= 3000, 20)
    insert_event(connection)
    with running(database, tmp_path):
        wait_for(lambda: count(connection, "NOT processed") == 0, 20)


def test_a_look_at_lanes_ends_none_that_is_idle(database: Database, connection: Connection) -> None:
    with database.session("lane 1") as idle, database.session("lane 2") as busy:
        busy.execute("BEGIN")
        pids = {session.info.backend_pid for session in (idle, busy)}
        for frozen_seconds in (60.0, 6.0):
            seen = watch.look(connection, 0, None, frozen_seconds).lanes
            assert seen == watch.lanes(connection, frozen_seconds) == watch.Lanes(frozenset(pids), 0)
        assert idle.execute("SELECT 1").fetchone() == busy.execute("SELECT 1").fetchone() == (1,)
        wait_for(lambda: watch.lanes(connection, 0.0).ended == 1, 5)
        assert idle.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(OperationalError):
            busy.execute("SELECT 1")
