"""Following events, short ids, and lists, beneath the commands."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import UUID

import pytest
from factories import ago, insert_event, insert_execution
from psycopg import Connection
from waiting import wait_for

from hook_event_processor.store import retention
from hook_event_processor.store import tail as tail_module
from hook_event_processor.store.database import Database
from hook_event_processor.store.event_ids import short_ids
from hook_event_processor.store.events import Filter, kinds, newest
from hook_event_processor.store.tail import Tail


def test_each_new_event_is_read_once(connection: Connection) -> None:
    insert_event(connection)
    tail = Tail(connection, Filter())
    assert tail.read() == []
    written = [insert_event(connection), insert_event(connection, state="completed", created_at=ago(days=1))]
    assert [event.id for event in tail.read()] == written
    assert tail.read() == []
    insert_event(connection, source="other")
    assert [event.type for event in Tail(connection, Filter()).read()] == []
    assert [event.type for event in tail.read()] == ["other.failed"]


def test_an_event_that_is_committed_late_is_not_passed_over(database: Database, connection: Connection) -> None:
    tail = Tail(connection, Filter())
    with database.connect("slow") as slow, database.connect("slower") as slower:
        late = insert_event(slow)
        later = insert_event(slower)
        seen = insert_event(connection)
        assert [event.id for event in tail.read()] == [seen]
        for _ in range(3):
            assert tail.read() == []
        slow.commit()
        assert [event.id for event in tail.read()] == [late]
        for _ in range(3):
            assert tail.read() == []
        slower.commit()
        assert [event.id for event in tail.read()] == [later]
    assert tail.read() == []


def test_more_events_than_one_reading_takes_all_arrive(connection: Connection) -> None:
    tail = Tail(connection, Filter())
    connection.execute("INSERT INTO hook_events (source, action) SELECT 'a', n FROM generate_series(1, 2500) AS n")
    read = [event.action for _ in range(4) for event in tail.read()]
    assert read == [str(n) for n in range(1, 2501)]


def test_what_is_not_committed_at_the_start_arrives_once_it_is(database: Database, connection: Connection) -> None:
    insert_event(connection)
    with database.connect("slow") as slow:
        early = [insert_event(slow) for _ in range(3)]
        insert_event(connection, source="before")
        tail = Tail(connection, Filter())
        assert tail.read() == []
        early.append(insert_event(slow))
        seen = insert_event(connection)
        assert [event.id for event in tail.read()] == [seen]
        slow.commit()
        assert [event.id for event in tail.read()] == early
    assert tail.read() == []


def test_the_events_that_it_begins_with_are_not_given_again(database: Database, connection: Connection) -> None:
    insert_event(connection)
    with database.connect("slow") as slow:
        late = insert_event(slow)
        tail = Tail(connection, Filter())
        between = [insert_event(connection) for _ in range(2)]
        assert [event.id for event in tail.latest(Filter(), 2)] == between
        assert tail.read() == []
        slow.commit()
        assert [event.id for event in tail.read()] == [late]
        further = insert_event(connection)
        assert [event.id for event in tail.read()] == [further]


@pytest.mark.parametrize("seed", range(3))
def test_in_whatever_order_transactions_end_each_event_is_given_once(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(tail_module, "_MOST", 2)
    monkeypatch.setattr(tail_module, "_MOST_FOUND", 5)
    chance = random.Random(seed)
    with ExitStack() as stack:
        sessions = [stack.enter_context(database.connect(f"writer {n}")) for n in range(4)]
        written = [[insert_event(session)] for session in sessions]
        tail = Tail(connection, Filter())
        given: list[UUID] = []
        expected: list[UUID] = []
        for _ in range(150):
            n, step = chance.randrange(4), chance.choice(("insert", "insert", "commit", "rollback", "read", "read"))
            if step == "insert":
                written[n] += [insert_event(sessions[n]) for _ in range(chance.choice((1, 12)))]
            elif step == "read":
                given += [event.id for event in tail.read()]
            else:
                getattr(sessions[n], step)()
                expected += written[n] if step == "commit" else []
                written[n] = []
    expected += [event for rest in written for event in rest]  # to close a session commits
    for _ in range(2):  # the sweep that is under way, and one more
        while new := tail.read():
            given += [event.id for event in new]
    assert sorted(given) == sorted(expected)


def test_behind_so_many_others_a_late_event_is_passed_over(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "_MOST_SEEN", 10)
    tail = Tail(connection, Filter())
    with database.connect("slow") as slow:
        insert_event(slow)
        for _ in range(3):
            assert len([insert_event(connection) for _ in range(4)]) == len(tail.read())
        near = insert_event(slow)
        slow.commit()
        assert [event.id for event in tail.read()] == [near]
    assert tail.read() == []


def test_numbers_that_no_row_has_are_passed_by(connection: Connection) -> None:
    tail = Tail(connection, Filter())
    first = insert_event(connection)
    connection.execute("SELECT setval(pg_get_serial_sequence('hook_events', 'seq'), 1::bigint << 50)")
    second = insert_event(connection)
    assert [event.id for _ in range(2) for event in tail.read()] == [first, second]
    assert tail.read() == []


def test_a_burst_is_read_once_and_no_event_again_while_another_transaction_runs(
    database: Database, connection: Connection
) -> None:
    burst = "INSERT INTO hook_events (source, action) SELECT 'a', n FROM generate_series(1, 20000) AS n"
    fetched = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'hook_events'"

    def count() -> int:
        row = connection.execute(fetched).fetchone()
        assert row is not None
        return int(row[0])

    with database.connect("slow") as slow, connection.transaction():
        tail = Tail(connection, Filter())
        late = insert_event(slow)
        with database.session("burst") as other:
            other.execute(burst)
        before = count()
        given = 0
        while new := tail.read():
            given += len(new)
        assert given == 20_000
        assert count() - before < 3 * given
        before = count()
        for _ in range(5):
            assert tail.read() == []
        assert count() == before
        slow.commit()
        assert [event.id for event in tail.read()] == [late]


def test_short_ids_end_where_the_neighbours_differ(connection: Connection) -> None:
    texts = {
        "00000000-0000-4000-8000-000000000000": "00000000",
        "11111111-1111-4111-8111-111111111111": "11111111",
        "019b2c3d-5a70-7000-8000-000000000001": "019b2c3d-5a70-7000-8000-000000000001",
        "019b2c3d-5a70-7000-8000-000000000002": "019b2c3d-5a70-7000-8000-000000000002",
        "019b2c3d-5a71-7000-8000-000000000002": "019b2c3d-5a71",
        "019b2c3e-0000-7000-8000-000000000002": "019b2c3e",
    }
    for text in texts:
        insert_event(connection, id=UUID(text))
    assert short_ids(connection, [UUID(text) for text in texts]) == {UUID(t): short for t, short in texts.items()}
    assert short_ids(connection, []) == {}


def test_a_short_id_never_ends_with_a_dash(connection: Connection) -> None:
    for text in ("019b2c3d-5a70-7000-8000-000000000001", "019b2c3d-6a70-7000-8000-000000000001"):
        insert_event(connection, id=UUID(text))
    assert set(short_ids(connection, [UUID("019b2c3d-5a70-7000-8000-000000000001")]).values()) == {"019b2c3d-5"}


def test_kinds_are_found_without_reading_every_event(connection: Connection) -> None:
    assert kinds(connection) == []
    connection.execute(
        "INSERT INTO hook_events (source, action) SELECT 's' || n % 3, 'a' || n % 2 FROM generate_series(1, 600) AS n"
    )
    assert kinds(connection) == [(f"s{n}", f"a{m}") for n in range(3) for m in range(2)]


def test_a_list_finds_old_events_behind_thousands(connection: Connection) -> None:
    old = insert_event(connection, source="rare", action="")
    connection.execute("INSERT INTO hook_events (source, action) SELECT 'a', '' FROM generate_series(1, 25000)")
    assert [event.id for event in newest(connection, Filter(kinds=[("rare", "")]), 5)] == [old]
    assert [event.id for event in newest(connection, Filter(source="rare"), 5)] == [old]
    assert len(newest(connection, Filter(), 5)) == 5


def test_a_join_with_the_view_looks_each_event_up_by_its_id(connection: Connection) -> None:
    connection.execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")
    plan = connection.execute(
        "EXPLAIN SELECT v.type FROM event_hook_executions x LEFT JOIN events v ON v.id = x.event_id WHERE x.hook_id = 1"
    ).fetchall()
    assert "Index Cond: (id = x.event_id)" in " ".join(row[0].replace("e.id", "id") for row in plan)


def test_what_is_recorded_while_a_deletion_waits_goes_with_its_event(
    database: Database, connection: Connection
) -> None:
    event = insert_event(connection)
    waits = "SELECT FROM pg_stat_activity WHERE application_name LIKE '%deletion' AND wait_event_type = 'Lock'"
    with database.connect("claim") as claim, database.session("deletion") as session, ThreadPoolExecutor(1) as other:
        claim.execute("SELECT FROM hook_events WHERE id = %s FOR UPDATE", (event,))
        deletion = other.submit(retention.delete, session, event)
        wait_for(lambda: connection.execute(waits).fetchone() is not None, 5)
        insert_execution(claim, event)
        claim.execute("UPDATE hook_events SET processed = TRUE, processed_at = now() WHERE id = %s", (event,))
        claim.commit()
        assert deletion.result(5) == (1, 1)
    assert connection.execute("SELECT count(*) FROM event_hook_executions").fetchone() == (0,)
