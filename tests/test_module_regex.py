"""regex: RE2 as hooks call it, and attacks on its time and memory."""

from __future__ import annotations

import json

import pytest
from chunks import error, library, output, runtime
from chunks import execute as execute_within

from hook_event_processor.run import ChunkResult

_START = "local regex, json = require('regex'), require('json')\n"


def execute(body: str) -> ChunkResult:
    return execute_within(_START + body, within=runtime(library=library()))


def _of(call: str) -> list[object]:
    """The call's results as JSON holds them."""
    body = f"local r = table.pack({call}) for i = 1, r.n do if r[i] == nil then r[i] = json.null end end"
    found: list[object] = json.loads(output(execute(body + " r.n = nil return true, json.encode(json.array(r))")))
    return found


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (r"test('task-42', [[\d+]])", True),
        (r"test('task', [[\d+]])", False),
        ("test('', '')", True),
        (r"test('a\xffb', 'b$')", True),
        (r"test('Größe', [[^\pL+$]])", True),
    ],
)
def test_whether_a_pattern_matches(call: str, found: bool) -> None:
    assert _of(f"regex.{call}") == [found]


def test_captures_are_groups_by_number_and_by_name() -> None:
    body = (
        r"local m = regex.match('on 2026-11-21', [[(?P<year>\d+)-(\d+)-(?P<day>\d+)(x)?]])"
        " return true, table.concat({ m[0], m[1], m[2], m[3], m.year, m.day, tostring(m[4]), tostring(m.n) }, ' ')"
    )
    assert output(execute(body)) == "2026-11-21 2026 11 21 2026 21 nil nil"


def test_a_group_without_a_part_in_the_match_is_nil() -> None:
    body = "local m = regex.match('b', '(?P<a>a)|(b)') return true, tostring(m[1]) .. tostring(m.a) .. m[2]"
    assert output(execute(body)) == "nilnilb"


def test_no_match_is_nil() -> None:
    assert _of("regex.match('a', 'b')") == [None, None]
    assert _of("regex.find('a', 'b')") == [None]


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("find('hello', 'l+')", [3, 4]),
        ("find('hello', 'l', 4)", [4, 4]),
        ("find('hello', 'h', 2)", [None]),
        ("find('hello', 'o', -1)", [5, 5]),
        ("find('hello', 'h', -99)", [1, 1]),
        ("find('hello', '')", [1, 0]),
        ("find('hello', '', 6)", [6, 5]),
        ("find('hello', '', 7)", [None]),
        ("find('hello', '^l', 3)", [None]),
        (r"find('äb', 'b')", [3, 3]),
    ],
)
def test_positions_are_those_of_string_find(call: str, found: list[object]) -> None:
    assert _of(f"regex.{call}") == found


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("gsub('a-b-c', '-', '+')", ["a+b+c", 2]),
        ("gsub('a-b-c', '-', '+', 1)", ["a+b-c", 1]),
        ("gsub('a-b-c', '-', '+', 0)", ["a-b-c", 0]),
        ("gsub('a-b-c', '-', '+', -1)", ["a-b-c", 0]),
        (r"gsub('john smith', [[(\w+) (\w+)]], '%2, %1 (%0) 100%%')", ["smith, john (john smith) 100%", 1]),
        ("gsub('ab', '(x)?b', '[%1]')", ["a[]", 1]),
        ("gsub('abc', '', '-')", ["-a-b-c-", 4]),
        ("gsub('axxb', 'x*', '-')", ["-a-b-", 3]),
        ("gsub('äö', '', '-')", ["-ä-ö-", 3]),
        ("gsub('', 'x', 'y')", ["", 0]),
        (r"gsub('a\\b', [[\\]], '/')", ["a/b", 1]),
        (r"gsub('one two', [[\b]], '|')", ["|one| |two|", 4]),
    ],
)
def test_replacing(call: str, found: list[object]) -> None:
    assert _of(f"regex.{call}") == found


def test_replacing_agrees_with_lua_where_both_patterns_mean_the_same() -> None:
    body = """
    for _, case in ipairs({ { "x*", "-" }, { "a?", "<%0>" }, { "", "." }, { "[ab]+", "%0%0" }, { "c", "%%" } }) do
      for _, text in ipairs({ "", "x", "axxb", "aabbcc", "xax" }) do
        local lua, lua_count = text:gsub(case[1], case[2])
        local re2, count = regex.gsub(text, case[1], case[2])
        assert(lua == re2 and lua_count == count, text .. " " .. case[1] .. ": " .. lua .. " or " .. re2)
      end
    end
    """
    output(execute(body))


@pytest.mark.parametrize(
    ("call", "pieces"),
    [
        (r"split('a, b ,c', [[\s*,\s*]])", ["a", "b", "c"]),
        ("split('a,b,', ',')", ["a", "b", ""]),
        ("split(',a', ',')", ["", "a"]),
        ("split('abc', '')", ["a", "b", "c"]),
        ("split('äöü', '')", ["ä", "ö", "ü"]),
        ("split('', ',')", [""]),
        ("split('a', ',')", ["a"]),
    ],
)
def test_splitting(call: str, pieces: list[str]) -> None:
    assert _of(f"regex.{call}") == [pieces]


def test_an_escaped_text_matches_itself_alone() -> None:
    body = r"""
    local all = {}
    for code = 0, 127 do all[#all + 1] = string.char(code) end
    local text = table.concat(all) .. "_äß\xff"
    assert(regex.test("a.b", "^" .. regex.escape("a.b") .. "$") and not regex.test("axb", regex.escape("a.b")))
    text = text:sub(1, -2)
    assert(regex.match("<" .. text .. ">", regex.escape(text))[0] == text)
    """
    output(execute(body))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("match('x', '(')", "regex.match: the pattern '(' is not valid: missing ): ("),
        ("test('x', '(?=x)')", "regex.test: the pattern '(?=x)' is not valid: invalid perl operator: (?="),
        (r"find('x', [[(x)\1]])", r"regex.find: the pattern '(x)\\1' is not valid: invalid escape sequence: \1"),
        (r"gsub('x', '\xff', '')", "is not valid: invalid UTF-8"),
        ("split('x', '*')", "regex.split: the pattern '*' is not valid: no argument for repetition operator: *"),
        ("match('x', ('()'):rep(101))", "regex.match: the pattern has 101 groups: at most 100"),
        ("match('x', ('x'):rep(4097))", "regex.match: a pattern of 4097 bytes: at most 4096"),
        ("gsub('x', 'x', '%1')", "regex.gsub: the replacement names %1: the pattern has 0 groups"),
        ("gsub('x', 'x', '%')", "regex.gsub: in the replacement, % stands before a group's number or another %"),
        ("gsub('x', 'x', '%a')", "regex.gsub: in the replacement, % stands before a group's number or another %"),
        ("gsub('x', 'x', print)", "regex.gsub takes a string as its replacement, not a function"),
        ("gsub('x', 'x', '', 1.5)", "regex.gsub takes a whole number of replacements, not 1.5"),
        ("find('x', 'x', '1')", "regex.find takes a whole number as its start, not 1"),
        ("match(nil, 'x')", "regex.match takes a string as its text, not a nil"),
        ("match('x', 5)", "regex.match takes a string as its pattern, not a number"),
        ("escape(('.'):rep(4097))", "regex.escape takes a text of at most 4096 bytes, not 4097"),
        ("escape()", "regex.escape takes a string, not a nil"),
    ],
)
def test_misuse_names_function_and_line(call: str, reason: str) -> None:
    found = error(execute(f"local _ = regex.{call}"))
    assert found.startswith("hook.lua:4: ")
    assert reason in found


# The attacks.


def _reason_of(call: str) -> str:
    """The reason of a call that fails."""
    result = execute(f"local found, reason = {call} assert(not found) return true, reason")
    assert result.durations[0] < 1
    return output(result)


def test_catastrophic_backtracking_takes_no_time() -> None:
    assert _of("regex.test(('a'):rep(50000), '(a+)+$b')") == [False]
    assert _of("regex.test(('a'):rep(5000), '(a|a)*(a|a)*(a|a)*b')") == [False]


def test_a_pattern_that_explodes_is_refused() -> None:
    for pattern in ("((a{100}){100}){100}", "(((a{1,30}){1,30}){1,30}){1,30}", r"\pL{500}"):
        found = error(execute(f"regex.test('a', [[{pattern}]])"))
        assert "is not valid" in found


def test_a_large_pattern_takes_no_large_text() -> None:
    reason = _reason_of("regex.test(('ab'):rep(50000), '[ab]*a[ab]{300}c')")
    assert reason.startswith("regex.test: this pattern takes a text of at most 3")
    assert reason.endswith("bytes, not 100000: make it simpler, or the text shorter")


def test_a_text_is_bounded() -> None:
    expected = "regex.find takes a text of at most 1048576 bytes, not 1048577"
    assert _reason_of("regex.find(('a'):rep(1048577), 'b')") == expected


def test_matches_that_each_read_to_the_end_are_stopped() -> None:
    reason = _reason_of("regex.gsub(('a'):rep(200000), 'a*b|a', 'x')")
    assert reason == "regex.gsub: the pattern matches too often, or takes too long, on 200000 bytes"


def test_the_result_of_replacing_is_bounded() -> None:
    reason = _reason_of("regex.gsub(('a'):rep(1000), 'a', ('x'):rep(60000))")
    assert reason == "regex.gsub: the result is more than 4194304 bytes"
    reason = _reason_of("regex.gsub(('a'):rep(100000), '.+', ('%0'):rep(30000))")
    assert reason == "regex.gsub: the result is more than 4194304 bytes"


def test_many_patterns_are_not_all_kept() -> None:
    from hook_event_processor.lua.modules import regex

    output(execute("for i = 1, 300 do regex.test('x', 'x' .. i) end"))
    assert regex._compiled.cache_info().currsize <= 64
