"""`hep schedule`, and processors that fire: each time once, whatever happens meanwhile."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from commands import Hep
from psycopg import Connection
from running import add_hook, running
from test_own_events import told, types_told
from waiting import wait_for

from hook_event_processor import settings
from hook_event_processor.processor.firing import Firing
from hook_event_processor.store import own_events, schedule_changes, schedule_times, schedules
from hook_event_processor.store.database import Database
from hook_event_processor.timing import Timing

pytestmark = pytest.mark.store


def fired(connection: Connection, event_type: str = "schedule.triggered") -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT payload FROM hook_events WHERE concat_ws('.', source, action) = %s ORDER BY seq", (event_type,)
    )
    return [row[0] for row in rows]


def due(connection: Connection, name: str, ago: timedelta) -> None:
    """As if no processor had been there since."""
    connection.execute(
        "UPDATE hook_schedule_times SET next_at = now() - %s"
        " WHERE schedule_id = (SELECT id FROM hook_schedules WHERE name = %s)",
        (ago, name),
    )


def stepping() -> Firing:
    """A processor's part, without the rest of it."""
    return Firing(lambda: None, 100_000)


def next_at(hep: Hep, name: str) -> datetime:
    return datetime.fromisoformat(hep.document("schedule", "show", name, "--format", "json")["next_at"])


def test_a_schedule_fires_hooks_again_and_again(
    hep: Hep, connection: Connection, database: Database, tmp_path: Path
) -> None:
    add_hook(connection, "tick", "clock.tick", "return {execute = function(e) print(e.data.n) end}")
    with running(database, tmp_path):
        hep("schedule", "set", "ticks", "clock.tick", '{"n": 7}', "--every", "1s", "--stack", "prod", "--priority", "2")
        wait_for(lambda: len(fired(connection, "clock.tick")) >= 3, 10)
        hep("schedule", "disable", "ticks")
        count = len(fired(connection, "clock.tick"))
        runs = "SELECT count(*) FROM event_hook_executions WHERE hook_name = 'tick' AND output LIKE '7%'"
        wait_for(lambda: connection.execute(runs).fetchone() == (count,), 5)
    payloads = fired(connection, "clock.tick")
    assert len(payloads) == count
    times = [datetime.fromisoformat(payload["expected_time"]) for payload in payloads]
    assert times == sorted(set(times))
    assert {time.microsecond for time in times} == {0}
    assert all(payload["expected_time"] < payload["next_run"] for payload in payloads)
    row = connection.execute(
        "SELECT resource, resource_id, priority, metadata ->> 'stack', occurred_at FROM hook_events"
        " WHERE source = 'clock' ORDER BY seq LIMIT 1"
    ).fetchone()
    assert row == ("schedule", "ticks", 2, "prod", times[0])


def test_processors_fire_each_time_once(database: Database, connection: Connection, hep: Hep, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        hep("schedule", "set", name, "--every", "1s")
    with ExitStack() as stack:
        for number in range(3):
            home = tmp_path / str(number)
            home.mkdir()
            stack.enter_context(running(database, home))
        wait_for(lambda: len(fired(connection)) >= 12, 15)
    told_times = [(payload["schedule_name"], payload["expected_time"]) for payload in fired(connection)]
    assert len(told_times) == len(set(told_times))


def test_what_was_missed_is_told_and_made_up_for_once(connection: Connection, hep: Hep) -> None:
    hep("schedule", "set", "made", "--cron", "*/5 * * * *")
    hep("schedule", "set", "skipped", "--every", "5m", "--if-missed", "skip")
    hep("schedule", "set", "late", "--every", "5m")
    own_events.attach(connection, settings.load(), "processor")
    for name, ago in (("made", 3_600), ("skipped", 3_600), ("late", 20)):
        due(connection, name, timedelta(seconds=ago))
    stepping().step(connection)
    missed = {payload["schedule_name"]: payload for payload in fired(connection, "schedule.missed")}
    assert set(missed) == {"made", "skipped"}
    assert missed["made"]["missed_runs"] in (12, 13)
    assert {payload["schedule_name"] for payload in fired(connection)} == {"made", "late"}
    assert len(fired(connection)) == 2
    assert all(next_at(hep, name) > datetime.now(UTC) for name in ("made", "skipped", "late"))
    stepping().step(connection)
    assert len(fired(connection)) == 2


def test_who_is_elsewhere_fires_it(connection: Connection, database: Database, hep: Hep) -> None:
    """A row that another processor holds is left to it, and looked at again."""
    hep("schedule", "set", "held", "--every", "1h")
    due(connection, "held", timedelta(seconds=1))
    firing = stepping()
    with database.session("other") as other, other.transaction():
        other.execute("SELECT FROM hook_schedule_times FOR UPDATE")
        firing.step(connection)
        assert fired(connection) == []
        assert 0 < firing.due_in(60) <= 1
    firing.news()
    firing.step(connection)
    assert len(fired(connection)) == 1


def test_more_than_one_batch_is_fired_without_a_pause(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO hook_schedules (name, every_seconds) SELECT 's' || n, 3600 FROM generate_series(1, 250) n"
    )
    firing = stepping()
    firing.step(connection)
    connection.execute("UPDATE hook_schedule_times SET next_at = now() - interval '1 second'")
    firing.news()
    for count in (100, 200, 250):
        assert firing.due_in(60) == 0 or count == 100
        firing.step(connection)
        assert len(fired(connection)) == count
    assert firing.due_in(60) > 0


def test_a_time_that_was_missed_is_kept_when_something_else_is_changed(connection: Connection, hep: Hep) -> None:
    hep("schedule", "set", "nightly", "--every", "1m")
    due(connection, "nightly", timedelta(minutes=10))
    assert "changed" in hep("schedule", "set", "nightly", "--priority", "3")
    connection.execute("UPDATE hook_schedules SET enabled = TRUE, cron = NULL")
    own_events.attach(connection, settings.load(), "processor")
    stepping().step(connection)
    assert (len(fired(connection)), len(fired(connection, "schedule.missed"))) == (1, 1)
    due(connection, "nightly", timedelta(minutes=10))
    assert "changed" in hep("schedule", "set", "nightly", "--every", "2h")
    assert next_at(hep, "nightly") > datetime.now(UTC)


def test_a_change_that_waited_plans_from_when_it_is_made(connection: Connection) -> None:
    """Not from when its transaction began: what was due meanwhile has been fired."""
    with connection.transaction():
        connection.execute("SELECT pg_sleep(1.2)")
        begun = datetime.now(UTC)
        _, schedule = schedule_changes.put(connection, schedules.NewSchedule("s", Timing(every=1.0)), 1_000)
    assert schedule.next_at is not None
    assert schedule.next_at > begun


@pytest.mark.parametrize(
    ("meanwhile", "years"),
    [("UPDATE hook_schedule_times SET next_at = '2100-01-01'", [(2100,)]), ("DELETE FROM hook_schedules", [])],
)
def test_what_was_planned_or_removed_meanwhile_is_left_so(
    connection: Connection,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: str,
    years: list[tuple[int]],
) -> None:
    connection.execute("INSERT INTO hook_schedules (name, every_seconds) VALUES ('s', 60)")
    connection.execute("INSERT INTO hook_schedule_times (schedule_id) SELECT id FROM hook_schedules")

    def late(_: Connection) -> datetime:
        with database.session("other") as other:
            other.execute(meanwhile)
        return datetime.now(UTC)

    monkeypatch.setattr(schedule_times, "server_time", late)
    assert schedule_times.plan(connection) == []
    assert connection.execute("SELECT extract(year FROM next_at)::int FROM hook_schedule_times").fetchall() == years


@pytest.mark.parametrize(
    "payload", ["1' || repeat('0', 5000) || '", "' || repeat('[', 3000) || repeat(']', 3000) || '"]
)
def test_a_payload_that_no_event_can_carry_stops_no_other_schedule(
    connection: Connection, hep: Hep, payload: str
) -> None:
    connection.execute(
        "INSERT INTO hook_schedules (name, every_seconds, payload)"
        f" VALUES ('odd', 3600, ('{{\"n\": {payload}}}')::jsonb), ('even', 3600, '{{}}')"
    )
    firing = stepping()
    firing.step(connection)
    for name in ("odd", "even"):
        due(connection, name, timedelta(seconds=1))
    firing.news()
    firing.step(connection)
    assert [each["schedule_name"] for each in fired(connection)] == ["even"]
    assert "the payload holds a number that is too large, or is nested too deeply" in hep("schedule", "show", "odd")
    listed = {each["name"]: each["payload"] for each in hep.document("schedule", "list", "--format", "json")}
    assert listed == {"odd": None, "even": {}}
    assert "give it another" in hep.fault("schedule", "set", "odd", "--priority", "2")
    assert "changed" in hep("schedule", "set", "odd", "schedule.triggered", '{"n": 1}')
    assert hep.document("schedule", "show", "odd", "--format", "json")["error"] is None


def test_true_is_another_payload_than_one(hep: Hep) -> None:
    hep("schedule", "set", "s", "a.b", '{"on": 1}', "--every", "1h")
    assert "changed" in hep("schedule", "set", "s", "a.b", '{"on": true}')
    assert hep.document("schedule", "show", "s", "--format", "json")["payload"] == {"on": True}


def test_a_payload_may_hold_any_number_that_an_event_may(connection: Connection, hep: Hep) -> None:
    for _ in range(2):
        said = hep("schedule", "set", "s", "a.b", '{"large": 1e22, "none": -0.0}', "--every", "1h")
    assert "unchanged" in said
    hep("schedule", "run", "s")
    assert connection.execute("SELECT payload ->> 'large' FROM hook_events WHERE source = 'a'").fetchall() == [
        ("10000000000000000000000",)
    ]


def test_nothing_is_asked_of_the_database_while_nothing_is_due(
    connection: Connection, hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> None:
    firing = stepping()
    firing.step(connection)
    assert firing.due_in(30) == 30
    hep("schedule", "set", "hourly", "--cron", "@hourly")
    firing.news()
    firing.step(connection)
    monkeypatch.setattr(schedule_times, "fire", lambda *_: pytest.fail("it asks"))
    for _ in range(3):
        firing.step(connection)
    assert 0 < firing.due_in(3_600) <= 60


@pytest.mark.parametrize("held", ["infinity", "200000-01-01"])
def test_schedules_that_are_held_by_sql_stop_nothing(connection: Connection, hep: Hep, held: str) -> None:
    hep("schedule", "set", "held", "--every", "1h")
    connection.execute("UPDATE hook_schedule_times SET next_at = %s", (held,))
    firing = stepping()
    firing.step(connection)
    assert firing.due_in(30) == 30
    hep("schedule", "set", "due", "--every", "1h")
    connection.execute("UPDATE hook_schedule_times SET next_at = '-infinity' WHERE next_at < '9999-01-01'")
    assert (schedule_times.due_in(connection) or 0) < 0
    firing.news()
    firing.step(connection)
    assert [payload["schedule_name"] for payload in fired(connection)] == ["due"]


def test_rows_written_by_others_are_planned_or_say_why_not(
    connection: Connection, hep: Hep, caplog: pytest.LogCaptureFixture
) -> None:
    connection.execute(
        "INSERT INTO hook_schedules (name, cron, timezone) VALUES"
        " ('good', '0 5 * * *', 'Asia/Tokyo'), ('bad', '0 5 * *', 'UTC'), ('nowhere', '@daily', 'Mars/Base')"
    )
    firing = stepping()
    for _ in range(2):
        firing.news()
        firing.step(connection)
    assert next_at(hep, "good").astimezone(UTC).strftime("%H:%M") == "20:00"
    shown = {each["name"]: each for each in hep.document("schedule", "list", "--format", "json")}
    assert "is no cron expression" in shown["bad"]["error"]
    assert "there is no time zone 'Mars/Base'" in shown["nowhere"]["error"]
    assert "failing" in hep("schedule", "list")
    assert sum("does not fire" in line for line in caplog.messages) == 2
    connection.execute("UPDATE hook_schedules SET cron = '0 6 * * *' WHERE name = 'bad'")
    firing.news()
    firing.step(connection)
    assert next_at(hep, "bad").astimezone(UTC).strftime("%H:%M") == "06:00"
    assert hep.document("schedule", "show", "bad", "--format", "json")["error"] is None


def test_an_event_that_is_refused_stops_no_other_schedule(
    connection: Connection, hep: Hep, caplog: pytest.LogCaptureFixture
) -> None:
    connection.execute(
        "INSERT INTO hook_schedules (name, every_seconds, payload)"
        " VALUES ('large', 60, jsonb_build_object('text', repeat('x', 200000))), ('small', 60, '{}')"
    )
    firing = stepping()
    firing.step(connection)
    for _ in range(2):
        due(connection, "large", timedelta(seconds=2))
        due(connection, "small", timedelta(seconds=1))
        firing.news()
        firing.step(connection)
    assert [payload["schedule_name"] for payload in fired(connection)] == ["small", "small"]
    assert sum("large does not fire: the payload has" in line for line in caplog.messages) == 1
    assert next_at(hep, "large") > datetime.now(UTC)


def test_schedules_are_listed_shown_changed_and_removed(hep: Hep, connection: Connection) -> None:
    assert hep("schedule", "list") == "No schedules.\n"
    times = ("--cron", "30 4 * * *", "--timezone", "Europe/Berlin")
    made = hep("schedule", "set", "nightly", "backup.due", '{"keep": 7}', *times)
    assert made.startswith("added: schedule nightly, 30 4 * * * Europe/Berlin, backup.due; next 20")
    again = hep("schedule", "set", "nightly", "--cron", "30 4 * * *")
    assert again.startswith("unchanged: schedule nightly, 30 4 * * * Europe/Berlin")
    changed = hep.document("schedule", "set", "nightly", "--every", "2h", "--if-missed", "skip", "--format", "json")
    assert (changed["done"], changed["cron"], changed["every_seconds"]) == ("changed", None, 7_200)
    assert (changed["payload"], changed["type"], changed["timezone"]) == ({"keep": 7}, "backup.due", None)
    shown = hep("schedule", "show", "nightly")
    for part in ("every 2h", '{"keep":7}', "skip", "enabled", "Next:"):
        assert part in shown
    assert len(hep.document("schedule", "show", "nightly", "--format", "json")["next_times"]) == 5
    listed = hep("schedule", "list")
    assert "nightly  every 2h  backup.due" in listed
    assert listed.endswith("1 schedule\n")
    assert hep("schedule", "disable", "nightly", "--reason", "move") == "disabled: schedule nightly\n"
    assert hep("schedule", "disable", "nightly") == "unchanged: schedule nightly is disabled\n"
    assert hep.document("schedule", "show", "nightly", "--format", "json")["next_times"] == []
    assert hep("schedule", "enable", "nightly") == "enabled: schedule nightly\n"
    assert next_at(hep, "nightly") > datetime.now(UTC)
    assert hep("schedule", "run", "nightly").startswith("published: backup.due ")
    assert fired(connection, "backup.due")[0]["keep"] == 7
    assert hep("schedule", "remove", "nightly") == "removed: schedule nightly\n"
    words = ("created", "updated", "disabled", "enabled", "deleted")
    assert types_told(connection) == [f"schedule.{word}" for word in words]
    _, payload, _ = told(connection, "schedule.updated")[0]
    assert payload["changes"]["every_seconds"] == [None, 7_200]
    audit = hep.document("audit", "--object", "schedule:nightly", "--format", "json")
    assert [entry["action"] for entry in audit] == ["removed", "run", "enabled", "disabled", "changed", "added"]
    assert [entry["reason"] for entry in audit if entry["action"] == "disabled"] == ["move"]


def test_own_events_of_schedules_can_be_switched_off(
    hep: Hep, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWN_EVENTS", "off")
    hep("schedule", "set", "quiet", "--every", "1h")
    hep("schedule", "run", "quiet")
    assert (types_told(connection), len(fired(connection))) == ([], 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new"], "there is no schedule 'new' yet: say with --cron or --every when it fires"),
        (["new", "--cron", "5 4"], "'5 4' is no cron expression: write minute, hour"),
        (["new", "--cron", "@daily", "--every", "1h"], "--every: not allowed with argument --cron"),
        (["new", "--every", "10ms"], "an interval of 0.01 s: it takes a second to a hundred years"),
        (["new", "--every", "1h", "--timezone", "Asia/Tokyo"], "--timezone goes with --cron"),
        (["new", "--cron", "@daily", "--timezone", "Nowhere"], "there is no time zone 'Nowhere'"),
        (["new", "a.b", "[1]", "--every", "1h"], "the payload"),
        (["new", ".b", "--every", "1h"], "has no source"),
        (["", "--every", "1h"], "'' is no name for a schedule"),
        (["a\nb", "--every", "1h"], "is no name for a schedule"),
        (["x" * 300, "--every", "1h"], "it takes 1 to 255 characters"),
    ],
)
def test_what_makes_no_schedule_is_refused_and_nothing_is_kept(hep: Hep, arguments: list[str], said: str) -> None:
    assert said in hep.fault("schedule", "set", *arguments)
    assert hep("schedule", "list") == "No schedules.\n"


def test_a_payload_that_no_event_could_carry_is_refused(hep: Hep) -> None:
    large = json.dumps({"text": "x" * 200_000})
    assert "at most 100,000 are taken" in hep.fault("schedule", "set", "big", "a.b", "-", "--every", "1h", stdin=large)
    assert "NUL" in hep.fault("schedule", "set", "nul", "a.b", '{"text": "\\u0000"}', "--every", "1h")
    assert hep("schedule", "list") == "No schedules.\n"


@pytest.mark.parametrize("command", ["show", "enable", "disable", "remove", "run"])
def test_a_schedule_that_is_not_there_is_named(hep: Hep, command: str) -> None:
    assert hep.fault("schedule", command, "x") == "hep: there is no schedule 'x': 'hep schedule list' lists them"
