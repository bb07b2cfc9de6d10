"""What a processor does with events, end to end: real PostgreSQL, real Lua, processes of their own."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import seed
from factories import ago
from psycopg import Connection
from running import Running, add_hook, all_processed, count, insert, running, start, state
from waiting import wait_for

from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.service.machinery import Machinery
from hook_event_processor.settings import Settings
from hook_event_processor.store.database import Database
from hook_event_processor.telemetry.watchdog import Progress

SECOND = 'return {execute = function() require("time").sleep(1) return true, "slept" end}'
SLEEPS = 'return {execute = function(e) require("time").sleep(e.data.seconds) return true, "slept" end}'
READS = "return {execute = function(e) return true, tostring(e.data.n) end}"
FAILS = 'return {execute = function() error("not today") end}'


def executions(connection: Connection, event_id: UUID) -> list[tuple[Any, ...]]:
    """(hook, success, output, error) of an event's runs, in the order of their recording."""
    return connection.execute(
        "SELECT hook_name, success, output, error FROM event_hook_executions WHERE event_id = %s ORDER BY id",
        (event_id,),
    ).fetchall()


def one(connection: Connection, query: str, *parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.alone
def test_hooks_of_one_priority_run_side_by_side(connection: Connection, database: Database, tmp_path: Path) -> None:
    """Three one-second hooks of one event end within a second and a half."""
    for name in "abc":
        add_hook(connection, name, "slow.*", SECOND)
    with running(database, tmp_path):
        began = time.monotonic()
        [event] = insert(connection, "slow.one")
        wait_for(lambda: state(connection, event) == "completed", 5)
        assert time.monotonic() - began < 1.5
        assert [row[1] for row in executions(connection, event)] == [True] * 3


@pytest.mark.alone
def test_a_hundred_slow_events_run_side_by_side(connection: Connection, database: Database, tmp_path: Path) -> None:
    """A hundred events with a one-second hook end in little over a second."""
    add_hook(connection, "slow", "slow.*", SECOND)
    with running(database, tmp_path):
        began = time.monotonic()
        insert(connection, "slow.one", count=100)
        wait_for(lambda: all_processed(connection), 10)
        assert time.monotonic() - began < 2
        assert one(connection, "SELECT count(*) FROM event_hook_executions WHERE success") == 100


@contextmanager
def _oldest_transaction(database: Database) -> Iterator[list[float]]:
    """Samples the age of the processors' oldest transaction, in seconds."""
    samples: list[float] = []
    stop = threading.Event()

    def sample() -> None:
        with database.session("sampler") as connection:
            while not stop.wait(0.02):
                age = one(
                    connection,
                    "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8"
                    " FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name LIKE 'hook-event-processor l%%' AND state <> 'idle'",
                )
                samples.append(age)

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        yield samples
    finally:
        stop.set()
        sampling.join()


@pytest.mark.alone
def test_fast_events_do_not_wait_for_slow_ones(connection: Connection, database: Database, tmp_path: Path) -> None:
    """One hook sleeps, one burns, one is lost in a pattern: what is fast ends first, and no transaction is held."""
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    add_hook(connection, "burns", "burn.*", "return {execute = function() while true do end end}", timeout_seconds=4)
    pattern = '("a"):rep(28):find(("a-"):rep(14) .. "b")'
    add_hook(connection, "seeks", "seek.*", f"return {{execute = function() while true do {pattern} end end}}")
    connection.execute("UPDATE hooks SET timeout_seconds = 4 WHERE name = 'seeks'")
    add_hook(connection, "reads", "fast.*", READS)
    with running(database, tmp_path, max_retry_count=1), _oldest_transaction(database) as ages:
        [sleeper] = insert(connection, "sleep.long", '{"seconds": 5}')
        [burner], [seeker] = insert(connection, "burn.all"), insert(connection, "seek.all")
        fast: list[UUID] = []
        for _ in range(20):
            fast += insert(connection, "fast.one", '{"n": 1}', count=100)
            time.sleep(0.1)
        wait_for(lambda: count(connection, "processed AND id = ANY(%s)", fast) == len(fast), 2)
        assert state(connection, sleeper) == state(connection, burner) == "processing"
        assert state(connection, seeker) != "completed"
        wait_for(lambda: state(connection, sleeper) == "completed", 10)
        wait_for(lambda: state(connection, burner) == state(connection, seeker) == "failed", 10)
    assert max(ages) < 1.0


def test_nothing_of_a_run_survives_to_the_next(connection: Connection, database: Database, tmp_path: Path) -> None:
    """A hook that adds to a global, an upvalue and a field of its table sees 1 every time, at full chunk size."""
    add_hook(
        connection,
        "adds",
        "add.*",
        """
        local up = 0
        local hook = {}
        function hook.execute()
            up, total, hook.n = up + 1, (total or 0) + 1, (hook.n or 0) + 1
            return true, up .. total .. hook.n
        end
        return hook
        """.replace("hook.n", "description"),
    )
    with running(database, tmp_path, lanes=1):
        for _ in range(3):
            insert(connection, "add.one", count=1500)
            wait_for(lambda: all_processed(connection), 20)
    assert connection.execute(
        "SELECT output, count(*) FROM event_hook_executions WHERE hook_name = 'adds' GROUP BY 1"
    ).fetchall() == [("111", 4500)]


def test_bad_rows_in_a_batch_fail_alone(connection: Connection, database: Database, tmp_path: Path) -> None:
    """A NUL in an output or a dispatch, a depth or a number that nothing reads: all others are acknowledged."""
    add_hook(
        connection,
        "picky",
        "pick.*",
        """
        return {execute = function(event)
            if event.data.nul == "output" then print("a\\0b") end
            if event.data.nul == "dispatch" then event.dispatch("child.born", {text = "a\\0b"}) end
            return true, tostring(event.data.n)
        end}
        """,
    )
    good = insert(connection, "pick.me", '{"n": 1}', count=200)
    good += insert(connection, "pick.me", '{"n": 2}', created_at=datetime.now(UTC) + timedelta(days=1))
    bad = insert(connection, "pick.me", '{"nul": "output"}') + insert(connection, "pick.me", '{"nul": "dispatch"}')
    bad += insert(connection, "pick.me", '{"n": ' + "[" * 2000 + "]" * 2000 + "}")
    bad += insert(connection, "pick.me", '{"n": 1e400}')
    good += insert(connection, "pick.me", '{"n": 3}', count=200)
    with running(database, tmp_path, max_retry_count=1):
        wait_for(lambda: count(connection, "failed_at IS NOT NULL") == len(bad), 10)
        wait_for(lambda: count(connection, "NOT processed AND failed_at IS NULL") == 0, 10)
    assert count(connection, "processed AND id = ANY(%s)", good) == len(good)
    assert count(connection, "failed_at IS NOT NULL AND id = ANY(%s)", bad) == len(bad)
    assert count(connection, "source = 'child'") == 0
    for event, words in zip(bad, ("NUL", "NUL", "payload", "payload"), strict=True):
        [(_, success, _, error)] = executions(connection, event)
        assert not success
        assert words in error


def test_what_postgresql_refuses_of_one_output_fails_that_event_only(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """The record of a batch is refused on data: each event is settled by itself, and no hook runs again for it."""
    connection.execute(
        "ALTER TABLE event_hook_executions ADD CONSTRAINT shorter CHECK (output IS NULL OR length(output) < 5)"
    )
    add_hook(connection, "reads", "read.*", READS)
    good = insert(connection, "read.me", '{"n": 1}', count=300)
    bad = insert(connection, "read.me", '{"n": "too long"}') + insert(connection, "read.me", '{"n": "as long"}')
    good += insert(connection, "read.me", '{"n": 1}', count=300)
    with running(database, tmp_path, max_retry_count=1) as process:
        wait_for(lambda: count(connection, "failed_at IS NOT NULL AND id = ANY(%s)", bad) == 2, 10)
        wait_for(lambda: count(connection, "processed AND id = ANY(%s)", good) == 600, 10)
        assert not process.said("Traceback")
    assert one(connection, "SELECT count(*) FROM event_hook_executions WHERE event_id = ANY(%s)", good) == 600
    assert [row[1] for row in executions(connection, bad[0])] == [False]
    assert "shorter" in executions(connection, bad[0])[0][3]


@pytest.mark.alone
def test_hooks_change_within_a_second_everywhere(connection: Connection, database: Database, tmp_path: Path) -> None:
    """Added, changed, disabled and enabled: live on two processors, one of which only polls."""
    version = "return {{execute = function() for i = 1, 1e5 do local _ = i end return true, '{}' end}}"

    def outputs(pids: set[int]) -> set[str | None]:
        """What events of now come to, on both processors."""
        seen: set[tuple[int, str | None]] = set()
        while {pid for pid, _ in seen} != pids:
            events = insert(connection, "live.now", count=100)
            wait_for(lambda: all_processed(connection), 10)
            seen |= set(
                connection.execute(
                    "SELECT split_part(node, ':', 2)::int, CASE hook_name WHEN 'live' THEN output END"
                    " FROM event_hook_executions WHERE event_id = ANY(%s)",
                    (events,),
                )
            )
        return {output for _, output in seen}

    small = {"batch_size": 1, "lanes": 1}  # both take part
    polls = running(database, tmp_path, listen=False, poll_interval=0.1, **small)
    with running(database, tmp_path, **small) as listener, polls as other:
        pids = {listener.pid, other.pid}
        hook = add_hook(connection, "live", "live.*", version.format("first"))
        time.sleep(1)
        assert outputs(pids) == {"first"}
        with connection.transaction():
            connection.execute(
                "INSERT INTO hook_versions (hook_id, version, source_text, sha256) VALUES (%s, 2, %s, '')",
                (hook, version.format("second")),
            )
            connection.execute("UPDATE hooks SET version = 2 WHERE id = %s", (hook,))
        time.sleep(1)
        assert outputs(pids) == {"second"}
        connection.execute("UPDATE hooks SET enabled = FALSE WHERE id = %s", (hook,))
        time.sleep(1)
        assert outputs(pids) == {None}
        connection.execute("UPDATE hooks SET enabled = TRUE WHERE id = %s", (hook,))
        time.sleep(1)
        assert outputs(pids) == {"second"}


@pytest.mark.alone
def test_the_rows_of_a_frozen_process_are_free_within_ten_seconds(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """SIGSTOP in the middle of a claim and with leases in hand: another processor takes both."""
    add_hook(
        connection, "burns", "burn.*", "return {execute = function() local n = 0 for i = 1, 1e6 do n = n + i end end}"
    )
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    with running(database, tmp_path, lanes=1) as frozen:
        leased = insert(connection, "sleep.now", '{"seconds": 2}', count=3)
        wait_for(lambda: count(connection, "lease_token IS NOT NULL") == 3, 5)
        insert(connection, "burn.now", count=60)
        wait_for(lambda: _holds_rows(connection), 5)
        frozen.signal(signal.SIGSTOP)
        held = count(connection, "NOT processed")
        assert held > 3
        began = time.monotonic()
        with running(database, tmp_path) as other:
            wait_for(lambda: count(connection, "NOT processed AND NOT id = ANY(%s)", leased) == 0, 11)
            taken = "claimed_by LIKE %s AND id = ANY(%s)"
            left = 11 - (time.monotonic() - began)
            wait_for(lambda: count(connection, taken, f"%:{other.pid}", leased) == 3, left)
            wait_for(lambda: all_processed(connection), 5)
            frozen.signal(signal.SIGCONT)
            time.sleep(1)
    runs = "SELECT count(*) FROM event_hook_executions WHERE success GROUP BY event_id, hook_id HAVING count(*) > 1"
    assert connection.execute(runs).fetchall() == []


def _holds_rows(connection: Connection) -> bool:
    return bool(
        one(
            connection,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'hook-event-processor lane%%' AND state = 'idle in transaction'",
        )
    )


@pytest.mark.timeout(180)
def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """kill -9 at a hundred random moments: one child event per recorded parent, never two."""
    pure = 'return {execute = function(e) e.dispatch("child.born", {n = e.data.n}) end}'
    add_hook(connection, "pure", "pure.*", pure)
    effectful = 'return {execute = function(e) require("time").sleep(0.02) e.dispatch("child.born", {}) end}'
    add_hook(connection, "effectful", "effect.*", effectful)
    chance = random.Random(7)
    processes = [start(database, tmp_path, workers=10) for _ in range(2)]
    try:
        for _ in range(100):
            insert(connection, "pure.parent", '{"n": 1}', count=40)
            insert(connection, "effect.parent", count=3)
            time.sleep(chance.uniform(0.05, 0.5))
            processes.pop(0).kill()
            processes.append(start(database, tmp_path, workers=10))
        wait_for(lambda: all_processed(connection), 40)
    finally:
        for process in processes:
            process.kill()
    twice = "SELECT event_id FROM event_hook_executions WHERE success GROUP BY event_id, hook_id HAVING count(*) > 1"
    assert connection.execute(twice).fetchall() == []
    parents = "SELECT id::text FROM hook_events WHERE action = 'parent' ORDER BY 1"
    children = "SELECT metadata->>'causation_id' FROM hook_events WHERE source = 'child' ORDER BY 1"
    assert connection.execute(parents).fetchall() == connection.execute(children).fetchall()
    assert count(connection, "action = 'parent'") == 4300


@pytest.mark.alone
def test_urgent_events_come_first_and_unhurried_ones_last(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """1 to 4 are claimed first, 6 to 10 when nothing else is left."""
    add_hook(connection, "reads", "read.*", READS)
    for priority in (9, 5, 2, 5, 1):
        insert(connection, "read.me", f'{{"n": {priority}}}', count=20, priority=priority)
    with running(database, tmp_path, lanes=1, batch_size=20):
        wait_for(lambda: all_processed(connection), 10)
    ended: dict[int, list[datetime]] = {}
    for priority, at in connection.execute("SELECT priority, processed_at FROM hook_events ORDER BY processed_at"):
        ended.setdefault(priority, []).append(at)
    assert len(ended[1]) == 20
    assert ended[1][-1] < ended[2][0]  # batches of twenty
    assert ended[2][-1] < ended[5][-1]
    assert max(ended[2] + ended[5]) < ended[9][0]


@pytest.mark.alone
def test_a_scheduled_event_runs_when_it_is_due(connection: Connection, database: Database, tmp_path: Path) -> None:
    """Not before, and soon after, however long the poll interval is."""
    add_hook(connection, "reads", "read.*", READS)
    with running(database, tmp_path, poll_interval=60):
        time.sleep(0.5)
        due = datetime.now(UTC) + timedelta(seconds=1.5)
        [event] = insert(connection, "read.later", available_at=due)
        wait_for(lambda: state(connection, event) == "completed", 5)
    ran = one(connection, "SELECT processed_at FROM hook_events WHERE id = %s", event)
    assert timedelta(0) <= ran - due < timedelta(seconds=1)


def test_a_hook_with_a_stack_runs_for_that_stack_only(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """metadata.stack counts, else payload.stack; a hook without a stack runs for all."""
    add_hook(connection, "blue", "task.*", READS, stack="blue")
    add_hook(connection, "green", "task.*", READS, stack="green")
    add_hook(connection, "all", "task.*", READS)
    [blue] = insert(connection, "task.a", metadata='{"stack": "blue"}')
    [green] = insert(connection, "task.a", '{"stack": "green"}')
    [both] = insert(connection, "task.a", '{"stack": "green"}', metadata='{"stack": "blue"}')
    [none] = insert(connection, "task.a")
    with running(database, tmp_path):
        wait_for(lambda: all_processed(connection), 10)
    ran = [sorted(row[0] for row in executions(connection, event)) for event in (blue, green, both, none)]
    assert ran == [["all", "blue"], ["all", "green"], ["all", "blue"], ["all"]]


def test_a_lost_lease_changes_no_row(connection: Connection, database: Database, tmp_path: Path) -> None:
    """Somebody else has taken the event meanwhile: what the run returns is dropped, its dispatches with it."""
    text = 'return {execute = function(e) require("time").sleep(3) e.dispatch("child.born", {}) end}'
    add_hook(connection, "sleeps", "sleep.*", text)
    with running(database, tmp_path) as process:
        [event] = insert(connection, "sleep.now")
        wait_for(lambda: state(connection, event) == "processing", 5)
        token = uuid4()
        connection.execute(
            "UPDATE hook_events"
            " SET lease_token = %s, claimed_by = 'elsewhere:1', available_at = now() + interval '1 h'",
            (token,),
        )
        before = connection.execute("SELECT * FROM hook_events").fetchall()
        wait_for(lambda: bool(process.said("lease of event")), 20)
        assert connection.execute("SELECT * FROM hook_events").fetchall() == before
        assert executions(connection, event) == []


def test_a_failed_attempt_is_retried_with_backoff_and_then_given_up(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Each attempt leaves an execution and a line; the last is told by event.failed; the reset brings it back."""
    add_hook(connection, "fails", "PreToolUse/*", FAILS)
    add_hook(connection, "works", "PreToolUse/*", READS)
    add_hook(connection, "alerts", "event.failed", "return {execute = function(e) return true, e.data.type end}")
    with running(database, tmp_path, retry_delay=0.2):
        [event] = insert(connection, "PreToolUse.asked", '{"n": 1}', created_at=ago(hours=2))
        wait_for(lambda: state(connection, event) == "failed", 10)
        assert [row[:2] for row in executions(connection, event) if row[0] == "fails"] == [("fails", False)] * 3
        assert [row[:2] for row in executions(connection, event) if row[0] == "works"] == [("works", True)]
        assert len(one(connection, "SELECT processing_errors FROM hook_events WHERE id = %s", event)) == 3
        gaps = connection.execute(
            "SELECT extract(epoch FROM executed_at - lag(executed_at) OVER (ORDER BY id))::float8"
            " FROM event_hook_executions WHERE hook_name = 'fails' ORDER BY id"
        ).fetchall()
        assert gaps[1][0] >= 0.2
        assert gaps[2][0] >= 0.4
        wait_for(lambda: count(connection, "source = 'event' AND action = 'failed' AND processed") == 1, 5)
        [letter] = connection.execute("SELECT id FROM hook_events WHERE source = 'event'").fetchall()
        assert executions(connection, letter[0]) == [("alerts", True, "PreToolUse.asked", None)]
        connection.execute("UPDATE hook_versions SET source_text = %s WHERE source_text = %s", (READS, FAILS))
        connection.execute("UPDATE hooks SET priority = 1 WHERE name = 'fails'")  # a change that is noticed
        time.sleep(0.5)
        connection.execute(seed.RESET)
        wait_for(lambda: state(connection, event) == "completed", 5)
        assert [row[1] for row in executions(connection, event) if row[0] == "works"] == [True]


def test_a_drain_records_what_runs(connection: Connection, database: Database, tmp_path: Path) -> None:
    """SIGTERM: nothing new is taken, what runs ends and is recorded, the exit status is 0."""
    add_hook(connection, "slow", "slow.*", SLEEPS)
    with running(database, tmp_path) as process:
        events = insert(connection, "slow.one", '{"seconds": 3}', count=5)
        wait_for(lambda: count(connection, "lease_token IS NOT NULL") == 5, 5)
        process.signal(signal.SIGTERM)
        wait_for(lambda: bool(process.said("draining")), 10)
        time.sleep(1)  # it is said before the lanes are told
        late = insert(connection, "slow.one", '{"seconds": 3}', count=5)
        assert process.wait(20) == 0
    assert count(connection, "processed AND id = ANY(%s)", events) == 5
    states = connection.execute(
        "SELECT processed, available_at, claimed_by FROM hook_events WHERE id = ANY(%s)", (late,)
    )
    assert states.fetchall() == [(False, None, None)] * 5, process.log
    assert one(connection, "SELECT state FROM hook_processors") == "stopped"


def test_a_second_signal_leaves_at_once(connection: Connection, database: Database, tmp_path: Path) -> None:
    """It does not wait for what runs; the leases of that end by themselves."""
    add_hook(connection, "sleeps", "sleep.*", SLEEPS)
    process = _ready(start(database, tmp_path))
    try:
        insert(connection, "sleep.long", '{"seconds": 20}')
        wait_for(lambda: count(connection, "lease_token IS NOT NULL") == 1, 5)
        process.signal(signal.SIGTERM)
        wait_for(lambda: bool(process.said("draining")), 5)
        process.signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    finally:
        process.kill()


def test_a_processor_that_is_told_to_stop_before_it_has_read_the_hooks_takes_no_event(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    add_hook(connection, "reads", "read.*", READS)
    insert(connection, "read.one", count=1000)
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'hooks'::regclass"
    with database.session("psql") as other:
        other.execute("SET idle_in_transaction_session_timeout = 0")
        other.execute("BEGIN")
        other.execute("LOCK TABLE hooks")
        process = start(database, tmp_path)
        try:
            wait_for(lambda: one(connection, waits) == 1, 20)
            process.signal(signal.SIGTERM)
            other.execute("COMMIT")
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert count(connection, "NOT processed AND claimed_by IS NULL") == 1000, process.log
    assert "ready" not in process.log


def test_a_lane_claims_nothing_before_the_hooks_are_read(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """Without them it would acknowledge events that hooks are there for."""
    [event] = insert(connection, "read.one")
    settings = Settings(home=tmp_path, conninfo=database.conninfo)
    machinery = Machinery(settings, database, "here:1", EventHandlerRegistry())
    lane = machinery.lanes[0]
    began = lane.claimed_at
    thread = threading.Thread(target=lane.run, args=(Progress("lane", 20),))
    thread.start()
    try:
        wait_for(lambda: lane.claimed_at > began, 20, "its first round has ended")
    finally:
        machinery.lookout.stop()
        thread.join(20)
    assert state(connection, event) == "pending"


def _ready(process: Running) -> Running:
    wait_for(lambda: "ready" in process.log, 10)
    return process


def test_no_more_hooks_wait_at_once_than_there_is_memory_for(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(home=tmp_path, conninfo=database.conninfo, workers=1000)
    machinery = Machinery(settings, database, "here:1", EventHandlerRegistry())
    assert machinery.leases.slots == 384
    assert "HOOK_MEMORY_TOTAL_MB=256 leaves room for 384 hooks that wait at once: for 1000 set it to 410" in caplog.text
    roomy = replace(settings, hook_memory_total=410 * 1024 * 1024)
    assert Machinery(roomy, database, "here:2", EventHandlerRegistry()).leases.slots == 1000
