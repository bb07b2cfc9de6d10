"""Events about systemd units that ended: what they say, and what becomes of them while the database is away."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import Hep
from psycopg import Connection

from hook_event_processor.cli.unit_report import Ending, _fitting, _message, last_lines
from hook_event_processor.store import database as database_module
from hook_event_processor.store.database import Database

INVOCATION = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment that systemd gives to what OnFailure= starts."""
    monkeypatch.setenv("MONITOR_UNIT", "backup.service")
    monkeypatch.setenv("MONITOR_SERVICE_RESULT", "exit-code")
    monkeypatch.setenv("MONITOR_EXIT_CODE", "exited")
    monkeypatch.setenv("MONITOR_EXIT_STATUS", "3")
    monkeypatch.setenv("MONITOR_INVOCATION_ID", INVOCATION)
    return "service.failed:backup.service"


def test_the_event_says_how_the_unit_ended(hep: Hep, connection: Connection, failed: str) -> None:
    told = hep.document("events", "emit-unit", failed, "--format", "json")
    row = connection.execute("SELECT id, source, action, resource, resource_id, payload FROM hook_events").fetchone()
    assert row is not None
    assert str(row[0]) == told["id"]
    assert row[1:5] == ("service", "failed", "service", "backup.service")
    assert {name: row[5][name] for name in ("service", "new_status", "result", "code", "exit_status", "signal")} == {
        "service": "backup.service",
        "new_status": "failed",
        "result": "exit-code",
        "code": "exited",
        "exit_status": 3,
        "signal": None,
    }
    assert row[5]["invocation_id"] == INVOCATION
    assert row[5]["lines"] == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "postgresql://hep@127.0.0.1:1/nowhere", "cannot be reached"),
        ("WORKERS", "many", "WORKERS"),
    ],
)
def test_an_event_that_finds_no_database_is_kept_to_be_published_later(
    hep: Hep,
    connection: Connection,
    failed: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    value: str,
    said: str,
) -> None:
    with monkeypatch.context() as wrong:
        wrong.setenv(name, value)
        finished = hep.run("events", "emit-unit", failed, "--for", "300ms")
    assert finished.status == 1
    kept, fault = finished.errors.splitlines()
    assert said in fault
    line = kept.removeprefix("not published: ")
    file = tmp_path / "kept.jsonl"
    file.write_text(line)
    hep("events", "emit", "--jsonl", str(file))
    assert "were there already" in hep("events", "emit", "--jsonl", str(file))
    row = connection.execute("SELECT id, payload->>'result', count(*) OVER () FROM hook_events").fetchone()
    assert row is not None
    assert (str(row[0]), *row[1:]) == (json.loads(line)["id"], "exit-code", 1)


@pytest.mark.parametrize("fault", ["lock", "read-only"])
def test_what_passes_is_waited_for(
    hep: Hep, connection: Connection, database: Database, monkeypatch: pytest.MonkeyPatch, failed: str, fault: str
) -> None:
    begin, end = {
        "lock": ("BEGIN; LOCK TABLE hook_events", "ROLLBACK"),
        "read-only": (
            "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on",
            "SET default_transaction_read_only = off; ALTER ROLE CURRENT_USER RESET default_transaction_read_only",
        ),
    }[fault]

    def mend() -> None:
        time.sleep(0.6)
        other.execute(end)

    monkeypatch.setattr(database_module, "LOCK_TIMEOUT_SECONDS", 0.1)
    with database.session("other") as other:
        other.execute(begin)
        with ThreadPoolExecutor(1) as mending:
            mended = mending.submit(mend)
            hep("events", "emit-unit", failed, "--for", "20s")
            mended.result()
    assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (1,)


@pytest.mark.parametrize("what", ["service.failed", ":backup.service", "service.failed:backup", "a.b:../x.service"])
def test_what_is_no_type_and_unit_is_refused(hep: Hep, what: str) -> None:
    assert "such as" in hep.fault("events", "emit-unit", what)


def test_a_signal_is_named_and_no_process_is_nothing() -> None:
    killed = Ending("a.service", "failed", "signal", "killed", "KILL", "").data([])
    assert (killed["exit_status"], killed["signal"]) == (None, "KILL")
    never = Ending("a.service", "failed", "resources", "", "", "").data([])
    assert (never["code"], never["exit_status"], never["signal"]) == (None, None, None)


def test_a_users_unit_has_no_lines_of_runs_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What its processes write does not say of which run it is, as what the manager writes does."""
    failed = "d9b373ed55a64feb8242e02dbe79a49c"
    entries = [
        {"MESSAGE": "Starting", "USER_INVOCATION_ID": "earlier"},
        {"MESSAGE": "run 1"},
        {"MESSAGE": "Failed", "USER_INVOCATION_ID": "earlier", "MESSAGE_ID": failed},
        {"MESSAGE": "Starting", "USER_INVOCATION_ID": INVOCATION},
        {"MESSAGE": "run 2"},
        {"MESSAGE": "Failed", "USER_INVOCATION_ID": INVOCATION, "MESSAGE_ID": failed},
    ]
    (tmp_path / "entries").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\ncat {tmp_path}/entries\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("MANAGERPID", "1")
    ending = Ending("a.service", "failed", "exit-code", "exited", "3", INVOCATION)
    assert last_lines(ending, 20) == ["Starting", "run 2", "Failed"]


def test_lines_are_texts_of_a_bounded_length() -> None:
    assert _message({"MESSAGE": [104, 105, 0xFF]}) == "hi\N{REPLACEMENT CHARACTER}"
    assert _message({"MESSAGE": None}) == ""
    assert _message({"MESSAGE": "a\0b"}) == "a\\0b"
    assert len(_message({"MESSAGE": "x" * 10_000})) == 500
    assert _fitting([f"{number:0500}" for number in range(100)])[-1].endswith("99")
    assert sum(map(len, _fitting(["x" * 500] * 200))) <= 20_000
