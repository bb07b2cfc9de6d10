"""Worker slots: what waits for them comes as soon as they are free, and what needs none takes none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from psycopg import Connection
from running import add_hook, all_processed, count, ends_well, insert, running, start
from waiting import wait_for

from hook_event_processor.event_handlers import EventHandlerRegistry, HandlerResult
from hook_event_processor.processor import due
from hook_event_processor.processor.lane import HOLD_SECONDS, PATIENCE_SECONDS
from hook_event_processor.store.database import Database


def test_what_waits_for_slots_is_claimed_as_soon_as_they_are_free(
    connection: Connection, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty events for two slots: no pair of them waits for the next look at the table."""
    monkeypatch.setattr(due, "RELOOK_SECONDS", 60.0)
    add_hook(connection, "acts", "act.*", 'local http = require("http") return {execute = function() end}')
    with running(database, tmp_path, workers=2, poll_interval=60.0):
        insert(connection, "act.now", count=30)
        wait_for(lambda: all_processed(connection), 30)


def test_an_event_for_which_too_few_slots_are_free_costs_next_to_nothing(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """It takes both slots, and one of them is free: it is looked at now and then."""
    for name in ("one", "other"):
        add_hook(connection, name, "wide.*", 'local http = require("http") return {execute = function() end}')
    add_hook(connection, "long", "long.*", 'return {execute = function() require("time").sleep(4) end}')
    rounds = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    with running(database, tmp_path, workers=2):
        insert(connection, "long.run")
        wait_for(lambda: count(connection, "claimed_by IS NOT NULL") == 1, 10)
        insert(connection, "wide.run")
        wait_for(lambda: count(connection, "needs_slot") == 2, 10)
        began = time.monotonic()
        (before,) = connection.execute(rounds).fetchone() or (0,)
        wait_for(lambda: all_processed(connection), 20)
        seconds = time.monotonic() - began
    with database.session("tests") as fresh:
        (after,) = fresh.execute(rounds).fetchone() or (0,)
    asked = seconds / 0.02  # by the test itself
    assert after - before < asked + 60 * seconds


def test_a_run_that_does_not_get_to_compute_is_waited_for(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    """On a busy machine a fast hook takes long; it is no slow hook for that, and needs no slot."""

    def waits(_: object) -> HandlerResult:
        time.sleep((PATIENCE_SECONDS + HOLD_SECONDS) / 2)
        return HandlerResult(success=True)

    def register(registry: EventHandlerRegistry) -> None:
        registry.register("wait", "*", waits, pure=True)

    with ends_well(start(database, tmp_path, register), "ready"):
        insert(connection, "wait.now", count=1)
        wait_for(lambda: all_processed(connection), 10)
    assert count(connection, "needs_slot OR claimed_by IS NOT NULL") == 0
