"""`hep events retry`: failed events run again, unless what failed for them would not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from commands import Hep
from factories import ago, insert_event, insert_execution
from psycopg import Connection
from running import add_hook, insert, running, state
from waiting import wait_for

from hook_event_processor.errors import StoreUnavailable
from hook_event_processor.store import audit, dead_letters
from hook_event_processor.store.database import Database

TEXT = "return {execute = function() return true end}"
FAILS = 'return {execute = function() return false, "the disk is full" end}'
HINT = "'hep hook enable' or 'hep hook add' lets such a hook run; --force retries without it."
STATES = ("pending", "scheduled", "retrying", "processing", "completed")


def _dead(connection: Connection, *failed: str, succeeded: str = "", **columns: Any) -> UUID:
    """An event that failed in these hooks."""
    event_id = insert_event(connection, state="failed", **columns)
    for name in failed:
        insert_execution(connection, event_id, name, success=False)
    if succeeded:
        insert_execution(connection, event_id, succeeded)
    return event_id


def _failed(connection: Connection) -> set[UUID]:
    return {row[0] for row in connection.execute("SELECT id FROM events WHERE state = 'failed'")}


def test_retry_brings_a_failed_event_back(hep: Hep, connection: Connection) -> None:
    add_hook(connection, "greet", "task.*", TEXT)
    event_id = _dead(connection, "greet")
    assert hep("events", "retry", str(event_id)) == f"event {event_id} will run again\n"
    row = connection.execute("SELECT retry_count, processing_errors, failed_at, available_at <= now() FROM hook_events")
    assert row.fetchone() == (0, None, None, True)
    assert connection.execute("SELECT count(*) FROM event_hook_executions").fetchone() == (1,)


@pytest.mark.parametrize("other", STATES)
def test_only_failed_events_can_be_retried(hep: Hep, connection: Connection, other: str) -> None:
    """One among several that is not has none of them run again."""
    event_id, failed = insert_event(connection, state=other), _dead(connection)
    for ids in ([str(event_id)], [str(failed), str(event_id)]):
        assert hep.fault("events", "retry", *ids) == (
            f"hep: the event {event_id} is {other}: only failed events can be retried"
        )
    assert _failed(connection) == {failed}


def test_retry_failed_takes_all_that_are_failed_and_nothing_else(hep: Hep, connection: Connection) -> None:
    for other in STATES:
        insert_event(connection, state=other)
    connection.execute(
        "INSERT INTO hook_events (source, action, retry_count, failed_at)"
        " SELECT 's', '', 3, now() FROM generate_series(1, 2500)"
    )
    before = connection.execute("SELECT id, state FROM events WHERE state <> 'failed' ORDER BY id").fetchall()
    assert hep("events", "retry", "--failed") == "2,500 failed events will run again\n"
    assert hep("events", "retry", "--failed") == "0 failed events will run again\n"
    after = connection.execute("SELECT id, state FROM events WHERE source <> 's' ORDER BY id").fetchall()
    assert after == before


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("abc", "--failed"),
        ("abc", "--type", "task.*"),
        ("--hook", "greet"),
        ("--since", "1h"),
        ("--failed", "--hook", ""),
    ],
)
def test_what_says_no_events_or_says_them_twice_is_refused(hep: Hep, arguments: tuple[str, ...]) -> None:
    assert hep.run("events", "retry", *arguments).status == 2


def test_several_events_are_retried_by_their_ids(hep: Hep, connection: Connection) -> None:
    one, two, other = (_dead(connection) for _ in range(3))
    assert hep("events", "retry", str(one), str(two), str(one)) == "2 failed events will run again\n"
    assert _failed(connection) == {other}


def test_failed_events_are_narrowed_as_in_a_list(hep: Hep, connection: Connection) -> None:
    add_hook(connection, "greet", "task.*", TEXT)
    events = {
        "old": _dead(connection, "greet", created_at=ago(hours=3)),
        "deploy": _dead(connection, source="deploy", action="started"),
        "production": _dead(connection, metadata={"stack": "production"}),
        "ended well": _dead(connection, "greet", succeeded="greet"),
    }
    for arguments, names in (
        (("--hook", "greet"), {"old"}),
        (("--type", "deploy.*"), {"deploy"}),
        (("--source", "deploy"), {"deploy"}),
        (("--stack", "production"), {"production"}),
        (("--since", "1h", "--source", "task"), {"production", "ended well"}),
        (("--type", "nothing.*"), set()),
    ):
        command = ("events", "retry", "--failed", *arguments, "--format", "json")
        assert hep.document(*command, "--dry-run")["retried"] == len(names)
        assert _failed(connection) == set(events.values())
        assert hep.document(*command)["retried"] == len(names)
        assert _failed(connection) == set(events.values()) - {events[name] for name in names}
        connection.execute("UPDATE hook_events SET failed_at = now(), available_at = NULL")
    assert "no hook has the name 'gret'; did you mean 'greet'?" in hep.fault(
        "events", "retry", "--failed", "--hook", "gret"
    )


def test_a_dry_run_only_says_what_would_run_again(hep: Hep, connection: Connection) -> None:
    events = {_dead(connection), _dead(connection)}
    assert hep("events", "retry", "--failed", "--dry-run") == "2 failed events would run again\n"
    first = str(next(iter(events)))
    assert hep("events", "retry", first, "--dry-run") == f"event {first} would run again\n"
    assert _failed(connection) == events


def test_an_event_whose_failed_hook_would_not_run_is_not_retried(
    connection: Connection, database: Database, tmp_path: Path, hep: Hep
) -> None:
    """It would be completed, with what failed never done, and could not be retried any more."""
    for name in ("notify", "good"):
        add_hook(connection, name, "task.*", FAILS if name == "notify" else TEXT)
    with running(database, tmp_path, max_retry_count=1):
        [event] = insert(connection, "task.one")
        wait_for(lambda: state(connection, event) == "failed", 20)
        hep("hook", "disable", "notify")
        said = hep.fault("events", "retry", str(event))
        assert f"the event {event} is not retried, since notify (disabled) failed and would not run; 'hep hook" in said
        hep("hook", "remove", "notify")
        assert "notify (removed)" in hep.fault("events", "retry", str(event))
        assert state(connection, event) == "failed"
        add_hook(connection, "notify", "task.*", TEXT)
        hep("events", "retry", str(event))
        wait_for(lambda: state(connection, event) == "completed", 20)
    runs = connection.execute("SELECT hook_name, success FROM event_hook_executions WHERE event_id = %s", (event,))
    assert sorted(runs.fetchall()) == [("good", True), ("notify", False), ("notify", True)]


def test_of_several_those_are_left_out_whose_failed_hook_would_not_run(hep: Hep, connection: Connection) -> None:
    for name in ("mended", "good", "off"):
        add_hook(connection, name, "task.*", TEXT)
    hep("hook", "disable", "off")
    again = {
        _dead(connection),
        _dead(connection, "mended"),
        _dead(connection, "mended", succeeded="good"),
        _dead(connection, "mended", succeeded="off"),
        _dead(connection, "off", "mended", succeeded="off"),
    }
    partly = _dead(connection, "mended", "off", "gone")
    off = _dead(connection, "off")
    gone = _dead(connection, "gone", "off", succeeded="good")
    command = ("events", "retry", "--failed")
    assert hep(*command, "--dry-run").splitlines() == [
        "6 failed events would run again",
        f"without gone (removed), off (disabled), which failed: event {partly}",
        f"left out, since off (disabled) failed and would not run: event {off}",
        f"left out, since gone (removed), off (disabled) failed and would not run: event {gone}",
        HINT,
    ]
    assert _failed(connection) == {*again, partly, off, gone}
    done = {
        "dry_run": False,
        "retried": 6,
        "without": [{"hooks": {"gone": "removed", "off": "disabled"}, "ids": [str(partly)]}],
        "left_out": [
            {"hooks": {"off": "disabled"}, "ids": [str(off)]},
            {"hooks": {"gone": "removed", "off": "disabled"}, "ids": [str(gone)]},
        ],
    }
    assert hep.document(*command, "--dry-run", "--format", "json") == {**done, "dry_run": True}
    assert hep.document(*command, "--format", "json") == done
    assert _failed(connection) == {off, gone}
    hep("hook", "enable", "off")
    assert hep(*command).splitlines() == [
        "2 failed events will run again",
        f"without gone (removed), which failed: event {gone}",
    ]


def test_of_those_that_are_named_the_others_are_retried_and_the_command_fails(hep: Hep, connection: Connection) -> None:
    add_hook(connection, "mended", "task.*", TEXT)
    gone, mended = _dead(connection, "gone"), _dead(connection, "mended")
    finished = hep.run("events", "retry", str(gone), str(mended))
    assert (finished.status, finished.output.splitlines()) == (
        1,
        [
            "1 failed event will run again",
            f"left out, since gone (removed) failed and would not run: event {gone}",
            HINT,
        ],
    )
    assert _failed(connection) == {gone}


def test_whoever_says_so_retries_without_the_failed_hook(hep: Hep, connection: Connection) -> None:
    """What it did may have become the part of a hook of another name."""
    gone = _dead(connection, "gone")
    assert hep("events", "retry", str(gone), "--force").splitlines() == [
        f"event {gone} will run again",
        f"without gone (removed), which failed: event {gone}",
    ]
    assert _failed(connection) == set()


def test_events_that_failed_in_a_hook_that_was_removed_are_found_by_its_name(hep: Hep, connection: Connection) -> None:
    add_hook(connection, "good", "task.*", TEXT)
    gone, other = _dead(connection, "gone", succeeded="good"), _dead(connection, "elsewhere")
    command = ("events", "retry", "--failed", "--hook")
    assert hep(*command, "gone").splitlines() == [
        "0 failed events will run again",
        f"left out, since gone (removed) failed and would not run: event {gone}",
        HINT,
    ]
    assert hep(*command, "gone", "--force").splitlines() == [
        "1 failed event will run again",
        f"without gone (removed), which failed: event {gone}",
    ]
    assert hep(*command, "gone", "--force") == "0 failed events will run again\n"
    assert "no hook has the name 'goone'" in hep.fault(*command, "goone", "--force")
    assert _failed(connection) == {other}


def test_a_long_list_of_what_is_left_out_is_cut(hep: Hep, connection: Connection) -> None:
    for _ in range(12):
        _dead(connection, "gone")
    [_, left_out, _] = hep("events", "retry", "--failed").splitlines()
    assert "would not run: 12 events: " in left_out
    assert left_out.endswith(", ...")
    assert len(hep.document("events", "retry", "--failed", "--format", "json")["left_out"][0]["ids"]) == 12


def test_an_event_that_failed_before_the_clock_was_set_back_is_retried_by_its_id(
    hep: Hep, connection: Connection
) -> None:
    later, never = _dead(connection, failed_at=ago(hours=-1)), _dead(connection, failed_at="infinity")
    assert hep("events", "retry", "--failed") == "0 failed events will run again\n"
    hep("events", "retry", str(later))
    hep("events", "retry", str(never))
    assert _failed(connection) == set()


def test_what_failed_in_any_order_of_texts_is_counted_once(connection: Connection, hep: Hep) -> None:
    """Years before Christ count down, as no text does."""
    connection.execute(
        "INSERT INTO hook_events (source, action, retry_count, processing_errors, failed_at)"
        " SELECT 'task', 'failed', 3, '{no}', '0001-01-01 BC'::timestamptz - n * interval '1 day'"
        " FROM generate_series(1, 1500) AS n"
    )
    assert hep("events", "retry", "--failed", "--dry-run") == "1,500 failed events would run again\n"


def test_all_steps_of_a_retry_have_its_reason_and_are_committed_each_by_itself(
    hep: Hep, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_RETRY", dead_letters._RETRY.replace("LIMIT 1000", "LIMIT 2"))
    for _ in range(5):
        insert_event(connection, "failed")
    hep("events", "retry", "--failed", "--force", "--reason", "the relay is back")
    kept = connection.execute(
        "SELECT reason, count(*), count(DISTINCT xmin::text) FROM hook_audit GROUP BY 1"
    ).fetchall()
    assert kept == [("the relay is back", 5, 3)]


def test_a_retry_that_is_cut_off_says_how_many_run_again(
    hep: Hep, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_RETRY", dead_letters._RETRY.replace("LIMIT 1000", "LIMIT 2"))
    for _ in range(5):
        insert_event(connection, "failed")
    steps = count(1)

    def because(connection: Connection, reason: str | None) -> AbstractContextManager[None]:
        if next(steps) % 3 == 0:
            raise StoreUnavailable("the database was lost")
        return nullcontext()

    monkeypatch.setattr(audit, "because", because)
    finished = hep.run("events", "retry", "--failed", "--dry-run")
    assert (finished.status, finished.errors) == (1, "hep: the database was lost\n")
    finished = hep.run("events", "retry", "--failed")
    assert finished.errors == (
        "at least 4 failed events will run again; not all were reached\nhep: the database was lost\n"
    )
    assert (finished.status, len(_failed(connection))) == (1, 1)
