"""Daemons of watchers under systemd, in an outage and among kills: nothing is lost, doubled or out of order."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import psycopg
import pytest
from box import Box
from shop import create, installed
from waiting import wait_for

# Outside continuous integration an ordinary user may run the other tests.
pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="booting a systemd in a box needs root: run as root"
    ),
    pytest.mark.timeout(600),
]

LOG = "/var/log/shop.log"
FILE = "/root/tree/a"
LOGS, FILES = "hook-watcher@log.service", "hook-watcher@file.service"
# As the units are, but for their patience; and what is frozen dies so: SIGABRT comes with a SIGCONT, which wakes it.
IMPATIENT = """
[Unit]
StartLimitIntervalSec=0
[Service]
RestartSec=100ms
WatchdogSec=5
WatchdogSignal=SIGKILL
"""


@pytest.fixture(scope="module")
def machine(box: Box) -> Iterator[Box]:
    """A daemon for logs and one for files, each with a watcher."""
    with installed(box, "file,log"):
        box.shell(f"install -d -m 700 /root/tree; echo 0 >{FILE}; install -m 600 /dev/null {LOG}")
        box.write("/etc/systemd/system/hook-watcher@.service.d/test.conf", IMPATIENT)
        box.shell("systemctl daemon-reload; systemctl restart 'hook-watcher@*'")
        watchers = {
            "log": f"--type log --path {LOG} --pattern 'change (?P<n>[0-9]+)' --max-events 2000",
            "file": f"--type file --path {FILE}",
        }
        create(box, watchers)
        yield box
        box.run("rm", "-r", "/etc/systemd/system/hook-watcher@.service.d/test.conf")


def changes(box: Box) -> list[int]:
    """The numbers that the log's watcher has told, in the order of the events."""
    query = "SELECT payload -> 'fields' ->> 'n' FROM hook_events WHERE source = 'log' ORDER BY seq"
    return [int(number) for number in box.psql(query).split()]


def counted(box: Box, condition: str) -> int:
    return int(box.psql(f"SELECT count(*) FROM hook_events WHERE {condition}"))


def pid(box: Box, unit: str) -> str:
    return box.properties("MainPID", unit=unit)[0]


WRITE = f"""
import time
with open({LOG!r}, "a", buffering=1) as log:
    for number in range(1, 1001):
        print("change", number, file=log)
        time.sleep(0.025)
"""


def test_a_thousand_changes_in_an_outage_of_30_seconds(machine: Box) -> None:
    """Meanwhile one daemon is killed, and another stopped until the watchdog brings it back."""
    wait_for(lambda: stored(machine, "states") == 2, 10, "what the first looks saw is kept")
    machine.run("systemctl", "stop", "postgresql")
    began = time.monotonic()
    frozen, killed = pid(machine, FILES), pid(machine, LOGS)
    machine.run("kill", "-STOP", frozen)
    machine.shell(f"echo 12 >{FILE}")
    writer = machine.popen("/usr/bin/python3", "-I", "-c", WRITE)
    time.sleep(10)
    machine.run("kill", "-KILL", killed)
    assert writer.wait(100) == 0
    wait_for(lambda: pid(machine, FILES) not in ("0", frozen), 60, "the watchdog has brought it back")
    assert pid(machine, LOGS) not in ("0", killed)
    results = {entry.get("UNIT_RESULT") for entry in machine.journal("_PID=1", f"UNIT={FILES}")}
    assert "watchdog" in results
    time.sleep(max(began + 30 - time.monotonic(), 0))
    machine.run("systemctl", "start", "postgresql")
    wait_for(machine.answers, 30, "PostgreSQL answers")
    wait_for(lambda: len(changes(machine)) >= 1000, 60, "all changes are told")
    assert changes(machine) == list(range(1, 1001))
    late = counted(machine, "source = 'log' AND payload ->> 'seen_late' = 'true'")
    assert 0 < late < 1000, "those of the time without a daemon, and no others"
    modified = "source = 'file' AND action = 'modified'"
    wait_for(lambda: counted(machine, modified) == 1, 30, "what changed while it was stopped is told")
    assert counted(machine, f"{modified} AND payload ->> 'seen_late' = 'true'") == 1
    machine.shell(f"echo 123 1<>{FILE}")  # it is never empty
    wait_for(lambda: counted(machine, modified) == 2, 30, "it goes on")
    assert counted(machine, f"{modified} AND payload ->> 'seen_late' = 'true'") == 1
    run = "SELECT count(DISTINCT event_id) FROM event_hook_executions JOIN hook_events e ON e.id = event_id"
    wait_for(lambda: machine.psql(f"{run} WHERE e.source = 'log'") == "1000", 60, "a hook has run for each")


# A daemon's events are not in the database while somebody holds the key.
TRAP = """
CREATE OR REPLACE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('application_name') = 'hook-event-processor watcher' THEN
        PERFORM set_config('lock_timeout', '0', true);
        PERFORM pg_advisory_xact_lock_shared(1, 4242);
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER trap BEFORE INSERT ON hook_events FOR EACH STATEMENT EXECUTE FUNCTION trap();
"""
# While it lives, no daemon can remove anything from the spool. It writes down what lies there.
HOLD = """
import os, sqlite3, sys, time
store = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
store.execute("BEGIN IMMEDIATE")
ids = [row[0] for row in store.execute("SELECT id FROM spool")]
with open("/run/hep-spool.new", "w") as file:
    print(*ids, file=file)
os.rename("/run/hep-spool.new", "/run/hep-spool")
time.sleep(600)
"""
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hook-event-processor watcher'"
TYPES = ("command", "connection", "cpu", "custom", "disk", "file", "load", "log", "memory", "network")
ROUNDS = 5


def test_fifty_kills_between_sending_and_removing_double_nothing(machine: Box) -> None:
    """Ten daemons, five times: each has sent what is in the spool, and it is in the database, when they die."""
    units = [f"hook-watcher@{name}.service" for name in TYPES]
    before = len(changes(machine))
    machine.run("systemctl", "start", *units)
    wait_for(lambda: machine.psql(SESSIONS) == str(len(units)) and stored(machine, "spool") == 0, 60, "all are at work")
    machine.psql(TRAP)
    machine.write("/root/hold.py", HOLD)
    with psycopg.connect(machine.url, autocommit=True) as trap:
        trap.execute("SELECT pg_advisory_lock(1, 4242)")
        machine.run("kill", "-KILL", *(pid(machine, unit) for unit in units))
        for number in range(1, ROUNDS + 1):
            machine.shell(f"echo change {before + number} >>{LOG}")
            kill_all_with_what_they_sent(machine, trap, units)
        trap.execute("SELECT pg_advisory_unlock_all()")
    machine.psql("DROP TRIGGER trap ON hook_events; DROP FUNCTION trap()")
    wait_for(lambda: len(changes(machine)) >= before + ROUNDS, 60, "the changes are told")
    wait_for(lambda: stored(machine, "spool") == 0, 60, "nothing waits any more")
    assert changes(machine) == list(range(1, before + ROUNDS + 1))
    starts = "action = 'startup' AND payload ->> 'component' = 'watcher'"
    twice = "SELECT count(*) - count(DISTINCT (payload ->> 'pid', payload ->> 'start_time')) FROM hook_events"
    assert machine.psql(f"{twice} WHERE {starts}") == "0"


def store(machine: Box) -> str:
    """The file of the daemons' store."""
    return f"/var/lib/hook-event-processor/watchers/{machine.run('hostname').strip()}.db"


def stored(machine: Box, table: str) -> int:
    """How many rows a table of the store has: spool, states."""
    reading = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"
    count = f"SELECT count(*) FROM {table}"
    return int(machine.run("/usr/bin/python3", "-I", "-c", reading, store(machine), count))


def kill_all_with_what_they_sent(machine: Box, trap: psycopg.Connection, units: list[str]) -> None:
    """Kill daemons whose events were committed and not removed."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242 AND NOT granted"
    wait_for(lambda: trap.execute(waiting).fetchone() == (len(units),), 90, "all have sent, and wait for an answer")
    pids = [pid(machine, unit) for unit in units]
    machine.run("rm", "-f", "/run/hep-spool")
    hold = ["/usr/bin/python3", "-I", "/root/hold.py", store(machine)]
    machine.run("systemd-run", "--quiet", "--collect", "--unit", "hep-hold", *hold)
    wait_for(lambda: machine.status("test", "-e", "/run/hep-spool") == 0, 30, "the spool is held")
    ids = machine.run("cat", "/run/hep-spool").split()
    trap.execute("SELECT pg_advisory_unlock(1, 4242)")
    # Their next statement comes when they have removed what they sent, which they cannot, and give up after 5 s.
    answered = f"{SESSIONS} AND state = 'idle' AND query LIKE '%INSERT INTO hook_events%'"
    wait_for(lambda: trap.execute(answered).fetchone() == (len(units),), 60, "all have been answered")
    found = trap.execute("SELECT count(*) FROM hook_events WHERE id::text = ANY (%s)", (ids,)).fetchone()
    assert found > (0,)
    trap.execute("SELECT pg_advisory_lock(1, 4242)")
    machine.run("kill", "-KILL", *pids)
    machine.run("systemctl", "stop", "hep-hold")
