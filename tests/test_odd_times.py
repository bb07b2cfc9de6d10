"""Times that a publisher may write and Python cannot hold: no command and no processor stumbles over them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Hep
from factories import insert_event
from psycopg import Connection
from running import all_processed, running
from waiting import wait_for

from hook_event_processor.store import hosts, processors, times, watch
from hook_event_processor.store.checkup import trouble
from hook_event_processor.store.cleanup.pace import Pace
from hook_event_processor.store.database import Database
from hook_event_processor.store.hosts import Host

pytestmark = pytest.mark.store

EARLY = ("-infinity", "4713-01-01 BC", "0001-01-01")
LATE = ("infinity", "200000-01-01", "9999-12-31 23:59:59.999999")
ODD = (*EARLY, *LATE)


@pytest.fixture(params=["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def far_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here it is as much earlier or later than in UTC as anywhere."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_zone")
@pytest.mark.parametrize("moment", ODD)
def test_events_of_any_time_are_listed_shown_and_explained(hep: Hep, connection: Connection, moment: str) -> None:
    events = [
        insert_event(connection, created_at=moment, occurred_at=moment),
        insert_event(connection, available_at=moment),
        insert_event(connection, created_at=moment, processed=True, processed_at="infinity"),
    ]
    assert len(hep("events", "list").splitlines()) == 1 + 3
    assert len(hep.document("events", "list", "--format", "json")) == 3
    assert len(hep.document("events", "list", "--status", "completed", "--format", "json")) == 1
    for event in map(str, events):
        assert event in hep("events", "show", event)
        assert hep.document("events", "show", event, "--format", "json")["id"] == event
        assert event in hep("events", "explain", event)
    hep("audit")


@pytest.mark.parametrize("moment", ODD)
def test_the_status_counts_events_of_any_time(hep: Hep, connection: Connection, moment: str) -> None:
    insert_event(connection, created_at=moment)
    insert_event(connection, available_at=moment)
    pending = 2 if moment in EARLY else 1
    assert f" {pending} pending" in hep("status")
    assert hep.document("status", "--format", "json")["backlog"]["pending"] == pending


@pytest.mark.parametrize("moment", ODD)
def test_a_cleanup_goes_past_events_of_any_time(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    policy = tmp_path / "retention.toml"
    policy.write_text('[events]\nage = "1h"\ncount = 1\n')
    monkeypatch.setenv("RETENTION_POLICY", str(policy))
    insert_event(connection, created_at=moment)
    for _ in range(3):
        insert_event(connection, created_at=moment, processed=True, processed_at="infinity")
    assert "removed: 2 events" in hep("events", "cleanup")


@pytest.mark.parametrize("moment", ODD)
def test_a_pace_is_held_beside_a_waiting_event_of_any_time(connection: Connection, moment: str) -> None:
    insert_event(connection, created_at=moment)
    with Pace(connection).step():
        pass


@pytest.mark.parametrize("moment", ODD)
def test_what_a_processor_and_the_doctor_ask_is_answered_beside_events_of_any_time(
    connection: Connection, moment: str
) -> None:
    insert_event(connection, created_at=moment)
    insert_event(connection, available_at=moment)
    due = watch.look(connection, 0).due
    processors.oldest_waiting(connection)
    late = trouble.late(connection, 60)
    if moment in EARLY:
        assert (due is not None and due < 0, late is not None and late.count) == (True, 2)


@pytest.mark.parametrize("moment", EARLY)
def test_events_of_early_times_are_processed(
    connection: Connection, database: Database, tmp_path: Path, moment: str
) -> None:
    with running(database, tmp_path):
        insert_event(connection, created_at=moment)
        insert_event(connection, available_at=moment)
        insert_event(connection, priority=1, created_at=moment)
        wait_for(lambda: all_processed(connection), 30)


@pytest.mark.parametrize("moment", ODD)
def test_hosts_that_were_seen_at_any_time_are_listed_and_shown(hep: Hep, connection: Connection, moment: str) -> None:
    hosts.register(connection, Host("web-1", "10.0.0.5", (), "1.0", {}))
    connection.execute("UPDATE hosts SET registered_at = %s, last_seen = %s", (moment, moment))
    assert "web-1" in hep("hosts")
    assert hep.document("hosts", "list", "--format", "json")[0]["age_seconds"] >= 0
    assert "web-1" in hep("hosts", "show", "web-1")


def test_a_time_outside_of_pythons_is_the_first_or_the_last(connection: Connection) -> None:
    row = connection.execute("SELECT %s::timestamptz, %s::timestamptz, NULL::timestamptz", ("-infinity", "infinity"))
    assert row.fetchone() == (times.FIRST, times.LAST, None)
