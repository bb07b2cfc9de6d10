"""The watcher daemon among what can happen to it: outages, kills, restarts, changes, a second one."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from interfaces import needs_ip
from psycopg import Connection
from waiting import wait_for
from watching import HOST, add, end, looked, reached, start, watching, write_number

from hook_event_processor.settings import Settings
from hook_event_processor.store import embedded, hosts, watchers
from hook_event_processor.store.database import Database
from hook_event_processor.store.migrate import migrate
from hook_event_processor.store.watchers import Looked, NewWatcher
from hook_event_processor.telemetry.watchdog import Watchdog
from hook_event_processor.watchers.check import Definition, Noticed
from hook_event_processor.watchers.daemon import agent, aside, daemon, delivery, health, ledger
from hook_event_processor.watchers.daemon.definitions import Definitions
from hook_event_processor.watchers.daemon.delivery import Delivery
from hook_event_processor.watchers.daemon.envelope import Envelopes
from hook_event_processor.watchers.daemon.event_log import EventLog
from hook_event_processor.watchers.daemon.local_store import LocalStore
from hook_event_processor.watchers.daemon.looks import Looks
from hook_event_processor.watchers.daemon.spool import Limits, Total
from hook_event_processor.watchers.faults import FaultLog

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("counting_kinds")]


def in_store(folder: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{folder}/watchers/{HOST}.db?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def states(folder: Path) -> list[Any]:
    return in_store(folder, "SELECT body FROM states")


def has_state(folder: Path, body: bytes) -> bool:
    try:
        return (body,) in states(folder)
    except sqlite3.OperationalError:  # there is no store yet
        return False


def count_to(folder: Path, path: Path, number: int) -> None:
    """Have the one watcher that there is see this number."""
    write_number(path, number)
    wait_for(lambda: has_state(folder, str(number).encode()), 5)


def test_what_is_noticed_becomes_an_event_with_who_noticed_it_where_and_when(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    watcher = add(connection, numbers, stack="prod")
    with watching(database, tmp_path):
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        write_number(numbers, 1)
        wait_for(lambda: reached(connection) == [1], 5)
    columns = (
        "source, action, resource, payload, metadata, id::text, created_at >= occurred_at, substr(id::text, 15, 1)"
    )
    row = connection.execute(f"SELECT {columns} FROM hook_events WHERE source = 'count'").fetchone()
    assert row is not None
    assert row[:4] == ("count", "reached", "n1", {"n": 1, "watcher_id": watcher.id, "host": HOST})
    origin = row[4].pop("origin")
    assert row[4] == {"correlation_id": row[5], "stack": "prod"}
    assert (origin["component"], origin["host"]) == ("watcher/counter", HOST)
    assert row[6:] == (True, "7")
    said = looked(connection, watcher)
    assert said.last_check is not None
    assert said.last_event is not None
    assert said.last_error is None


def test_the_host_registers_and_says_when_its_daemon_starts_and_stops(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    with watching(database, tmp_path, host_tags=("web",)):
        wait_for(lambda: len(hosts.known(connection)) == 1, 5)
        assert hosts.get(connection, HOST).status == "connected"
    host = hosts.get(connection, HOST)
    assert (host.status, host.tags) == ("stopped", ["web"])
    assert set(host.system_info) == {"os", "arch", "cpu_cores", "memory_gb"}
    rows = connection.execute("SELECT source || '.' || action, payload FROM hook_events ORDER BY seq").fetchall()
    assert [row[0] for row in rows] == ["agent.registered", "agent.connected", "system.startup", "system.shutdown"]
    assert rows[2][1].keys() >= {"version", "start_time"}
    assert rows[3][1].keys() >= {"reason", "uptime"}


@needs_ip
def test_a_host_that_has_the_database_registers_an_address_that_others_can_reach(connection: Connection) -> None:
    route = subprocess.run(["ip", "-j", "route", "get", "192.0.2.1"], capture_output=True, check=False)
    way = json.loads(route.stdout)[0] if route.returncode == 0 else {}
    assert agent.address_of(connection) == way.get("prefsrc", "127.0.0.1")


def test_without_a_watcher_nothing_is_written(connection: Connection, database: Database, tmp_path: Path) -> None:
    with watching(database, tmp_path):
        wait_for(lambda: connection.execute("SELECT FROM hook_events WHERE source = 'system'").rowcount == 1, 5)
        wait_for(lambda: in_store(tmp_path, "SELECT rows FROM spool_total") == [(0,)], 5)
        wal = tmp_path / "watchers" / f"{HOST}.db-wal"
        before = wal.stat()
        with pytest.raises(AssertionError):
            wait_for(lambda: wal.stat().st_mtime_ns != before.st_mtime_ns, 1.5)


def test_a_thousand_events_during_an_outage_are_neither_lost_nor_doubled(
    reachable_path: Path, tmp_path: Path, numbers: Path
) -> None:
    home = reachable_path / "stops"
    with embedded.start(home) as server:
        database = Database(server.conninfo)
        with database.session("tests") as connection:
            migrate(connection)
            watcher = add(connection, numbers)
        first = start(database, tmp_path)
        wait_for(lambda: has_state(tmp_path, b"0"), 10)
        server.stop()
        for number in range(100, 1001, 100):
            count_to(tmp_path, numbers, number)
        assert in_store(tmp_path, "SELECT rows >= 1000 FROM spool_total") == [(1,)]
        first.kill()
    write_number(numbers, 1010)
    # It works from its own copy, from the start on.
    with watching(database, tmp_path) as process:
        wait_for(lambda: has_state(tmp_path, b"1010"), 5)
        assert len(process.said("trying again")) == 1
        with embedded.start(home), database.session("tests") as connection:
            wait_for(lambda: len(reached(connection)) >= 1010, 15)
            assert reached(connection) == list(range(1, 1011))
            wait_for(lambda: len(process.said("the database is back")) == 1, 5)
            wait_for(lambda: in_store(tmp_path, "SELECT rows FROM spool_total") == [(0,)], 5)
            late = "SELECT count(*) FROM hook_events WHERE payload ->> 'seen_late' = 'true'"
            assert connection.execute(late).fetchone() == (10,)
            assert looked(connection, watcher).last_error is None
            end(process)


def test_a_backlog_waits_for_nothing_but_the_turn_of_others(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_SENDING_SECONDS", 0.05)
    store = LocalStore(tmp_path / "store.db", (), Limits())
    envelopes = Envelopes(HOST, "1.0")
    store.keep((), [envelopes.own("system.warning", {}, datetime.now(UTC)) for _ in range(3)])
    sending = Delivery(store, envelopes, lambda: time.sleep(0.1))
    while sending.more:
        assert sending.next_at <= time.monotonic()
        sending.send(connection, Settings(tmp_path, None, watch_batch=1, watch_flush=3600.0), hurry=False)
    assert sending.sent == 3
    store.close()


def test_killed_between_sending_and_removing_it_sends_nothing_twice(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    def die_before_removing() -> None:
        def remove(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        LocalStore.remove = remove  # type: ignore[method-assign, assignment] # in the forked process

    add(connection, numbers)
    with watching(database, tmp_path):
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
    for kill in range(1, 21):
        process = start(database, tmp_path, ("counter",), die_before_removing)
        write_number(numbers, kill * 10)
        assert process.wait(10) == -signal.SIGKILL
    with watching(database, tmp_path, ("counter",)):
        wait_for(lambda: len(reached(connection)) >= 200, 10)
    assert reached(connection) == list(range(1, 201))
    started = connection.execute("SELECT count(*) FROM hook_events WHERE action = 'startup'").fetchone()
    assert started == (22,)


def test_a_disk_that_lets_nothing_be_removed_is_said_once_and_costs_no_connection(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    full = tmp_path / "full"

    def refuse_while_full() -> None:
        remove = LocalStore.remove

        def removing(self: LocalStore, numbers: Any) -> None:
            if full.exists():
                raise sqlite3.OperationalError("database or disk is full")
            remove(self, numbers)

        LocalStore.remove = removing  # type: ignore[method-assign] # in the forked process

    add(connection, numbers)
    with watching(database, tmp_path, None, refuse_while_full) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        full.touch()
        write_number(numbers, 3)
        wait_for(lambda: reached(connection) == [1, 2, 3], 5)
        wait_for(
            lambda: len(process.said("the spool cannot be emptied, trying again: database or disk is full")) == 1, 5
        )
        time.sleep(2.5)  # it tries again
        full.unlink()
        write_number(numbers, 5)
        wait_for(lambda: reached(connection) == [1, 2, 3, 4, 5], 5)
        wait_for(lambda: in_store(tmp_path, "SELECT count(*) FROM spool") == [(0,)], 5)
        assert len(process.said("the spool cannot be emptied")) == 1
        assert not process.said("events wait on the disk")


def test_a_spool_that_cannot_be_read_ends_no_daemon(database: Database, tmp_path: Path) -> None:
    unreadable, refused = tmp_path / "unreadable", tmp_path / "refused"

    def refuse() -> None:
        total = LocalStore.total

        def totalling(self: LocalStore) -> Total:
            if unreadable.exists():
                with open(refused, "a") as file:
                    file.write("x")
                raise sqlite3.OperationalError("disk I/O error")
            return total(self)

        LocalStore.total = totalling  # type: ignore[method-assign] # in the forked process
        Watchdog.interval_seconds = 0.1  # type: ignore[assignment, method-assign]

    nowhere = Database(f"{database.conninfo} port=1")
    with watching(nowhere, tmp_path, None, refuse, conninfo=nowhere.conninfo) as process:
        wait_for(lambda: process.said("events wait on the disk"), 10)
        unreadable.touch()
        wait_for(lambda: refused.exists() and refused.stat().st_size > 10, 10)
        end(process)
        assert process.said("stopped; 0 events were sent")


def test_a_watcher_that_is_added_changed_disabled_or_removed_is_so_at_once(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("5")
    with watching(database, tmp_path) as process:
        watcher = add(connection, numbers)
        wait_for(lambda: has_state(tmp_path, b"0"), 10)
        write_number(numbers, 1)
        wait_for(lambda: reached(connection) == [1], 10)
        # Another interval is the same subject: it goes on.
        connection.execute(
            "UPDATE watchers SET config = jsonb_set(config, '{interval}', '0.2') WHERE id = %s", (watcher.id,)
        )
        wait_for(lambda: len(process.said("watchers at work: 1")) == 2, 10)
        write_number(numbers, 2)
        wait_for(lambda: reached(connection) == [1, 2], 10)
        # Another file is another subject: its first look is the baseline.
        connection.execute(
            "UPDATE watchers SET config = jsonb_set(config, '{options,path}', to_jsonb(%s::text)) WHERE id = %s",
            (str(other), watcher.id),
        )
        wait_for(lambda: has_state(tmp_path, b"5"), 10)
        write_number(other, 6)
        wait_for(lambda: reached(connection) == [1, 2, 6], 10)
        watchers.set_enabled(connection, watcher, False)
        wait_for(lambda: states(tmp_path) == [], 10)
        write_number(other, 7)
        watchers.set_enabled(connection, looked(connection, watcher), True)
        wait_for(lambda: has_state(tmp_path, b"7"), 10)
        watchers.remove(connection, watcher)
        wait_for(lambda: len(process.said("watchers at work: 0")) == 3, 10)
    assert reached(connection) == [1, 2, 6]


def _lose(connection: Connection) -> bool:
    """End the daemon's session, if it has one."""
    statement = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE '%% watcher'"
    )
    return bool(connection.execute(statement).fetchall())


def _sessions(connection: Connection) -> int:
    """How many sessions this database has had."""
    row = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])


def test_a_database_that_takes_nothing_is_away_until_it_does(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """One that was made read-only lets everybody in."""
    name = connection.info.dbname
    with watching(database, tmp_path) as process:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        before = _sessions(connection)
        wait_for(lambda: _lose(connection), 10)
        wait_for(lambda: _sessions(connection) >= before + 4, 20)
        assert process.said("the database is back") == []
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        wait_for(lambda: process.said("the database is back"), 20)
        [lost, refused] = process.said("events wait on the disk")
        assert "read-only" not in lost
        assert "read-only" in refused


def test_a_connection_that_is_lost_again_and_again_is_tried_less_and_less(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    with watching(database, tmp_path) as process:
        for number in range(1, 5):
            wait_for(lambda: _lose(connection), 20)
            lost_at = time.monotonic()
            while len(process.said("the database is back")) < number:
                assert time.monotonic() < lost_at + 20
                time.sleep(0.02)
        assert time.monotonic() - lost_at > 1


def test_what_changed_while_the_daemon_was_away_is_told_once_and_marked_as_late(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, tmp_path):
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
    write_number(numbers, 2)
    for _ in range(2):
        with watching(database, tmp_path):
            wait_for(lambda: len(reached(connection)) >= 2, 5)
    with watching(database, tmp_path):
        for number in (3, 4):  # the first may still be there for its first look
            write_number(numbers, number)
            wait_for(lambda n=number: len(reached(connection)) == n, 5)  # type: ignore[misc]
    rows = connection.execute("SELECT payload -> 'seen_late' FROM hook_events WHERE source = 'count' ORDER BY seq")
    late = [row[0] for row in rows]
    assert late[:2] == [True, True]
    assert late[3:] == [None]


def test_what_the_first_look_saw_outlives_a_kill_right_after_it(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_STATES_SECONDS", 60.0)  # others wait
    add(connection, numbers)
    first = start(database, tmp_path)
    wait_for(lambda: has_state(tmp_path, b"0"), 10)
    first.kill()
    write_number(numbers, 2)
    with watching(database, tmp_path):
        wait_for(lambda: reached(connection) == [1, 2], 5)


def test_a_second_daemon_of_a_type_waits_until_the_first_has_ended(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, tmp_path) as first:
        second = start(database, tmp_path, ("counter",))
        wait_for(lambda: bool(second.said(f"another daemon of {HOST} watches counter: waiting")), 5)
        end(first)
        wait_for(lambda: bool(second.said("watchers at work: 1")), 5)
        assert len(second.said("waiting")) == 1
        with watching(database, tmp_path, ("waiting",)):  # of another type, so beside it
            write_number(numbers, 1)
            wait_for(lambda: reached(connection) == [1], 5)
        end(second)


def test_events_that_a_daemon_of_another_type_has_left_are_sent(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, tmp_path, ("counter",)):
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
    nowhere = Database(f"{database.conninfo} port=1")
    with watching(nowhere, tmp_path, ("counter",), conninfo=nowhere.conninfo):
        count_to(tmp_path, numbers, 3)
    assert reached(connection) == []
    with watching(database, tmp_path, ("waiting",)):
        wait_for(lambda: reached(connection) == [1, 2, 3], 5)


def test_a_look_that_fails_is_said_once_and_goes_on(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    missing = add(connection, tmp_path / "missing", name="missing")
    broken = add(connection, numbers, name="broken", kind="waiting")
    numbers.write_text("many")
    with watching(database, tmp_path) as process:
        wait_for(lambda: all(looked(connection, each).last_error is not None for each in (broken, missing)), 10)
        assert looked(connection, missing).last_error == "there is no missing"
        assert "ValueError: invalid literal" in str(looked(connection, broken).last_error)
        write_number(tmp_path / "missing", 0)
        wait_for(lambda: looked(connection, missing).last_error is None, 10)
        assert len(process.said("there is no missing")) == len(process.said(f"{missing.id} looks again")) == 1
        assert len(process.said(f"watcher {broken.id} is broken")) == 1
    events = connection.execute("SELECT payload ->> 'component' FROM hook_events WHERE action = 'error'").fetchall()
    assert events == [("watcher/waiting",)]


def test_a_watcher_that_makes_no_sense_says_so_and_harms_no_other(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    lost = watchers.add(connection, NewWatcher(HOST, "counter"))
    odd = watchers.add(connection, NewWatcher(HOST, "telepathy"))
    with watching(database, tmp_path) as process:
        wait_for(lambda: looked(connection, lost).last_error == "a counter watcher needs --path", 10)
        wait_for(lambda: "there is no watcher type 'telepathy'" in str(looked(connection, odd).last_error), 10)
        wait_for(lambda: process.said("watchers at work: 1"), 10)


@pytest.mark.parametrize(
    "config",
    ['{"options": [1]}', '{"conditions": 5}', f'{{"interval": 1{"0" * 400}}}', f'{{"interval": 1{"0" * 5000}}}'],
)
def test_a_watcher_whose_configuration_nobody_can_read_says_so_and_harms_no_other(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path, config: str
) -> None:
    add(connection, numbers)
    odd = add(connection, numbers)
    with watching(database, tmp_path) as process:
        wait_for(lambda: process.said("watchers at work: 2"), 10)
        connection.execute("UPDATE watchers SET config = %s WHERE id = %s", (config, odd.id))
        wait_for(lambda: process.said("watchers at work: 1"), 10)
        wait_for(lambda: str(looked(connection, odd).last_error).startswith("its config h"), 10)
        end(process)
    with watching(database, tmp_path) as process:
        wait_for(lambda: process.said("watchers at work: 1"), 10)
        write_number(numbers, 1)
        wait_for(lambda: reached(connection) == [1], 10)
        assert str(looked(connection, odd).last_error).startswith("its config h")
        assert not process.said("failed, and goes on")


def test_what_no_text_of_a_database_can_hold_keeps_nothing_from_being_sent(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    program = tmp_path / "program"
    program.write_text(r"while printf '\0abc\n'; do sleep 0.05; done")
    options = {"command": f"sh {program}"}
    odd = watchers.add(connection, NewWatcher(HOST, "custom", options=options, interval=0.1))
    with watching(database, tmp_path, watch_exec=True):
        wait_for(lambda: str(looked(connection, odd).last_error).endswith(r": \x00abc"), 10)
        write_number(numbers, 1)
        wait_for(lambda: reached(connection) == [1], 5)


def test_what_is_said_of_looks_and_refused_is_given_up(
    connection: Connection, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = watchers.add(connection, NewWatcher(HOST, "counter"))

    class Odd:
        def __init__(self) -> None:
            self.errors = ["\0", "odd"]

        def take_looked(self) -> list[Looked]:
            return [Looked(watcher.id, datetime.now(UTC), self.errors.pop(0))]

    definitions = Definitions(HOST, ("counter",), cast(Looks, Odd()))
    definitions.tell_now(connection)
    assert "how 1 watcher looked is lost, the database refuses it: " in caplog.text
    assert looked(connection, watcher).last_error is None
    definitions.tell_now(connection)
    assert looked(connection, watcher).last_error == "odd"


def test_what_is_said_of_a_watcher_that_somebody_has_locked_is_said_later(
    connection: Connection, database: Database
) -> None:
    watcher = watchers.add(connection, NewWatcher(HOST, "telepathy"))
    definitions = Definitions(HOST, ("counter", "telepathy"), Mock(take_looked=list))
    definitions.fetch(connection, 0.0)
    with database.session("psql") as other, other.transaction():
        other.execute("SELECT FROM watchers FOR UPDATE")
        definitions.tell_now(connection)
        assert looked(connection, watcher).last_error is None
    definitions.tell_now(connection)
    assert "there is no watcher type 'telepathy'" in str(looked(connection, watcher).last_error)


def test_a_watcher_that_somebody_has_locked_keeps_no_event_waiting(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, tmp_path) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        with database.session("psql") as other, other.transaction():
            other.execute("UPDATE watchers SET enabled = FALSE")
            write_number(numbers, 2)
            wait_for(lambda: reached(connection) == [1, 2], 5)
        assert not process.said("events wait on the disk")


def test_a_host_whose_row_somebody_has_locked_keeps_no_event_waiting(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    seen = "SELECT last_seen FROM hosts"
    with database.session("psql") as other, watching(database, tmp_path) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        wait_for(lambda: connection.execute(seen).rowcount == 1, 5)
        other.execute("SET idle_in_transaction_session_timeout = 0")
        with other.transaction():
            other.execute("UPDATE hosts SET tags = '{}'")
            process.signal(signal.SIGHUP)  # registers at once
            wait_for(lambda: process.said("the host's row is locked"), 20)
            write_number(numbers, 2)
            wait_for(lambda: reached(connection) == [1, 2], 5)
        assert not process.said("events wait on the disk")
        before = connection.execute(seen).fetchone()
        wait_for(lambda: connection.execute(seen).fetchone() != before, 20)


def test_a_change_of_a_file_is_looked_at_at_once_and_a_burst_as_one(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()
    numbers = folder / "number"
    numbers.write_text("0")
    add(connection, numbers, kind="told", interval=3600)
    with watching(database, tmp_path):
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        # The first look may come before inotify is at work.
        wait_for(lambda: _reached_after(connection, numbers, 1), 10)
        # A look may be due from the write before, and a busy machine may hold the writes up.
        looks = "SELECT count(DISTINCT occurred_at) FROM hook_events WHERE (payload ->> 'n')::int > %s"
        for last in range(1, 61, 6):
            for number in range(last + 1, last + 7):
                write_number(numbers, number)
                time.sleep(0.15)  # time enough for a look at each
            wait_for(lambda end=number: reached(connection) == list(range(1, end + 1)), 10)  # type: ignore[misc]
            if connection.execute(looks, (last,)).fetchone() == (1,):
                break
        else:
            pytest.fail("no burst was looked at as one")


def _reached_after(connection: Connection, path: Path, number: int) -> bool:
    write_number(path, number)
    return number in reached(connection)


def test_looks_that_wait_hold_up_no_others_and_lose_nothing(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers, kind="waiting")
    with watching(database, tmp_path):
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        for number in (3, 7):
            write_number(numbers, number)
            wait_for(lambda n=number: len(reached(connection)) == n, 5)  # type: ignore[misc]
    assert reached(connection) == list(range(1, 8))


def test_a_full_spool_gives_the_oldest_up_and_tells_how_many(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, tmp_path):
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
    nowhere = Database(f"{database.conninfo} port=1")
    with watching(nowhere, tmp_path, spool_max_events=100) as process:
        count_to(tmp_path, numbers, 90)
        count_to(tmp_path, numbers, 150)
        wait_for(lambda: len(process.said("the spool is full")) == 1, 10)
    assert len(process.said("the spool is full")) == 1
    [(dropped,)] = in_store(tmp_path, "SELECT dropped FROM spool_total")
    assert dropped > 50
    with watching(database, tmp_path):
        wait_for(lambda: 150 in reached(connection), 5)
        warning = "SELECT (payload ->> 'dropped')::int FROM hook_events WHERE source = 'system' AND action = 'warning'"
        wait_for(lambda: connection.execute(warning).fetchall() == [(dropped,)], 5)
    told = reached(connection)
    assert told == list(range(told[0], 151))
    assert in_store(tmp_path, "SELECT * FROM spool_total") == [(1, 0, 0, 0)]


def test_a_store_that_cannot_be_read_is_set_aside(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    (tmp_path / "watchers").mkdir()
    (tmp_path / "watchers" / f"{HOST}.db").write_bytes(b"no database" * 1000)
    with watching(database, tmp_path) as process:
        assert len(process.said("is damaged")) == 1
        wait_for(lambda: has_state(tmp_path, b"0"), 5)


def test_an_event_that_the_database_refuses_holds_up_no_other(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    connection.execute("ALTER TABLE hook_events ADD CONSTRAINT no_two CHECK (payload ->> 'n' IS DISTINCT FROM '2')")
    add(connection, numbers)
    with watching(database, tmp_path) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        write_number(numbers, 3)
        wait_for(lambda: reached(connection) == [1, 3], 5)
        wait_for(lambda: len(process.said("the database refuses the event")) == 1, 5)


def test_events_that_the_database_refuses_are_named_in_few_lines(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    connection.execute(
        "ALTER TABLE hook_events ADD CONSTRAINT few CHECK (action <> 'reached' OR (payload ->> 'n')::int IN (1, 500))"
    )
    add(connection, numbers)
    with watching(database, tmp_path) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        write_number(numbers, 500)
        wait_for(lambda: reached(connection) == [1, 500], 20)
        an_id = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
        wait_for(lambda: len(set(an_id.findall(" ".join(process.said("the database refuses "))))) == 498, 5)
        lines = process.said("the database refuses ")
    assert len(lines) < 30
    assert 'violates check constraint "few"' in lines[0]
    assert "more events with the same error (23514), given up: " in lines[1]


def test_an_event_of_a_source_that_the_role_may_not_publish_holds_up_no_other(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    connection.execute(
        "INSERT INTO hook_grants (role, kind, value) SELECT session_user, 'source', unnest(ARRAY['agent', 'count'])"
    )
    watcher = add(connection, numbers)
    with watching(database, tmp_path) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        write_number(numbers, 2)
        wait_for(lambda: reached(connection) == [1, 2], 5)
        (said,) = process.said("the database refuses the event")
        assert "may not publish events of the source 'system'" in said
        assert "hep db grant" in said
        connection.execute("REVOKE INSERT ON hook_events FROM CURRENT_USER")
        write_number(numbers, 3)
        wait_for(lambda: process.said("permission denied"), 5)
        connection.execute("GRANT INSERT ON hook_events TO CURRENT_USER")
        wait_for(lambda: reached(connection) == [1, 2, 3], 10)
    assert looked(connection, watcher).last_error is None


def test_each_source_that_the_role_may_not_publish_is_named(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    """Here those of the daemon itself, and of its watcher."""
    connection.execute("INSERT INTO hook_grants (role, kind, value) VALUES (session_user, 'source', 'agent')")
    add(connection, numbers)
    with watching(database, tmp_path, watch_flush=1.0) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        write_number(numbers, 4)
        wait_for(lambda: process.said("the same error"), 10)
    said = "\n".join(process.log)
    for source in ("system", "count"):
        assert re.search(f"which is given up: .* may not publish events of the source '{source}'.*hep db grant", said)
    assert re.search("with the same error .* may not publish events of the source 'count'.*, given up: ", said)


def test_events_wait_while_nobody_can_tell_what_the_role_may_publish(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    """The trigger that looks lacks a right: it has refused no source."""
    connection.execute(
        "INSERT INTO hook_grants (role, kind, value)"
        " SELECT session_user, 'source', unnest(ARRAY['agent', 'count', 'system'])"
    )
    add(connection, numbers)
    with watching(database, tmp_path) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        connection.execute("REVOKE SELECT ON hook_grants FROM CURRENT_USER")
        write_number(numbers, 3)
        wait_for(lambda: process.said("permission denied for table hook_grants"), 5)
        connection.execute("GRANT SELECT ON hook_grants TO CURRENT_USER")
        wait_for(lambda: reached(connection) == [1, 2, 3], 10)
    assert not process.said("given up")


def test_a_schema_of_another_program_ends_the_daemon_with_the_status_for_it(
    empty_database: Database, tmp_path: Path
) -> None:
    process = start(empty_database, tmp_path)
    assert process.wait(10) == 78
    assert process.said("run 'hep db migrate'")


NEWER = "INSERT INTO hook_migrations (version, name, sha256) VALUES (9000, '9000_newer.sql', repeat('0', 64))"


def test_the_status_says_once_how_long_the_database_has_been_away(database: Database, tmp_path: Path) -> None:
    def say_status() -> None:
        Watchdog.status = lambda _, text: print("status:", text, file=sys.stderr)  # type: ignore[method-assign]
        Watchdog.interval_seconds = 0.1  # type: ignore[assignment, method-assign]
        health.AWAY_SECONDS = 0.5

    nowhere = Database(f"{database.conninfo} port=1")
    with watching(nowhere, tmp_path, None, say_status, conninfo=nowhere.conninfo) as process:
        wait_for(lambda: process.said("status: the database has been away for 1 s"), 10)
        (line, *_) = process.said("status: the database has been away for 1 s")
    assert line == "status: the database has been away for 1 s: 1 event waits on the disk; 0 watchers"


def test_a_schema_of_another_program_is_an_outage_for_who_has_a_copy_of_the_watchers(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, tmp_path):
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
    connection.execute(NEWER)

    def say_status() -> None:
        Watchdog.status = lambda _, text: print(text, file=sys.stderr)  # type: ignore[method-assign]

    with watching(database, tmp_path, None, say_status) as process:
        count_to(tmp_path, numbers, 3)
        wait_for(lambda: len(process.said("trying again: the database has migration 9000")) == 1, 5)
        wait_for(lambda: in_store(tmp_path, "SELECT rows >= 3 FROM spool_total") == [(1,)], 5)
        wait_for(lambda: process.said("with, or a newer one; 4 events wait on the disk; 1 watcher"), 5)
        assert reached(connection) == []
        connection.execute("DELETE FROM hook_migrations WHERE version = 9000")
        wait_for(lambda: reached(connection) == [1, 2, 3], 20)
        wait_for(lambda: len(process.said("the database is back")) == 1, 5)


def test_a_schema_that_is_migrated_during_an_outage_is_said(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, tmp_path) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        connection.execute(NEWER)
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE '% watcher' AND datname = current_database()"
        )
        wait_for(lambda: len(process.said("trying again: the database has migration 9000")) == 1, 10)
        assert len(process.said("trying again")) == 2


def test_a_copy_of_other_types_is_nothing_to_go_on_with(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, tmp_path):
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
    connection.execute("DELETE FROM hook_migrations")
    process = start(database, tmp_path, ("told",))
    assert process.wait(10) == 78


def test_a_server_that_no_longer_answers_is_given_up(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    def be_impatient() -> None:
        daemon._SILENT_SECONDS = 1.0

    add(connection, numbers)
    with watching(database, tmp_path, None, be_impatient) as process:
        wait_for(lambda: has_state(tmp_path, b"0"), 5)
        # Not in the middle of a statement: nobody else gets on while one that has a row's lock is frozen.
        query = (
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '% watcher' AND datname = current_database()"
            " AND state = 'idle' AND state_change < clock_timestamp() - interval '0.2 s'"
        )
        idle: list[int] = []
        wait_for(lambda: idle.extend(row[0] for row in connection.execute(query)) or idle, 5)  # type: ignore[func-returns-value]
        [backend] = idle
        os.kill(backend, signal.SIGSTOP)
        try:
            write_number(numbers, 2)
            wait_for(lambda: reached(connection) == [1, 2], 20)
        finally:
            os.kill(backend, signal.SIGCONT)
        wait_for(lambda: process.said("the database is back"), 5)


def test_looks_that_do_not_come_back_hold_up_no_others(
    connection: Connection, database: Database, tmp_path: Path, numbers: Path
) -> None:
    def be_impatient() -> None:
        aside.STUCK_SECONDS = 0.2

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    stuck = [add(connection, pipe, kind="waiting") for _ in range(10)]
    with watching(database, tmp_path, None, be_impatient):
        wait_for(lambda: "not come back for more than" in str(looked(connection, stuck[-1]).last_error), 15)
        add(connection, numbers, kind="waiting")
        wait_for(lambda: has_state(tmp_path, b"0"), 15)


def test_settings_are_read_again_at_sighup(connection: Connection, database: Database, tmp_path: Path) -> None:
    with watching(database, tmp_path) as process:
        wait_for(lambda: len(hosts.known(connection)) == 1, 5)
        process.signal(signal.SIGHUP)
        wait_for(lambda: hosts.get(connection, HOST).tags == ["read", "again"], 5)
        wait_for(lambda: process.said("settings read again; changed: LOG_LEVEL, HOST_TAGS"), 5)


def test_each_of_a_few_events_is_a_line_with_fields_and_thousands_are_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    caplog.set_level(logging.INFO)
    log = EventLog(logging.getLogger("test"), lambda: now[0])
    definition = Definition("watcher-1", "file", (), {}, 1.0, "motd")
    for number in range(1000):
        log.say(definition, Noticed("file.modified", {}, "/etc/motd"), f"id-{number}")
    now[0] = 2.0
    log.summarize()
    assert len(caplog.records) == 101
    assert caplog.records[0].getMessage() == "file.modified /etc/motd: motd, event id-0"
    journal = {"EVENT_ID": "id-0", "SOURCE": "file", "ACTION": "modified", "WATCHER": "watcher-1"}
    assert caplog.records[0].__dict__["journal"] == journal
    assert caplog.records[-1].getMessage() == "events not logged one by one: 900 more; hook_events has them"


def test_thousands_of_faults_are_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    faults = FaultLog("watchers that cannot look", lambda: now[0])
    for number in range(1000):
        faults.say(logging.WARNING, "watcher %d cannot look", number)
    assert len(caplog.records) == 20
    now[0] = 61.0
    faults.say(logging.WARNING, "watcher %d cannot look", 1000)
    assert [record.getMessage() for record in caplog.records[20:]] == [
        "980 more lines on watchers that cannot look were left out",
        "watcher 1000 cannot look",
    ]
