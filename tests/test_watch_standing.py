"""Daemons of one host that do not see each other's files: the database says whose turn it is."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from psycopg import Connection
from waiting import wait_for
from watching import HOST, add, end, reached, start, watching, write_number

from hook_event_processor.store import hosts, watcher_locks
from hook_event_processor.store.database import Database
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.daemon import agent
from hook_event_processor.watchers.daemon.local_store import LocalStore
from hook_event_processor.watchers.daemon.spool import Limits
from hook_event_processor.watchers.daemon.standing import Standing

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("counting_kinds")]


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Path, Path]:
    """Of two daemons."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    return one, other


def await_reached(connection: Connection, numbers: Path, count: int) -> None:
    """Count on until it is told."""
    write_number(numbers, count)
    wait_for(lambda: len(reached(connection)) >= count, 10)
    assert reached(connection) == list(range(1, count + 1))


def test_a_daemon_with_another_home_waits_and_takes_over(
    connection: Connection, database: Database, homes: tuple[Path, Path], numbers: Path
) -> None:
    watcher = add(connection, numbers)
    first = start(database, homes[0])
    wait_for(lambda: bool(first.said("watchers at work: 1")), 10)
    second = start(database, homes[1])
    wait_for(lambda: bool(second.said("waiting until it ends")), 10)
    query = "SELECT last_check IS NOT NULL FROM watchers WHERE id = %s"
    wait_for(lambda: connection.execute(query, (watcher.id,)).fetchone() == (True,), 10)
    await_reached(connection, numbers, 3)
    assert second.said("at work") == []
    end(first)
    wait_for(lambda: bool(second.said("watchers at work: 1")), 10)
    # What is new to it begins as it is.
    wait_for(lambda: has_looked(homes[1]), 10)
    await_reached(connection, numbers, 5)
    assert hosts.get(connection, HOST).status == "connected"
    end(second)


def has_looked(home: Path) -> bool:
    store = LocalStore(home / "watchers" / f"{HOST}.db", ("counter",), Limits())
    try:
        return bool(store.states())
    finally:
        store.close()


def test_daemons_of_other_types_or_hosts_are_in_nobodys_way(
    connection: Connection, database: Database, homes: tuple[Path, Path], numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, homes[0], ("counter",)):
        other = start(database, homes[1], ("cpu", "load"))
        wait_for(lambda: bool(other.said("at work")), 10)
        end(other)
        elsewhere = start(database, homes[1], host_name="web-2")
        wait_for(lambda: bool(elsewhere.said("at work")), 10)
        end(elsewhere)


def test_one_that_lost_its_connection_steps_aside_for_one_that_took_its_place(
    connection: Connection, database: Database, homes: tuple[Path, Path], numbers: Path
) -> None:
    add(connection, numbers)
    with watching(database, homes[0]) as first:
        wait_for(lambda: has_looked(homes[0]), 10)
        held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND database IS NOT NULL LIMIT 1"
        row = connection.execute(held).fetchone()
        assert row is not None
        # The other one is quicker.
        with database.session("tests") as other:
            first.signal(signal.SIGSTOP)
            connection.execute("SELECT pg_terminate_backend(%s)", row)
            wait_for(lambda: watcher_locks.take(other, HOST, kinds.NAMES) is None, 5)
            first.signal(signal.SIGCONT)
            wait_for(lambda: bool(first.said("waiting until it ends")), 10)
            write_number(numbers, 1)
            with pytest.raises(AssertionError):
                wait_for(lambda: bool(reached(connection)), 2)
        wait_for(lambda: bool(first.said("the other daemon of")), 10)
        wait_for(lambda: reached(connection) == [1], 10)
        late = "SELECT payload ->> 'seen_late' FROM hook_events WHERE source = 'count'"
        assert connection.execute(late).fetchone() == ("true",)


def test_a_session_that_the_server_has_not_missed_yet_is_ended(
    connection: Connection, database: Database, homes: tuple[Path, Path], numbers: Path
) -> None:
    add(connection, numbers)
    store = LocalStore(homes[0] / "watchers" / f"{HOST}.db", kinds.NAMES, Limits())
    with database.session("tests") as left:
        assert watcher_locks.take(left, HOST, kinds.NAMES) is None
        store.keep_note(f"session of {min(kinds.NAMES)}", " ".join(map(str, watcher_locks.own_session(left))))
        with watching(database, homes[0]) as process:
            wait_for(lambda: has_looked(homes[0]), 10)
            await_reached(connection, numbers, 1)
            assert process.said("waiting until it ends") == []
    store.close()


@pytest.mark.parametrize(
    ("same_boot", "from_here", "ours"),
    [
        pytest.param(True, False, True, id="the address is another one now"),
        pytest.param(False, True, True, id="the machine was started again"),
        pytest.param(False, False, False, id="a clone of the machine"),
    ],
)
def test_a_clone_of_a_machine_does_not_end_the_session_of_its_original(
    database: Database, homes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch,
    *, same_boot: bool, from_here: bool, ours: bool,
) -> None:  # fmt: skip
    store = LocalStore(homes[0] / "watchers" / f"{HOST}.db", kinds.NAMES, Limits())
    with database.session("tests") as original, database.session("tests") as connection:
        assert Standing(store, HOST, kinds.NAMES).is_ours(original)
        refused = watcher_locks.take(connection, HOST, kinds.NAMES)
        assert refused is not None
        assert refused.from_here  # as sockets of one host are
        monkeypatch.setattr(watcher_locks, "take", lambda *_: refused._replace(from_here=from_here))
        if not same_boot:
            monkeypatch.setattr(agent, "boot_id", lambda: "another")
        ended = []
        monkeypatch.setattr(watcher_locks, "end", lambda _, session: ended.append(session))
        assert Standing(store, HOST, kinds.NAMES).is_ours(connection) == ours
        assert ended == ([watcher_locks.own_session(original)] if ours else [])
    store.close()
