"""The original service's backlog, its reset, and the pages' examples, with a processor running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import seed
from factories import ago, insert_event
from psql import psql
from psycopg import Connection
from shell import bash

from hook_event_processor.store.database import Database

ROOT = Path(__file__).parent.parent
EVENTS = 419
# The five pairs that have a handler of their own, and one that has none; payloads as their writers fill them.
KINDS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("PreToolUse", "tool_invocation", "tool", {"tool_name": "Write", "tool_input": {"file_path": "a.py"}}),
    (
        "PostToolUse",
        "tool_completion",
        "tool",
        {"tool_name": "Bash", "tool_output": "it's done", "file_path": None, "auto_fix_details": None},
    ),
    (
        "UserPromptSubmit",
        "prompt_submitted",
        "prompt",
        {
            "prompt_preview": "Größe \\ of the table?",
            "agent_detected": "researcher",
            "detection_method": "pattern",
            "confidence": 0.92,
            "latency_ms": 12.5,
        },
    ),
    ("Stop", "session_stopped", "session", {}),
    ("SessionEnd", "session_ended", "session", {"duration_seconds": 84, "total_prompts": 3, "agents_invoked": []}),
    ("SessionStart", "session_initialized", "session", {"session_id": "s-1", "git_dirty": True, "git_branch": "main"}),
]


def _insert_backlog(database: Database) -> None:
    rows = []
    for n in range(EVENTS):
        source, action, resource, payload = KINDS[n % len(KINDS)]
        data = json.dumps(payload).replace("'", "''")
        metadata = json.dumps({"hook_type": source, "correlation_id": str(uuid4())})
        rows.append(f"('{uuid4()}', '{source}', '{action}', '{resource}', '{n}', '{data}', '{metadata}')")
    columns = "id, source, action, resource, resource_id, payload, metadata"
    psql(database, "-c", f"INSERT INTO hook_events ({columns}) VALUES {', '.join(rows)}")


def _environment(database: Database) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "DATABASE_URL": database.conninfo, "HOME": "/nonexistent"}


@contextmanager
def _running(database: Database, folder: Path, command: str) -> Iterator[subprocess.Popen[bytes]]:
    """`hep run` or `hep up`; it must end well when it is asked to."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hook_event_processor", command],
            env=_environment(database),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.communicate()


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds:g} seconds"
        time.sleep(0.02)


def _all_processed(connection: Connection) -> bool:
    return connection.execute(seed.COUNT_UNPROCESSED).fetchone() == (0,)


def _assert_success_criteria(connection: Connection) -> None:
    [(count,)] = connection.execute(seed.COUNT_PROCESSED).fetchall()
    [(average, longest)] = connection.execute(seed.WITHIN_FIVE_SECONDS).fetchall()
    [(error_rate,)] = connection.execute(seed.SUCCESS_ERROR_RATE).fetchall()
    assert count >= EVENTS
    assert average < 5
    assert longest < 10
    assert error_rate == Decimal("0.00")


@pytest.mark.alone
def test_a_backlog_is_processed_within_five_seconds_of_the_start(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    _insert_backlog(database)
    with _running(database, tmp_path, "run"):
        _wait_until(lambda: _all_processed(connection), 5)
    _assert_success_criteria(connection)
    handlers = connection.execute(
        "SELECT e.source, x.hook_name, count(*) FROM event_hook_executions x JOIN hook_events e ON e.id = x.event_id"
        " WHERE x.success GROUP BY 1, 2 ORDER BY 1"
    ).fetchall()
    assert handlers == [
        ("PostToolUse", "handle_posttooluse_completion", 70),
        ("PreToolUse", "handle_pretooluse_invocation", 70),
        ("SessionEnd", "handle_session_ended", 70),
        ("SessionStart", "handle_unknown_event", 69),
        ("Stop", "handle_session_stopped", 70),
        ("UserPromptSubmit", "handle_userprompt_submitted", 70),
    ]


def test_a_table_of_the_original_service_is_adopted_and_processed(empty_database: Database, tmp_path: Path) -> None:
    with empty_database.session("tests") as connection:
        connection.execute(seed.TABLE)
        _insert_backlog(empty_database)
        with _running(empty_database, tmp_path, "up") as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"ready:")
            _wait_until(lambda: _all_processed(connection), 5)
        _assert_success_criteria(connection)


def test_after_the_reset_a_failed_event_runs_again_by_itself(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    kind = {"source": "PreToolUse", "action": "tool_invocation", "payload": KINDS[0][3]}
    event_id = insert_event(connection, "failed", created_at=ago(hours=2), **kind)
    other = insert_event(connection, "pending", source="Stop", action="session_stopped")
    with _running(database, tmp_path, "run"):
        state = "SELECT state, retry_count, error FROM events WHERE id = %s"
        _wait_until(lambda: connection.execute(state, (other,)).fetchone() == ("completed", 0, None), 10)
        assert connection.execute(state, (event_id,)).fetchone() == ("failed", 3, "third attempt")
        connection.execute(seed.RESET)
        _wait_until(lambda: connection.execute(state, (event_id,)).fetchone() == ("completed", 0, None), 5)


def _bash(database: Database, folder: Path, script: str) -> str:
    return bash(script, _environment(database), folder)


def _outputs(connection: Connection, hook: str) -> list[str]:
    rows = connection.execute("SELECT output FROM event_hook_executions WHERE hook_name = %s ORDER BY id", (hook,))
    return [output for (output,) in rows.fetchall()]


def test_the_hook_and_the_event_of_the_readme(connection: Connection, database: Database, tmp_path: Path) -> None:
    [script] = re.findall(r"```bash\n(cat >.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands, last = script.strip().rsplit("\n", 1)
    assert len(script.splitlines()) == 10
    with _running(database, tmp_path, "run"):
        _bash(database, tmp_path, commands)
        _wait_until(lambda: _outputs(connection, "notify") == ["deploy failed: disk full"], 10)
        assert "deploy failed: disk full" in _bash(database, tmp_path, last)


@pytest.mark.parametrize(
    ("action", "versions", "output"),
    [
        ("installed", {"version": "7.88", "old_version": None}, "curl 7.88 is new"),
        ("upgraded", {"version": "7.88", "old_version": "7.87"}, "curl 7.88 replaces 7.87"),
        ("removed", {"version": None, "old_version": "7.88"}, "curl is gone, it was 7.88"),
    ],
)
def test_the_package_hook_tells_installs_from_upgrades(
    connection: Connection, database: Database, tmp_path: Path, action: str, versions: dict[str, Any], output: str
) -> None:
    _bash(database, tmp_path, f"hep hook add {ROOT}/docs/hooks/packages/packages.lua")
    insert_event(connection, source="package", action=action, payload={"package": "curl", **versions})
    with _running(database, tmp_path, "run"):
        _wait_until(lambda: _outputs(connection, "packages") == [output], 10)


def test_the_starter_hooks_answer_and_warn(connection: Connection, database: Database, tmp_path: Path) -> None:
    """A greeting without a name fails for good, and that is told."""
    starters = ROOT / "hook_event_processor/starter"
    _bash(database, tmp_path, f"hep hook add {starters}/greet.lua; hep hook add {starters}/dead_letter_alert.lua")
    insert_event(connection, source="greeting", action="sent", payload={"name": "world"})
    nameless = insert_event(connection, "retrying", source="greeting", action="sent", retry_count=2, available_at=ago())
    with _running(database, tmp_path, "run"):
        _wait_until(lambda: "Hello, world" in _outputs(connection, "greet"), 10)
        _wait_until(lambda: len(_outputs(connection, "dead_letter_alert")) == 1, 10)
    [warning] = _outputs(connection, "dead_letter_alert")
    assert warning.startswith("WARN an event has failed for good")
    for word in (str(nameless), "greeting.sent", "nobody to greet"):
        assert word in warning
