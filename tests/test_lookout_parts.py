"""What the lookout goes by: the two keys, and the moments at which rows are due."""

from __future__ import annotations

from time import monotonic

from psycopg import Connection

from hook_event_processor.processor.due import Due
from hook_event_processor.processor.keys import Keys
from hook_event_processor.store import watch
from hook_event_processor.store.database import Database
from hook_event_processor.store.watch import Look


def _waits(naps: int, connection: Connection, table: str, keys: Keys) -> list[float]:
    """Seconds until the next try, after each of so many."""
    waits = []
    for _ in range(naps):
        keys.take(connection, table, 100.0)
        waits.append(round(keys.retry_at - 100.0, 3))
    return waits


def test_one_session_is_the_lookout_until_it_lets_go(connection: Connection, database: Database) -> None:
    table, one, other = watch.qualified_table(connection), Keys(1.0), Keys(1.0)
    with database.session("tests") as second:
        one.take(connection, table, 100.0)
        assert (one.is_lookout, one.holding) == (True, True)
        other.take(second, table, 100.0)
        assert (other.is_lookout, other.holding, other.retry_at) == (False, False, 101.0)
        one.let_go(connection)
        assert (one.is_lookout, one.holding) == (False, False)
        other.take(second, table, 102.0)
        assert (other.is_lookout, other.holding) == (True, True)


def test_naps_double_while_an_insert_is_in_flight_and_nothing_is_found(
    connection: Connection, database: Database
) -> None:
    table, keys = watch.qualified_table(connection), Keys(1.0)
    with database.session("tests") as writer:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO hook_events (source, action) VALUES ('a', 'b')")
        assert _waits(9, connection, table, keys) == [0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.25, 0.25]
        assert (keys.is_lookout, keys.holding) == (True, False)
        keys.found()
        assert _waits(2, connection, table, keys) == [0.002, 0.004]
        writer.execute("COMMIT")
    keys.take(connection, table, 100.0)
    assert keys.holding


def test_a_row_that_needs_a_slot_is_due_when_one_is_free() -> None:
    free = [False]
    due = Due(lambda: free[0])
    assert not due.slots_freed()
    due.seen(Look(1, False, None, -1.0))
    assert not due.is_now(monotonic())
    assert due.next == float("inf")
    assert due.slots_freed()
    free[0] = True
    assert due.is_now(monotonic())
    assert due.next < monotonic()


def test_looks_at_what_nobody_takes_come_less_and_less_often() -> None:
    due = Due(lambda: True)
    waits = []
    overdue = monotonic() - 5.0
    for _ in range(7):
        due.seen(Look(1, False, overdue - monotonic(), None))
        assert due.is_now(monotonic())
        waits.append(due.give())
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert not due.is_now(monotonic())
    due.seen(Look(1, False, overdue - monotonic(), None))
    due.slots_freed()
    assert due.give() == 0.05


def test_of_two_rows_the_one_that_is_due_first_counts() -> None:
    due = Due(lambda: True)
    due.seen(Look(1, False, 60.0, 30.0))
    assert 29.0 < due.next - monotonic() < 31.0
    due.seen(Look(1, False, 30.0, 60.0))
    assert 29.0 < due.next - monotonic() < 31.0
    assert not due.is_now(monotonic())
    due.forget()
    assert due.next == float("inf")
