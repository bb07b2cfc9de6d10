"""`hep doctor` on events, hooks, processors and watchers: what goes wrong with them is told, and gone when mended."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import watching
from clinic import Clinic
from commands import Hep
from factories import ago, insert_event
from psycopg import Connection
from running import all_processed, count, doomed, insert, running
from waiting import wait_for

from hook_event_processor.doctor.server import sessions_of_processor
from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.lua.door import Function
from hook_event_processor.lua.modules import crypto
from hook_event_processor.service import condition
from hook_event_processor.settings import Settings
from hook_event_processor.store import hosts, watchers
from hook_event_processor.store.hosts import Host
from hook_event_processor.store.watchers import Looked, NewWatcher

HOOK = """
return {{
  name = "{name}",
  event_type = "{event_type}",
  timeout = {timeout},
  retry = {{ attempts = 1 }},
  execute = function(event)
    {body}
  end,
}}
"""


@pytest.fixture
def clinic(clinic: Clinic) -> Iterator[Clinic]:
    """Emptied after each test."""
    yield clinic
    with clinic.database.session("tests") as connection:
        connection.execute(
            "TRUNCATE hook_events, event_hook_executions, hooks, hook_versions, hook_pauses, hook_processors,"
            " hook_schedules, hook_schedule_times, hook_proposals, hosts, watchers"
        )


@pytest.fixture
def connection(clinic: Clinic) -> Iterator[Connection]:
    with clinic.database.session("tests") as connection:
        yield connection


@pytest.fixture
def hep(clinic: Clinic, offline_hep: Hep) -> Hep:
    return offline_hep


def _add(hep: Hep, folder: Path, name: str, event_type: str, body: str, timeout: int = 1) -> None:
    """Add a hook by its file, or its next version."""
    file = folder / f"{name}.lua"
    file.write_text(HOOK.format(name=name, event_type=event_type, body=body, timeout=timeout))
    hep("hook", "add", str(file))


def test_while_all_is_well_nothing_is_found(clinic: Clinic, hep: Hep, connection: Connection, tmp_path: Path) -> None:
    """A processor that has just done something, and no more connections than the doctor reckons with."""
    areas = ("server", "schema", "wake", "sessions", "growth", "processors", "events", "hooks", "watchers")
    _add(hep, tmp_path, "greet", "task.*", 'require("state").set("a", 1) return true', timeout=30)
    with running(clinic.database, tmp_path):
        insert(connection, "task.done", count=10)
        wait_for(lambda: all_processed(connection), 20)
        wait_for(lambda: not clinic.findings("processors"), 20)
        assert hep("doctor", *areas).splitlines()[-1] == "Nothing is wrong."
        sessions = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hook-event-processor%%'"
            " AND datname = current_database() AND application_name NOT LIKE '%%tests'"
        ).fetchone()
    assert sessions is not None
    assert 4 <= sessions[0] <= sessions_of_processor(Settings(home=tmp_path, conninfo=""))


def test_leases_of_a_processor_that_was_killed_are_found_until_somebody_takes_them(
    clinic: Clinic, hep: Hep, connection: Connection, tmp_path: Path
) -> None:
    """The fifteen seconds that a lease lasts, and some more, are taken off its end."""
    _add(hep, tmp_path, "slow", "task.*", 'require("time").sleep(event.data.seconds) return true', timeout=30)
    with doomed(clinic.database, tmp_path) as processor:
        insert(connection, "task.slow", '{"seconds": 20}')
        wait_for(lambda: count(connection, "lease_token IS NOT NULL") == 1, 20)
    assert clinic.findings("events", "leases-ended") == []
    connection.execute(
        "UPDATE hook_events SET available_at = available_at - interval '1 min', payload = '{\"seconds\": 0}'"
    )
    found = clinic.only("events", "leases-ended")
    assert f":{processor.pid}" in found["what"]
    with running(clinic.database, tmp_path):
        wait_for(lambda: all_processed(connection), 20)
    assert clinic.findings("events", "leases-ended") == []


def test_events_that_nobody_takes_are_found(clinic: Clinic, connection: Connection, tmp_path: Path) -> None:
    insert_event(connection, created_at=ago(seconds=5))
    assert clinic.findings("events") == []
    old = insert_event(connection, created_at=ago(minutes=5))
    insert_event(connection, priority=1, created_at=ago(minutes=3))
    insert_event(connection, "scheduled", available_at=ago(minutes=2))
    found = clinic.only("events", "events-late")
    assert found["what"].startswith("3 events have waited, the oldest for 3")
    assert str(old) in found["mend"][-1]
    with running(clinic.database, tmp_path):
        wait_for(lambda: all_processed(connection), 20)
    assert clinic.findings("events", "events-late") == []


def test_events_that_wait_because_everything_is_paused_are_a_note(
    clinic: Clinic, hep: Hep, connection: Connection
) -> None:
    hep("pause", "--all", "--reason", "a move")
    insert_event(connection, created_at=ago(minutes=5))
    insert_event(connection, "processing", available_at=ago(minutes=5))
    assert clinic.document("events")["ok"]
    found = clinic.findings("events", "all-paused")
    assert len(found) == 2
    assert all(one["what"].endswith(": a move") for one in found)
    clinic.mend(found[0])
    assert [one["kind"] for one in clinic.findings("events")] == ["leases-ended", "events-late"]


def test_no_hook_is_proposed_for_what_no_pattern_can_name(
    clinic: Clinic, connection: Connection, tmp_path: Path
) -> None:
    with running(clinic.database, tmp_path):
        connection.execute("INSERT INTO hook_events (source, action) VALUES ('', ''), (E'stray\\n', 'cat')")
        wait_for(lambda: all_processed(connection), 20)
    found = clinic.findings("events", "unrouted")
    assert "1 event without a type in the last day" in [one["what"] for one in found]
    assert [command.split()[:3] for one in found for command in one["mend"]] == [["hep", "events", "show"]] * 2


def test_types_that_nothing_is_for_are_noted_until_a_hook_is(
    clinic: Clinic, hep: Hep, connection: Connection, tmp_path: Path
) -> None:
    with running(clinic.database, tmp_path):
        insert(connection, "stray.cat", count=3)
        insert(connection, "stray.dog", '{"stack": "kennel"}')
        insert(connection, "hook.failed", metadata='{"origin": {"component": "processor"}}')
        wait_for(lambda: all_processed(connection), 20)
    cat, dog = clinic.findings("events", "unrouted")
    assert cat["what"] == "3 events stray.cat in the last day"
    assert dog["what"] == "1 event stray.dog of the stack kennel in the last day"
    said = hep("doctor", "events")
    assert said.count("    note    ") == 2
    assert said.count("No hook and no handler is for these events.") == 1
    _add(hep, tmp_path, "cats", "stray.*", "return true")
    assert clinic.findings("events", "unrouted") == []


def test_a_schedule_that_does_not_fire_is_found_until_it_does(
    clinic: Clinic, connection: Connection, tmp_path: Path
) -> None:
    connection.execute("INSERT INTO hook_schedules (name, cron) VALUES ('the nightly one', 'at four')")
    with running(clinic.database, tmp_path):
        wait_for(lambda: bool(clinic.findings("schedules")), 10)
        found = clinic.only("schedules", "schedule-failing")
        assert found["what"].startswith("the nightly one does not fire: 'at four' is no cron expression: ")
        clinic.mend(found)  # no longer tried
        assert clinic.findings("schedules") == []
        connection.execute("UPDATE hook_schedules SET enabled = TRUE")
        wait_for(lambda: bool(clinic.findings("schedules")), 10)
        assert clinic.mends("schedules", "schedule-failing", 1)


def test_proposals_that_nobody_decides_are_told_of(clinic: Clinic, hep: Hep, connection: Connection) -> None:
    for name in ("greet", "notify"):
        connection.execute(
            "INSERT INTO hook_proposals (hook_name, event_types, source_text) VALUES (%s, '{a.b}', '')", (name,)
        )
    assert clinic.findings("hooks") == []
    connection.execute("ALTER TABLE hook_proposals DISABLE TRIGGER hook_proposal_kept")
    connection.execute("UPDATE hook_proposals SET proposed_at = proposed_at - interval '25 hours'")
    connection.execute("ALTER TABLE hook_proposals ENABLE TRIGGER hook_proposal_kept")
    found = clinic.only("hooks", "proposal-waiting")
    numbers = [number for (number,) in connection.execute("SELECT id FROM hook_proposals ORDER BY id")]
    assert found["what"].startswith(f"proposal {numbers[0]}, the oldest of 2, waits since ")
    assert found["what"].endswith(": hook greet")
    clinic.mend(found)  # it lists them
    for number in numbers:
        hep("hook", "reject", str(number), "--reason", "no")
    assert clinic.findings("hooks") == []


def test_failing_hooks_and_their_dead_letters_are_found_by_cause(
    clinic: Clinic, hep: Hep, connection: Connection, tmp_path: Path
) -> None:
    _add(hep, tmp_path, "broken", "task.*", 'error("no order " .. event.data.order)')
    with running(clinic.database, tmp_path):
        for number in range(1, 5):
            insert(connection, "task.failed", f'{{"order": {number}}}')
        wait_for(lambda: count(connection, "failed_at IS NOT NULL") == 4, 20)
        dead = clinic.only("events", "dead-letters")
        assert dead["what"].startswith("4 failed, the newest task.failed: broken: ")
        failing = clinic.only("hooks", "hook-failing")
        assert failing["what"].startswith("broken failed in 4 of its last 4 runs: ")
        assert "no order " in failing["what"]
        clinic.mend(failing)  # it shows the runs
        clinic.mend(failing, 1)  # events wait for the hook, instead of being lost on it
        assert "the hook broken" in hep("pause")
        assert clinic.findings("hooks", "hook-failing") == []
        _add(hep, tmp_path, "broken", "task.*", "return true")
        assert clinic.findings("hooks", "hook-failing") == []  # of this version nothing is known yet
        hep("resume", "--hook", "broken")
        clinic.mend(dead, 1)
        wait_for(lambda: all_processed(connection), 20)
    assert clinic.findings("events", "dead-letters") == []
    assert clinic.findings("hooks") == []


def test_hooks_that_take_nearly_all_their_time_are_found(
    clinic: Clinic, hep: Hep, connection: Connection, tmp_path: Path
) -> None:
    _add(hep, tmp_path, "slow", "task.*", 'require("time").sleep(0.6) return true')
    with running(clinic.database, tmp_path):
        insert(connection, "task.done", count=3)
        wait_for(lambda: all_processed(connection), 20)
    found = clinic.mends("hooks", "hook-slow", 1)
    assert "of the 1 s that it may" in found["what"]


def test_a_processor_that_was_killed_is_found_until_another_is_in_its_place(
    clinic: Clinic, connection: Connection, tmp_path: Path
) -> None:
    """The time in which it may be silent is taken off its last word."""
    assert clinic.only("processors", "no-processor")
    with doomed(clinic.database, tmp_path) as killed:
        wait_for(lambda: not clinic.findings("processors"), 20)
    connection.execute("UPDATE hook_processors SET heartbeat_at = heartbeat_at - interval '20 s'")
    found = clinic.findings("processors")
    assert [one["kind"] for one in found] == ["processor-silent", "no-processor"]
    assert f":{killed.pid} was last heard of" in found[0]["what"]
    with running(clinic.database, tmp_path):
        wait_for(lambda: not clinic.findings("processors"), 20)


def test_a_thread_that_is_stuck_is_found_until_it_comes_back(
    clinic: Clinic, hep: Hep, connection: Connection, tmp_path: Path
) -> None:
    """In a function of the library, where nothing interrupts the run."""
    mended = tmp_path / "mended"

    def hang(_: EventHandlerRegistry) -> None:
        functions = crypto.functions

        def digest(*_: Any) -> Any:
            wait_for(mended.exists, 60)

        crypto.functions = lambda services: {**functions(services), "crypto.digest": Function(digest)}

    _add(hep, tmp_path, "digests", "task.*", 'return true, require("crypto").sha256("a")')
    insert(connection, "task.one")
    with doomed(clinic.database, tmp_path, hang) as process:
        wait_for(lambda: clinic.findings("processors", "threads-stuck"), 30)
        # A run without effects is first tried beside the claim, and then once more under a lease.
        found = clinic.only("processors", "threads-stuck")["what"]
        assert re.search(rf":{process.pid} has given up (1 thread|2 threads)$", found)
        mended.touch()
        wait_for(lambda: not clinic.findings("processors"), 30)


def test_the_journal_of_an_instance_is_that_of_its_unit(clinic: Clinic, connection: Connection) -> None:
    connection.execute(
        "INSERT INTO hook_processors (node, host, instance, pid, version, state, wake, workers, stuck)"
        " VALUES ('here:1@two', 'here', 'two', 1, '1', 'running', 'listen', 4, 1)"
    )
    [command] = clinic.only("processors", "threads-stuck")["mend"]
    assert command.startswith("journalctl -u hook-event-processor@two OUTCOME=stuck ")


def test_a_processor_of_another_version_is_found_until_it_ends(clinic: Clinic, tmp_path: Path) -> None:
    def is_older(_: EventHandlerRegistry) -> None:
        patch.object(condition, "__version__", "0.0.1").start()  # in its process alone

    with running(clinic.database, tmp_path):
        wait_for(lambda: not clinic.findings("processors"), 30)
        with doomed(clinic.database, tmp_path, is_older) as older:
            wait_for(lambda: clinic.findings("processors", "versions-differ"), 30)
            found = clinic.only("processors", "versions-differ")["what"]
            assert re.search(rf":{older.pid} \(0\.0\.1\)", found)
            older.signal(signal.SIGTERM)
            assert older.wait(30) == 0
        wait_for(lambda: not clinic.findings("processors"), 30)


def test_silent_hosts_and_watchers_are_found(clinic: Clinic, hep: Hep, connection: Connection) -> None:
    hosts.register(connection, Host("web-1", "10.0.0.5", (), "1.0", {}))
    cpu = watchers.add(connection, NewWatcher("web-1", "cpu", name="load"))
    watchers.add(connection, NewWatcher("db-1", "cpu"))
    assert [one["what"] for one in clinic.findings("watchers")] == ["nothing watches on db-1"]
    assert clinic.only("watchers", "host-without-daemon")
    hosts.register(connection, Host("db-1", "10.0.0.6", (), "1.0", {}))
    assert clinic.findings("watchers") == []

    connection.execute("UPDATE hosts SET last_seen = %s WHERE name = 'db-1'", (ago(seconds=50),))
    hosts.find_silent(connection)
    assert "db-1 was last heard of 5" in clinic.mends("watchers", "host-silent", 1)["what"]
    hosts.register(connection, Host("db-1", "10.0.0.6", (), "1.0", {}))

    watchers.say_looked(connection, [Looked(cpu.id, ago(), "no /proc")])
    assert clinic.only("watchers", "watcher-failing")["what"] == "load (cpu) on web-1 cannot look: no /proc"
    connection.execute("UPDATE hosts SET registered_at = %s", (ago(hours=2),))
    watchers.say_looked(connection, [Looked(cpu.id, ago(minutes=30), None)])
    connection.execute("UPDATE watchers SET updated_at = %s, last_check = now() WHERE host = 'db-1'", (ago(hours=2),))
    assert "load (cpu) on web-1 last looked 1,8" in clinic.only("watchers", "watcher-silent")["what"]
    clinic.mend(clinic.only("watchers", "watcher-silent"), 2)  # it is disabled
    assert clinic.findings("watchers") == []


@pytest.mark.usefixtures("counting_kinds")
def test_what_a_daemon_says_and_that_it_was_killed_is_found(
    clinic: Clinic, connection: Connection, tmp_path: Path
) -> None:
    """The time in which it may be silent is taken off its last word."""
    numbers = tmp_path / "numbers"
    watching.add(connection, numbers, name="counted")
    assert clinic.only("watchers", "host-without-daemon")
    daemon = watching.start(clinic.database, tmp_path)
    wait_for(lambda: clinic.findings("watchers", "watcher-failing"), 20)
    [found] = clinic.findings("watchers")
    assert found["what"] == "counted (counter) on web-1 cannot look: there is no numbers"
    watching.write_number(numbers, 1)
    wait_for(lambda: not clinic.findings("watchers"), 20)
    daemon.kill()
    connection.execute("UPDATE hosts SET last_seen = last_seen - interval '50 s'")
    hosts.find_silent(connection)
    assert "web-1 was last heard of 5" in clinic.only("watchers", "host-silent")["what"]
    with watching.watching(clinic.database, tmp_path):
        wait_for(lambda: not clinic.findings("watchers"), 20)


def test_a_watcher_whose_row_makes_no_sense_is_found(clinic: Clinic, connection: Connection) -> None:
    hosts.register(connection, Host("web-1", "10.0.0.5", (), "1.0", {}))
    connection.execute("INSERT INTO watchers (id, type, host, name) VALUES ('w', 'clairvoyance', 'web-1', 'odd')")
    assert "odd (clairvoyance) on web-1 cannot look: " in clinic.mends("watchers", "watcher-failing", 1)["what"]
    connection.execute("UPDATE watchers SET type = 'cpu', config = '{\"options\": [1]}', enabled = TRUE")
    assert "odd (cpu) on web-1 cannot look: its config has a list" in clinic.only("watchers", "watcher-failing")["what"]
