"""`hep hook versions | diff | rollback`, and the parameters that versions remember."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import Hep
from psycopg import Connection, errors
from running import all_processed, insert, running
from waiting import wait_for

from hook_event_processor.store import hook_changes, hooks
from hook_event_processor.store.database import Database

ALERT = """\
local hook = {
  event_type = "disk.*",
  priority = 1,
  params = { threshold = 80, channel = "#ops" },
}
function hook.execute(event)
  return true, "over " .. hook.params.threshold .. " in " .. hook.params.channel
end
return hook
"""


@pytest.fixture
def alert(tmp_path: Path) -> Path:
    path = tmp_path / "alert.lua"
    path.write_text(ALERT)
    return path


def _set(hep: Hep, *options: str) -> Any:
    arguments = [part for option in options for part in ("--set", option)]
    return hep.document("hook", "add", "alert.lua", *arguments, "--format", "json")


def test_a_value_that_lua_tells_apart_is_another(hep: Hep, alert: Path) -> None:
    changes = [_set(hep, f"threshold={value}")["change"] for value in ("1", "1.0", "1.0", "1")]
    assert changes == ["added", "replaced", "unchanged", "replaced"]
    assert hep("hook", "diff", "alert").splitlines()[-2:] == ["-threshold = 1.0", "+threshold = 1"]


def test_who_stores_hooks_anew_is_waited_for(hep: Hep, alert: Path, database: Database, connection: Connection) -> None:
    """Else a hook that it has read, and that is removed meanwhile, would be back."""
    hep("hook", "add", "alert.lua")
    connection.execute("SET lock_timeout = '100ms'")
    with database.session("other") as other, other.transaction():
        hook_changes.lock(other)
        for change in (
            lambda: hook_changes.remove(connection, "alert"),
            lambda: hook_changes.set_enabled(connection, "alert", enabled=False),
        ):
            with pytest.raises(errors.LockNotAvailable):
                change()


def test_several_hooks_are_made_from_one_text(
    hep: Hep, alert: Path, database: Database, connection: Connection
) -> None:
    hep("hook", "add", "alert.lua")
    added = hep("hook", "add", "alert.lua", "--name", "alert90", "--set", "threshold=90", "--set", "channel=#night")
    assert 'channel = "#night" (default "#ops")' in added
    assert "threshold = 90 (default 80)" in added
    header, first, second, _ = hep("hook", "list").splitlines()
    assert "Set" in header.split()
    assert 'channel="#night", threshold=90' in second
    assert "threshold" not in first
    assert "threshold = 90 (default 80)" in hep("hook", "show", "alert90")
    shown = hep.document("hook", "get", "alert90")
    assert (shown["params"]["threshold"], shown["param_defaults"]["threshold"]) == (90, 80)
    with running(database, alert.parent, lanes=1):
        insert(connection, "disk.full")
        wait_for(lambda: all_processed(connection), 5)
    rows = connection.execute("SELECT hook_name, output FROM event_hook_executions ORDER BY hook_name").fetchall()
    assert rows == [("alert", "over 80 in #ops"), ("alert90", "over 90 in #night")]


def test_a_parameter_that_cannot_be_is_refused(hep: Hep, alert: Path) -> None:
    fault = f"hep: {alert}: the parameter 'threshold' is \"high\": it takes a number (its default is 80)"
    assert hep.fault("hook", "add", "alert.lua", "--set", "threshold=high") == fault
    misused = hep.run("hook", "add", "alert.lua", "--set", "threshold")
    assert (misused.status, misused.fault) == (2, "hep: --set threshold has no value: write --set threshold=90")


def test_other_parameters_are_another_version(hep: Hep, alert: Path) -> None:
    assert (_set(hep)["version"], _set(hep, "threshold=90")["version"]) == (1, 2)
    assert (_set(hep, "threshold=90")["change"], _set(hep, "threshold=90")["version"]) == ("unchanged", 2)
    assert hep.document("hook", "versions", "alert", "--format", "json")["versions"][0]["params"] == {"threshold": 90}
    assert "threshold=90" in hep("hook", "versions", "alert")


def test_options_that_are_not_given_again_are_said_to_be_gone(hep: Hep, alert: Path) -> None:
    gone = "No longer in force: --set threshold, --stack, given when it was added before.\n"
    assert "No longer" not in hep(
        "hook", "add", "alert.lua", "--set", "threshold=90", "--stack", "s", "--priority", "3"
    )
    assert hep("hook", "add", "alert.lua", "--priority", "4").endswith(gone)
    assert hep.document("hook", "get", "alert")["params"]["threshold"] == 80


def test_versions_lists_what_ran(hep: Hep, alert: Path) -> None:
    hep("hook", "add", "alert.lua")
    alert.write_text(ALERT + "-- 2\n")
    hep("hook", "add", "alert.lua")
    header, second, first = hep("hook", "versions", "alert").splitlines()
    assert " ".join(header.split()) == "Version Added SHA-256 Set Libraries Reason File"
    assert second.startswith("2 (current)")
    assert first.split()[0] == "1"
    listed = hep.document("hook", "versions", "alert", "--format", "json")
    assert (listed["hook"], listed["current"], [v["version"] for v in listed["versions"]]) == ("alert", 2, [2, 1])


def test_a_python_handler_has_no_versions(hep: Hep, connection: Connection) -> None:
    connection.execute("INSERT INTO hooks (name, kind, event_types) VALUES ('handle', 'python', '{a.b}')")
    assert hep("hook", "versions", "handle") == "The hook handle is a Python handler: it has no versions.\n"
    assert "no version 1" in hep.fault("hook", "rollback", "handle", "--to", "1")


def test_diff_shows_text_and_parameters(hep: Hep, alert: Path) -> None:
    hep("hook", "add", "alert.lua")
    assert "has no version before 1" in hep.fault("hook", "diff", "alert")
    alert.write_text(ALERT.replace("priority = 1", "priority = 2"))
    hep("hook", "add", "alert.lua", "--set", "threshold=90")
    shown = hep("hook", "diff", "alert").splitlines()
    assert shown[:2] == ["--- alert.lua\tversion 1", "+++ alert.lua\tversion 2"]
    assert "-  priority = 1," in shown
    assert "+  priority = 2," in shown
    assert shown[-1] == "+threshold = 90"
    backwards = hep.document("hook", "diff", "alert", "--from", "2", "--to", "1", "--format", "json")
    assert (backwards["from"], backwards["to"], "+  priority = 1," in backwards["diff"]) == (2, 1, True)
    assert backwards["params"] == {"from": {"threshold": 90}, "to": {}}
    same = hep("hook", "diff", "alert", "--from", "2", "--to", "2")
    assert same == "Versions 2 and 2 of the hook alert are the same.\n"
    assert "has no version 9" in hep.fault("hook", "diff", "alert", "--to", "9")


def test_diff_shows_a_librarys_change(hep: Hep, alert: Path) -> None:
    hep("hook", "lib", "add", "-", "--name", "x", stdin="return 1\n")
    alert.write_text('require("lib.x")\n' + ALERT)
    hep("hook", "add", "alert.lua")
    hep("hook", "lib", "add", "-", "--name", "x", stdin="return 2\n")
    assert hep("hook", "diff", "alert").splitlines() == [
        "--- lib/x.lua\tversion 1",
        "+++ lib/x.lua\tversion 2",
        "@@ -1 +1 @@",
        "-return 1",
        "+return 2",
    ]


def test_rollback_adds_the_old_text_and_parameters_as_a_new_version(hep: Hep, alert: Path) -> None:
    hep("hook", "add", "alert.lua", "--set", "threshold=90")
    alert.write_text(ALERT.replace("disk.*", "disk.full").replace("threshold = 80", "limit = 80"))
    hep("hook", "add", "alert.lua", "--set", "limit=70")
    assert hep("hook", "rollback", "alert", "--to", "1") == "rolled back: hook alert, version 3 is version 1 again\n"
    hook = hep.document("hook", "get", "alert")
    assert (hook["source_text"], hook["params"]["threshold"], hook["event_types"]) == (ALERT, 90, ["disk.*"])
    assert [(v["version"], v["reason"]) for v in hook["versions"]] == [(3, "rollback to version 1"), (2, ""), (1, "")]
    again = hep.document("hook", "rollback", "alert", "--to", "1", "--format", "json")
    assert (again["change"], again["version"], again["rolled_back_to"]) == ("unchanged", 3, 1)


def test_rollback_keeps_what_options_said_and_whether_it_is_enabled(hep: Hep, alert: Path) -> None:
    hep("hook", "add", "alert.lua")
    alert.write_text(ALERT.replace("priority = 1", "priority = 2") + "-- 2\n")
    hep("hook", "add", "alert.lua", "--event", "a.b", "--stack", "production", "--description", "mine")
    hep("hook", "disable", "alert")
    hep("hook", "rollback", "alert", "--to", "1")
    hook = hep.document("hook", "get", "alert")
    assert (hook["event_types"], hook["stack"], hook["description"]) == (["a.b"], "production", "mine")
    assert (hook["priority"], hook["enabled"]) == (1, False)


def test_rollback_brings_the_libraries_back_that_the_version_ran_with(hep: Hep, alert: Path) -> None:
    hep("hook", "lib", "add", "-", "--name", "x", stdin="return 1")
    alert.write_text('require("lib.x")\n' + ALERT)
    hep("hook", "add", "alert.lua")
    hep("hook", "lib", "add", "-", "--name", "x", stdin="return 2")
    hep("hook", "rollback", "alert", "--to", "1")
    assert hep.document("hook", "get", "alert")["libraries"] == {"x": 1}
    hep("hook", "lib", "add", "-", "--name", "x", stdin="return 3")
    assert hep.document("hook", "get", "alert")["libraries"] == {"x": 3}
    hep("hook", "lib", "remove", "x", "--force")
    assert "version 1 of the hook alert cannot run again: " in hep.fault("hook", "rollback", "alert", "--to", "1")


def test_a_version_from_before_the_columns_rolls_back(hep: Hep, alert: Path, connection: Connection) -> None:
    hep("hook", "add", "alert.lua")
    connection.execute("UPDATE hooks SET modules = DEFAULT, param_defaults = DEFAULT")
    connection.execute("UPDATE hook_versions SET modules = DEFAULT")
    alert.write_text(ALERT + "-- 2\n")
    hep("hook", "add", "alert.lua")
    hep("hook", "rollback", "alert", "--to", "1")
    assert hep.document("hook", "get", "alert")["param_defaults"]["threshold"] == 80


@pytest.mark.parametrize("command", [("versions",), ("diff",), ("rollback", "--to", "1")])
def test_an_unknown_hook_or_version_is_named(hep: Hep, alert: Path, command: tuple[str, ...]) -> None:
    hep("hook", "add", "alert.lua")
    assert "did you mean 'alert'?" in hep.fault("hook", command[0], "alrt", *command[1:])
    assert hep.run("hook", command[0], "alert", "--to", "0").status == 2


def test_show_tells_what_policy_grants_and_add_what_it_does_not(
    hep: Hep, alert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alert.write_text('local e, s = require("exec"), require("secret")\n' + ALERT)
    monkeypatch.setenv("HOOK_SECRETS", "smtp_*")
    setting = "HOOK_EXEC, or an entry for the hook or its stack in HOOK_POLICY, grants it"
    assert f"exec is not granted to it on this host: {setting}\n" in hep("hook", "add", "alert.lua")
    assert _set(hep)["not_granted"] == {"exec": "HOOK_EXEC"}
    shown = [line.split() for line in hep("hook", "show", "alert").splitlines()]
    assert ["exec", "nothing", "HOOK_EXEC"] in shown
    assert ["secret", "smtp_*", "HOOK_SECRETS"] in shown
    uses = hep.document("hook", "get", "alert")["uses"]
    assert uses[0] == {"module": "exec", "granted": "", "setting": "HOOK_EXEC"}
    (alert.parent / "policy.toml").write_text('[hook.alert]\nexec = ["uptime"]\n')
    monkeypatch.setenv("HOOK_POLICY", str(alert.parent / "policy.toml"))
    assert hep.document("hook", "get", "alert")["uses"][0]["granted"] == "uptime"


def test_the_revision_grows_with_parameters_set_by_hand(hep: Hep, alert: Path, connection: Connection) -> None:
    hep("hook", "add", "alert.lua")
    before = hooks.revision(connection)
    connection.execute("""UPDATE hooks SET params = '{"threshold": 5}'""")
    assert hooks.revision(connection) > before


def test_a_diff_breaks_lines_where_lua_does(hep: Hep, alert: Path, connection: Connection) -> None:
    """What stands behind a form feed in a comment is comment, and must not look like code; behind a CR it is code."""
    hep("hook", "add", "alert.lua")
    alert.write_text(f"{ALERT}-- \x0cif not allowed then error() end\u2028guard()\n")
    hep("hook", "add", "alert.lua")
    added = [line for line in hep("hook", "diff", "alert").splitlines()[2:] if line.startswith("+")]
    assert added == [r"+-- \x0cif not allowed then error() end\u2028guard()"]
    connection.execute(
        "UPDATE hook_versions SET source_text = E'-- harmless\\rhidden()\\r\\n-- end\\r\\n' WHERE version = 2"
    )
    added = [line for line in hep("hook", "diff", "alert").splitlines()[2:] if line.startswith("+")]
    assert added == ["+-- harmless", "+hidden()", "+-- end"]
