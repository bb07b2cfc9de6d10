"""json: what came in goes out again, and what is no JSON is said to be none."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from chunks import MEMORY, error, event, execute, outcomes, output, runtime
from hypothesis import given, settings
from hypothesis import strategies as st

from hook_event_processor.event import Outcome

_INTEGERS = st.integers(-(2**63), 2**63 - 1)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
# Lone surrogates are no text; NUL is left to the checks of what is stored.
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_SCALARS = st.none() | st.booleans() | _INTEGERS | _FLOATS | _TEXTS
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXTS, inner, max_size=5),
    max_leaves=30,
)
_LUA = runtime(MEMORY)
_ROUND_TRIP = """
local json = require("json")
local value = event.data.value
local there = json.encode(value)
local again, reason = json.decode(there)
assert(reason == nil, reason)
require("event").dispatch("a.b", { there = value, again = again })
"""


def _round_trip(value: Any, **style: Any) -> dict[str, Any]:
    text = json.dumps({"value": value}, **style)
    result = execute(_ROUND_TRIP, event(text), within=_LUA)
    assert outcomes(result) == [Outcome.CONTINUE], result.errors
    found: dict[str, Any] = json.loads(result.dispatched[0][0].data)
    return found


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "x")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value


def _same(first: Any, second: Any) -> bool:
    """Equal, and of the same types: 1 is not 1.0, and True is not 1."""
    if type(first) is not type(second):
        return False
    if isinstance(first, list):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    return bool(first == second)


@settings(max_examples=300, deadline=None)
@given(value=_VALUES, ascii_only=st.booleans(), indent=st.none() | st.just(2))
def test_what_comes_in_goes_out(value: Any, ascii_only: bool, indent: int | None) -> None:
    value = _without_nul(value)
    found = _round_trip(value, ensure_ascii=ascii_only, indent=indent)
    assert _same(found["there"], value)
    assert _same(found["again"], value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        [[]],
        {"a": {}, "b": []},
        [None, None],
        2**63 - 1,
        -(2**63),
        0.1,
        3.0,
        1e308,
        5e-324,
        "",
        "é\U0001f600",
    ],
)
def test_the_odd_ones_survive(value: Any) -> None:
    assert _same(_round_trip(value)["again"], value)


def test_null_is_a_value_of_its_own() -> None:
    body = """
    local json = require("json")
    local t = json.decode('{"a": null, "b": [null]}')
    assert(t.a == json.null and t.b[1] == json.null and #t.b == 1 and t.c == nil)
    assert(tostring(json.null) == "null" and json.encode(json.null) == "null")
    return true, json.encode({ json.null })
    """
    assert output(execute(body)) == "[null]"


def test_an_empty_table_is_an_object_unless_it_is_marked() -> None:
    body = "local json = require('json') return true, json.encode({}) .. json.encode(json.array({}))"
    assert output(execute(body)) == "{}[]"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at byte 1: the text ends too early"),
        ("{", "at byte 2: a key was expected"),
        ('{"a"', "at byte 5: a colon was expected"),
        ('{"a" 1}', "at byte 6: a colon was expected"),
        ('{"a":', "at byte 6: the text ends too early"),
        ('{"a": 1', "at byte 8: a comma or } was expected"),
        ('{"a": 1,}', "at byte 9: a key was expected"),
        ("[1,]", "at byte 4: a value was expected"),
        ("[1 2]", "at byte 4: a comma or ] was expected"),
        ("[1] x", "at byte 5: something follows the value"),
        ("nul", "at byte 1: a value was expected"),
        ("True", "at byte 1: a value was expected"),
        ('"abc', "at byte 1: string without an end"),
        (r'"\x"', "at byte 2: unknown escape"),
        (r'"\u12"', "without four hexadecimal digits"),
        (r'"\ud800"', "at byte 2: half of a surrogate pair"),
        (r'"\udc00"', "at byte 2: half of a surrogate pair"),
        ("01", "not a number: 01"),
        ("1.", "not a number: 1."),
        ("1.e5", "not a number: 1.e5"),
        ("-", "a value was expected"),
        ("+1", "a value was expected"),
        (".5", "a value was expected"),
        ("1e", "not a number: 1e"),
        ("NaN", "a value was expected"),
        ("1e400", "out of range"),
        ("-1e400", "out of range"),
        ("9" * 400, "out of range"),
        ('"a\nb"', "a control character"),
        ('{"a\tb": 1}', "a control character"),
        ("[" * 1025 + "]" * 1025, "nested deeper than 1024"),
        ('{"a":' * 1025 + "1" + "}" * 1025, "nested deeper than 1024"),
    ],
)
def test_what_is_no_json_is_nil_and_a_reason(text: str, reason: str) -> None:
    body = f"local value, reason = require('json').decode([==[\n{text}]==]) assert(value == nil) return true, reason"
    assert reason in output(execute(body))


@given(text=st.text(st.sampled_from('{}[]",:\\ue1230. -tfn'), max_size=12))
@settings(max_examples=300, deadline=None)
def test_it_agrees_with_python_on_what_json_is(text: str) -> None:
    try:
        json.loads(text)
        accepted = True
    except ValueError:
        accepted = False
    quoted = "".join(f"\\{byte:03d}" for byte in text.encode())
    body = f"local _, reason = require('json').decode('{quoted}') return true, tostring(reason)"
    found = output(execute(body, within=_LUA))
    # Half a surrogate pair is no text, though Python takes it; a number out of range is none either.
    lenient = "surrogate" in found or "out of range" in found
    assert (found == "nil") == accepted or lenient, found


def test_depth_1024_is_read_and_written() -> None:
    body = """
    local json = require("json")
    local text = ("["):rep(1024) .. ("]"):rep(1024)
    return true, tostring(json.encode(json.decode(text)) == text)
    """
    assert output(execute(body)) == "true"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("print", "a function has no form in JSON"),
        ("coroutine.create(print)", "a thread has no form in JSON"),
        ("nil", "a nil has no form in JSON"),
        ("0/0", "is not a JSON number"),
        ("1/0", "inf is not a JSON number"),
        ("{ 1, 2, x = 3 }", "both list items and named fields"),
        ("{ 1, nil, 3, nil, 5, [9] = 1 }", "a list has holes"),
        ("{ [true] = 1 }", "a boolean cannot be a key"),
        ("{ [5] = 1, ['5'] = 2 }", "two keys are written 5"),
        ("(function() local t = {} t.t = t return t end)()", "nested deeper than 1024, or in itself"),
        ("(function() local t = {} t[1] = t return t end)()", "nested deeper than 1024, or in itself"),
    ],
)
def test_what_json_has_no_form_for_is_an_error(value: str, reason: str) -> None:
    assert reason in error(execute(f"require('json').encode({value})"))


def test_metatables_of_the_hooks_own_do_not_confuse_it() -> None:
    body = """
    local json = require("json")
    local liar = { __len = function() return 1 << 40 end, __eq = function() return true end,
      __index = function() return 1 end, __pairs = function() error("asked") end }
    return true, json.encode(setmetatable({ a = 1 }, liar)) .. json.encode(setmetatable({ 1 }, liar))
    """
    assert output(execute(body)) in ('{"a":1}[1]', "nullnull")


@pytest.mark.parametrize("number", ["1e400", '[1, {"a": -1e999}]'.replace("[", '{"x": [', 1) + "}"])
def test_a_payload_with_a_number_out_of_range_fails_its_event_alone(number: str) -> None:
    payload = number if number.startswith("{") else f'{{"n": {number}}}'
    result = execute("local _ = event.data.n", event(), event(payload), event())
    assert outcomes(result) == [Outcome.CONTINUE, Outcome.FAILED, Outcome.CONTINUE]
    assert b"the event's payload cannot be read: invalid JSON at byte" in (result.errors[1] or b"")


def test_a_payload_nested_too_deeply_fails_its_event_alone() -> None:
    deep = '{"a": ' * 2000 + "1" + "}" * 2000
    result = execute("local _ = event.data.n", event(deep), event())
    assert outcomes(result) == [Outcome.FAILED, Outcome.CONTINUE]


def test_whole_floats_are_written_with_all_their_digits() -> None:
    """jsonb would write one with an exponent as an integer, and another one at that."""
    body = 'local json = require("json") return true, json.encode({1.0, -0.5, 1e15, 2.0 ^ 60, -2.0 ^ 63, 1e300})'
    assert output(execute(body)) == (
        "[1.0,-0.5,1000000000000000.0,1152921504606846976.0,-9223372036854775808.0,1e+300]"
    )


def test_numbers_are_integers_or_floats_as_they_are_written() -> None:
    body = """
    local json = require("json")
    local t = json.decode("[1, 1.0, 1e2, -0, 9007199254740993, 9223372036854775808]")
    local kinds = {}
    for i, n in ipairs(t) do kinds[i] = math.type(n) end
    return true, table.concat(kinds, " ") .. " " .. json.encode(t)
    """
    found = output(execute(body))
    assert found.startswith("integer float float integer integer float ")
    assert math.isclose(json.loads(found.split(" ", 6)[6])[5], 2.0**63)
    assert json.loads(found.split(" ", 6)[6])[4] == 9007199254740993
