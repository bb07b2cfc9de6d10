"""What programs of custom watchers print until the daemon ends them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from psycopg import Connection
from waiting import wait_for
from watching import HOST, watching

from hook_event_processor.store import watchers
from hook_event_processor.store.database import Database
from hook_event_processor.store.watchers import NewWatcher, Watcher
from hook_event_processor.watchers.check import Moment, Noticed
from hook_event_processor.watchers.kinds import custom

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("counting_kinds")]

# What it prints comes after the first look, which starts it; the next is far off.
_PROGRAM = """
trap 'echo {base}3; exit' TERM
sleep 1
echo {base}1; echo {base}2
touch {ready}
while :; do sleep 0.05; done
"""


def add(connection: Connection, folder: Path, base: int, interval: float = 3600.0) -> tuple[Watcher, Path]:
    """A watcher of a program that prints numbers, and a file that is there when it waits for its end."""
    ready = folder / f"ready-{base}"
    path = folder / f"run-{base}"
    path.write_text(_PROGRAM.format(base=base, ready=ready))
    options = {"command": f"sh {path}"}
    return watchers.add(connection, NewWatcher(HOST, "custom", options=options, interval=interval)), ready


def told(connection: Connection) -> list[int]:
    query = "SELECT (payload ->> 'value')::int FROM hook_events WHERE source = 'custom' ORDER BY 1"
    return [row[0] for row in connection.execute(query).fetchall()]


def test_what_programs_have_printed_when_the_daemon_stops_is_told(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    ready = [add(connection, tmp_path, base)[1] for base in (1, 2)]
    with watching(database, tmp_path, watch_exec=True):
        wait_for(lambda: all(path.exists() for path in ready), 20)
        assert told(connection) == []
    assert told(connection) == [11, 12, 13, 21, 22, 23]


def test_what_a_program_has_printed_when_its_watcher_changes_or_goes_is_told(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    watcher, ready = add(connection, tmp_path, 1)
    with watching(database, tmp_path, watch_exec=True):
        wait_for(ready.exists, 20)
        ready.unlink()
        connection.execute("UPDATE watchers SET name = 'numbers' WHERE id = %s", (watcher.id,))
        wait_for(lambda: told(connection) == [11, 12, 13], 20)
        wait_for(ready.exists, 20, "it was not started again")
        watchers.remove(connection, watcher)
        wait_for(lambda: told(connection) == sorted([11, 12, 13] * 2), 20)


def test_what_a_look_has_taken_that_is_not_over_when_the_daemon_stops_is_told(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    look, taken = custom._Kept.look, tmp_path / "taken"

    def look_slowly(check: custom._Kept, moment: Moment) -> list[Noticed]:
        noticed = look(check, moment)
        if noticed and not taken.exists():
            taken.touch()
            time.sleep(0.5)
        return noticed

    def be_slow() -> None:
        custom._Kept.look = look_slowly  # type: ignore[method-assign]

    add(connection, tmp_path, 1, interval=0.5)
    with watching(database, tmp_path, None, be_slow, watch_exec=True):
        wait_for(taken.exists, 20)
    assert told(connection) == [11, 12, 13]
