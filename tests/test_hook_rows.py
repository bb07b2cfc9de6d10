"""Rows of hooks that no command has written, and that make no sense: they harm no other hook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Hep
from psycopg import Connection
from running import add_hook, insert, running, state
from waiting import wait_for

from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.lua.program import Program
from hook_event_processor.processor import routing
from hook_event_processor.store.database import Database

NOTHING = "return {execute = function() end}"
DEEP = '{"x":' * 2000 + "1" + "}" * 2000

# A column, what is written into it, and whether the hook can run all the same.
ODD = [
    ("event_types", "{NULL}", False),
    ("event_types", "{{a.b,c.d},{e.f,g.h}}", False),
    ("event_types", "{[z-a].b}", True),
    ("libraries", "[1]", False),
    ("libraries", '{"x": "one"}', True),
    ("libraries", '{"x": 1e131071}', False),
    ("params", "[1]", False),
    ("params", '{"x": 1e131071}', False),
    ("params", DEEP, False),
    ("params", f'{{"x": {"[" * 14_000}{"]" * 14_000}}}', False),
    ("retry", '{"attempts": 1e131071}', True),
    ("retry", "[]", True),
]


def _add_odd(connection: Connection, column: str, value: str) -> None:
    """Add the hook odd with this value, and the hook even, which is as it should be."""
    add_hook(connection, "even", "even.*", NOTHING)
    add_hook(connection, "odd", "odd.*", NOTHING)
    connection.execute(f"UPDATE hooks SET {column} = %s WHERE name = 'odd'", (value,))


def _loaded(connection: Connection) -> list[str]:
    return [hook.name for hook in routing.load(connection, EventHandlerRegistry()).hooks]


@pytest.mark.parametrize(("column", "value", "runs"), ODD)
def test_a_row_that_makes_no_sense_is_left_out_by_itself(
    connection: Connection, column: str, value: str, runs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    _add_odd(connection, column, value)
    assert _loaded(connection) == (["even", "odd"] if runs else ["even"])
    said = [record.message for record in caplog.records if "hook odd" in record.message]
    assert len(said) == 1
    assert ("hook odd does not run" in said[0]) is not runs


@pytest.mark.parametrize(("column", "value", "runs"), ODD)
def test_lists_show_a_row_that_makes_no_sense(
    connection: Connection, hep: Hep, column: str, value: str, runs: bool
) -> None:
    _add_odd(connection, column, value)
    listed = hep("hook", "list")
    [even, odd] = hep.document("hook", "list", "--format", "json")
    assert (even["name"], even["fault"], odd["name"]) == ("even", None, "odd")
    if value not in ("{[z-a].b}", '{"x": "one"}'):
        assert odd["fault"].startswith(f"{column} ")
        assert f"The row of odd makes no sense: {odd['fault']}" in listed
        assert odd["fault"] in hep("hook", "show", "odd")


def test_processors_start_beside_rows_that_make_no_sense(
    connection: Connection, database: Database, tmp_path: Path
) -> None:
    add_hook(connection, "even", "even.*", NOTHING)
    for number, (column, value, _) in enumerate(ODD):
        add_hook(connection, f"odd_{number}", "odd.*", NOTHING)
        connection.execute(f"UPDATE hooks SET {column} = %s WHERE name = %s", (value, f"odd_{number}"))
    with running(database, tmp_path):
        [event] = insert(connection, "even.one")
        wait_for(lambda: state(connection, event) == "completed", 10)


def test_a_row_that_the_server_cannot_send_is_left_out_by_itself(
    connection: Connection, hep: Hep, caplog: pytest.LogCaptureFixture
) -> None:
    """12,000 numbers of 1e131071 are 3 kB in a row, and more than a text can hold."""
    _add_odd(connection, "params", "{}")
    numbers = "SELECT jsonb_object_agg('k' || i, 1e131071::numeric) FROM generate_series(1, 12000) AS i"
    connection.execute(f"UPDATE hooks SET params = ({numbers}) WHERE name = 'odd'")
    assert _loaded(connection) == ["even"]
    assert "hook odd does not run" in caplog.text
    assert "The row of odd makes no sense: params is too large" in hep("hook", "list")


@pytest.mark.parametrize("value", [1e16, 1e19, 1e30, 1e300, -1e-300])
def test_a_large_number_is_a_parameter_like_others(
    connection: Connection, hep: Hep, tmp_path: Path, value: float
) -> None:
    """PostgreSQL writes it out in digits; a hook sees the number that was set, and the same again is no change."""
    file = tmp_path / "many.lua"
    file.write_text("return {event_type = 'a.b', params = {limit = 1}, execute = function() end}")
    for change in ("added", "unchanged"):
        assert hep.document("hook", "add", str(file), "--set", f"limit={value}", "--format", "json")["change"] == change
    [listed] = hep.document("hook", "list", "--format", "json")
    assert listed["params"] == {"limit": value}
    [hook] = routing.load(connection, EventHandlerRegistry()).hooks
    code: Any = hook.code
    assert isinstance(code, Program)
    assert json.loads(code.params) == {"limit": value}
    hep("hook", "add", str(file))
    assert "limit=" in hep("hook", "versions", "many")
    assert "version 3 is version 1 again" in hep("hook", "rollback", "many", "--to", "1")
    [listed] = hep.document("hook", "list", "--format", "json")
    assert listed["params"] == {"limit": value}


@pytest.mark.parametrize("value", ["[1]", DEEP, '{"x": 1e131071}'])
def test_a_version_that_makes_no_sense_is_told_and_not_gone_back_to(
    connection: Connection, hep: Hep, tmp_path: Path, value: str
) -> None:
    file = tmp_path / "odd.lua"
    for text in ("return {execute = function() end}", "return {execute = function() return 1 > 0 end}"):
        file.write_text(text)
        hep("hook", "add", str(file), "--event", "a.b")
    connection.execute("UPDATE hook_versions SET params = %s WHERE version = 1", (value,))
    assert "Version 1 makes no sense: params " in hep("hook", "versions", "odd")
    [current, odd] = hep.document("hook", "versions", "odd", "--format", "json")["versions"]
    assert (current["fault"], odd["params"]) == (None, {})
    assert hep.fault("hook", "rollback", "odd", "--to", "1").startswith("hep: version 1 of the hook odd makes no sense")
    hep("hook", "show", "odd")
    hep("hook", "remove", "odd")
