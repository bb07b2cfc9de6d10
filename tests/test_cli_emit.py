"""`hep events emit`: one event, and files of them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from commands import Hep
from psycopg import Connection

LINES = [
    {"type": "package.installed", "data": {"name": "vim"}},
    {"source": "package", "action": "upgraded", "payload": {"name": "vim"}, "resource": "package", "priority": 2},
    {"type": "PreToolUse/tool_invocation", "stack": "s", "metadata": {"agent_id": "a"}, "delay": "10m"},
    {"type": "build", "id": "019b2c3d-5a70-7000-8000-000000000001", "occurred_at": "2025-01-01T00:00:00Z"},
    {"type": "task.late", "delay": 90.5, "resource_id": "x"},
]


def _rows(connection: Connection, columns: str = "source, action") -> list[Any]:
    return connection.execute(f"SELECT {columns} FROM hook_events ORDER BY seq").fetchall()


def _file(tmp_path: Path, *lines: object) -> str:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return str(path)


def test_a_type_is_enough(hep: Hep, connection: Connection) -> None:
    printed = hep("events", "emit", "task.failed")
    ((event_id,),) = _rows(connection, "id")
    assert printed == f"published: task.failed {event_id}\n"
    assert _rows(connection, "source, action, payload, metadata -> 'origin' ->> 'component'") == [
        ("task", "failed", {}, "hep")
    ]


@pytest.mark.parametrize("options_first", [True, False])
def test_options_stand_before_or_after_the_payload(hep: Hep, connection: Connection, options_first: bool) -> None:
    options = (
        "--stack",
        "production",
        "--resource",
        "task",
        "--resource-id",
        "t1",
        "--priority",
        "2",
        "--delay",
        "10m",
    )
    payload = '{"name": "deploy", "n": 9007199254740993}'
    hep("events", "emit", "task.failed", *((*options, payload) if options_first else (payload, *options)))
    columns = "payload, resource, resource_id, priority, metadata ->> 'stack', available_at > now() + interval '9 min'"
    assert _rows(connection, columns) == [
        ({"name": "deploy", "n": 9007199254740993}, "task", "t1", 2, "production", True)
    ]


def test_the_payload_comes_from_standard_input(hep: Hep, connection: Connection) -> None:
    hep("events", "emit", "a.b", "-", stdin='{\n "text": "é"\n}\n')
    assert _rows(connection, "payload") == [({"text": "é"},)]


def test_an_id_is_published_once(hep: Hep, connection: Connection) -> None:
    event_id = str(uuid4())
    assert hep.document("events", "emit", "a.b", "--id", event_id, "--format", "json") == {"id": event_id, "new": True}
    assert hep("events", "emit", "a.c", "--id", event_id) == (
        f"nothing published: the event {event_id} is there already\n"
    )
    assert _rows(connection) == [("a", "b")]


@pytest.mark.parametrize(
    ("payload", "reason", "status"),
    [
        ('{"a": 1,}', "the payload is not JSON: Expecting property name enclosed in double quotes at character 9", 2),
        ('{"a":\n 1 2}', "at line 2, character 4", 2),
        ("[1]", "not a JSON object", 2),
        ("", "not JSON: Expecting value at character 1", 2),
        ('{"n": 1e400}', "the number 1e400 is too large", 2),
        ('{"n": NaN}', "NaN is no number", 2),
        ("[" * 100_000, "nested too deeply", 2),
        ('{"n": 123456789012345678901234567890}', "64-bit", 1),
        ('{"text": "\\u0000"}', "NUL character", 1),
        (json.dumps({"text": "x" * 100_000}), "100,011 bytes of JSON: at most 100,000", 1),
    ],
)
def test_a_bad_payload_is_told_in_one_line(
    hep: Hep, connection: Connection, payload: str, reason: str, status: int
) -> None:
    finished = hep.run("events", "emit", "a.b", payload)
    assert finished.status == status
    assert reason in finished.fault
    assert _rows(connection) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a.b", "--priority", "11"),
        ("a.b", "--priority", "high"),
        ("a.b", "--delay", "soon"),
        ("a.b", "--delay", "-5s"),
        ("a.b", "--id", "1"),
        ("a.b", "--metadata", "{"),
        ("a.b", "{}", "{}"),
        ("a.b", "--jsonl", "file"),
        ("--jsonl", "file", "--stack", "s"),
        ("a.b", "--unknown"),
    ],
)
def test_misuse_is_status_2_and_one_line(hep: Hep, connection: Connection, arguments: tuple[str, ...]) -> None:
    finished = hep.run("events", "emit", *arguments)
    assert finished.status == 2
    assert finished.fault.startswith("hep")
    assert _rows(connection) == []


def test_a_type_without_a_source_is_refused(hep: Hep) -> None:
    assert "has no source" in hep.fault("events", "emit", ".failed")


def test_the_settings_limit_the_size(hep: Hep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_MAX_PAYLOAD_SIZE", "200")
    assert "at most 200 are taken (HOOK_MAX_PAYLOAD_SIZE)" in hep.fault(
        "events", "emit", "a.b", json.dumps({"t": "x" * 200})
    )


def test_a_file_of_events(hep: Hep, connection: Connection, tmp_path: Path) -> None:
    assert hep("events", "emit", "--jsonl", _file(tmp_path, *LINES[:2], "", *LINES[2:])) == "published: 5 events\n"
    assert _rows(connection) == [
        ("package", "installed"),
        ("package", "upgraded"),
        ("PreToolUse", "tool_invocation"),
        ("build", ""),
        ("task", "late"),
    ]
    columns = "payload ->> 'name', resource, resource_id, priority, metadata ->> 'stack', metadata ->> 'agent_id'"
    assert _rows(connection, columns)[1:3] == [("vim", "package", "", 2, None, None), (None, "", "", 5, "s", "a")]
    due = "round(extract(epoch FROM available_at - created_at) / 10) * 10"
    assert [row[0] for row in _rows(connection, due)] == [None, None, 600, None, 90]
    assert hep.document("events", "emit", "--jsonl", _file(tmp_path, *LINES), "--format", "json") == {
        "published": 4,
        "known": 1,
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nope", "the event is not JSON: Expecting value at character 1"),
        ("[]", "not a JSON object"),
        ("{}", "no type"),
        ('{"type": ""}', "has no source"),
        ('{"type": 5}', "type is 5"),
        ('{"type": "a", "source": "b"}', "type stands beside source or action"),
        ('{"type": "a", "dat": 1}', "unknown field 'dat'"),
        ('{"type": "a", "data": []}', "data is []"),
        ('{"type": "a", "data": {"a": 1}, "payload": {}}', "data stands beside payload"),
        ('{"type": "a", "priority": true}', "priority is true"),
        ('{"type": "a", "priority": 11}', "priority is 11"),
        ('{"type": "a", "delay": "soon"}', 'delay is "soon"'),
        ('{"type": "a", "delay": -1}', "delay is -1"),
        ('{"type": "a", "id": "1"}', 'id is "1"'),
        ('{"type": "a", "occurred_at": "yesterday"}', 'occurred_at is "yesterday"'),
        ('{"type": "a", "data": {"n": NaN}}', "NaN"),
        ('{"type": "a", "data": {"text": "\\u0000"}}', "NUL"),
        ('{"type": "\\ud800"}', "surrogate"),
        ('{"type": "%s"}' % ("x" * 300), "300 characters"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_published(
    hep: Hep, connection: Connection, tmp_path: Path, line: str, reason: str
) -> None:
    path = tmp_path / "events.jsonl"
    good = json.dumps(LINES[0]) + "\n"
    path.write_text(f"{good}\n{good}{line}\n{good}", errors="surrogateescape")
    said = hep.fault("events", "emit", "--jsonl", str(path))
    assert said.startswith(f"hep: {path}, line 4: ")
    assert reason in said
    assert said.endswith("; nothing was published")
    assert _rows(connection) == []


def test_a_bad_line_behind_what_is_read_ahead_undoes_everything(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hook_event_processor.cli.emit._READ_AHEAD_EVENTS", 10)
    said = hep.fault(
        "events", "emit", "--jsonl", _file(tmp_path, *[{"type": "a.b"}] * 3_000, {"type": "a", "priority": 0})
    )
    assert "line 3001" in said
    large = {"type": "a.b", "data": {"text": "x" * 100_000}}
    said = hep.fault("events", "emit", "--jsonl", _file(tmp_path, *[{"type": "a.b"}] * 1_700, large, {"type": "a.b"}))
    assert "line 1701: the payload has" in said
    assert _rows(connection) == []


def test_a_delay_in_a_file_counts_from_when_publishing_begins(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe can be read for as long as the delay."""
    monkeypatch.setattr("hook_event_processor.cli.emit._READ_AHEAD_EVENTS", 2)
    begun = datetime.now(UTC)
    read = begun + timedelta(minutes=10)
    times = [begun, read]
    monkeypatch.setattr("hook_event_processor.store.times.server_time", lambda _: times.pop(0))
    delayed = {"type": "a.b", "delay": "30s"}
    hep("events", "emit", "--jsonl", _file(tmp_path, delayed, {"type": "a.b"}, delayed))
    due = read + timedelta(seconds=30)
    assert _rows(connection, "available_at") == [(due,), (None,), (due,)]


def test_a_file_that_cannot_be_read_is_named(hep: Hep, tmp_path: Path) -> None:
    assert hep.fault("events", "emit", "--jsonl", "missing") == "hep: missing cannot be read: No such file or directory"
    assert "Is a directory" in hep.fault("events", "emit", "--jsonl", str(tmp_path))


def test_events_come_through_a_pipe(hep: Hep, connection: Connection) -> None:
    lines = "".join(f"{json.dumps(line)}\n" for line in LINES)
    command = [sys.executable, "-m", "hook_event_processor", "events", "emit", "--jsonl", "-"]
    finished = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=30, check=False)
    assert (finished.returncode, finished.stdout) == (0, "published: 5 events\n")
    assert all(line.startswith("note: the event type ") for line in finished.stderr.splitlines())
    assert len(_rows(connection)) == 5
