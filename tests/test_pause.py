"""Pauses: of everything, of a source, of a hook; nothing is lost, no attempt is counted, and the order is kept."""

from __future__ import annotations

import signal
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import seed
from commands import Hep
from factories import ago, insert_event
from psycopg import Connection
from running import add_hook, all_processed, count, insert, running, state
from waiting import wait_for

from hook_event_processor.processor.resumption import Resumption
from hook_event_processor.store import arrays, pauses, watch
from hook_event_processor.store.database import Database

pytestmark = pytest.mark.store

NOTHING = "return {execute = function() end}"
SLEEPS = 'return {execute = function(e) require("time").sleep(0.01) end}'
FAILS = 'return {execute = function() error("no") end}'


def _pause(connection: Connection, scope: str, name: str = "", **options: Any) -> None:
    pauses.pause(connection, scope, name, **{"reason": "", "paused_by": "tests", "lasts": None, **options})


def test_who_keeps_a_pause_waiting_is_named(hep: Hep, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that changes no row is enough."""
    monkeypatch.setattr("hook_event_processor.store.database.LOCK_TIMEOUT_SECONDS", 0.2)
    with connection.transaction():
        connection.execute("UPDATE hooks SET priority = priority WHERE FALSE")
        refused = hep.fault("pause", "--all")
    pid, user = connection.info.backend_pid, connection.info.user
    assert refused == (
        "hep: the database refused: canceling statement due to lock timeout:"
        f" process {pid} ({user}, hook-event-processor tests) has changed hooks, pauses or schedules"
        f" in a transaction that is open; SELECT pg_terminate_backend({pid}) ends it"
    )
    assert hep("pause", "--all").startswith("paused: everything")


def _runs(connection: Connection, event_id: UUID) -> list[str]:
    rows = connection.execute(
        "SELECT hook_name FROM event_hook_executions WHERE event_id = %s ORDER BY hook_name", (event_id,)
    )
    return [row[0] for row in rows]


def _retries(connection: Connection) -> int:
    return count(connection, "retry_count > 0 OR processing_errors IS NOT NULL")


def _wait_for_end(connection: Connection, events: int, source: str = "a") -> None:
    """Pause a source; so many events of it wait for its end."""
    _pause(connection, "source", source)
    connection.execute(
        "INSERT INTO hook_events (source, action, available_at) SELECT %s, 'b', 'infinity' FROM generate_series(1, %s)",
        (source, events),
    )
    connection.execute(
        "INSERT INTO hook_paused_events SELECT p.id, e.id, e.seq FROM hook_pauses p JOIN hook_events e"
        " ON e.source = p.name WHERE e.source = %s",
        (source,),
    )


def _first(connection: Connection) -> UUID:
    row = connection.execute("SELECT id FROM hook_events ORDER BY seq LIMIT 1").fetchone()
    assert row is not None
    return UUID(str(row[0]))


def test_nothing_is_claimed_while_everything_is_paused_and_all_of_it_once_it_is_resumed(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    """Runs under way end, events stay where they are, and a processor that starts heeds the pause."""
    add_hook(connection, "slow", "slow.*", 'return {execute = function() require("time").sleep(3) end}')
    with running(database, tmp_path):
        [under_way] = insert(connection, "slow.one")
        wait_for(lambda: state(connection, under_way) == "processing", 5)
        hep("pause", "--all", "--reason", "database move")
        wait_for(lambda: state(connection, under_way) == "completed", 10)
        waiting = insert(connection, "quick.one", count=20)
    with running(database, tmp_path):
        with pytest.raises(AssertionError):
            wait_for(lambda: count(connection, "processed AND id = ANY(%s)", waiting) > 0, 1.5)
        assert {state(connection, event) for event in waiting} == {"pending"}
        assert "database move" in hep("status")
        assert "paused: everything (database move)" in hep("health")
        assert "everything since" in hep("events", "explain", str(waiting[0]))
        hep("resume", "--all")
        wait_for(lambda: all_processed(connection), 3)
    assert _retries(connection) == 0


def test_events_of_a_paused_source_wait_and_are_processed_once_it_is_resumed(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    add_hook(connection, "any", "*", NOTHING)
    hep("pause", "--source", "deploy")
    with running(database, tmp_path, lanes=1):
        held = insert(connection, "deploy.one", count=30)
        [other] = insert(connection, "task.one")
        wait_for(lambda: state(connection, other) == "completed", 5)
        wait_for(lambda: {state(connection, event) for event in held} == {"paused"}, 5)
        assert "it waits for the end of a pause: the source deploy" in hep("events", "explain", str(held[0]))
        assert len(hep.document("events", "list", "--status", "paused", "--limit", "50", "--format", "json")) == 30
        assert hep.document("events", "list", "--status", "scheduled", "--format", "json") == []
        backlog = hep.document("status", "--format", "json")["backlog"]
        assert (backlog["paused"], backlog["scheduled"], backlog["oldest_seconds"]) == (30, 0, None)
        assert "30 events let go" in hep("resume", "--source", "deploy")
        wait_for(lambda: all_processed(connection), 3)
    assert _retries(connection) == 0


@pytest.mark.parametrize("text", [NOTHING, SLEEPS], ids=["pure", "effectful"])
def test_a_paused_hooks_part_waits_while_the_others_run(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep, text: str
) -> None:
    """At resume exactly the missing hook runs, whatever way it and the others run."""
    for name in ("first", "second"):
        add_hook(connection, name, "task.*", text)
    add_hook(connection, "alone", "alone.*", NOTHING)
    hep("pause", "--hook", "second")
    hep("pause", "--hook", "alone")
    with running(database, tmp_path):
        events = insert(connection, "task.one", count=5)
        [alone] = insert(connection, "alone.one")
        wait_for(lambda: {state(connection, event) for event in [*events, alone]} == {"paused"}, 5)
        assert [_runs(connection, event) for event in [*events, alone]] == [["first"]] * 5 + [[]]
        explained = hep.document("events", "explain", str(events[0]), "--format", "json")
        assert [(each["hook"], each["verdict"]) for each in explained["hooks"][:2]] == [
            ("first", "ran"), ("second", "will run")]  # fmt: skip
        hep("resume", "--hook", "second")
        wait_for(lambda: count(connection, "processed AND id = ANY(%s)", events) == 5, 3)
        assert [_runs(connection, event) for event in events] == [["first", "second"]] * 5
        assert state(connection, alone) == "paused"
        hep("resume", "--hook", "alone")
        wait_for(lambda: all_processed(connection), 3)
    assert _runs(connection, alone) == ["alone"]
    assert _retries(connection) == 0


def test_an_event_that_waits_for_two_hooks_gets_each_as_it_is_resumed(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    for name in ("a", "b"):
        add_hook(connection, name, "task.*", NOTHING)
        hep("pause", "--hook", name)
    with running(database, tmp_path):
        [event] = insert(connection, "task.one")
        wait_for(lambda: state(connection, event) == "paused", 5)
        hep("resume", "--hook", "b")
        wait_for(lambda: _runs(connection, event) == ["b"] and state(connection, event) == "paused", 5)
        hep("resume", "--hook", "a")
        wait_for(lambda: state(connection, event) == "completed", 5)
    assert _runs(connection, event) == ["a", "b"]


def test_a_failing_hook_is_retried_beside_a_paused_one(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    """An event whose attempts are used up is failed, and retried by hand it still has both to run."""
    add_hook(connection, "fails", "task.*", FAILS)
    add_hook(connection, "held", "task.*", NOTHING)
    hep("pause", "--hook", "held")
    with running(database, tmp_path, max_retry_count=2, retry_delay=0.05, retry_max_delay=0.05):
        [event] = insert(connection, "task.one")
        wait_for(lambda: state(connection, event) == "failed", 5)
        assert _runs(connection, event) == ["fails", "fails"]
        hep("resume", "--hook", "held")
        hep("events", "retry", str(event))
        wait_for(lambda: "held" in _runs(connection, event), 5)


def test_a_pause_ends_by_itself(connection: Connection, database: Database, tmp_path: Path, hep: Hep) -> None:
    add_hook(connection, "any", "*", NOTHING)
    with running(database, tmp_path) as process:
        reads = len(process.said("hooks are enabled"))
        hep("pause", "--source", "deploy", "--for", "2s")
        [paused] = pauses.known(connection)
        wait_for(lambda: len(process.said("hooks are enabled")) > reads, 5)
        [event] = insert(connection, "deploy.one")
        wait_for(lambda: state(connection, event) == "completed", 10)
        assert count(connection, "id = %s AND processed_at >= %s", event, paused.ends_at) == 1
        wait_for(lambda: not pauses.stored(connection), 5)
    assert hep("pause") == "Nothing is paused.\n"


def test_what_a_hook_that_is_removed_held_goes_on(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    add_hook(connection, "gone", "task.*", NOTHING)
    hep("pause", "--hook", "gone")
    with running(database, tmp_path):
        [event] = insert(connection, "task.one")
        wait_for(lambda: state(connection, event) == "paused", 5)
        hep("hook", "remove", "gone")
        wait_for(lambda: state(connection, event) == "completed", 10)


def test_a_resume_that_was_interrupted_is_carried_on_by_a_processor(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    """Between the end of a pause and the release of its events a kill -9 loses nothing."""
    add_hook(connection, "any", "*", NOTHING)
    hep("pause", "--source", "deploy")
    with running(database, tmp_path) as process:
        events = insert(connection, "deploy.one", count=5)
        wait_for(lambda: {state(connection, event) for event in events} == {"paused"}, 5)
        process.signal(signal.SIGSTOP)
        assert pauses.resume(connection, "source", "deploy")
        process.signal(signal.SIGCONT)
        wait_for(lambda: all_processed(connection), 12)


def test_what_a_pause_held_goes_on_when_its_row_is_deleted(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    add_hook(connection, "any", "*", NOTHING)
    for source in ("deploy", "task"):
        hep("pause", "--source", source)
    with running(database, tmp_path):
        events = insert(connection, "deploy.one", count=5)
        kept = insert(connection, "task.one")
        wait_for(lambda: {state(connection, event) for event in (*events, *kept)} == {"paused"}, 5)
        connection.execute("DELETE FROM hook_pauses WHERE name = 'deploy'")
        wait_for(lambda: {state(connection, event) for event in events} == {"completed"}, 12)
    assert [state(connection, event) for event in kept] == ["paused"]
    connection.execute("TRUNCATE hook_pauses")  # while no processor is there
    with running(database, tmp_path):
        wait_for(lambda: all_processed(connection), 12)
    assert connection.execute("SELECT count(*) FROM hook_paused_events").fetchone() == (0,)


def test_who_still_knows_a_pause_that_has_ended_holds_nothing(connection: Connection, database: Database) -> None:
    """A processor that has not read the resume yet makes the event due in a moment: none waits for ever."""
    event = insert_event(connection)
    _pause(connection, "source", "task")
    [stored] = pauses.stored(connection)
    assert pauses.resume(connection, "source", "task")
    assert pauses.let_go(connection) == 0
    with database.session("lane") as lane, lane.transaction():
        arrays.register(lane)
        pauses.hold(lane, [pauses.Held(event.bytes, 1, (stored.id,))])
    assert state(connection, event) == "scheduled"
    assert count(connection, "available_at < now() + interval '1 s'") == 1


@pytest.mark.parametrize("text", [NOTHING, SLEEPS], ids=["pure", "effectful"])
def test_a_pause_that_somebody_is_changing_holds_up_nothing_else(
    connection: Connection, database: Database, tmp_path: Path, text: str
) -> None:
    """Whether its end will be changed or come at once, nobody knows before the other transaction is over."""
    for name in ("first", "second"):
        add_hook(connection, name, "task.*", text)
    add_hook(connection, "other", "other.*", text)
    _pause(connection, "source", "deploy")
    _pause(connection, "hook", "second")
    with running(database, tmp_path, lanes=1), database.session("psql") as other:
        held = insert(connection, "deploy.one")
        wait_for(lambda: state(connection, held[0]) == "paused", 5)
        other.execute("SET idle_in_transaction_session_timeout = 0")
        with other.transaction():
            other.execute("UPDATE hook_pauses SET ends_at = now() + interval '1 hour'")
            held += insert(connection, "deploy.one") + insert(connection, "task.one")
            others = insert(connection, "other.one", count=5)
            # Sooner than whoever waits for the lock gives up.
            wait_for(lambda: count(connection, "processed AND id = ANY(%s)", others) == 5, 4)
            wait_for(lambda: _runs(connection, held[-1]) == ["first"], 4)
            assert [state(connection, event) for event in held[1:]].count("paused") == 0
        wait_for(lambda: {state(connection, event) for event in held} == {"paused"}, 5)
        assert _runs(connection, held[-1]) == ["first"]
    assert _retries(connection) == 0


def test_an_event_is_held_by_no_pause_whose_end_is_under_way(connection: Connection, database: Database) -> None:
    event = insert_event(connection)
    _pause(connection, "source", "task")
    [stored] = pauses.stored(connection)
    with database.session("hep") as hep, database.session("lane") as lane:
        arrays.register(lane)
        with hep.transaction():
            assert pauses.resume(hep, "source", "task")
            lane.execute("SET lock_timeout = '100ms'")
            pauses.hold(lane, [pauses.Held(event.bytes, 1, (stored.id,))])
        assert pauses.let_go(connection) == 0
    assert state(connection, event) == "scheduled"
    assert connection.execute("SELECT count(*) FROM hook_paused_events").fetchone() == (0,)


def test_an_event_that_somebody_has_locked_is_let_go_later_and_the_others_at_once(
    connection: Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "_STEP_EVENTS", 3)
    _wait_for_end(connection, 10)
    revision = "SELECT revision FROM hook_registry"
    with database.session("psql") as other, other.transaction():
        other.execute("SELECT FROM hook_events ORDER BY seq LIMIT 4 FOR UPDATE")
        assert pauses.resume(connection, "source", "a")
        before = connection.execute(revision).fetchone()
        assert list(iter(lambda: pauses.let_go(connection), 0)) == [2, 2, 2]
        assert pauses.are_left(connection)
        assert connection.execute(revision).fetchone() == before, "whatever reloads for nothing comes again at once"
    assert list(iter(lambda: pauses.let_go(connection), 0)) == [3, 1]
    assert count(connection, "available_at <= now()") == 10
    assert not pauses.are_left(connection)


def test_what_waits_for_events_that_are_no_more_is_removed(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "_STEP_EVENTS", 3)
    _wait_for_end(connection, 7)
    connection.execute("DELETE FROM hook_events WHERE id <> %s", (_first(connection),))
    assert pauses.resume(connection, "source", "a")
    assert list(iter(lambda: pauses.let_go(connection), 0)) == [3, 3, 1]
    assert pauses.stored(connection) == []


def test_a_locked_event_of_a_pause_that_ends_holds_up_nothing_else(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    add_hook(connection, "any", "*", NOTHING)
    hep("pause", "--source", "deploy")
    with running(database, tmp_path), database.session("psql") as other:
        events = insert(connection, "deploy.one", count=5)
        wait_for(lambda: {state(connection, event) for event in events} == {"paused"}, 5)
        other.execute("SET idle_in_transaction_session_timeout = 0")
        with other.transaction():
            other.execute("SELECT FROM hook_events WHERE id = %s FOR UPDATE", (events[0],))
            assert "4 events let go" in hep("resume", "--source", "deploy")
            wait_for(lambda: count(connection, "processed") == 4, 3)
            connection.execute("INSERT INTO hook_schedules (name, every_seconds) VALUES ('each', 1)")
            wait_for(lambda: count(connection, "source = 'schedule' AND action = 'triggered'") > 1, 5)
        wait_for(lambda: state(connection, events[0]) == "completed", 12)


def test_schedules_fire_while_no_pause_can_end(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    """Whoever has changed a hook, or a pause, and not committed yet, has all others wait who change one."""
    with running(database, tmp_path) as process, database.session("psql") as other:
        other.execute("SET idle_in_transaction_session_timeout = 0")
        hep("pause", "--source", "deploy", "--for", "3s")
        connection.execute("INSERT INTO hook_schedules (name, every_seconds) VALUES ('each', 1)")
        with other.transaction():
            other.execute("UPDATE hook_registry SET revision = revision + 1")
            wait_for(lambda: process.said("pauses do not end, trying again: canceling statement due to lock"), 12)
            before = count(connection, "source = 'schedule' AND action = 'triggered'")
            wait_for(lambda: count(connection, "source = 'schedule' AND action = 'triggered'") > before, 12)
        wait_for(lambda: not pauses.stored(connection), 12)


def test_a_pause_that_somebody_has_locked_ends_later_and_the_others_at_once(
    connection: Connection, database: Database
) -> None:
    for source in ("a", "b"):
        _wait_for_end(connection, 1, source)
    connection.execute("UPDATE hook_pauses SET ends_at = now()")
    with database.session("psql") as other, other.transaction():
        other.execute("SELECT FROM hook_pauses WHERE name = 'a' FOR UPDATE")
        pauses.end_by_themselves(connection)
        assert [pauses.let_go(connection), pauses.let_go(connection)] == [1, 0]
    assert [pause.name for pause in pauses.stored(connection)] == ["a"]
    pauses.end_by_themselves(connection)
    with database.session("psql") as other, other.transaction():
        other.execute("SELECT FROM hook_pauses WHERE name = 'a' FOR UPDATE")
        assert [pauses.let_go(connection), pauses.let_go(connection)] == [1, 0]
        assert pauses.are_left(connection)
    assert pauses.let_go(connection) == 0
    assert pauses.stored(connection) == []


def test_a_pause_ends_by_itself_while_lanes_hold_events_for_it(connection: Connection, database: Database) -> None:
    event = insert_event(connection)
    _pause(connection, "source", "task", lasts=timedelta(0))
    [stored] = pauses.stored(connection)
    with database.session("lane") as lane:
        arrays.register(lane)
        lane.execute("BEGIN")
        pauses.hold(lane, [pauses.Held(event.bytes, 1, (stored.id,))])
        recorded = threading.Timer(0.5, lane.execute, ("COMMIT",))
        recorded.start()
        pauses.end_by_themselves(connection)
        recorded.join()
    assert pauses.let_go(connection) == 1


def test_all_goes_on_that_a_deleted_pause_held_however_much_it_is(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "_STEP_EVENTS", 2)
    _wait_for_end(connection, 45)
    connection.execute("TRUNCATE hook_pauses")
    hurried: list[None] = []
    resumption = Resumption(lambda: hurried.append(None))
    resumption.step(connection)
    while hurried:
        hurried.clear()
        resumption.step(connection)
    assert count(connection, "available_at = 'infinity'") == 0


def test_what_a_deleted_pause_held_is_seen_to_again_after_a_fault_or_a_lock(
    connection: Connection, database: Database
) -> None:
    _wait_for_end(connection, 3)
    connection.execute("TRUNCATE hook_pauses")
    resumption = Resumption(lambda: None)
    with database.session("lost") as lost:
        lost.close()
        with pytest.raises(psycopg.OperationalError):
            resumption.step(lost)
    with database.session("psql") as other, other.transaction():
        other.execute("SELECT FROM hook_events WHERE id = %s FOR UPDATE", (_first(connection),))
        resumption.step(connection)
        assert count(connection, "available_at = 'infinity'") == 1
    resumption.step(connection)
    assert count(connection, "available_at = 'infinity'") == 0


def test_a_large_backlog_is_let_go_in_steps_in_its_order(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO hook_events (source, action, available_at)"
        " SELECT 'a', 'b', 'infinity' FROM generate_series(1, 12000)"
    )
    _pause(connection, "source", "a")
    connection.execute("INSERT INTO hook_paused_events SELECT p.id, e.id, e.seq FROM hook_pauses p, hook_events e")
    assert pauses.resume(connection, "source", "a")
    steps = list(iter(lambda: pauses.let_go(connection), 0))
    assert steps == [5000, 5000, 2000]
    assert connection.execute(
        "SELECT bool_and(in_order) FROM (SELECT available_at >= lag(available_at) OVER (ORDER BY seq) IS NOT FALSE"
        " AS in_order FROM hook_events) AS pairs"
    ).fetchone() == (True,)
    assert pauses.stored(connection) == []


def test_a_pause_is_known_until_the_last_of_its_events_has_been_let_go(
    connection: Connection, database: Database
) -> None:
    """Two let the same ones go, and the one that had them fails."""
    connection.execute("INSERT INTO hook_events (source, action, available_at) VALUES ('a', 'b', 'infinity')")
    _pause(connection, "source", "a")
    connection.execute("INSERT INTO hook_paused_events SELECT p.id, e.id, e.seq FROM hook_pauses p, hook_events e")
    assert pauses.resume(connection, "source", "a")
    with database.session("other") as other, other.transaction(force_rollback=True):
        assert pauses.let_go(other) == 1
        assert pauses.let_go(connection) == 0
    assert pauses.let_go(connection) == 1
    assert count(connection, "available_at <= now()") == 1
    assert pauses.let_go(connection) == 0
    assert pauses.stored(connection) == []


def test_an_event_that_its_writer_holds_for_ever_harms_no_look(connection: Connection, hep: Hep) -> None:
    """infinity is a time like any other in SQL, and none in Python, nor in what PostgreSQL 16 subtracts."""
    event = insert_event(connection, "paused")
    assert watch.look(connection, 0).due is None
    assert hep.document("events", "show", str(event), "--format", "json")["state"] == "paused"
    assert "its available_at was set to infinity" in hep("events", "explain", str(event))


def test_the_original_monitoring_counts_a_paused_event_as_unprocessed(connection: Connection) -> None:
    insert_event(connection, "paused", created_at=ago(minutes=5))
    insert_event(connection, "completed")
    assert connection.execute(seed.COUNT_UNPROCESSED).fetchall() == [(1,)]
    [(processed, pending, retried, _)] = connection.execute(seed.STATISTICS).fetchall()
    assert (processed, pending, retried) == (1, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("pause", "--hook", "nothing"), "no hook has the name 'nothing'"),
        (("pause", "--for", "1h"), "name one of these"),
        (("pause", "--for", "0s"), "name one of these"),
        (("pause", "--all", "--for", "0s"), "--for takes how long it is to last"),
        (("pause", "--source", ""), "--source takes a name of 1 to 255 characters"),
        (("resume",), "name what to resume"),
        (("resume", "--source", "deploy"), "the source deploy is not paused"),
        (("resume", "--all"), "there is no pause of everything: 'hep pause' lists what is paused"),
    ],
)
def test_what_cannot_be_is_refused(hep: Hep, arguments: tuple[str, ...], fault: str) -> None:
    assert fault in hep.fault(*arguments)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("deploy", ""),
        ("deploy.*", "note: --source takes no pattern: events wait whose source is deploy.* as it stands\n"),
        (
            "task.failed",
            "note: an event of the type task.failed has the source task: 'hep pause --source task' pauses it\n",
        ),
    ],
)
def test_a_source_that_looks_like_something_else_is_paused_with_a_note(hep: Hep, source: str, said: str) -> None:
    finished = hep.run("pause", "--source", source)
    assert (finished.status, finished.errors) == (0, said)
    assert finished.output.startswith(f"paused: the source {source} since ")


def test_what_is_still_paused_is_told(hep: Hep) -> None:
    for source in ("a", "b", "c"):
        hep("pause", "--source", source)
    assert hep("resume", "--source", "b") == "resumed: the source b; still paused: the source a, the source c\n"


def test_a_reason_fits_a_line(hep: Hep) -> None:
    said = hep.fault("pause", "--all", "--reason", "x" * 501)
    assert "--reason has 501 characters: it takes 500" in said
    hep("pause", "--all", "--reason", "x" * 500)


def test_pausing_again_changes_reason_and_end(hep: Hep) -> None:
    hep("pause", "--source", "deploy", "--reason", "first")
    before = hep.document("pause", "--format", "json")
    hep("pause", "--source", "deploy", "--reason", "second", "--for", "1h")
    [after] = hep.document("pause", "--format", "json")
    assert (after["reason"], after["paused_at"]) == ("second", before[0]["paused_at"])
    assert after["ends_at"] is not None
    hep("resume", "--source", "deploy")
    assert [(entry["action"], entry["kind"], entry["name"], entry["reason"] or "") for entry in hep.document(
        "audit", "--object", "source:deploy", "--format", "json")][::-1] == [
        ("paused", "source", "deploy", "first"), ("paused", "source", "deploy", "second"),
        ("resumed", "source", "deploy", "")]  # fmt: skip
    assert after["paused_by"]


def test_a_pause_that_is_over_at_once_is_told_as_well(hep: Hep) -> None:
    assert hep("pause", "--all", "--for", "0.001ms").startswith("paused: everything since ")
    assert hep("pause") == "Nothing is paused.\n"


def test_the_audit_tells_until_when_something_was_paused_and_since_when(hep: Hep) -> None:
    for_an_hour = hep.document("pause", "--all", "--for", "1h", "--format", "json")
    for_good = hep.document("pause", "--source", "deploy", "--format", "json")
    hep("resume", "--source", "deploy")
    resumed, paused, everything = hep.document("audit", "--format", "json")
    assert paused["details"] == {}
    assert _moment(everything["details"]["ends_at"]) == _moment(for_an_hour["ends_at"])
    assert _moment(resumed["details"]["paused_at"]) == _moment(for_good["paused_at"])
    assert "ends_at: 20" in hep("audit")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_pausing_again_keeps_what_it_does_not_say(hep: Hep, connection: Connection) -> None:
    """A pause that has ended is not what a new one goes on from."""
    again = ("pause", "--source", "deploy", "--format", "json")
    first = hep.document(*again, "--for", "1h", "--reason", "database move")
    assert hep.document(*again) == first
    reworded = hep.document(*again, "--reason", "disk full")
    assert (reworded["reason"], reworded["ends_at"]) == ("disk full", first["ends_at"])
    longer = hep.document(*again, "--for", "2h")
    assert longer["reason"] == "disk full"
    assert longer["ends_at"] > first["ends_at"]
    connection.execute("UPDATE hook_pauses SET ends_at = now() - interval '1 second'")
    new = hep.document(*again)
    assert (new["reason"], new["ends_at"]) == ("", None)
    hep("pause", "--source", "deploy", "--reason", "third", "--for", "1h")
    connection.execute("UPDATE hook_pauses SET resumed_at = now()")
    resumed = hep.document(*again)
    assert (resumed["reason"], resumed["ends_at"]) == ("", None)


def test_lists_of_hooks_say_which_are_paused(hep: Hep, connection: Connection) -> None:
    for name in ("held", "until", "both", "runs"):
        add_hook(connection, name, "task.*", NOTHING)
    hep("pause", "--hook", "held")
    hep("pause", "--hook", "until", "--for", "1h")
    hep("pause", "--hook", "both")
    hep("hook", "disable", "both")
    hep("pause", "--source", "runs")
    [ends_at] = [each["ends_at"] for each in hep.document("pause", "--format", "json") if each["name"] == "until"]
    listed = {hook["name"]: hook for hook in hep.document("hook", "list", "--format", "json")}
    for name, word, paused, paused_until in (
        ("held", "paused", True, None),
        ("until", "paused until 20", True, ends_at),
        ("both", "disabled, paused", True, None),
        ("runs", "enabled", False, None),
    ):
        [status] = [line for line in hep("hook", "show", name).splitlines() if line.startswith("Status:")]
        assert status.removeprefix("Status:").strip().startswith(word)
        for document in (listed[name], hep.document("hook", "get", name)):
            assert (document["paused"], document["paused_until"]) == (paused, paused_until)
        [row] = [line for line in hep("hook", "list").splitlines() if line.startswith(f"{name} ")]
        assert f" {word}" in row


@pytest.mark.parametrize("ends_at", ["infinity", "-infinity"])
def test_an_end_that_never_comes_keeps_no_hooks_from_being_read(connection: Connection, ends_at: str) -> None:
    connection.execute(
        "INSERT INTO hook_pauses (scope, name, paused_by, ends_at) VALUES ('source', 'task', '', %s)", (ends_at,)
    )
    [pause] = pauses.stored(connection)
    assert (pause.in_force, pause.ends_in) == (ends_at == "infinity", None)
