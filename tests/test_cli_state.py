"""`hep state`: what hooks remember, as operators see and change it."""

from __future__ import annotations

import pytest
from commands import Hep
from psycopg import Connection
from running import add_hook

from hook_event_processor.store import state
from hook_event_processor.store.state import Namespace

SCALING = Namespace("hook", "scaling", "production")


@pytest.fixture
def scaling(connection: Connection) -> Connection:
    """A hook of a stack, with a key."""
    add_hook(connection, "scaling", "a.b", "return {execute = print}", stack="production")
    state.put(connection, SCALING, "last_scale_time", "1700000000")
    return connection


def test_get_prints_the_value_as_json(hep: Hep, scaling: Connection) -> None:
    assert hep("state", "get", "last_scale_time", "--hook", "scaling") == "1700000000\n"
    state.put(scaling, SCALING, "odd", '{"a": 12345678901234567890123, "b": "\\u001b[31m"}')
    assert hep("state", "get", "odd", "--hook", "scaling") == '{"a": 12345678901234567890123, "b": "\\u001b[31m"}\n'
    known = hep.document("state", "get", "odd", "--hook", "scaling", "--format", "json")
    assert known == {"key": "odd", "value": {"a": 12345678901234567890123, "b": "\x1b[31m"}}


def test_the_stack_of_a_known_hook_need_not_be_given(hep: Hep, scaling: Connection) -> None:
    same = hep("state", "get", "last_scale_time", "--hook", "scaling", "--stack", "production")
    assert same == hep("state", "get", "last_scale_time", "--hook", "scaling")
    said = hep.fault("state", "get", "last_scale_time", "--hook", "scaling", "--stack", "staging")
    assert said == (
        "hep: the hook 'scaling' of the stack 'staging' has no key 'last_scale_time':"
        " 'hep state list' lists what there is"
    )


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [
        (("5",), 5),
        (('{"max": [1, null, true]}',), {"max": [1, None, True]}),
        (("--text", "5"), "5"),
        (("--text", 'a "quoted" \\u0000'), 'a "quoted" \\u0000'),
    ],
)
def test_set_takes_json_or_text(hep: Hep, connection: Connection, arguments: tuple[str, ...], stored: object) -> None:
    said = hep("state", "set", "k", "--shared", "team", *arguments)
    assert said == "set: k of the shared namespace 'team'\n"
    assert connection.execute("SELECT scope, stack, name, value, expires_at FROM hook_state").fetchall() == [
        ("shared", "", "team", stored, None)
    ]


def test_a_key_of_no_hook_is_set_and_noted(hep: Hep, scaling: Connection) -> None:
    finished = hep.run("state", "set", "k", "5", "--hook", "scalin")
    assert (finished.status, finished.output) == (0, "set: k of the hook 'scalin'\n")
    assert finished.errors == "note: no hook has the name 'scalin'; did you mean 'scaling'?\n"
    assert hep.run("state", "set", "k", "5", "--hook", "scaling").errors == ""
    assert hep.run("state", "set", "k", "5", "--shared", "scalin").errors == ""


def test_a_ttl_ends_a_key(hep: Hep, connection: Connection) -> None:
    add_hook(connection, "h", "a.b", "return {execute = print}")
    assert hep.document("state", "set", "k", "1", "--hook", "h", "--ttl", "10m", "--format", "json") == {
        "key": "k",
        "set": True,
    }
    row = connection.execute("SELECT expires_at - updated_at = '10 min' FROM hook_state").fetchone()
    assert row == (True,)
    connection.execute("UPDATE hook_state SET expires_at = now()")
    assert "has no key 'k'" in hep.fault("state", "get", "k", "--hook", "h")
    assert "has no key 'k'" in hep.fault("state", "delete", "k", "--hook", "h")


REFUSED: list[tuple[tuple[str, ...], int, str]] = [
    (("k", "{a"), 2, "the value is not JSON"),
    (("k", "1e999"), 2, "the value is not JSON"),
    (("k", "NaN"), 2, "the value is not JSON"),
    (("k", "[" * 100_000), 2, "the value is not JSON"),
    (("k", '"\\u0000"'), 1, "the value holds a NUL character"),
    (("k", f'"{"v" * 65_535}"'), 1, "the value is 65537 bytes of JSON: at most 65536"),
    (("k" * 256, "1"), 1, "the key has 256 bytes: it takes 1 to 255"),
    (("", "1"), 1, "the key has 0 bytes"),
    (("k", "1", "--ttl", "0s"), 2, "--ttl is 0"),
    (("k", "1", "--ttl", "soon"), 2, "'soon' is not a duration"),
]


def test_what_hooks_could_not_read_is_refused(hep: Hep) -> None:
    for arguments, status, said in REFUSED:
        finished = hep.run("state", "set", *arguments, "--hook", "h")
        assert finished.status == status
        assert said in finished.fault
        assert len(finished.fault) < 500


def test_whose_key_it_is_must_be_said_once(hep: Hep) -> None:
    assert "one of the arguments --hook --shared is required" in hep.fault("state", "get", "k")
    assert "not allowed with" in hep.fault("state", "get", "k", "--hook", "h", "--shared", "s")


def test_list_shows_keys_of_all_namespaces(hep: Hep, scaling: Connection) -> None:
    assert hep("state", "list", "--hook", "other") == "No keys.\n"
    hep("state", "set", "limits", f'"{"x" * 100}"', "--shared", "team", "--ttl", "1h")
    header, *lines, total = hep("state", "list").splitlines()
    assert header.split() == ["Of", "Stack", "Key", "Value", "Set", "Expires"]
    assert lines[0].startswith('shared team   -           limits           "xxx')
    assert lines[1].startswith("hook scaling  production  last_scale_time  1700000000")
    assert total == "2 keys"
    assert hep("state", "list", "last_", "--stack", "production").splitlines()[-1] == "1 key"
    assert hep("state", "list", "--limit", "1").splitlines()[-1] == "1 key, the first 1: --limit shows more"
    [shown] = hep.document("state", "list", "--shared", "team", "--format", "json")
    assert shown["expires_at"] > shown["updated_at"]
    assert (shown["scope"], shown["name"], shown["stack"], shown["key"]) == ("shared", "team", None, "limits")
    assert shown["value"] == "x" * 100


def test_delete_removes_a_key(hep: Hep, scaling: Connection) -> None:
    delete = ("state", "delete", "last_scale_time", "--hook", "scaling")
    assert hep(*delete) == "removed: last_scale_time of the hook 'scaling' of the stack 'production'\n"
    assert hep.run(*delete).status == 1
    assert state.get(scaling, SCALING, "last_scale_time") is None
    hep("state", "set", "k", "1", "--shared", "team")
    assert hep.document("state", "delete", "k", "--shared", "team", "--format", "json") == {"removed": "k"}
