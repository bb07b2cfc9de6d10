"""Payloads and metadata that are larger as text than they look: a claim leaves them out, and takes the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection, errors
from running import add_hook, count, insert, running
from waiting import wait_for

from hook_event_processor.store import arrays
from hook_event_processor.store.claim import Claims
from hook_event_processor.store.database import Database
from hook_event_processor.store.frontier import Frontier
from hook_event_processor.store.insert import Publisher
from hook_event_processor.store.pipeline import Pipeline

pytestmark = pytest.mark.store
NOTHING = "return {execute = function() end}"
LIMIT = 100_000
CAREFULLY = 1e9
# A number takes some 16 bytes of a jsonb, compressed even less.
WIDE, LONG = "1e131071", "1e-16383"
NUMBERS = "jsonb_build_object('a', (SELECT jsonb_agg(%s::numeric) FROM generate_series(1, %s)))"


def _insert(connection: Connection, column: str, number: str, times: int) -> None:
    connection.execute(
        f"INSERT INTO hook_events (source, action, {column}) SELECT 'task', 'done', {NUMBERS}", (number, times)
    )


@pytest.fixture
def lane(database: Database) -> Iterator[Connection]:
    """A session as a lane has it."""
    with database.session("lane") as session:
        arrays.register(session)
        session.autocommit = False
        yield session


def _claimed(lane: Connection, careful_until: float) -> list[tuple[bytes | None, bytes]]:
    claims = Claims(Pipeline(lane, may_prepare=lambda: False), Frontier(), LIMIT, careful_until)
    return [(row.payload, row.metadata) for row in claims.take(10, 0, 100.0).fresh]


@pytest.mark.parametrize("careful_until", [0.0, CAREFULLY])
@pytest.mark.parametrize(("number", "times"), [(WIDE, 2), (WIDE, 100), (LONG, 100), (WIDE, 500), (LONG, 1000)])
def test_numbers_whose_text_is_too_large_are_left_out(
    connection: Connection, lane: Connection, number: str, times: int, careful_until: float
) -> None:
    _insert(connection, "payload", number, times)
    _insert(connection, "metadata", number, times)
    insert(connection, "task.done", '{"a": 1}')
    assert _claimed(lane, careful_until) == [(None, b"{}"), (None, b"{}"), (b'{"a": 1}', b"{}")]


@pytest.mark.parametrize("careful_until", [0.0, CAREFULLY])
@pytest.mark.parametrize(("number", "times"), [("1e1000", 90), ("-1.5e308", 300), ("1e-400", 200), ("0", 20_000)])
def test_numbers_whose_text_fits_are_taken(
    connection: Connection, lane: Connection, number: str, times: int, careful_until: float
) -> None:
    _insert(connection, "payload", number, times)
    [(payload, _)] = _claimed(lane, careful_until)
    assert payload is not None
    assert payload.count(b",") == times - 1


@pytest.mark.parametrize("careful_until", [0.0, CAREFULLY])
@pytest.mark.parametrize("data", [{"a": [1, 2] * 24_000}, {f"{n}": n for n in range(8_000)}], ids=["list", "object"])
def test_what_a_publisher_may_publish_is_taken(
    connection: Connection, lane: Connection, data: dict[str, Any], careful_until: float
) -> None:
    """PostgreSQL writes a blank behind each comma and colon."""
    Publisher(connection, max_payload_size=LIMIT).publish("task.done", data)
    [(payload, _)] = _claimed(lane, careful_until)
    assert payload is not None
    assert len(payload) > LIMIT
    assert json.loads(payload) == data


@pytest.mark.parametrize("careful_until", [0.0, CAREFULLY])
def test_levels_without_end_stop_no_claim(connection: Connection, lane: Connection, careful_until: float) -> None:
    insert(connection, "task.done", f'{{"a": {"[" * 14_000}{"]" * 14_000}}}')
    insert(connection, "task.done", '{"a": 1}')
    assert _claimed(lane, careful_until)[1] == (b'{"a": 1}', b"{}")


def test_a_claim_with_care_takes_what_stops_the_usual_one(connection: Connection, lane: Connection) -> None:
    _insert(connection, "payload", WIDE, 12_000)
    insert(connection, "task.done", '{"a": 1}')
    with pytest.raises(errors.ProgramLimitExceeded):
        _claimed(lane, 0.0)
    lane.rollback()
    assert _claimed(lane, CAREFULLY) == [(None, b"{}"), (b'{"a": 1}', b"{}")]


def test_an_event_that_no_claim_can_read_becomes_a_dead_letter_and_holds_up_no_other(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    add_hook(connection, "quiet", "task.*", NOTHING)
    _insert(connection, "payload", WIDE, 12_000)
    good = insert(connection, "task.done", count=20)
    with running(database, tmp_path):
        wait_for(lambda: count(connection, "processed AND id = ANY(%s)", good) == 20, 60)
        wait_for(lambda: count(connection, "failed_at IS NOT NULL") == 1, 60)
    [error] = (
        connection.execute("SELECT processing_errors FROM hook_events WHERE failed_at IS NOT NULL").fetchone() or []
    )
    assert "larger than HOOK_MAX_PAYLOAD_SIZE" in str(error)
