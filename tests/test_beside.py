"""The watcher daemon beside the processor: it costs no process until there is something to watch, and ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from psycopg import Connection
from waiting import wait_for

from hook_event_processor.cli.beside import Beside, end_with_parent
from hook_event_processor.settings import Settings
from hook_event_processor.store import hosts, watchers
from hook_event_processor.store.database import Database
from hook_event_processor.store.watchers import NewWatcher


@pytest.fixture
def beside(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    for name, value in (("DATABASE_URL", database.conninfo), ("HEP_HOME", str(tmp_path)), ("HOST_NAME", "web-1")):
        monkeypatch.setenv(name, value)
    beside = Beside(Settings(tmp_path, database.conninfo, host_name="web-1"), database)
    beside.start()
    yield beside
    beside.stop()


def daemons() -> list[psutil.Process]:
    """The watcher daemons that this process has started."""
    found = []
    for child in psutil.Process().children():
        # It may end while it is looked at.
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and child.cmdline()[-2:] == ["watcher", "run"]:
                found.append(child)
    return found


def waiting_sessions(connection: Connection) -> int:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%%EXISTS%%watchers%%'"
    )
    row = connection.execute(query.replace("%%", "%")).fetchone()
    return int(row[0]) - 1 if row else 0  # without this one


@pytest.mark.usefixtures("beside")
def test_it_starts_with_the_first_watcher_and_again_when_it_was_killed(connection: Connection) -> None:
    wait_for(lambda: waiting_sessions(connection) == 1, 10)
    watchers.add(connection, NewWatcher("db-1", "cpu"))
    watchers.add(connection, NewWatcher("web-1", "cpu", enabled=False))
    assert daemons() == []
    watchers.add(connection, NewWatcher("web-1", "cpu"))
    wait_for(lambda: [host.name for host in hosts.known(connection)] == ["web-1"], 20)
    [daemon] = daemons()
    daemon.send_signal(signal.SIGKILL)
    wait_for(lambda: daemons() not in ([], [daemon]), 20)


def test_it_ends_with_what_it_stands_beside(beside: Beside, connection: Connection) -> None:
    watchers.add(connection, NewWatcher("web-1", "cpu"))
    wait_for(lambda: bool(hosts.known(connection)), 20)
    beside.stop()
    assert daemons() == []
    assert hosts.get(connection, "web-1").status == "stopped"


def test_a_daemon_whose_parent_has_ended_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEP_PARENT", "1" if os.getppid() != 1 else "2")
    code = "from hook_event_processor.cli.beside import end_with_parent; raise SystemExit(not end_with_parent())"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 1
    monkeypatch.delenv("HEP_PARENT")
    assert end_with_parent()
