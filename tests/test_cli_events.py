"""`hep events`: list, get, show, delete, cleanup."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from commands import Hep
from factories import ago, insert_event, insert_execution
from psycopg import Connection

HOSTILE = "\x1b[31mred\x1b]0;title\x07\nadmin.login succeeded\u202e\u009b2J [bold]"
NOTHING_REMOVED = {
    "dry_run": False,
    "events": 0,
    "executions": 0,
    "versions": 0,
    "rules": {},
    "archives": [],
    "waited_seconds": 0,
}
STATES = ("pending", "scheduled", "retrying", "processing", "completed", "failed")


def _ids(hep: Hep, *arguments: str) -> list[UUID]:
    return [UUID(event["id"]) for event in hep.document("events", "list", "--format", "json", *arguments)]


def _count(connection: Connection, table: str = "hook_events") -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def test_the_newest_come_first(hep: Hep, connection: Connection) -> None:
    # Writers set created_at as they like: the order of insertion counts.
    events = [insert_event(connection, action=str(n), created_at=ago(hours=n)) for n in range(4)]
    assert _ids(hep) == events[::-1]
    assert _ids(hep, "--limit", "2") == [events[3], events[2]]


def test_a_list_without_events_says_so(hep: Hep) -> None:
    assert hep("events", "list") == "No events.\n"
    assert hep.document("events", "list", "--format", "json") == []


def test_a_piped_list_is_aligned_text(hep: Hep, connection: Connection) -> None:
    insert_event(connection, state="failed", id=UUID(int=1 << 100))
    insert_event(connection, state="completed", source="deploy", action="started", id=UUID(int=2 << 100))
    header, first, second = hep("events", "list").splitlines()
    assert header.split() == ["ID", "Type", "Status", "Created", "Processed", "Failures", "Error"]
    assert first.split()[:3] == ["00000020", "deploy.started", "completed"]
    assert second.endswith("3  third attempt")
    assert first.index("completed") == second.index(" failed") + 1 == header.index("Status")
    assert "\t" not in first


@pytest.mark.parametrize("status", STATES)
def test_status_names_each_state(hep: Hep, connection: Connection, status: str) -> None:
    events = {state: insert_event(connection, state=state) for state in STATES}
    wanted = {"pending": ["pending", "scheduled", "retrying"]}.get(status, [status])
    assert set(_ids(hep, "--status", status)) == {events[state] for state in wanted}


def test_an_unfinished_event_of_every_kind_is_found_behind_many_others(hep: Hep, connection: Connection) -> None:
    old = [insert_event(connection, state=state) for state in STATES[:4]]
    urgent = insert_event(connection, priority=1)
    connection.execute(
        "INSERT INTO hook_events (source, action, processed, processed_at)"
        " SELECT 'many', '', TRUE, now() FROM generate_series(1, 3000)"
    )
    assert set(_ids(hep, "--status", "pending")) == {*old[:3], urgent}
    # Further back than the first look goes.
    assert _ids(hep, "--type", "task.failed", "--limit", "1") == [urgent]
    assert len(_ids(hep, "--type", "task.failed")) == 5


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("task.failed", {"task.failed"}),
        ("task.*", {"task.failed", "task.started"}),
        ("*.failed", {"task.failed", "deploy.failed"}),
        ("~^(task|build)", {"task.failed", "task.started", "build"}),
        ("build", {"build"}),
        ("disk.sda.full", {"disk.sda.full"}),
        ("nothing.*", set()),
        ("*", {"task.failed", "task.started", "deploy.failed", "build", "disk.sda.full"}),
    ],
)
def test_type_takes_every_pattern(hep: Hep, connection: Connection, pattern: str, matching: set[str]) -> None:
    for source, action in (
        ("task", "failed"),
        ("task", "started"),
        ("deploy", "failed"),
        ("build", ""),
        ("disk.sda", "full"),
    ):
        insert_event(connection, source=source, action=action)
    listed = hep.document("events", "list", "--format", "json", "--type", pattern)
    assert {event["type"] for event in listed} == matching


def test_the_other_filters(hep: Hep, connection: Connection) -> None:
    insert_event(connection, created_at=ago(hours=3))
    insert_event(connection, payload={"stack": "production", "agent_id": "a1"}, created_at=ago(hours=1))
    third = insert_event(
        connection,
        source="deploy",
        metadata={"stack": "production", "agent_id": "a2", "session_id": "s", "correlation_id": "c"},
    )
    for arguments in (("--source", "deploy"), ("--agent", "a2"), ("--session", "s"), ("--correlation", "c")):
        assert _ids(hep, *arguments) == [third]
    assert len(_ids(hep, "--stack", "production")) == 2
    assert len(_ids(hep, "--since", "2h")) == 2
    assert len(_ids(hep, "--since", ago(hours=2).isoformat())) == 2
    assert _ids(hep, "--since", "2h", "--stack", "production", "--agent", "a2") == [third]


def test_any_unambiguous_prefix_is_an_id(hep: Hep, connection: Connection) -> None:
    first, second = UUID("019b2c3d-5a70-7000-8000-000000000001"), UUID("019b2c3d-5a70-7000-8000-0000000000a1")
    for event_id in (first, second, UUID("aaaaaaaa-0000-4000-8000-000000000000")):
        insert_event(connection, id=event_id)
    assert hep.document("events", "get", "a")["id"].startswith("aaaaaaaa")
    assert hep.document("events", "get", "019B2C3D5A7070008000 0000000000a".replace(" ", ""))["id"] == str(second)
    assert hep.document("events", "get", str(first))["id"] == str(first)
    said = hep.fault("events", "get", "019b")
    assert str(first) in said
    assert str(second) in said
    assert "no event has the id 5..." in hep.fault("events", "show", "5")
    assert "hexadecimal" in hep.fault("events", "show", "task.failed")
    assert "hexadecimal" in hep.fault("events", "get", "")
    assert "hexadecimal" in hep.fault("events", "get", "0" * 33)


def test_a_list_prints_ids_that_can_be_used(hep: Hep, connection: Connection) -> None:
    hep("events", "emit", "a.one")
    connection.execute("INSERT INTO hook_events (source, action) SELECT 'bulk', '' FROM generate_series(1, 200)")
    printed = [line.split()[0] for line in hep("events", "list", "--limit", "201").splitlines()[1:]]
    assert min(map(len, printed)) >= 8
    for prefix in printed[::40]:
        assert hep.document("events", "get", prefix)["id"].startswith(prefix)


def test_get_holds_json_that_python_cannot(hep: Hep, connection: Connection) -> None:
    deep = "[" * 3_000 + "]" * 3_000
    connection.execute(
        "INSERT INTO hook_events (source, action, payload) VALUES"
        f""" ('a', '', ('{{"number": 1e400, "exact": 0.1000000000000000000001, "deep": {deep}}}')::jsonb)"""
    )
    (event_id,) = _ids(hep)
    printed = hep("events", "get", str(event_id))
    assert "0.1000000000000000000001" in printed
    assert "0" * 400 in printed
    assert deep in printed
    hep("events", "show", str(event_id))
    assert _ids(hep, "--type", "a") == [event_id]


def test_get_is_the_whole_event_with_its_runs(hep: Hep, connection: Connection) -> None:
    event_id = insert_event(connection, state="failed", payload={"n": [1, None, {}]}, metadata={"stack": "production"})
    insert_execution(connection, event_id, success=False, output="said", attempt=2)
    event = hep.document("events", "get", str(event_id))
    assert event["data"] == {"n": [1, None, {}]}
    assert (event["type"], event["status"], event["stack"]) == ("task.failed", "failed", "production")
    assert event["processing_errors"][-1] == event["error"] == "third attempt"
    assert event["created_at"].endswith("Z")
    (run,) = event["executions"]
    assert (run["hook_name"], run["success"], run["output"], run["attempt"]) == ("greet", False, "said", 2)


def test_show_is_the_table_with_the_errors_under_it(hep: Hep, connection: Connection) -> None:
    event_id = insert_event(connection, state="completed")
    insert_execution(connection, event_id, "notify_slack", duration_ms=234.0, executed_at=ago(seconds=50))
    refused = "Failed to connect to deployment server: connection refused"
    insert_execution(
        connection, event_id, "rollback_deploy", success=False, error=refused, duration_ms=123.0, output="tried"
    )
    shown = hep("events", "show", str(event_id)[:9])
    lines = shown.splitlines()
    assert lines[0].split() == ["Event:", str(event_id)]
    assert lines[1].split() == ["Type:", "task.failed"]
    assert lines[2].split() == ["Status:", "completed"]
    table = [line.split()[:2] for line in lines[lines.index("Hook Executions") :]]
    assert table[1:4] == [["Hook", "Name"], ["rollback_deploy", "Failed"], ["notify_slack", "Success"]]
    assert "234ms" in shown
    assert f"Hook: rollback_deploy\nError:\n{refused}\n" in shown
    assert "tried" not in shown
    assert "Output:\ntried\n" in hep("events", "show", str(event_id), "--output")


def test_nothing_from_the_database_reaches_the_terminal_as_it_is(hep: Hep, connection: Connection) -> None:
    event_id = insert_event(
        connection,
        state="failed",
        source=HOSTILE,
        resource=HOSTILE,
        payload={HOSTILE: HOSTILE},
        metadata={"stack": HOSTILE, "correlation_id": HOSTILE, "agent_id": HOSTILE},
        processing_errors=[HOSTILE],
    )
    insert_execution(connection, event_id, HOSTILE, success=False, error=HOSTILE, output=HOSTILE)
    commands = (("list",), ("list", "--format", "json"), ("get", str(event_id)), ("show", str(event_id), "--output"))
    for command in commands:
        printed = hep("events", *command)
        assert not {"\x1b", "\x07", "\u009b", "\u202e"} & set(printed)
    assert len(hep("events", "list").splitlines()) == 2
    (event,) = hep.document("events", "list", "--format", "json")
    assert event["resource"] == HOSTILE


def test_delete_takes_the_executions_along(hep: Hep, connection: Connection) -> None:
    kept, gone = insert_event(connection), insert_event(connection, state="completed")
    for event_id in (kept, gone, gone):
        insert_execution(connection, event_id)
    assert hep("events", "delete", str(gone)) == f"removed: event {gone} and 2 executions\n"
    assert _ids(hep) == [kept]
    assert _count(connection, "event_hook_executions") == 1
    assert "no event has the id" in hep.fault("events", "delete", str(gone))


def test_an_event_under_a_lease_is_not_deleted(hep: Hep, connection: Connection) -> None:
    event_id = insert_event(connection, state="processing")
    assert "is being processed" in hep.fault("events", "delete", str(event_id))
    assert _ids(hep) == [event_id]


def _old(connection: Connection, state: str, days: int) -> UUID:
    event_id = insert_event(connection, state=state, created_at=ago(days=days))
    insert_execution(connection, event_id, executed_at=ago(days=days))
    return event_id


def test_cleanup_takes_what_was_completed_so_long_ago(hep: Hep, connection: Connection) -> None:
    for state in STATES:
        _old(connection, state, 31)
    recent = _old(connection, "completed", 29)
    removed_by_hand = uuid4()
    insert_execution(connection, removed_by_hand, executed_at=ago(days=40))
    insert_execution(connection, removed_by_hand, executed_at=ago(days=1))
    assert hep("events", "cleanup", "--older-than", "720h") == "removed: 1 event and 2 executions\n"
    left = {event["state"] for event in hep.document("events", "list", "--format", "json")}
    assert left == set(STATES)
    assert recent in _ids(hep, "--status", "completed")
    assert hep("events", "cleanup", "--older-than", "30d", "--failed") == "removed: 1 event and 1 execution\n"
    assert _ids(hep, "--status", "failed") == []


def test_cleanup_goes_through_a_large_table_in_steps(hep: Hep, connection: Connection) -> None:
    connection.execute(
        "INSERT INTO hook_events (source, action, payload, processed, processed_at, created_at)"
        " SELECT 'old', '', jsonb_build_object('text', repeat('x', 1500)), n % 2 = 0,"
        " CASE WHEN n % 2 = 0 THEN now() - interval '40 days' END, now() - interval '41 days'"
        " FROM generate_series(1, 4000) AS n"
    )
    assert hep("events", "cleanup", "--older-than", "30d") == "removed: 2,000 events and 0 executions\n"
    assert _count(connection) == 2_000


def test_lists_of_json_are_one_document(hep: Hep, connection: Connection) -> None:
    insert_event(connection, payload={"text": "é"})
    keys: set[str] = set()
    listed: list[dict[str, Any]] = json.loads(hep("events", "list", "--format", "json"))
    for event in listed:
        keys |= event.keys()
    assert {"id", "type", "status", "state", "created_at", "processed_at", "retry_count", "error", "stack"} <= keys


def test_what_was_done_is_a_document_when_asked_for(hep: Hep, connection: Connection) -> None:
    for action, expected in (
        (("retry", "{}"), {"id": "{}", "dry_run": False, "retried": 1, "without": [], "left_out": []}),
        (("retry", "--failed"), {"dry_run": False, "retried": 0, "without": [], "left_out": []}),
        (("delete", "{}"), {"id": "{}", "events": 1, "executions": 0}),
        (("cleanup", "--older-than", "1d"), NOTHING_REMOVED),
        (("cleanup", "--older-than", "1d", "--dry-run"), {**NOTHING_REMOVED, "dry_run": True}),
    ):
        event_id = str(insert_event(connection, state="failed")) if "{}" in action else ""
        arguments = (argument.replace("{}", event_id) for argument in action)
        done = hep.document("events", *arguments, "--format", "json")
        assert done == {name: event_id if value == "{}" else value for name, value in expected.items()}
    event_id = str(insert_event(connection))
    assert hep("events", "get", event_id, "--format", "table") == hep("events", "show", event_id)
    assert hep("events", "show", event_id, "--format", "json") == hep("events", "get", event_id)
