"""Rows of hooks that no command has written, and that make no sense: they harm no other hook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
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


# A column, SQL for what was written into it before the schema refused it, and what is said of it.
BEYOND = [
    ("timeout_seconds", "'NaN'", "timeout_seconds is nan: it takes 0.01 to 3600"),
    ("timeout_seconds", "'Infinity'", "timeout_seconds is inf: it takes 0.01 to 3600"),
    ("timeout_seconds", "0.001", "timeout_seconds is 0.001: it takes 0.01 to 3600"),
    ("stack", "repeat('s', 1001)", "stack is too large"),
    ("event_types", "ARRAY['~' || repeat('x', 300000)]", "event_types is too large"),
    ("event_types", "array_fill('~x'::text, ARRAY[100000])", "event_types is too large"),
]
_LIMITS = ("hooks_timeout_limits", "hooks_stack_length", "hooks_event_types_length", "hooks_name_length")


@pytest.mark.parametrize(("column", "value", "fault"), BEYOND)
def test_a_row_beyond_what_hooks_may_have_is_left_out_by_itself(
    connection: Connection, caplog: pytest.LogCaptureFixture, column: str, value: str, fault: str
) -> None:
    add_hook(connection, "even", "even.*", NOTHING)
    add_hook(connection, "odd", "odd.*", NOTHING)
    change = f"UPDATE hooks SET {column} = {value} WHERE name = 'odd'"
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(change)
    connection.execute(f"ALTER TABLE hooks {', '.join(f'DROP CONSTRAINT {name}' for name in _LIMITS)}")
    connection.execute(change)
    assert _loaded(connection) == ["even"]
    assert f"hook odd does not run, its row makes no sense: ValueError('{fault}')" in caplog.text


def test_a_text_beyond_what_hooks_may_have_is_left_out_by_itself(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """A processor that read it would end, and so would the next one."""
    add_hook(connection, "even", "even.*", NOTHING)
    with pytest.raises(psycopg.errors.CheckViolation):
        add_hook(connection, "odd", "odd.*", f"--{'x' * 262_144}")
    connection.execute("ALTER TABLE hook_versions DROP CONSTRAINT hook_versions_text_length")
    add_hook(connection, "odd", "odd.*", f"--{'x' * 262_144}")
    assert _loaded(connection) == ["even"]
    assert "hook odd does not run, its row makes no sense: ValueError('source_text is too large')" in caplog.text


@pytest.mark.parametrize(
    "value",
    [
        "jsonb_build_object('x', repeat('x', 10000000))",
        "(SELECT jsonb_object_agg('k' || i, 1e131071::numeric) FROM generate_series(1, 600) AS i)",
    ],
)
def test_a_value_that_is_small_in_its_row_and_large_as_text_is_not_read(
    connection: Connection, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """PostgreSQL compresses the one to a hundredth, and writes the other in digits."""
    _add_odd(connection, "params", "{}")
    connection.execute(f"UPDATE hooks SET params = {value} WHERE name = 'odd'")
    assert _loaded(connection) == ["even"]
    assert "params is too large" in caplog.text


def test_lists_tell_of_a_timeout_that_makes_no_sense(connection: Connection, hep: Hep) -> None:
    add_hook(connection, "odd", "odd.*", NOTHING)
    connection.execute("ALTER TABLE hooks DROP CONSTRAINT hooks_timeout_limits")
    connection.execute("UPDATE hooks SET timeout_seconds = 'NaN'")
    assert "The row of odd makes no sense: timeout_seconds is nan: it takes 0.01 to 3600" in hep("hook", "list")


def test_the_schema_refuses_names_and_libraries_beyond_what_commands_take(connection: Connection) -> None:
    for statement in (
        "INSERT INTO hooks (name, event_types) VALUES (repeat('n', 201), '{a.b}')",
        "INSERT INTO hook_libraries (name) VALUES (repeat('n', 101))",
        "INSERT INTO hook_library_versions VALUES (1, 1, repeat('x', 262145), '')",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(statement)
    # A Python handler has the name of its function.
    connection.execute("INSERT INTO hooks (name, kind, event_types) VALUES (repeat('n', 201), 'python', '{a.b}')")


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
