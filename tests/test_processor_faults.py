"""The processor among things that go wrong: locks, lost connections, frozen and killed processes, bad rows."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, sql
from running import Running, add_hook, all_processed, count, insert, running, start, state
from waiting import wait_for

from hook_event_processor.event_handlers import EventHandlerRegistry, HandlerResult
from hook_event_processor.policy import Grants, Policy
from hook_event_processor.processor.executor import Chunk
from hook_event_processor.processor.lease_recording import LeasedEvent
from hook_event_processor.processor.leases import Leases
from hook_event_processor.registry import Hook, Route
from hook_event_processor.settings import Settings
from hook_event_processor.store.claim import Row
from hook_event_processor.store.database import Database
from hook_event_processor.store.handlers import count_runs
from hook_event_processor.telemetry.watchdog import Progress

NOTHING = "return {execute = function() end}"
SLEEPS = 'return {execute = function(e) require("time").sleep(e.data.seconds) return true, "slept" end}'


def executions(connection: Connection, event_id: object) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT hook_name, success, result, output, error FROM event_hook_executions WHERE event_id = %s ORDER BY id",
        (event_id,),
    ).fetchall()


def settled(connection: Connection) -> None:
    """Wait until the processor is up and has gone to sleep."""
    [first] = insert(connection, "warm.up")
    wait_for(lambda: state(connection, first) == "completed", 10)
    wait_for(
        lambda: (
            connection.execute(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchone()
            == (2,)
        ),
        5,
    )


def test_a_row_that_somebody_else_holds_does_not_keep_the_others_from_being_recorded(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """A psql session that locks one leased event delays the recording of that event only."""
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    with running(database, tmp_path), database.session("psql") as other:
        [held] = insert(connection, "sleep.a", '{"seconds": 2}')
        wait_for(lambda: state(connection, held) == "processing", 5)
        other.execute("SET idle_in_transaction_session_timeout = 0")
        other.execute("BEGIN")
        other.execute("SELECT FROM hook_events WHERE id = %s FOR UPDATE", (held,))
        time.sleep(2.5)
        quick = insert(connection, "sleep.b", '{"seconds": 0.01}', count=5)
        # Sooner than whoever waits for the lock gives up.
        wait_for(lambda: count(connection, "processed AND id = ANY(%s)", quick) == 5, 4)
        other.execute("COMMIT")
        wait_for(lambda: state(connection, held) == "completed", 10)
        assert [row[1] for row in executions(connection, held)] == [True]


def test_a_hook_that_somebody_is_changing_stops_no_schedule_and_its_runs_are_counted_later(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """A psql session that has left its transaction open keeps from its row only what is about that row."""
    for name in ("changed", "other"):
        add_hook(connection, name, f"{name}.*", NOTHING)
    connection.execute("INSERT INTO hook_schedules (name, every_seconds) VALUES ('pulse', 1)")
    with database.session("psql") as operator:
        operator.execute("SET idle_in_transaction_session_timeout = 0")
        with running(database, tmp_path) as process:
            settled(connection)
            operator.execute("BEGIN")
            operator.execute("UPDATE hooks SET enabled = FALSE WHERE name = 'changed'")
            for name in ("changed", "other"):
                insert(connection, f"{name}.once", count=3)
            wait_for(lambda: count(connection, "processed AND action = 'once'") == 6, 5)
            wait_for(lambda: _run_count(connection, "other") == 3, 8)
            fired = count(connection, "source = 'schedule' AND action = 'triggered'")
            wait_for(lambda: count(connection, "source = 'schedule' AND action = 'triggered'") >= fired + 3, 5)
            assert _run_count(connection, "changed") == 0
            operator.execute("COMMIT")
            wait_for(lambda: _run_count(connection, "changed") == 3, 8)
            assert not process.said("trying again"), process.log


def _run_count(connection: Connection, name: str) -> int:
    row = connection.execute("SELECT run_count FROM hooks WHERE name = %s", (name,)).fetchone()
    assert row is not None
    return int(row[0])


def test_runs_are_counted_but_for_those_of_hooks_that_somebody_has_locked(
    connection: Connection, database: Database
) -> None:
    hooks = {name: add_hook(connection, name, f"{name}.*", NOTHING) for name in ("held", "free", "gone")}
    with database.session("psql") as other, other.transaction():
        other.execute("UPDATE hooks SET description = 'new' WHERE name = 'held'")
        connection.execute("DELETE FROM hooks WHERE name = 'gone'")
        for _ in range(2):
            assert count_runs(connection, dict.fromkeys(hooks.values(), 7)) == {hooks["held"]: 7}
    assert count_runs(connection, {hooks["held"]: 7}) == {}
    assert [_run_count(connection, name) for name in ("held", "free")] == [7, 14]


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        ("LOCK TABLE hook_state IN EXCLUSIVE MODE", "expired state is not removed"),
        ("SELECT FROM hook_events_floor FOR UPDATE", "the floor is not raised"),
    ],
)
def test_what_somebody_has_locked_stops_nothing_that_is_not_about_it(
    connection: Connection, database: Database, tmp_path: Path, lock: LiteralString, said: str
) -> None:
    connection.execute("INSERT INTO hook_schedules (name, every_seconds) VALUES ('pulse', 1)")
    insert(connection, "task.done", count=20)  # which the floor can rise by
    with database.session("psql") as other:
        other.execute("SET idle_in_transaction_session_timeout = 0")
        with other.transaction():
            other.execute(lock)
            with running(database, tmp_path) as process:
                wait_for(lambda: count(connection, "source = 'schedule' AND action = 'triggered'") > 0, 25)
                wait_for(lambda: process.said(f"{said}, trying again: canceling statement due to lock"), 15)
                assert not process.said("could not be written")


def test_what_was_not_planned_for_a_lock_is_planned_when_it_is_gone(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    with database.session("psql") as other:
        other.execute("SET idle_in_transaction_session_timeout = 0")
        with running(database, tmp_path) as process:
            settled(connection)
            with other.transaction():
                other.execute("LOCK TABLE hook_schedule_times IN ACCESS EXCLUSIVE MODE")
                connection.execute("INSERT INTO hook_schedules (name, every_seconds) VALUES ('pulse', 1)")
                wait_for(lambda: process.said("schedules do not fire, trying again"), 15)
            wait_for(lambda: count(connection, "source = 'schedule' AND action = 'triggered'") > 0, 10)


def test_an_event_that_is_replayed_by_hand_wakes_an_idle_processor(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """A row that becomes pending again far behind the cursor is found within a full pass, with nothing else to do."""
    add_hook(connection, "counts", "count.*", NOTHING)
    with running(database, tmp_path):
        [event] = insert(connection, "count.one")
        wait_for(lambda: state(connection, event) == "completed", 5)
        for _ in range(4):
            insert(connection, "count.more", count=20)
            wait_for(lambda: all_processed(connection), 5)
            time.sleep(0.5)
        connection.execute("UPDATE hook_events SET processed = FALSE, processed_at = NULL WHERE id = %s", (event,))
        wait_for(lambda: state(connection, event) == "completed", 40)


def test_a_hook_row_that_makes_no_sense_harms_no_other_hook(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """A retry written past the command line with values that are none is named in the log, and not used."""
    add_hook(connection, "odd", "odd.*", "return {execute = function() error('no') end}", retry='{"attempts": "many"}')
    add_hook(connection, "odder", "odd.*", "return {execute = function() error('no') end}", retry='["delay", 3]')
    add_hook(connection, "oddest", "odd.*", "return {execute = function() error('no') end}", retry='{"delay": "soon"}')
    add_hook(connection, "even", "even.*", NOTHING)
    with running(database, tmp_path) as process:
        [odd] = insert(connection, "odd.one")
        [even] = insert(connection, "even.one")
        wait_for(lambda: state(connection, even) == "completed", 5)
        wait_for(lambda: state(connection, odd) == "retrying", 5)
        assert process.said("hook odd: ")
        add_hook(connection, "later", "later.*", "return {execute = function() end}", retry='{"max_delay": {}}')
        [later] = insert(connection, "later.one")
        wait_for(lambda: state(connection, later) == "completed", 5)


def test_an_event_wider_than_max_in_flight_runs_all_the_same(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Three hooks side by side take the one slot that there is, one after the other."""
    for name in "abc":
        add_hook(connection, name, "wide.*", SLEEPS)
    with running(database, tmp_path, max_in_flight=1):
        [wide] = insert(connection, "wide.one", '{"seconds": 0.05}')
        wait_for(lambda: state(connection, wide) == "completed", 5)
        assert len(executions(connection, wide)) == 3


def test_a_wide_event_is_not_starved_by_narrow_ones(connection: Connection, database: Database, tmp_path: Path) -> None:
    """What has waited longest for worker slots gets the next ones, however many it needs."""
    for name in "abcd":
        add_hook(connection, name, "wide.*", SLEEPS)
    add_hook(connection, "narrow", "narrow.*", SLEEPS)
    with running(database, tmp_path, workers=4):
        narrow = insert(connection, "narrow.one", '{"seconds": 2}')
        wait_for(lambda: state(connection, narrow[0]) == "processing", 5)
        [wide] = insert(connection, "wide.one", '{"seconds": 0.01}')
        stop = threading.Event()

        def feed() -> None:
            with database.session("feeder") as feeder:
                while not stop.wait(0.05):
                    insert(feeder, "narrow.more", '{"seconds": 0.3}')

        feeding = threading.Thread(target=feed)
        feeding.start()
        try:
            wait_for(lambda: state(connection, wide) == "completed", 8)
        finally:
            stop.set()
            feeding.join()
        connection.execute("DELETE FROM hook_events WHERE NOT processed")


def test_a_first_parked_event_runs_before_later_ones(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Under more than the slots can do, events run in the order in which they came, not the newest first."""
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    with running(database, tmp_path, workers=2, lanes=1):
        first = insert(connection, "sleep.first", '{"seconds": 0.2}', count=12)
        stop = time.monotonic() + 2
        while time.monotonic() < stop:
            insert(connection, "sleep.later", '{"seconds": 0.2}')
            time.sleep(0.1)
        wait_for(lambda: count(connection, "processed AND id = ANY(%s)", first) == 12, 4)
        connection.execute("DELETE FROM hook_events WHERE NOT processed")


def test_a_handler_that_exits_is_a_failed_run(connection: Connection, database: Database, tmp_path: Path) -> None:
    """sys.exit() in a handler, or a message that cannot be read, fails that run and ends no thread."""

    def leaves(event: dict[str, Any]) -> HandlerResult:
        sys.exit(3)

    class Unreadable:
        def __str__(self) -> str:
            raise ValueError("not to be read")

    def unreadable(event: dict[str, Any]) -> HandlerResult:
        return HandlerResult(True, Unreadable() if event["action"] == "b" else "fine")  # type: ignore[arg-type]

    def register(registry: EventHandlerRegistry) -> None:
        registry.register("leaves", "*", leaves)
        registry.register("pureleaves", "*", leaves, pure=True)
        registry.register("unreadable", "*", unreadable, pure=True)

    with running(database, tmp_path, register=register):
        [effectful], [pure] = insert(connection, "leaves.now"), insert(connection, "pureleaves.now")
        ids = insert(connection, "unreadable.a", count=3)
        [bad] = insert(connection, "unreadable.b")
        for event in (effectful, pure, bad):
            wait_for(lambda event=event: state(connection, event) == "retrying", 5)  # type: ignore[misc]
        assert "SystemExit: 3" in executions(connection, effectful)[0][4]
        assert "SystemExit: 3" in executions(connection, pure)[0][4]
        assert "ValueError: not to be read" in executions(connection, bad)[0][4]
        assert count(connection, "processed AND id = ANY(%s)", ids) == 3
        connection.execute("DELETE FROM hook_events WHERE NOT processed")


@pytest.mark.parametrize(
    "trigger",
    [
        "TRIGGER refuse BEFORE INSERT ON hook_events",
        "CONSTRAINT TRIGGER refuse AFTER INSERT ON hook_events DEFERRABLE INITIALLY DEFERRED",
    ],
)
def test_a_trigger_that_refuses_one_dispatch_fails_that_event_only(
    trigger: str, connection: Connection, database: Database, tmp_path: Path
) -> None:
    """An error that SQL itself raises over one event's data is that event's failure, and stops no other."""
    connection.execute(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.source = 'forbidden' THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
        CREATE {trigger} FOR EACH ROW EXECUTE FUNCTION refuse();""")
    dispatches = "return {execute = function(e) e.dispatch(e.data.type, {}) end}"
    add_hook(connection, "dispatches", "go.*", dispatches)
    add_hook(connection, "slowly", "slow.*", dispatches.replace("e.dispatch", 'require("time").sleep(0.01) e.dispatch'))
    with running(database, tmp_path):
        good = insert(connection, "go.on", '{"type": "fine.a"}', count=20)
        good += insert(connection, "slow.on", '{"type": "fine.a"}', count=20)
        bad = insert(connection, "go.on", '{"type": "forbidden.a"}')
        bad += insert(connection, "slow.on", '{"type": "forbidden.a"}')
        good += insert(connection, "go.on", '{"type": "fine.a"}', count=20)
        wait_for(lambda: count(connection, "processed AND id = ANY(%s)", good) == 60, 10)
        wait_for(lambda: count(connection, "retry_count > 0 AND id = ANY(%s)", bad) == 2, 5)
        assert "not this one" in executions(connection, bad[0])[0][4]
        assert "not this one" in executions(connection, bad[1])[0][4]
        connection.execute("DELETE FROM hook_events WHERE NOT processed")


@pytest.mark.parametrize("before", ["", 'require("time").sleep(0.01)'], ids=["pure", "leased"])
def test_an_id_that_is_in_somebody_elses_open_transaction_is_waited_for_by_its_dispatchers_alone(
    before: str, connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Whether an event of that id is there already shows at the end of that transaction."""
    dispatches = f"{before} e.dispatch('child.born', {{}}, {{id = e.data.id}})"
    add_hook(connection, "dispatches", "go.*", f"return {{execute = function(e) {dispatches} end}}")
    add_hook(connection, "beside", "go.*", f"return {{execute = function(e) {before} end}}")
    held, other_id = [uuid4() for _ in range(15)], uuid4()
    with running(database, tmp_path, lanes=1) as process, database.session("psql") as other:
        settled(connection)
        other.execute("SET idle_in_transaction_session_timeout = 0")
        with other.transaction():
            other.execute("INSERT INTO hook_events (id, source, action) SELECT unnest(%s), 'child', 'born'", (held,))
            waiting = [insert(connection, "go.on", f'{{"id": "{event_id}"}}')[0] for event_id in held]
            waiting += insert(connection, "go.on", f'{{"id": "{held[0]}"}}', count=15)
            others = insert(connection, "go.on", count=5) + insert(connection, "go.on", f'{{"id": "{other_id}"}}')
            # Sooner than whoever waits for the lock gives up.
            wait_for(lambda: count(connection, "processed AND id = ANY(%s)", others) == 6, 4)
            time.sleep(10)  # longer than a lease
            assert count(connection, "lease_token IS NOT NULL AND available_at > now()") == len(waiting)
            [quick] = insert(connection, "go.on")
            wait_for(lambda: state(connection, quick) == "completed", 4)
        wait_for(lambda: count(connection, "processed AND id = ANY(%s)", waiting) == len(waiting), 10)
        assert not process.said("trying again")
    ran = [("beside", True), ("dispatches", True)]
    assert [sorted(row[:2] for row in executions(connection, event)) for event in waiting] == [ran] * len(waiting)
    assert count(connection, "id = ANY(%s)", [*held, other_id]) == 16
    assert count(connection, "source = 'child'") == 22
    assert count(connection, "retry_count > 0") == 0


@pytest.mark.parametrize("before", ["", 'require("time").sleep(0.01)'], ids=["pure", "leased"])
def test_delays_of_one_run_may_be_whole_and_broken_numbers(
    before: str, connection: Connection, database: Database, tmp_path: Path
) -> None:
    dispatches = 'e.dispatch("child.a", {}, {delay = 60}) e.dispatch("child.b", {}, {delay = 61.5})'
    add_hook(connection, "dispatches", "go.*", f"return {{execute = function(e) {before} {dispatches} end}}")
    with running(database, tmp_path) as process:
        [event] = insert(connection, "go.on")
        wait_for(lambda: state(connection, event) == "completed", 10)
        assert [row[1] for row in executions(connection, event)] == [True]
        assert count(connection, "source = 'child' AND available_at > now() + interval '50 seconds'") == 2
        assert not process.said("could not be recorded")


def test_a_run_that_ends_while_nothing_can_be_written_is_recorded_as_it_ended(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """A database that takes reads alone for a while, as a standby does, or one whose disk is full at some providers."""
    name = sql.Identifier(connection.info.dbname)
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    with running(database, tmp_path) as process:
        [event] = insert(connection, "sleep.a", '{"seconds": 2}')
        wait_for(lambda: state(connection, event) == "processing", 5)
        connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        connection.execute(f"{ends} AND application_name = 'hook-event-processor leases'")
        time.sleep(2.5)  # it has ended; what was refused until now may be the lease's extension
        refused = len(process.said("read-only transaction"))
        wait_for(lambda: len(process.said("read-only transaction")) > refused, 10)
        connection.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
        wait_for(lambda: state(connection, event) == "completed", 10)
        assert executions(connection, event) == [("sleeps", True, "continue", "slept", None)]
        assert count(connection, "retry_count > 0") == 0


def test_a_processor_that_starts_while_nothing_can_be_written_waits(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    name = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    process = start(database, tmp_path)
    try:
        wait_for(lambda: bool(process.said("the database is away, trying again: cannot execute")), 5)
        connection.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
        wait_for(lambda: bool(process.said("ready")), 15)
        [event] = insert(connection, "fast.now")
        wait_for(lambda: state(connection, event) == "completed", 10)
    finally:
        process.kill()


def test_what_ends_while_the_last_is_recorded_is_recorded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = _leases(tmp_path)
    recorded: list[Any] = []

    def record(finished: list[Any]) -> None:
        recorded.extend(finished)
        leases._finished.clear()
        if not leases._over:
            leases._finished.append("what ended meanwhile")  # type: ignore[arg-type]
            leases.end()

    monkeypatch.setattr(leases, "_record", record)
    leases.run(Progress("leases", 9))
    assert recorded == ["what ended meanwhile"]


def _leases(home: Path) -> Leases:
    """Those of a processor without a database, which does not run."""
    from hook_event_processor import service

    nowhere = f"host={home} dbname=none"
    return service.HookEventProcessor(Settings(home=home, conninfo=nowhere), Database(nowhere))._machinery.leases


def test_locked_rows_do_not_make_the_processor_spin(connection: Connection, database: Database, tmp_path: Path) -> None:
    """Due and fresh rows that a forgotten session holds cost next to nothing while they are held."""
    with running(database, tmp_path) as process, database.session("psql") as other:
        settled(connection)
        other.execute("SET idle_in_transaction_session_timeout = 0")
        other.execute("BEGIN")
        insert(other, "held.fresh", count=3)
        connection.execute(
            "INSERT INTO hook_events (source, action, available_at)"
            " SELECT 'due', 'now', now() + interval '1 s' FROM generate_series(1, 3)"
        )
        with database.session("psql too") as third:
            third.execute("SET idle_in_transaction_session_timeout = 0")
            third.execute("BEGIN")
            third.execute("UPDATE hook_events SET priority = 5 WHERE source = 'due'")
            time.sleep(3)  # the looks become rarer
            before = _transactions(connection), _cpu_seconds(process)
            time.sleep(3)
            after = _transactions(connection), _cpu_seconds(process)
            third.execute("ROLLBACK")
        other.execute("ROLLBACK")
        assert after[0] - before[0] < 60, "transactions in three seconds"
        assert after[1] - before[1] < 0.3, "seconds of CPU in three"


def _transactions(connection: Connection) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _cpu_seconds(process: Running) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_stop_in_the_middle_of_a_claim_loses_no_recording(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Events that are leased while the processor is told to stop are run to the end, and recorded."""
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    # Holds every lane in its claim, so that the leases begin after the signal.
    add_hook(
        connection, "holds", "hold.*", "return {execute = function() local n = 0 for i = 1, 1e10 do n = n + i end end}"
    )
    events = insert(connection, "sleep.now", '{"seconds": 0.2}', count=5)
    insert(connection, "hold.now", count=1)
    process = start(database, tmp_path, lanes=1)
    try:
        wait_for(lambda: "ready" in process.log, 10)
        time.sleep(0.05)
        process.signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 5
        assert count(connection, "lease_token IS NOT NULL AND NOT processed") == 0
        leased = count(connection, "claimed_by IS NOT NULL AND id = ANY(%s)", events)
        assert count(connection, "processed AND id = ANY(%s)", events) == leased
    finally:
        process.kill()


def test_the_end_of_all_sessions_is_said_once_and_survived(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """pg_terminate_backend on everything: one line that it is away, one that it is back, and work goes on."""
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    with running(database, tmp_path, lanes=4) as process:
        settled(connection)
        # The first lease begins a session: one that ended just then would have reached the database, and be told of.
        insert(connection, "sleep.now", '{"seconds": 0}')
        wait_for(lambda: all_processed(connection), 5)
        slow = insert(connection, "sleep.now", '{"seconds": 1}', count=5)
        wait_for(lambda: count(connection, "lease_token IS NOT NULL") == 5, 5)
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'hook-event-processor%%'"
            " AND pid <> pg_backend_pid() AND application_name NOT LIKE '%%tests'"
        )
        for _ in range(12):
            insert(connection, "fast.now", count=10)
            time.sleep(0.5)
        wait_for(lambda: all_processed(connection), 10)
        assert count(connection, "id = ANY(%s)", slow) == 5
        assert len(process.said("the database is away")) == 1, process.log
        assert len(process.said("the database is back")) == 1, process.log
        assert not process.said("Traceback")
    rows = connection.execute("SELECT count(*) FROM event_hook_executions WHERE hook_name = 'sleeps'").fetchone()
    assert rows == (6,)


def test_a_database_that_refuses_one_session_is_not_away(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """The session of a lane is ended, and no new one is let in; the others work on."""
    name = sql.Identifier(connection.info.dbname)
    lane = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%lane _'"
    last = f"SELECT pg_terminate_backend(pid, 5000) {lane} ORDER BY state_change DESC LIMIT 1"
    with running(database, tmp_path) as process:
        settled(connection)
        [lanes] = connection.execute(f"SELECT count(*) {lane}").fetchone() or ()
        connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0").format(name))
        for _ in range(2):  # the lane that was last at work is the next to be woken, or the one before it
            connection.execute(last)
            [event] = insert(connection, "some.thing")
            wait_for(lambda event=event: state(connection, event) == "completed", 15)
            if process.said("too many connections"):
                break
        wait_for(lambda: process.said("too many connections"), 10)
        wait_for(lambda: process.said("the database is back"), 15)
        left = connection.execute(f"SELECT count(*) {lane}").fetchone()
        assert left in [(lanes - 1,), (lanes - 2,)]
        connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(name))
        wait_for(lambda: connection.execute(f"SELECT count(*) {lane}").fetchone() != left, 15, "it is let in")


def test_a_statement_that_waits_too_long_for_a_lock_is_tried_again(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """An exclusive lock on the table longer than lock_timeout (DDL, VACUUM FULL) is waited out, without a traceback."""
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    with running(database, tmp_path) as process, database.session("psql") as other:
        settled(connection)
        slow = insert(connection, "sleep.now", '{"seconds": 1}', count=3)
        wait_for(lambda: count(connection, "lease_token IS NOT NULL") == 3, 5)
        other.execute("SET idle_in_transaction_session_timeout = 0")
        other.execute("BEGIN")
        other.execute("LOCK TABLE hook_events IN ACCESS EXCLUSIVE MODE")
        time.sleep(7)
        other.execute("COMMIT")
        events = insert(connection, "fast.now", count=10) + slow
        wait_for(lambda: count(connection, "processed AND id = ANY(%s)", events) == 13, 15)
        assert not process.said("Traceback"), process.log
        assert len(process.said("the database is away")) <= 1, process.log


@pytest.mark.timeout(120)
def test_a_thawed_process_whose_lease_ran_out_goes_on(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Its own expired lease is renewed, not taken again: the run ends once, and no round fails over it."""
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    with running(database, tmp_path) as process:
        [event] = insert(connection, "sleep.now", '{"seconds": 15}')
        wait_for(lambda: state(connection, event) == "processing", 5)
        connection.execute("UPDATE hook_events SET available_at = now() WHERE id = %s", (event,))
        time.sleep(0.5)
        process.signal(signal.SIGSTOP)
        time.sleep(11)
        process.signal(signal.SIGCONT)
        wait_for(lambda: state(connection, event) == "completed", 15)
        assert len(executions(connection, event)) == 1
        assert not process.said("Traceback"), process.log


def _acts(name: str, seconds: float) -> str:
    """A hook that leaves a line in the file `effects` and waits."""
    return f"""return {{execute = function(e)
        require("file").append("effects", "{name}\\n") require("time").sleep({seconds}) end}}"""


def _acting(database: Database, folder: Path, **settings: Any) -> AbstractContextManager[Running]:
    """A processor whose hooks may write that file."""
    (folder / "files").mkdir(exist_ok=True)
    return running(database, folder, policy=Policy(Grants(file_roots=(folder / "files",))), **settings)


def _effects(folder: Path) -> list[str]:
    path = folder / "files" / "effects"
    return path.read_text().split() if path.exists() else []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("second", [1, 0], ids=["a later stage", "what waits for a thread"])
def test_no_run_begins_once_another_processor_has_taken_the_lease(
    second: int, connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Of a processor that was frozen past its lease only the run that was under way is seen twice."""
    add_hook(connection, "first", "go.*", _acts("first", 0.5))
    add_hook(connection, "second", "go.*", _acts("second", 0.5), priority=second)
    with _acting(database, tmp_path, workers=1) as frozen:
        [event] = insert(connection, "go.now")
        wait_for(lambda: _effects(tmp_path) == ["first"], 5)
        frozen.signal(signal.SIGSTOP)
        with _acting(database, tmp_path, workers=1):
            wait_for(lambda: state(connection, event) == "completed", 30)
            assert sorted(_effects(tmp_path)) == ["first", "first", "second"]
            frozen.signal(signal.SIGCONT)
            wait_for(lambda: frozen.said("was lost; second does not run"), 10)
            [next_one] = insert(connection, "go.now")
            wait_for(lambda: state(connection, next_one) == "completed", 10)
    assert sorted(_effects(tmp_path)) == ["first"] * 3 + ["second"] * 2
    assert sorted(row[:2] for row in executions(connection, event)) == [("first", True), ("second", True)]
    assert not frozen.said("Traceback"), frozen.log


@pytest.mark.timeout(120)
def test_the_next_stage_waits_until_the_lease_is_surely_held(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Nobody took the event of a processor that was frozen; its row is locked as it goes on, until it is not."""
    add_hook(connection, "first", "go.*", _acts("first", 0.5))
    add_hook(connection, "second", "go.*", _acts("second", 0), priority=1)
    with _acting(database, tmp_path) as process, database.session("psql") as other:
        [event] = insert(connection, "go.now")
        wait_for(lambda: _effects(tmp_path) == ["first"], 5)
        process.signal(signal.SIGSTOP)
        time.sleep(9.5)
        other.execute("SET idle_in_transaction_session_timeout = 0")
        with other.transaction():
            other.execute("SELECT FROM hook_events WHERE id = %s FOR UPDATE", (event,))
            process.signal(signal.SIGCONT)
            time.sleep(1.5)
            assert _effects(tmp_path) == ["first"]
        wait_for(lambda: state(connection, event) == "completed", 2)
        assert _effects(tmp_path) == ["first", "second"]
        assert [row[1] for row in executions(connection, event)] == [True, True]


def test_a_lease_that_is_taken_away_under_a_run_ends_the_event_with_it(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """The heartbeat finds that the lease is lost; the slot of the event is free again."""
    add_hook(connection, "first", "go.*", _acts("first", 4))
    add_hook(connection, "second", "go.*", _acts("second", 0), priority=1)
    add_hook(connection, "other", "other.*", _acts("other", 0))
    with _acting(database, tmp_path, max_in_flight=1) as process:
        [event] = insert(connection, "go.now")
        wait_for(lambda: _effects(tmp_path) == ["first"], 5)
        connection.execute("UPDATE hook_events SET lease_token = gen_random_uuid() WHERE id = %s", (event,))
        wait_for(lambda: process.said("was lost; second does not run"), 10)
        assert process.said("was lost; first is not recorded")
        connection.execute("DELETE FROM hook_events WHERE id = %s", (event,))
        [later] = insert(connection, "other.now")
        wait_for(lambda: state(connection, later) == "completed", 5)
        assert _effects(tmp_path) == ["first", "other"]


def test_no_run_begins_once_its_event_is_handed_back(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """At the end of a drain, with a database that takes its time, another processor has the event already."""

    def take_time(_: EventHandlerRegistry) -> None:
        from hook_event_processor.service import drain
        from hook_event_processor.store import ack

        released = ack.released

        def release(*arguments: Any) -> None:
            released(*arguments)
            time.sleep(2.0)

        drain.DRAIN_SECONDS, ack.released = 0.3, release

    add_hook(connection, "first", "go.*", _acts("first", 1.5))
    add_hook(connection, "second", "go.*", _acts("second", 0), priority=1)
    with _acting(database, tmp_path, register=take_time) as process:
        insert(connection, "go.now")
        wait_for(lambda: _effects(tmp_path) == ["first"], 5)
        process.signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not process.said("without a word")
    assert _effects(tmp_path) == ["first"]
    assert count(connection, "lease_token IS NULL AND NOT processed") == 1


def test_a_heartbeat_that_ends_after_the_drain_lets_nothing_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has extended may have been handed back since."""
    leases = _leases(tmp_path)
    row = Row(b"\1" * 16, b"go", b"now", b"", b"", b"", b"{}", b"{}", 1, 5, 1, b"", b"")
    chunk = Chunk(Hook(1, "second", None), [row], lambda _: None)
    event = LeasedEvent(row, Route((), ()), 1, uuid4(), 0.0, running=[chunk], waiting=[chunk])
    leases._in_flight[row.id] = event

    def extended(_: object) -> tuple[set[bytes], set[bytes]]:
        leases.end()
        return {row.id}, set()

    monkeypatch.setattr(leases, "_extended", extended)
    monkeypatch.setattr(leases._executor, "submit", lambda _: pytest.fail("it begins"))
    leases._beat()
    assert event.sure_until == 0.0


def test_no_run_begins_under_a_lease_that_was_given_too_long_ago(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """The answer to the claim's commit comes late, and another processor has taken the lease meanwhile."""

    def answer_late(_: EventHandlerRegistry) -> None:
        from hook_event_processor.processor.recording import Recorder
        from hook_event_processor.store.ack import LEASE_SECONDS

        commit = Recorder.commit

        def committed(self: Recorder, batch: Any, verdict: Any) -> Any:
            verdict = commit(self, batch, verdict)
            if batch.to_lease:
                time.sleep(LEASE_SECONDS)
            return verdict

        Recorder.commit = committed  # type: ignore[method-assign]

    add_hook(connection, "first", "go.*", _acts("first", 0))
    with _acting(database, tmp_path, register=answer_late) as process:
        [event] = insert(connection, "go.now")
        wait_for(lambda: state(connection, event) == "processing", 5)
        connection.execute(
            "UPDATE hook_events SET lease_token = gen_random_uuid(), available_at = now() + interval '1 hour'"
            " WHERE id = %s",
            (event,),
        )
        wait_for(lambda: process.said("was lost; first does not run"), 15)
        assert _effects(tmp_path) == []


def test_a_recording_whose_commit_was_lost_is_not_written_twice(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Not knowing whether a commit arrived, the processor looks before it records a run again."""
    add_hook(
        connection,
        "first",
        "two.*",
        'return {execute = function(e) require("time").sleep(0.05) e.dispatch("child.born", {}) end}',
    )
    add_hook(connection, "second", "two.*", 'return {execute = function(e) require("time").sleep(1) end}', priority=1)
    with running(database, tmp_path, register=_lose_one_commit):
        [event] = insert(connection, "two.now")
        wait_for(lambda: state(connection, event) == "completed", 15)
        assert [row[0] for row in executions(connection, event)] == ["first", "second"]
        assert count(connection, "source = 'child'") == 1


def _lose_one_commit(_: EventHandlerRegistry) -> None:
    """In this process, the first commit of a recording on the leases' connection arrives, but its answer does not."""
    from hook_event_processor.processor.lease_recording import LeaseRecorder

    write = LeaseRecorder._write
    lost = []

    def written(self: LeaseRecorder, connection: Connection, *arguments: Any, **options: Any) -> None:
        write(self, connection, *arguments, **options)
        if not lost:
            lost.append(True)
            connection.execute("COMMIT")
            connection.close()
            raise psycopg.OperationalError("the answer was lost")

    LeaseRecorder._write = written  # type: ignore[method-assign]


def test_a_recording_whose_commit_is_still_under_way_is_not_written_twice(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """The connection is lost while the server commits: what it will come to is not known until it lets the row go."""
    connection.execute("""
        CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.hook_name = 'first' THEN PERFORM pg_sleep(2); END IF; RETURN NEW; END $$;
        CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON event_hook_executions DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION dawdle();""")
    dispatches = 'return {execute = function(e) require("time").sleep(0.05) e.dispatch("child.born", {}) end}'
    add_hook(connection, "first", "two.*", dispatches)
    add_hook(connection, "second", "two.*", 'return {execute = function(e) require("time").sleep(3) end}', priority=1)
    with running(database, tmp_path, register=_cut_one_commit):
        [event] = insert(connection, "two.now")
        wait_for(lambda: state(connection, event) == "completed", 15)
        assert [row[0] for row in executions(connection, event)] == ["first", "second"]
        assert count(connection, "source = 'child'") == 1


def _cut_one_commit(_: EventHandlerRegistry) -> None:
    """In this process, the leases' connection is cut off in the middle of its first commit."""
    from hook_event_processor.processor.lease_recording import LeaseRecorder
    from hook_event_processor.store.database import cut

    write = LeaseRecorder._write
    cuts: list[threading.Timer] = []

    def written(self: LeaseRecorder, connection: Connection, *arguments: Any, **options: Any) -> None:
        write(self, connection, *arguments, **options)
        if not cuts:
            cuts.append(threading.Timer(0.5, cut, (connection,)))
            cuts[0].start()

    LeaseRecorder._write = written  # type: ignore[method-assign]


@pytest.mark.parametrize("lost", ["waiting for a lock", "at its commit"])
def test_a_recording_that_was_rolled_back_is_not_taken_for_an_earlier_one(
    lost: str, connection: Connection, database: Database, tmp_path: Path
) -> None:
    """After a retry by hand attempts count from 1 again, and the executions of those before are still there."""
    add_hook(
        connection,
        "acts",
        "go.*",
        """return {execute = function(e)
            require("time").sleep(0.1) assert(e.data.well, "not yet") e.dispatch("child.born", {}) end}""",
    )
    again = (
        """UPDATE hook_events SET retry_count = 0, processing_errors = NULL, payload = '{"well": true}' WHERE id = %s"""
    )
    register = _roll_one_commit_back if lost == "at its commit" else lambda _: None
    with running(database, tmp_path, max_retry_count=1, register=register), database.session("psql") as other:
        [event] = insert(connection, "go.now")
        wait_for(lambda: state(connection, event) == "failed", 10)
        # What tells of that comes to a lane, which would wait with all else that it has claimed.
        wait_for(lambda: count(connection, "source = 'event' AND action = 'failed' AND processed") == 1, 10)
        if lost == "waiting for a lock":
            with other.transaction():
                other.execute("LOCK TABLE event_hook_executions IN SHARE MODE")
                connection.execute(again, (event,))
                ends = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
                    AND application_name = 'hook-event-processor leases' AND query LIKE '%INSERT INTO event_hook_exec%'
                    AND wait_event_type = 'Lock'"""
                wait_for(lambda: connection.execute(ends).fetchone() == (True,), 4)
        else:
            connection.execute(again, (event,))
        wait_for(lambda: state(connection, event) == "completed", 15)
        assert [row[1] for row in executions(connection, event)] == [False, True]
        assert count(connection, "source = 'child'") == 1


def _roll_one_commit_back(_: EventHandlerRegistry) -> None:
    """In this process, the commit of the first success on the leases' connection never arrives, nor an answer to it."""
    from hook_event_processor.processor.lease_recording import LeaseRecorder

    write = LeaseRecorder._write
    lost = []

    def written(self: LeaseRecorder, connection: Connection, finished: Any, *arguments: Any, **options: Any) -> None:
        write(self, connection, finished, *arguments, **options)
        if not lost and not finished[0].event.failed:
            lost.append(True)
            connection.close()
            raise psycopg.OperationalError("the commit was lost")

    LeaseRecorder._write = written  # type: ignore[method-assign]


def test_lanes_look_for_themselves_while_the_lookout_hangs(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Whatever keeps it, the poll interval is a safety net that does not hang on it."""
    hangs = tmp_path / "hangs"

    def hang_later(_: EventHandlerRegistry) -> None:
        from hook_event_processor.processor.lookout import Lookout

        step = Lookout._step

        def hanging(self: Lookout, connection: Connection) -> None:
            while hangs.exists():
                time.sleep(0.05)
            step(self, connection)

        Lookout._step = hanging  # type: ignore[method-assign]

    with running(database, tmp_path, register=hang_later):
        insert(connection, "fast.now")
        wait_for(lambda: all_processed(connection), 10)
        hangs.touch()
        for _ in range(2):
            insert(connection, "fast.now", count=3)
            wait_for(lambda: all_processed(connection), 10)
        hangs.unlink()


def test_a_database_that_is_away_at_the_start_does_not_starve_the_watchdog(tmp_path: Path) -> None:
    """Parts that have not begun cannot stand still: the time before them is waiting for the database."""
    from hook_event_processor import service
    from hook_event_processor.settings import Settings

    nowhere = f"host={tmp_path} dbname=none"
    processor = service.HookEventProcessor(Settings(home=tmp_path, conninfo=nowhere), Database(nowhere))
    # The main thread is what waits, and marks its progress as it does.
    assert [part.name for part in processor._watchdog._parts] == ["main thread"]


def test_the_exit_waits_for_no_thread_of_a_handler(connection: Connection, database: Database, tmp_path: Path) -> None:
    """A drained processor leaves at once, even when a handler has left a thread of its own running."""
    import subprocess

    (tmp_path / "stubborn.py").write_text(
        "import threading, time\n"
        "from hook_event_processor.event_handlers import HandlerResult\n"
        "def stubborn(event):\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    return HandlerResult(True, 'left a thread')\n"
        "def register(registry):\n"
        "    registry.register('stubborn', '*', stubborn)\n"
    )
    info = tmp_path / "stubborn-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hook_event_processor.handlers]\nstubborn = stubborn:register\n")
    places = {"PYTHONPATH": str(tmp_path), "HEP_HOME": str(tmp_path), "DATABASE_URL": database.conninfo}
    environment = {**os.environ, **places}
    process = subprocess.Popen([sys.executable, "-m", "hook_event_processor", "run"], env=environment, cwd=tmp_path)
    try:
        [event] = insert(connection, "stubborn.one")
        wait_for(lambda: state(connection, event) == "completed", 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_every_thread_whose_server_says_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hook_event_processor import service
    from hook_event_processor.service.cutoff import Cutoff
    from hook_event_processor.settings import Settings

    nowhere = f"host={tmp_path} dbname=none"
    machinery = service.HookEventProcessor(Settings(home=tmp_path, conninfo=nowhere), Database(nowhere))._machinery
    waiting = {
        "lookout": machinery.lookout,
        "leases": machinery.leases,
        "quarantine": machinery.quarantine.leases,
        "housekeeping": machinery.housekeeping,
        **{f"lane {number}": lane for number, lane in enumerate(machinery.lanes, 1)},
    }
    cut: list[str] = []
    for name, part in waiting.items():
        monkeypatch.setattr(part, "cut", lambda name=name: cut.append(name))
    monkeypatch.setattr(machinery.watchdog, "still", lambda: dict.fromkeys(waiting, 21.0))
    Cutoff(machinery).tick()
    assert sorted(cut) == sorted(waiting)
