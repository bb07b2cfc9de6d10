"""Following events, short ids, and lists, beneath the commands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from factories import ago, insert_event, insert_execution
from psycopg import Connection
from waiting import wait_for

from hook_event_processor.store import retention
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
