"""`hep events explain`: why an event is where it is, and why each hook ran for it or did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from commands import Hep
from factories import ago, insert_event, insert_execution
from psycopg import Connection
from running import add_hook, insert, running, state
from waiting import wait_for

from hook_event_processor.store.database import Database
from hook_event_processor.store.handlers import HandlerRow, register

TEXT = "return {execute = function() return true end}"
FILTERED = "return {filter = function() return false end, execute = function() return true end}"
FAILS = 'return {execute = function() return false, "the disk is full" end}'
RUNS = 'local exec = require("exec")\nreturn {execute = function() return exec.run("true").success end}'


def _explained(hep: Hep, event_id: UUID) -> Any:
    return hep.document("events", "explain", str(event_id), "--format", "json")


def _verdicts(hep: Hep, event_id: UUID) -> dict[str, tuple[str, str]]:
    """Word and reason by hook."""
    return {each["hook"]: (each["verdict"], each["reason"]) for each in _explained(hep, event_id)["hooks"]}


def _processor(connection: Connection, node: str = "here:1", **columns: Any) -> None:
    values = {
        "node": node,
        "host": "here",
        "pid": 1,
        "version": "1",
        "state": "running",
        "wake": "listen",
        "workers": 1,
    }
    values |= columns
    connection.execute(
        f"INSERT INTO hook_processors ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})",
        list(values.values()),
    )


def test_each_state_has_its_reason(hep: Hep, connection: Connection) -> None:
    past = ago(minutes=1)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"state": "pending"}, "it waits to be claimed; nothing before it; no processor is running: 'hep run'"),
        ({"state": "pending", "available_at": past}, "it has been due since "),
        ({"state": "pending", "available_at": past, "needs_slot": True}, "it waits for a free worker slot"),
        ({"state": "scheduled"}, "it is not to be processed before "),
        ({"state": "retrying"}, "attempt 1 failed; the next one is due at "),
        ({"state": "retrying", "available_at": past}, "the next one has been due since "),
        ({"state": "processing"}, "leased by elsewhere:1 until "),
        ({"state": "processing", "available_at": past}, "the lease of elsewhere:1 ended at "),
        ({"state": "completed"}, "no hook ran for it; acknowledged at "),
        ({"state": "failed"}, "its attempts were used up at "),
    ]
    for columns, why in cases:
        event_id = insert_event(connection, **columns)
        explained = _explained(hep, event_id)
        assert why in explained["why"]
        waits = explained["state"] not in ("completed", "failed", "processing")
        assert ("no processor is running" in explained["why"]) == waits
        assert f"Status: {explained['state']}\n" in hep("events", "explain", str(event_id))


def test_a_processor_that_runs_is_taken_into_account(hep: Hep, connection: Connection) -> None:
    add_hook(connection, "greet", "task.failed", TEXT)
    pending, scheduled = insert_event(connection), insert_event(connection, "scheduled")
    assert _verdicts(hep, pending)["greet"] == ("will run", "task.failed matches; once a processor runs")
    assert _verdicts(hep, scheduled)["greet"][1].endswith(", if a processor runs then")
    _processor(connection)
    assert "no processor" not in _explained(hep, pending)["why"]
    assert _verdicts(hep, pending)["greet"][1] == "task.failed matches; as soon as a processor has room for it"
    assert "if a processor" not in _verdicts(hep, scheduled)["greet"][1]
    connection.execute("UPDATE hook_processors SET heartbeat_at = now() - interval '1 minute'")
    assert "no processor is running" in _explained(hep, pending)["why"]


def test_what_is_paused_is_told_of_an_event_that_has_not_met_the_pause_yet(hep: Hep, connection: Connection) -> None:
    held = add_hook(connection, "held", "task.*", TEXT)
    add_hook(connection, "free", "task.*", TEXT)
    scheduled, retrying = insert_event(connection, "scheduled"), insert_event(connection, "retrying")
    insert_execution(connection, retrying, "held", hook_id=held, success=False)
    hep("pause", "--hook", "held")
    for event_id in (scheduled, retrying):
        found = _verdicts(hep, event_id)
        assert found["held"][1].endswith("once the hook is resumed: 'hep resume --hook held'")
        assert ", if a processor runs then" in found["free"][1]
    hep("resume", "--hook", "held")
    hep("pause", "--source", "task")
    assert "it waits for the end of a pause: the source task since " in _explained(hep, scheduled)["why"]
    assert _verdicts(hep, scheduled)["held"] == ("will run", "task.* matches; once it is resumed")
    assert "pause" not in _explained(hep, insert_event(connection, "scheduled", source="deploy"))["why"]


def test_the_holder_of_a_lease_is_looked_up(hep: Hep, connection: Connection) -> None:
    event_id = insert_event(connection, "processing")
    assert "that processor is not known to run" in _explained(hep, event_id)["why"]
    _processor(connection, "elsewhere:1")
    assert _explained(hep, event_id)["why"].endswith("and longer while its hooks run")
    connection.execute("UPDATE hook_processors SET heartbeat_at = now() - interval '40 seconds'")
    assert "it was last heard of 40s ago" in _explained(hep, event_id)["why"]


def test_the_events_before_it_are_counted(hep: Hep, connection: Connection) -> None:
    urgent, later = insert_event(connection, priority=1), insert_event(connection, priority=9)
    insert_event(connection, "completed")
    events = [insert_event(connection) for _ in range(3)]
    assert "; nothing before it" in _explained(hep, urgent)["why"]
    assert "; 1 event before it" in _explained(hep, events[0])["why"]
    assert "; 3 events before it" in _explained(hep, events[2])["why"]
    assert "; 4 events before it" in _explained(hep, later)["why"]


def test_hooks_that_do_not_run_have_their_reasons(hep: Hep, connection: Connection) -> None:
    add_hook(connection, "fits", "task.*", TEXT)
    add_hook(connection, "late", "~^task", TEXT, priority=9)
    add_hook(connection, "off", "task.failed", TEXT, enabled=False)
    add_hook(connection, "elsewhere", "task.failed", TEXT, stack="production")
    add_hook(connection, "other", "deploy.*", TEXT)
    event_id = insert_event(connection, metadata={"stack": "staging"})
    explained = _explained(hep, event_id)
    assert (explained["stack"], explained["route"]) == ("staging", [["fits"], ["late"]])
    assert list(_verdicts(hep, event_id).items()) == [
        ("fits", ("will run", "task.* matches; once a processor runs")),
        ("late", ("will run", "~^task matches; once a processor runs")),
        (
            "elsewhere",
            (
                "other stack",
                "task.failed matches; it runs for the stack production, and the event is of the stack staging",
            ),
        ),
        ("off", ("disabled", "task.failed matches; 'hep hook enable off' lets it run")),
        ("other", ("no match", "task.failed matches none of its patterns: deploy.*")),
    ]
    assert explained["hooks"][-1]["patterns"] == [{"pattern": "deploy.*", "matches": False}]
    assert "and the event is of no stack" in _verdicts(hep, insert_event(connection))["elsewhere"][1]


def test_of_several_patterns_those_that_match_are_named(hep: Hep, connection: Connection) -> None:
    add_hook(connection, "several", "task.*", TEXT)
    connection.execute("UPDATE hooks SET event_types = ARRAY['task.*', 'deploy.*', '*.failed', 'task.']")
    event_id = insert_event(connection)
    assert _verdicts(hep, event_id)["several"][1].startswith("task.*, *.failed matches; ")
    patterns = {each["pattern"]: each["matches"] for each in _explained(hep, event_id)["hooks"][0]["patterns"]}
    assert patterns == {"task.*": True, "deploy.*": False, "*.failed": True, "task.": False}


def test_the_most_specific_handler_serves(hep: Hep, connection: Connection) -> None:
    register(
        connection,
        [
            HandlerRow("exact", ["task/failed"], ""),
            HandlerRow("of_source", ["task/*"], ""),
            HandlerRow("handle_unknown_event", ["*/*"], ""),
        ],
    )
    event_id = insert_event(connection)
    found = _verdicts(hep, event_id)
    assert found["exact"][0] == "will run"
    assert found["of_source"] == (
        "not needed",
        "task/* matches; exact serves it: of all handlers the most specific does",
    )
    assert found["handle_unknown_event"] == ("not needed", "*/* matches; it serves only what nothing else matches")
    connection.execute("UPDATE hooks SET enabled = FALSE WHERE name = 'exact'")
    found = _verdicts(hep, event_id)
    assert (found["exact"][0], found["of_source"][0]) == ("disabled", "will run")
    assert _verdicts(hep, insert_event(connection, source="x"))["handle_unknown_event"][0] == "will run"
    record = _verdicts(hep, insert_event(connection, source="hook", action="added"))["handle_unknown_event"]
    assert record == ("not needed", "*/* matches; hook.added is a record of the product's own, which needs no handler")


def test_a_handler_whose_package_no_processor_has_is_told_as_such(
    hep: Hep, connection: Connection, database: Database, tmp_path: Path
) -> None:
    register(connection, [HandlerRow("of_package", ["task/*"], "")])
    [event] = insert(connection, "task.failed")
    word, reason = _verdicts(hep, event)["of_package"]
    assert (word, reason) == (
        "will run",
        "task/* matches; once a processor runs, where that processor has its package installed",
    )
    with running(database, tmp_path):
        wait_for(lambda: state(connection, event) == "completed", 10)
    found = _verdicts(hep, event)
    word, reason = found["of_package"]
    assert word == "did not run"
    assert reason.endswith("perhaps the processor did not have its package installed, or the event was ended, by hand")
    assert found["handle_unknown_event"][0] == "ran"
    assert "package" not in _verdicts(hep, insert_event(connection, source="x"))["handle_unknown_event"][1]


def test_a_permission_that_is_not_granted_is_named(
    hep: Hep, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_hook(connection, "runs", "task.failed", RUNS, modules=["exec"])
    event_id = insert_event(connection)
    (hook,) = _explained(hep, event_id)["hooks"]
    assert "exec is not granted to it on this host: HOOK_EXEC" in hook["missing_permissions"][0]
    assert "runs: exec is not granted to it" in hep("events", "explain", str(event_id))
    monkeypatch.setenv("HOOK_EXEC", "on")
    assert _explained(hep, event_id)["hooks"][0]["missing_permissions"] == []


def test_hooks_that_were_added_or_removed_since_are_told_as_such(hep: Hep, connection: Connection) -> None:
    event_id = insert_event(connection, "completed")
    add_hook(connection, "new", "task.failed", TEXT)
    add_hook(connection, "old", "task.failed", TEXT, updated_at=ago(hours=1))
    changed = add_hook(connection, "changed", "deploy.*", TEXT)
    insert_execution(connection, event_id, "changed", hook_id=changed)
    insert_execution(connection, event_id, "gone", hook_id=999, success=False)
    found = _verdicts(hep, event_id)
    assert found["new"][0] == "did not run"
    assert "it was added or changed at" in found["new"][1]
    assert "there is no record of a run" in found["old"][1]
    assert found["changed"][0] == "ran"
    assert found["changed"][1].endswith("; now it would not run: task.failed matches none of its patterns: deploy.*")
    assert found["gone"][0] == "failed"
    assert found["gone"][1].endswith("failed: it failed; the hook was removed since")


def test_a_completed_event_names_the_hooks_that_never_succeeded_for_it(hep: Hep, connection: Connection) -> None:
    """A retry by force goes without hooks that are disabled or removed."""
    event_id = insert_event(connection, "completed")
    insert_execution(connection, event_id, "mended", success=False, executed_at=ago(minutes=3))
    insert_execution(connection, event_id, "mended", executed_at=ago(minutes=2))
    assert _explained(hep, event_id)["why"].startswith("every hook that ran for it ended well; acknowledged at ")
    for name in ("gone", "off", "gone"):
        insert_execution(connection, event_id, name, success=False)
    why = _explained(hep, event_id)["why"]
    assert why.startswith("it was completed without gone, off, which failed; acknowledged at ")


def test_an_event_of_the_future_does_not_exist(hep: Hep, connection: Connection) -> None:
    event_id = uuid4()
    assert hep.fault("events", "explain", str(event_id)) == f"hep: no event has the id {event_id}"


def test_what_a_processor_did_is_explained(
    hep: Hep, connection: Connection, database: Database, tmp_path: Path
) -> None:
    for name, text in (("good", TEXT), ("filters", FILTERED), ("bad", FAILS), ("runs", RUNS)):
        add_hook(connection, name, "task.failed", text)
    ((retrying,), (unrouted,)) = (insert(connection, "task.failed"), insert(connection, "task.other"))
    with running(database, tmp_path, retry_delay=3600.0, retry_max_delay=3600.0):
        wait_for(lambda: state(connection, retrying) == "retrying", 20)
        wait_for(lambda: state(connection, unrouted) == "completed", 20)
        found = _verdicts(hep, retrying)
    assert found["good"][0] == "ran"
    assert found["good"][1].endswith("; it does not run again for this event")
    assert found["filters"][0] == "filtered"
    assert "its filter returned false in attempt 1 at" in found["filters"][1]
    assert found["bad"][0] == "failed"
    assert "failed: the disk is full; it runs again: at " in found["bad"][1]
    assert "the permission 'exec' is not granted for it" in found["runs"][1]
    assert found["handle_unknown_event"][0] == "not needed"
    assert _verdicts(hep, unrouted)["handle_unknown_event"][0] == "ran"
    table = hep("events", "explain", str(retrying))
    assert "Runs\nAttempt  Hook" in table
    connection.execute("UPDATE hook_events SET failed_at = now(), available_at = NULL WHERE id = %s", (retrying,))
    assert f"; 'hep events retry {retrying}' tries again" in _verdicts(hep, retrying)["bad"][1]
