"""`hep hook`: add, list, get, show, enable, disable, remove, logs, history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import Hep
from factories import ago, insert_event, insert_execution
from psycopg import Connection

from hook_event_processor.store import hooks

NOTIFY = """\
local hook = {
    name = "notify",
    description = "Send a notification",
    event_type = {"task.failed", "deploy.*"},
    stack = "production",
    priority = 3,
    timeout = 5,
    retry = {attempts = 2},
}
function hook.execute(event)
    return true
end
return hook
"""
SLOW = 'local time = require("time")\nreturn {event_type = "a.b", execute = function() time.sleep(1) return true end}\n'


@pytest.fixture
def notify(tmp_path: Path) -> str:
    path = tmp_path / "notify.lua"
    path.write_text(NOTIFY)
    return str(path)


def _revision(connection: Connection) -> int:
    return hooks.revision(connection)


def _runs(connection: Connection, name: str, *columns: dict[str, Any]) -> None:
    hook_id = hooks.get(connection, name).id
    for values in columns:
        insert_execution(connection, insert_event(connection), name, **{"hook_id": hook_id, **values})


def test_add_reads_everything_from_the_file(hep: Hep, notify: str) -> None:
    assert hep("hook", "add", notify) == (
        "added: hook notify, version 1, for task.failed, deploy.* of the stack production\n"
        "pure: runs inside the claim\n"
    )
    hook = hep.document("hook", "get", "notify")
    expected = {
        "kind": "lua",
        "description": "Send a notification",
        "event_types": ["task.failed", "deploy.*"],
        "stack": "production",
        "priority": 3,
        "timeout_seconds": 5.0,
        "retry": {"attempts": 2},
        "enabled": True,
        "version": 1,
        "file_path": notify,
        "run_count": 0,
        "last_run": None,
        "source_text": NOTIFY,
    }
    assert {name: hook[name] for name in expected} == expected


def test_options_override_the_file(hep: Hep, notify: str) -> None:
    hep(
        *("hook", "add", notify, "--name", "other", "--event", "a.*", "--event", "~^b", "--all-stacks"),
        *("--description", "another", "--priority", "-1", "--disabled"),
    )
    hook = hep.document("hook", "get", "other")
    expected = {
        "event_types": ["a.*", "~^b"],
        "stack": None,
        "description": "another",
        "priority": -1,
        "enabled": False,
    }
    assert {name: hook[name] for name in expected} == expected


def test_a_hook_without_a_name_has_its_files(hep: Hep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.lua").write_text(SLOW)
    monkeypatch.setenv("HOOK_TIMEOUT", "7")
    assert hep("hook", "add", "slow.lua") == (
        "added: hook slow, version 1, for a.b\neffectful: runs in a worker slot; modules: time\n"
    )
    assert hep.document("hook", "get", "slow")["timeout_seconds"] == 7.0


def test_the_same_text_adds_no_version_and_reloads_nothing(hep: Hep, connection: Connection, notify: str) -> None:
    hep("hook", "add", notify)
    revision = _revision(connection)
    assert hep("hook", "add", notify).startswith("unchanged: hook notify, version 1,")
    assert _revision(connection) == revision
    assert hep("hook", "add", notify, "--priority", "9").startswith("changed: hook notify, version 1,")
    assert _revision(connection) > revision
    assert len(hep.document("hook", "get", "notify")["versions"]) == 1


def test_another_text_is_a_new_version_and_the_old_ones_are_kept(hep: Hep, connection: Connection, notify: str) -> None:
    for number, text in enumerate((NOTIFY, f"{NOTIFY}-- 2\n", NOTIFY), 1):
        Path(notify).write_text(text)
        added = hep.document("hook", "add", notify, "--format", "json")
        assert (added["version"], added["change"]) == (number, "added" if number == 1 else "replaced")
    texts = hooks.versions(connection, added["id"])
    assert [(v.version, v.source_text) for v in texts] == [(3, NOTIFY), (2, f"{NOTIFY}-- 2\n"), (1, NOTIFY)]
    assert hooks.enabled(connection)[0].source_text == NOTIFY


def test_a_text_is_known_by_itself_and_not_by_the_hash_beside_it(hep: Hep, connection: Connection, notify: str) -> None:
    """Whoever may write a version may write any hash."""
    hep("hook", "add", notify)
    connection.execute("UPDATE hook_versions SET source_text = source_text || '-- tampered'")
    assert hep("hook", "add", notify).startswith("replaced: hook notify, version 2,")
    assert hooks.enabled(connection)[0].source_text == NOTIFY


def test_adding_again_leaves_a_disabled_hook_disabled(hep: Hep, notify: str) -> None:
    hep("hook", "add", notify, "--disabled")
    Path(notify).write_text(f"{NOTIFY}-- 2\n")
    assert "It is disabled: 'hep hook enable notify' lets it run." in hep("hook", "add", notify)


@pytest.mark.parametrize(
    ("text", "arguments", "reason"),
    [
        ('return {event_type = "a"}', (), "no execute function"),
        ("return {execute = function() end}", (), "names no event_type"),
        ('return {event_type = "a", execut = function() end}', (), "unknown key 'execut'"),
        ("return {", (), "1"),
        (SLOW, ("--event", "~("), "not a regular expression"),
        (SLOW, ("--event", ""), "not an event type"),
        (SLOW, ("--name", "a\nb"), "no name for a hook"),
        (SLOW, ("--name", " x"), "no name for a hook"),
        (SLOW, ("--priority", "99999999999"), "32 bits"),
        ("\udcff", (), "not UTF-8"),
        ("\nx = '\0'", (), "line 2 holds a NUL character"),
        (SLOW, ("--stack", "x" * 1001), "--stack: it has 1001 characters: at most 1000 fit"),
        (SLOW, ("--description", "x" * 10_001), "--description: it has 10001 characters: at most 10000 fit"),
    ],
)
def test_a_bad_hook_is_refused_in_one_line(
    hep: Hep, connection: Connection, tmp_path: Path, text: str, arguments: tuple[str, ...], reason: str
) -> None:
    path = tmp_path / "bad.lua"
    path.write_text(text, errors="surrogateescape")
    assert reason in hep.fault("hook", "add", str(path), *arguments)
    assert hooks.known_hooks(connection) == []


def test_a_file_that_cannot_be_read_is_named(hep: Hep, tmp_path: Path) -> None:
    assert hep.fault("hook", "add", "missing.lua") == "hep: missing.lua cannot be read: No such file or directory"
    assert "Is a directory" in hep.fault("hook", "add", str(tmp_path))


def test_a_python_handlers_name_is_taken(hep: Hep, connection: Connection, notify: str) -> None:
    connection.execute("INSERT INTO hooks (name, kind, event_types) VALUES ('notify', 'python', '{a.b}')")
    assert "a Python handler has the name 'notify'" in hep.fault("hook", "add", notify)


def test_list_shows_all_or_one_stack(hep: Hep, connection: Connection, notify: str) -> None:
    assert hep("hook", "list") == "No hooks.\n"
    hep("hook", "add", notify)
    hep("hook", "add", notify, "--name", "every", "--all-stacks", "--disabled")
    header, *rows, total = hep("hook", "list").splitlines()
    assert " ".join(header.split()) == "Name Event Type Stack Priority Status Kind Version Runs Last Run"
    assert [row.split()[0] for row in rows] == ["every", "notify"]
    assert "disabled" in rows[0]
    assert total == "2 hooks"
    assert [hook["name"] for hook in hep.document("hook", "list", "--stack", "production", "--format", "json")] == [
        "notify"
    ]
    assert hep("hook", "list", "--stack", "none") == "No hooks of the stack none.\n"


def test_enable_and_disable(hep: Hep, connection: Connection, notify: str) -> None:
    hep("hook", "add", notify)
    revision = _revision(connection)
    assert hep("hook", "disable", "notify") == (
        "disabled: hook notify; events that come meanwhile are not kept for it: 'hep pause --hook notify' keeps them\n"
    )
    assert hep("hook", "disable", "notify") == "hook notify is disabled already\n"
    assert hooks.enabled(connection) == []
    assert hep("hook", "enable", "notify") == "enabled: hook notify\n"
    assert _revision(connection) == revision + 2


def test_remove_keeps_the_executions(hep: Hep, connection: Connection, notify: str) -> None:
    hep("hook", "add", notify)
    _runs(connection, "notify", {})
    assert hep("hook", "remove", "notify") == "removed: hook notify; its executions are kept\n"
    assert connection.execute("SELECT count(*) FROM event_hook_executions").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM hook_versions").fetchone() == (0,)


@pytest.mark.parametrize("command", ["get", "show", "enable", "disable", "remove", "logs", "history"])
def test_an_unknown_hook_brings_names_like_it(hep: Hep, notify: str, command: str) -> None:
    hep("hook", "add", notify)
    assert hep.fault("hook", command, "notfy") == "hep: no hook has the name 'notfy'; did you mean 'notify'?"
    assert hep.fault("hook", command, "zzzzzz").endswith("'hep hook list' lists them")


def test_show_tells_a_hook_and_its_latest_runs(hep: Hep, connection: Connection, notify: str) -> None:
    hep("hook", "add", notify)
    assert "It has not run yet." in hep("hook", "show", "notify")
    _runs(connection, "notify", {"duration_ms": 0.042}, {"success": False, "duration_ms": 2500.0})
    shown = hep("hook", "show", "notify")
    for expected in ("Hook:", "Send a notification", "production", "enabled", "5s", "attempts 2", "0.04ms", "2.5s"):
        assert expected in shown
    assert NOTIFY not in shown
    assert hep("hook", "show", "notify", "--text").endswith(f"Version 1:\n{NOTIFY}")


def test_logs_lists_the_latest_runs(hep: Hep, connection: Connection, notify: str) -> None:
    hep("hook", "add", notify)
    assert hep("hook", "logs", "notify") == "No runs of the hook notify.\n"
    _runs(
        connection,
        "notify",
        *({"success": False, "error": f"refused {n}\nsecond line", "output": f"said {n}"} for n in range(3)),
        *({"output": f"fine {n}"} for n in range(30)),
    )
    lines = hep("hook", "logs", "notify").splitlines()
    assert len(lines) == 21
    assert lines[0].split()[:2] == ["Executed", "At"]
    assert all("Success" in line for line in lines[1:])
    assert len(hep("hook", "logs", "notify", "--limit", "5").splitlines()) == 6


def test_only_failed_filters_before_the_limit(hep: Hep, connection: Connection, notify: str) -> None:
    hep("hook", "add", notify)
    _runs(
        connection, "notify", *({"success": False, "error": f"refused {n}"} for n in range(3)), *({} for _ in range(30))
    )
    logs = hep.document("hook", "logs", "notify", "--only-failed", "--limit", "2", "--format", "json")
    assert (logs["hook"], logs["total_shown"], logs["success_count"], logs["failed_count"]) == ("notify", 2, 0, 2)
    assert [run["error"] for run in logs["executions"]] == ["refused 2", "refused 1"]
    assert logs["executions"][0]["event_type"] == "task.failed"


def test_output_and_error_are_printed_when_asked_for(hep: Hep, connection: Connection, notify: str) -> None:
    hep("hook", "add", notify)
    _runs(connection, "notify", {"success": False, "error": "refused\n\ttraceback \x1b[31m", "output": "said this"})
    plain = hep("hook", "logs", "notify")
    assert "refused" not in plain
    assert "said this" not in plain
    assert "refused\n    traceback \\x1b[31m\n" in hep("hook", "logs", "notify", "--error")
    both = hep("hook", "logs", "notify", "--output", "--error")
    assert "said this\n" in both
    assert "refused\n" in both


def test_history_sums_periods_and_lists_versions(hep: Hep, connection: Connection, notify: str) -> None:
    hep("hook", "add", notify)
    assert "has not run" in hep("hook", "history", "notify")
    _runs(
        connection,
        "notify",
        *({"executed_at": ago(days=2), "duration_ms": float(n)} for n in (1, 2, 9)),
        {"executed_at": ago(days=2), "success": False, "duration_ms": 4.0},
        {"executed_at": ago(days=40)},
        {"executed_at": ago(seconds=0)},
    )
    history = hep.document("hook", "history", "notify", "--format", "json")
    assert [period["runs"] for period in history["periods"]] == [1, 4]
    day = history["periods"][1]
    assert (day["succeeded"], day["failed"], day["success_rate"], day["median_ms"], day["max_ms"]) == (
        3,
        1,
        0.75,
        3.0,
        9.0,
    )
    assert day["since"].endswith("T00:00:00Z")
    assert [version["version"] for version in history["versions"]] == [1]
    shown = hep("hook", "history", "notify")
    assert shown.splitlines()[0].split()[:2] == ["Day", "(UTC)"]
    assert "75.00%" in shown
    assert "1 (current)" in shown
    hourly = hep.document("hook", "history", "notify", "--by", "hour", "--limit", "2", "--format", "json")
    assert [period["runs"] for period in hourly["periods"]] == [1]


def test_what_was_done_is_a_document_when_asked_for(hep: Hep, notify: str) -> None:
    hep("hook", "add", notify)
    for enabled, command in ((False, "disable"), (True, "enable")):
        done = hep.document("hook", command, "notify", "--format", "json")
        assert done == {"hook": "notify", "enabled": enabled, "changed": True}
    assert hep("hook", "get", "notify", "--format", "table") == hep("hook", "show", "notify")
    assert hep.document("hook", "show", "notify", "--format", "json")["source_text"] == NOTIFY
    assert hep.document("hook", "remove", "notify", "--format", "json") == {"removed": "notify"}
