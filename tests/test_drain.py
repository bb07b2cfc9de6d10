"""What is still running when the time to drain is over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg import Connection
from running import Running, add_hook, count, insert, start, state
from waiting import wait_for

from hook_event_processor.service import drain
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer

FREE = "lease_token IS NULL AND available_at <= now()"


@contextmanager
def sleeping(
    connection: Connection, database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch, *, count: int
) -> Iterator[tuple[Running, list[UUID]]]:
    """A processor whose time to drain is short, and the events whose hooks sleep in it."""
    monkeypatch.setattr(drain, "DRAIN_SECONDS", 0.3)
    add_hook(connection, "sleeps", "sleep.*", 'return {execute = function() require("time").sleep(20) end}')
    process = start(database, folder)
    try:
        wait_for(lambda: "ready" in process.log, 10)
        events = insert(connection, "sleep.long", count=count)
        wait_for(lambda: {state(connection, event) for event in events} == {"processing"}, 5)
        yield process, events
    finally:
        process.kill()


def test_a_run_that_does_not_end_in_time_is_handed_back_at_once(
    connection: Connection, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by ops/chaos: the lease stayed until its end, since its ids were not sent as ids."""
    with sleeping(connection, database, tmp_path, monkeypatch, count=1) as (process, [event]):
        process.signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not process.said("without a word")
        assert count(connection, f"id = %s AND {FREE}", event) == 1


def test_a_row_that_somebody_else_holds_does_not_keep_the_others_from_being_handed_back(
    connection: Connection, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sleeping(connection, database, tmp_path, monkeypatch, count=3) as (process, events):
        with database.session("psql") as other, other.transaction():
            other.execute("SELECT FROM hook_events WHERE id = %s FOR UPDATE", (events[0],))
            process.signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert not process.said("without a word")
        assert [count(connection, f"id = %s AND {FREE}", event) for event in events] == [0, 1, 1]


def test_a_database_that_takes_sessions_and_ends_no_transaction_does_not_hold_up_the_end(
    connection: Connection, server: EmbeddedServer, database: Database, tmp_path: Path
) -> None:
    """As a primary does whose synchronous standby is gone: its row is what a processor writes last."""
    process = start(database, tmp_path)
    waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'"
    with psycopg.connect(server.administration, autocommit=True) as superuser:
        try:
            wait_for(lambda: "ready" in process.log, 10)
            superuser.execute("ALTER SYSTEM SET synchronous_standby_names = 'none_is_there'")
            superuser.execute("SELECT pg_reload_conf()")
            wait_for(lambda: connection.execute(waiting).fetchone() == (True,), 20)
            process.signal(signal.SIGTERM)
            assert process.wait(15) == 0
            assert process.said("without a word to the database")
        finally:
            superuser.execute("ALTER SYSTEM RESET synchronous_standby_names")
            superuser.execute("SELECT pg_reload_conf()")
            process.kill()
