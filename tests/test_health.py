"""Health that does not lie: what is frozen, deaf, away or full is unhealthy within its time, and told by all alike.

The limits are a fraction of the real ones here, in the processes that are forked, too.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Hep
from deaf import deaf_proxy
from factories import ago
from psycopg import Connection
from running import add_hook, all_processed, insert, running, start
from waiting import wait_for
from watching import add, watching, write_number

from hook_event_processor.processor import health, health_file, hearing, housekeeping
from hook_event_processor.processor.health import Facts
from hook_event_processor.service import cutoff
from hook_event_processor.store import hosts, processors
from hook_event_processor.store.database import Database
from hook_event_processor.watchers.daemon import health as daemons

pytestmark = [pytest.mark.store, pytest.mark.alone]

FREEZE = Path(__file__).with_name("freeze.py")
WITHIN = 5.0  # what fifteen seconds are with these limits
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may stop threads and servers of others")


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the real ones."""
    monkeypatch.setattr(health, "STILL_SECONDS", 2.5)
    for name in ("AWAY_SECONDS", "LISTEN_SECONDS", "CLAIM_SECONDS"):
        monkeypatch.setattr(health, name, 2.5)
    monkeypatch.setattr(health, "FRESH_SECONDS", 4)
    monkeypatch.setattr(health_file, "WRITE_SECONDS", 1.0)
    monkeypatch.setattr(housekeeping, "_INTERVAL_SECONDS", 1.0)
    monkeypatch.setattr(hearing, "_ASK_SECONDS", 0.8)
    monkeypatch.setattr(hearing, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(hearing, "_AGAIN_SECONDS", 1.0)
    monkeypatch.setattr(cutoff, "LOOKOUT_SECONDS", 3.5)
    monkeypatch.setattr(daemons, "SILENT_SECONDS", 4.0)
    monkeypatch.setattr(daemons, "WRITE_SECONDS", 1.0)
    monkeypatch.setattr(daemons, "AWAY_SECONDS", 1.5)


def _unhealthy(hep: Hep, words: str, *arguments: str) -> bool:
    finished = hep.run("health", *arguments)
    return finished.status == 1 and words in finished.output


def _healthy(hep: Hep) -> bool:
    return hep.run("health").status == 0


@contextmanager
def _frozen(pid: int, which: str) -> Iterator[None]:
    with subprocess.Popen([sys.executable, str(FREEZE), str(pid), which], stdout=subprocess.PIPE, text=True) as freezer:
        assert freezer.stdout is not None
        assert freezer.stdout.readline() == "frozen\n"
        try:
            yield
        finally:
            freezer.kill()


def _server_process(connection: Connection, role: str) -> int:
    row = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s AND datname = current_database()",
        (f"%{role}",),
    ).fetchone()
    assert row is not None
    return int(row[0])


def _types(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT source || '.' || action FROM hook_events WHERE source = 'health' ORDER BY seq")
    return [row[0] for row in rows]


def _has_told(connection: Connection) -> bool:
    query = "SELECT health ? %s FROM hook_processors"
    return connection.execute(query, (processors.TOLD,)).fetchall() == [(True,)]


@root_only
def test_a_frozen_thread_is_unhealthy_while_others_work(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told by the command, by the status, to systemd and as an event; and so is that it is over."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(5)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with manager, running(database, tmp_path) as process:
        wait_for(lambda: _healthy(hep), 5)
        with _frozen(process.pid, "lane 1"):
            wait_for(lambda: _unhealthy(hep, "lane 1 has stood still"), WITHIN)
            assert "lane 1 has stood still" in hep("status")
            while not manager.recv(1000).startswith(b"STATUS=lane 1 has stood still"):
                pass
            manager.close()  # its queue would fill up
            insert(connection, "task.one", count=5)
            wait_for(lambda: all_processed(connection), 5)
            wait_for(lambda: _has_told(connection), 3)
        wait_for(lambda: _healthy(hep), 3)
        wait_for(lambda: not _has_told(connection), 3)
        wait_for(lambda: _types(connection) == ["health.degraded", "health.recovered"], 3)
        assert process.said("unhealthy: lane 1 has stood still")
        # It feeds the watchdog, which starves; others write the row, which tells it before.
        with _frozen(process.pid, "main"):
            wait_for(lambda: _unhealthy(hep, "main thread has stood still"), WITHIN)
        wait_for(lambda: _healthy(hep), 3)


def test_a_frozen_process_is_unhealthy_by_its_silence(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    with running(database, tmp_path) as process:
        wait_for(lambda: _healthy(hep), 5)
        process.signal(signal.SIGSTOP)
        wait_for(lambda: _unhealthy(hep, "silent for"), WITHIN + 1)
        process.signal(signal.SIGCONT)
        wait_for(lambda: _healthy(hep), 5)


@root_only
def test_a_listener_whose_server_is_frozen_is_unhealthy_and_connects_anew(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    """The socket stays open and says nothing: no network notices that."""
    with running(database, tmp_path):
        wait_for(lambda: _healthy(hep), 5)
        server_process = _server_process(connection, "lookout")
        os.kill(server_process, signal.SIGSTOP)
        try:
            wait_for(lambda: _unhealthy(hep, "lookout has stood still"), WITHIN)
            wait_for(lambda: _healthy(hep), 4)
            insert(connection, "task.one")
            wait_for(lambda: all_processed(connection), 3)
        finally:
            os.kill(server_process, signal.SIGCONT)


def test_a_listener_that_hears_nothing_is_unhealthy_and_polls_until_it_hears_again(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    with deaf_proxy(database.conninfo) as proxy, running(replace(database, conninfo=proxy.conninfo), tmp_path):
        wait_for(lambda: _healthy(hep), 5)
        proxy.deaf = True
        wait_for(lambda: _unhealthy(hep, "no notification has come back for"), WITHIN)
        wait_for(lambda: hep.document("status", "--format", "json")["processors"][0]["wake"] == "poll", 3)
        insert(connection, "task.one")
        wait_for(lambda: all_processed(connection), 3)
        proxy.deaf = False
        wait_for(lambda: _healthy(hep), 4)
        assert hep.document("status", "--format", "json")["processors"][0]["wake"] == "listen"


def test_a_session_of_the_listener_that_is_ended_is_had_again_before_anybody_notices(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    with running(database, tmp_path) as process:
        wait_for(lambda: _healthy(hep), 5)
        connection.execute("SELECT pg_terminate_backend(%s)", (_server_process(connection, "lookout"),))
        wait_for(lambda: bool(process.said("the database is back")), 3)
        assert _healthy(hep)


def test_claims_that_come_to_no_end_are_unhealthy(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    with running(database, tmp_path), database.session("psql") as other:
        wait_for(lambda: _healthy(hep), 5)
        insert(connection, "task.soon", available_at=ago(seconds=-0.5))
        with other.transaction():
            other.execute("LOCK TABLE hook_events IN EXCLUSIVE MODE")
            wait_for(lambda: _unhealthy(hep, "no claim has come to an end for"), WITHIN + 5)
        wait_for(lambda: _healthy(hep), 12)


def test_what_is_paused_is_told_and_healthy(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    add_hook(connection, "notify", "task.*", "return {execute = function() end}")
    hep("pause", "--hook", "notify", "--reason", "SMTP is down")
    with running(database, tmp_path):
        wait_for(lambda: "healthy: paused: the hook notify (SMTP is down)" in hep.run("health").output, 5)
        assert _healthy(hep)


def test_nothing_that_runs_here_cannot_be_told(hep: Hep) -> None:
    assert hep.run("health").status == 3
    document = json.loads(hep.run("health", "--json").output)
    assert (document["status"], document["processors"]) == ("unknown", [])
    assert "--all-hosts" in document["unknown"]


def test_a_database_that_does_not_answer_cannot_tell(hep: Hep, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DATABASE_URL", f"postgresql://hep@127.0.0.1:{silent.getsockname()[1]}/hep")
        finished = hep.run("health", "--timeout", "0.3")
    assert (finished.status, finished.output) == (3, "unknown: the database did not answer within 0.3 s\n")


def test_while_the_database_is_away_a_processor_is_judged_by_its_file(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, and then with a server that says nothing: the answer does not wait for it."""
    monkeypatch.setenv("HEP_HOME", str(tmp_path))
    with (
        deaf_proxy(database.conninfo) as proxy,
        running(replace(database, conninfo=proxy.conninfo), tmp_path) as process,
    ):
        monkeypatch.setenv("DATABASE_URL", proxy.conninfo)
        wait_for(lambda: _healthy(hep), 5)
        proxy.cut()
        wait_for(lambda: _unhealthy(hep, f":{process.pid}: unhealthy: the database has been away for"), WITHIN)
        assert _unhealthy(hep, f":{process.pid}: unhealthy", "--of", "processors", "--instance", "")
        assert process.said("unhealthy: the database has been away for")
        assert hep.run("health", "--of", "processors", "--instance", "2").status == 3
        told = json.loads(hep.run("health", "--of", "processors", "--json").output)
        assert (told["status"], told["processors"][0]["findings"][0]["fact"]) == ("unhealthy", "database")
        assert "the database cannot be reached" in told["unknown"]
        proxy.cut(mute=True)
        began = time.monotonic()
        assert _unhealthy(hep, "the database did not answer within 1 s")
        assert time.monotonic() - began < 2.5
    assert hep.run("health", "--of", "processors", "--timeout", "0.3").status == 3


def test_a_processor_that_died_while_the_database_is_away_is_told_until_another_takes_its_place(
    database: Database, tmp_path: Path, hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEP_HOME", str(tmp_path))
    with deaf_proxy(database.conninfo) as proxy:
        monkeypatch.setenv("DATABASE_URL", proxy.conninfo)
        lost = replace(database, conninfo=proxy.conninfo)
        with running(lost, tmp_path) as process:
            proxy.cut()
            process.kill()
            wait_for(lambda: _unhealthy(hep, f":{process.pid}: unhealthy: silent for"), WITHIN + 1)
            process.status = 0
        # It waits for the database, and says so.
        second = start(lost, tmp_path)
        try:
            wait_for(lambda: f":{second.pid}: healthy" in hep.run("health").output, 5)
            assert f":{process.pid}:" not in hep.run("health").output
        finally:
            second.signal(signal.SIGTERM)
            assert second.wait(10) == 0
        assert list((tmp_path / "health").iterdir()) == []


def _say(connection: Connection, node: str, seconds: float, **columns: Any) -> None:
    values = {"host": socket.gethostname(), "instance": "", "started_at": ago(minutes=5), **columns}
    names = ", ".join(values)
    connection.execute(
        f"INSERT INTO hook_processors (node, pid, version, state, wake, workers, heartbeat_at, {names})"
        f" VALUES (%s, 1, '1', 'running', 'listen', 1, %s, {', '.join(['%s'] * len(values))})",
        (node, ago(seconds=seconds), *values.values()),
    )


def test_a_processor_that_died_is_unhealthy_until_another_takes_its_place(connection: Connection, hep: Hep) -> None:
    _say(connection, "a:1", 30)
    assert _unhealthy(hep, "processor a:1: unhealthy: silent for 3")
    _say(connection, "a:2", 1, started_at=ago(seconds=20))
    assert hep("health") == "healthy: 1 processor\n  processor a:2: healthy\n"


ODD_HEALTH = {
    "no object": "5",
    "a daemon that is none": '{"all": 5}',
    "no time": '{"all": {"facts": {}}}',
    "a time that is none": '{"all": {"at": "soon", "facts": {}}}',
    "a number that fills a page": '{"all": {"at": 1e5000}}',
    "numbers that are too much for any text": f'{{"all": [{"1e131071, " * 12_000} 0]}}',
    "levels without end": f'{{"all": {"[" * 2000}{"]" * 2000}}}',
    "facts that are none": '{"all": {"at": "9999-01-01T00:00Z", "facts": 5}}',
    "a fact that is no number": '{"all": {"at": "9999-01-01T00:00Z", "facts": {"away": ""}}}',
}


@pytest.mark.parametrize("odd", ODD_HEALTH.values(), ids=ODD_HEALTH)
def test_what_no_daemon_writes_is_left_out(connection: Connection, hep: Hep, odd: str) -> None:
    """A watcher of one host must not keep the others from being judged."""
    for name in ("a", "b"):
        hosts.register(connection, hosts.Host(name, "", (), "1", {}))
        hosts.beat(connection, name, health={})
    connection.execute("UPDATE hosts SET health = %s WHERE name = 'a'", (odd,))
    [judged] = hep.document("health", "--all-hosts", "--of", "watchers", "--json")["watchers"]
    assert judged["host"] == "b"


def test_other_instances_and_hosts_are_judged_when_they_are_asked_for(connection: Connection, hep: Hep) -> None:
    _say(connection, "a:1@1", 1, instance="1")
    _say(connection, "a:2@2", 60, instance="2")
    _say(connection, "b:1", 60, host="b")
    assert hep.run("health", "--instance", "1").status == 0
    assert hep.run("health", "--instance", "2").status == 1
    assert hep.run("health", "--instance", "3").status == 3
    connection.execute("DELETE FROM hook_processors WHERE instance = '2'")
    assert hep.run("health").status == 0
    assert hep.run("health", "--all-hosts").status == 1


@pytest.mark.usefixtures("counting_kinds")
def test_a_full_spool_is_unhealthy_while_the_database_is_away(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon's own file tells it; as the database is back, all is well."""
    monkeypatch.setenv("HEP_HOME", str(tmp_path))
    counted = tmp_path / "number"
    counted.write_text("0")
    with deaf_proxy(database.conninfo) as proxy:
        add(connection, counted)
        with watching(replace(database, conninfo=proxy.conninfo), tmp_path, spool_max_events=10) as process:
            assert hep.run("health", "--of", "watchers").status == 0
            assert hep.document("health", "--all-hosts", "--of", "watchers", "--json")["watchers"][0]["name"] == "all"
            proxy.cut()
            monkeypatch.setenv("DATABASE_URL", proxy.conninfo)
            write_number(counted, 50)
            wait_for(lambda: _unhealthy(hep, "the spool is full"), WITHIN)
            assert process.said("unhealthy: the spool is full")
            proxy.mend()
            wait_for(lambda: hep.run("health", "--of", "watchers").status == 0, 15)
    assert hep.run("health", "--of", "watchers").status == 3


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (Facts(still={"lane 1": 2.0}), []),
        (Facts(still={"lane 1": 3.0}), [("lane 1", False)]),
        (Facts(away=1.0), [("database", True)]),
        (Facts(away=60.0, listen=60.0, claiming=60.0), [("database", False)]),
        (Facts(claiming=3.0), [("claim", False)]),
        (Facts(claimed=60.0), []),
        (Facts(claimed=60.0, waiting=59.0), [("claim", False)]),
        (Facts(listen=3.0), [("listen", False)]),
        (Facts(polls=True), [("listen", True)]),
        (Facts(away=5.0, still={"lane 1": 12.0}), [("database", False)]),
        (Facts(stuck=1), [("stuck", True)]),
        (Facts(stuck=4), [("stuck", False)]),
        (Facts(paused=["everything"]), [("paused", True)]),
    ],
)
def test_facts_are_judged(facts: Facts, found: list[tuple[str, bool]]) -> None:
    assert [(finding.fact, finding.is_healthy) for finding in health.judge(facts)] == found


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (daemons.Facts(spooled=79, spool_limit=100), []),
        (daemons.Facts(spooled=80, spool_limit=100), [("spool", True)]),
        (daemons.Facts(spool_bytes=100, spool_max_bytes=100), [("spool", False)]),
        (daemons.Facts(dropped=1), [("spool", False)]),
        (daemons.Facts(unwritable="disk full"), [("spool", False)]),
        (daemons.Facts(away=60.0), [("database", False)]),
        (daemons.Facts(failing=1, watchers=2, stuck=1), [("stuck", True), ("failing", True)]),
    ],
)
def test_facts_of_watchers_are_judged(facts: daemons.Facts, found: list[tuple[str, bool]]) -> None:
    assert [(finding.fact, finding.is_healthy) for finding in daemons.judge(facts)] == found


@pytest.mark.parametrize(
    ("facts", "meaning"),
    [
        (
            daemons.Facts(away=60.0, spooled=1, spool_limit=9000),
            "the database has been away for 60 s: 1 event waits on the disk",
        ),
        (
            daemons.Facts(away=60.0, spooled=1200, spool_limit=9000),
            "the database has been away for 60 s: 1,200 events wait on the disk",
        ),
        (daemons.Facts(dropped=1), "the spool is full: 1 event has been given up"),
        (daemons.Facts(dropped=2), "the spool is full: 2 events have been given up"),
        (daemons.Facts(stuck=1), "1 watcher does not come back from looking"),
        (daemons.Facts(stuck=2), "2 watchers do not come back from looking"),
        (daemons.Facts(failing=1, watchers=1), "1 of 1 watcher cannot look"),
        (daemons.Facts(failing=1, watchers=2), "1 of 2 watchers cannot look"),
    ],
)
def test_what_watchers_tell_of_one_is_in_the_singular(facts: daemons.Facts, meaning: str) -> None:
    assert [finding.meaning for finding in daemons.judge(facts)] == [meaning]
