"""A hook's parameters: what a table of defaults may hold, and what may be set over it."""

from __future__ import annotations

from typing import Any

import pytest

from hook_event_processor.errors import HookRefused, UsageError
from hook_event_processor.lua.loader import read_definition
from hook_event_processor.lua.params import check, parse_set, values_of

TEXT = "return {{ execute = print,\n params = {} }}"
DEFAULTS = {
    "threshold": 80,
    "channel": "#ops",
    "hosts": ["a", "b"],
    "quiet": False,
    "limits": {"high": 9},
    "any": {},
    "level": None,
}


def _set(option: str) -> dict[str, Any]:
    return check(DEFAULTS, values_of(DEFAULTS, parse_set([option])))


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("threshold=90", "threshold", 90),
        ("threshold=90.5", "threshold", 90.5),
        ("threshold=1e19", "threshold", 1e19),
        ("threshold=10000000000000000000", "threshold", 1e19),
        ("channel=#night", "channel", "#night"),
        ("channel=", "channel", ""),
        ("channel=a=b", "channel", "a=b"),
        ("channel=5", "channel", "5"),
        ('channel="quoted"', "channel", "quoted"),
        ('hosts=["x"]', "hosts", ["x"]),
        ("quiet=true", "quiet", True),
        ('limits={"high": 1}', "limits", {"high": 1}),
        ("any=[1]", "any", [1]),
        ('any={"a": 1}', "any", {"a": 1}),
        ("level=5", "level", 5),
        ("level=high", "level", "high"),
        ("level=null", "level", None),
    ],
)
def test_a_value_is_json_or_else_a_string(option: str, name: str, value: object) -> None:
    assert _set(option) == {name: value}


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        (
            "treshold=90",
            "there is no parameter 'treshold': there are any, channel, hosts, level, limits, quiet, threshold",
        ),
        ("threshold=high", "the parameter 'threshold' is \"high\": it takes a number (its default is 80)"),
        ("threshold=true", "it takes a number"),
        ("threshold=null", "it takes a number"),
        ("threshold=NaN", "it takes a number"),
        ("quiet=1", "it takes a boolean"),
        ('hosts={"a": 1}', "it takes a list"),
        ("limits=[1]", "it takes a table"),
        ("channel=" + "x" * 20_000, "at most 16384"),
        ("channel=a\0", "holds what JSON in the database cannot"),
        ('hosts=["\\u0000"]', "holds what JSON in the database cannot"),
        ('any={"a\\u0000": 1}', "the parameter 'any' holds what JSON in the database cannot: 'a\\x00'"),
        ("any=" + "[" * 1000 + "]" * 1000, "the parameter 'any' is nested deeper than 20"),
        ("any=" + '{"a":' * 1000 + "1" + "}" * 1000, "the parameter 'any' is nested deeper than 20"),
        ("threshold=18446744073709551615", "holds what JSON in the database cannot"),
    ],
)
def test_a_value_that_cannot_be_is_refused(option: str, reason: str) -> None:
    with pytest.raises(HookRefused) as refusal:
        _set(option)
    assert reason in str(refusal.value)


def test_a_number_that_json_cannot_hold_is_shown_as_it_is() -> None:
    """hooks.toml may have any."""
    with pytest.raises(HookRefused, match="the parameter 'to' is 100000000000000000000: it takes a string"):
        check({"to": "a"}, {"to": 10**20})


@pytest.mark.parametrize("option", ["threshold", "=5", " =5"])
def test_an_option_without_name_or_value_is_a_misuse(option: str) -> None:
    with pytest.raises(UsageError, match="write --set threshold=90"):
        parse_set([option])


def test_a_hook_without_params_takes_none() -> None:
    with pytest.raises(HookRefused, match="the hook's table has no params"):
        check({}, {"threshold": 90})


def test_a_default_may_be_null_and_nested_as_deep_as_what_is_set() -> None:
    text = (
        "local json = require('json') return { execute = print, params = { level = json.null, list = { json.null } } }"
    )
    assert read_definition(text, "hook.lua").params == {"level": None, "list": [None]}
    nested = "{" * 19 + "{ 1 }" + "}" * 19
    with pytest.raises(HookRefused, match="the parameter 'x' is nested deeper than 20"):
        read_definition(TEXT.format(f"{{ x = {nested} }}"), "hook.lua")
    params = read_definition(TEXT.format(f"{{ x = {nested[1:-1]} }}"), "hook.lua").params
    assert check({"x": []}, params) == params


def test_the_defaults_of_a_table_are_values_of_json() -> None:
    table = "{ n = 1, f = 1.5, s = 'x', b = false, list = { 1, { 'y' } }, names = { a = { 2 } }, none = {} }"
    assert read_definition(TEXT.format(table), "hook.lua").params == {
        "n": 1,
        "f": 1.5,
        "s": "x",
        "b": False,
        "list": [1, ["y"]],
        "names": {"a": [2]},
        "none": {},
    }


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("5", "hook.lua:2: params is 5: it takes a table of names and their defaults"),
        ("{ 1, 2 }", "it takes a table of names"),
        ("{ x = { 1, a = 2 } }", "hook.lua:2: the parameter 'x' is a table that is neither a list nor one of names"),
        ("{ x = { [5] = 1 } }", "neither a list nor one of names"),
        ("{ x = 0/0 }", "the parameter 'x' holds what JSON in the database cannot"),
        ("{ x = 1e400 }", "the parameter 'x' holds what JSON in the database cannot"),
        ("{ x = '\\0' }", "the parameter 'x' holds what JSON in the database cannot"),
        ("{ x = ('x'):rep(20000) }", "at most 16384"),
        ("{ x = print }", "hook.lua:2: the parameter 'x' holds what JSON in the database cannot: 'a function'"),
        ("{ x = { y = print } }", "hook.lua:2: the parameter 'x' holds what JSON in the database cannot: 'a function'"),
        ("{ ['a\\0b'] = 1 }", "hook.lua:2: the parameter 'a\\x00b' has a NUL character in its name"),
        (
            "{ x = { ['a\\0b'] = 1 } }",
            "hook.lua:2: the parameter 'x' holds what JSON in the database cannot: 'a\\x00b'",
        ),
        ("{ x = { [true] = 1 } }", "neither a list nor one of names"),
        ("{ [print] = 1 }", "hook.lua:2: params is {a function: 1}: it takes a table of names"),
        ("print", "hook.lua:2: params is a function: it takes a table of names"),
    ],
)
def test_defaults_that_cannot_be_are_refused_with_their_line(table: str, reason: str) -> None:
    with pytest.raises(HookRefused) as refusal:
        read_definition(TEXT.format(table), "hook.lua")
    assert reason in str(refusal.value)
