"""`hep hook spec`: what specs can say, what hooks get in them, and that they are as bounded as hooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Hep

from hook_event_processor.workshop import apart

_HOOK = """\
local log = require("log")
local hook = { event_type = "task.failed", params = { greeting = "hello" } }
function hook.filter(event) return event.data.skip ~= true end
function hook.execute(event)
  local http, state, time = require("http"), require("state"), require("time")
  log.info("seen", { type = event.type })
  if event.data.fail then error("it was asked to") end
  if event.data.url then
    local response, reason = http.post(event.data.url, { json = { n = state.incr("n") } })
    if not response then return false, reason end
    return true, response.json().answer
  end
  require("event").dispatch("custom.seen", { who = event.agent_id, nested = { a = 1, b = 2 } }, { priority = 1 })
  return true, hook.params.greeting .. " " .. tostring(event.stack) .. " at " .. time.now()
end
return hook
"""


@pytest.fixture
def spec(offline_hep: Hep) -> Any:
    """Runs a spec of one test with this body, beside a hook; returns the report."""

    def run(body: str, *, whole: bool = False, hook: str = _HOOK, options: tuple[str, ...] = ()) -> dict[str, Any]:
        Path("hook.lua").write_text(hook)
        Path("hook_spec.lua").write_text(body if whole else f'it("works", function()\n{body}\nend)')
        finished = offline_hep.run("hook", "spec", "hook_spec.lua", "--format", "json", *options)
        report: dict[str, Any] = json.loads(finished.output)
        assert finished.status == (1 if report["failed"] else 0)
        return report

    return run


def test_numbers_of_an_event_may_be_quotients(spec: Any) -> None:
    hook = "return { execute = function(event) return true, event.attempt .. ' of priority ' .. event.priority end }"
    run = 'spec.run("a.b", {}, { attempt = 6 / 2, priority = 4 / 2 })'
    assert spec(f'expect({run}).to_succeed("3 of priority 2")', hook=hook)["passed"] == 1


def _error(report: dict[str, Any]) -> str:
    (file,) = report["files"]
    (test,) = file["tests"]
    error: str = test["error"]
    return error


@pytest.mark.parametrize(
    "body",
    [
        'local r = spec.run("task.failed", {}) expect(r).to_succeed() expect(r.outcome).to_be("continue")',
        'expect(spec.run("task.failed").output).to_contain("INFO seen type=task.failed")',
        'expect(spec.run("task.failed", {}, { stack = "prod" }).message).to_match("^hello prod at %d+")',
        'expect(spec.run("task.failed", {}, { metadata = { stack = "prod" } }).message).to_contain("prod")',
        'expect(spec.run("task.failed", {}, { params = { greeting = "hi" } }).message).to_match("^hi ")',
        'expect(spec.run("task.failed", { skip = true }).filtered).to_be_true()',
        'local r = spec.run("task.failed", { fail = true }) expect(r).to_fail("asked to") expect(r.ok).to_be_false()',
        'expect(spec.run("task.failed", { fail = true }).error).to_contain("hook.lua:7")',
        'expect(spec.run("task.failed", {}, { agent_id = "a1" })).to_have_dispatched("custom.seen", { who = "a1" })',
        'expect(spec.run("task.failed").dispatched[1]).to_include({ priority = 1, data = { nested = { a = 1 } } })',
        'mock("time", { now = function() return 7 end }) expect(spec.run("task.failed")).to_succeed("at 7")',
        'local json = require("json") expect(json.decode("[1]")).to_equal({ 1 })',
        # What checks there are, and what they tell apart.
        "expect(1).to_be(1.0) expect({}).never.to_be({}) expect({}).to_equal({})",
        'expect({ 1, { a = "x" } }).to_equal({ 1, { a = "x" } }) expect({ 1 }).never.to_equal({ 1, 2 })',
        'local null = require("json").null expect(null).never.to_equal({}) expect({ null }).to_equal({ null })',
        'expect("abc").to_contain("b") expect({ "a", { b = 1, c = 2 } }).to_contain({ b = 1 })',
        "expect({ a = { b = 1, c = 2 } }).to_include({ a = { b = 1 } }) expect({}).never.to_include({ a = 1 })",
        "expect(nil).to_be_nil() expect(false).to_exist() expect(true).to_be_true() expect(false).to_be_false()",
        'expect(1).to_be_a("integer") expect(1).to_be_a("number") expect({}).to_be_a("table")',
        "expect(2).to_be_greater_than(1) expect(1).to_be_less_than(2) expect('x').never.to_be_less_than(2)",
        'expect("abc").to_have_length(3) expect({ 1 }).to_have_length(1) expect("abc").to_match("^a.c$")',
        'expect(function() error("x") end).to_fail("x") expect(function() return nil, "y" end).to_fail("y")',
        "expect(1):to_be(1) expect(1).never:to_be(2)",
    ],
)
def test_a_true_expectation_passes(spec: Any, body: str) -> None:
    report = spec(body)
    assert report["failed"] == 0, report["files"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("expect(1).to_be(2)", "expected 1 to be 2"),
        ("expect({ a = { 1 } }).to_equal({})", "expected { a = { 1 } } to equal {}"),
        ("expect(1).never.to_be(1)", "expected 1 never to be 1"),
        ('expect("abc").to_have_length(2)', 'expected "abc" to have the length 2; "abc" of the length 3'),
        ('expect(spec.run("task.failed")).to_fail()', "expected the hook to fail; it did not"),
        (
            'expect(spec.run("task.failed", { skip = true })).to_succeed("done")',
            'expected the hook to succeed with "done"; it succeeded',
        ),
        (
            'mock("http", {}) expect(spec.run("task.failed")).to_have_called("http.post")',
            "expected the hook to call http.post; it did so 0 times",
        ),
        (
            'expect(spec.run("task.failed", {skip=true})).to_have_dispatched("a.b")',
            "expected the hook to dispatch a.b; it dispatched nothing",
        ),
        ("expect(1).to_bee(2)", "expect(...) has no check to_bee"),
        ('spec.run("")', 'spec.run takes an event type first, such as task.failed, not ""'),
        ('spec.run("task.failed", "x")', "spec.run takes a table as the event's data, not a string"),
        ('spec.run("task.failed", {}, { stak = "x" })', "spec.run: unknown field stak of the event"),
        ('spec.run("task.failed", {}, { priority = "x" })', 'spec.run: priority takes a whole number, not "x"'),
        ('spec.run("task.failed", {}, { attempt = 1.5 })', "spec.run: attempt takes a whole number, not 1.5"),
        ('spec.run("task.failed", {}, { priority = "2" })', 'spec.run: priority takes a whole number, not "2"'),
        ('spec.run("task.failed", {}, { timestamp = 0 / 0 })', "spec.run: timestamp takes seconds since 1970, not"),
        ('spec.run("task.failed", {}, { timestamp = 1e300 })', "spec.run: timestamp takes seconds since 1970, not 1e"),
        ('spec.run("task.failed", {}, { id = "x" })', 'spec.run: id takes a UUID, not "x"'),
        ('mock("htp", {})', "there is no module htp to mock"),
        ('mock("../boot", {})', "there is no module ../boot to mock"),
        ('mock("http", print)', "mock takes a table of functions, such as { get = function(...) end }, not a function"),
        ('spec.run("task.faild")', "the hook does not run for task.faild: its event_type is task.failed"),
        ('it("inside", print)', "it stands at the top of the file or in describe, not in a test"),
        ('coroutine.wrap(function() spec.run("task.failed") end)()', "spec.run can be called in a test and in befo"),
    ],
)
def test_a_false_one_is_told_at_its_line(spec: Any, body: str, said: str) -> None:
    assert _error(spec(body)).startswith(f"hook_spec.lua:2: {said}")


def test_mocks_stand_in_for_modules_and_remember_their_calls(spec: Any) -> None:
    report = spec(
        """
        mock("http", { post = function(url, options) return { status_code = 200, body = '{"answer": "ok"}' } end })
        local first = spec.run("task.failed", { url = "https://example.com/" })
        expect(first).to_succeed("ok")
        expect(first.calls["http.post"][1][1]).to_be("https://example.com/")
        expect(first.calls["http.post"][1][2].json).to_equal({ n = 1 })
        expect(first.calls["http.get"]).to_have_length(0)
        local second = spec.run("task.failed", { url = "https://example.com/" })
        expect(second.calls["http.post"][1][2].json.n).to_be(2)
        expect(second).to_have_called("http.post", 1)
        """
    )
    assert report["failed"] == 0, report["files"]


def test_what_reaches_outside_must_be_mocked(spec: Any) -> None:
    error = _error(spec('expect(spec.run("task.failed", { url = "https://example.com/" })).to_succeed()'))
    assert 'hook.lua:9: the hook calls http.post, which the spec does not mock: mock("http", {' in error


def test_an_expectation_inside_of_a_mock_fails_the_test(spec: Any) -> None:
    error = _error(
        spec(
            'mock("http", { post = function(url) expect(url).to_be("x") end })\n'
            'expect(spec.run("task.failed", { url = "y" })).to_fail()'
        )
    )
    assert error == 'hook_spec.lua:2: expected "y" to be "x"'


def test_each_test_begins_anew_with_what_stands_before_it(spec: Any) -> None:
    report = spec(
        """
        local order = {}
        before_each(function() order[#order + 1] = "outer" end)
        describe("block", function()
          before_each(function() order[#order + 1] = "inner" counter = (counter or 0) + 1 end)
          after_each(function() print("after") end)
          it("first", function()
            expect(order).to_equal({ "outer", "inner" })
            spec.run("task.failed", { url = "x" })
            mock("time", { now = function() return 1 end })
          end)
          it("second", function()
            expect(order).to_equal({ "outer", "inner" })
            expect(counter).to_be(1)
            expect(spec.run("task.failed").message).never.to_contain("at 1 ")
          end)
        end)
        it("last", function() expect(order).to_equal({ "outer" }) end)
        """,
        whole=True,
    )
    tests = report["files"][0]["tests"]
    assert [test["names"] for test in tests] == [["block", "first"], ["block", "second"], ["last"]]
    assert [test["error"] for test in tests] == [None, None, None]
    assert [test["line"] for test in tests] == [7, 12, 18]
    assert tests[0]["output"] == "after"


@pytest.mark.parametrize(
    ("body", "error"),
    [("expect(1).to_be(2)", "hook_spec.lua:4: expected 1 to be 2"), ("print('fine')", "hook_spec.lua:3: inner broke")],
)
def test_what_follows_a_test_hides_no_failure_and_none_of_the_rest(spec: Any, body: str, error: str) -> None:
    whole = f"""after_each(function() print("outer") error("outer broke") end)
        describe("block", function()
          after_each(function() print("inner") error("inner broke") end)
          it("fails", function() {body} end)
        end)"""
    report = spec(whole, whole=True)
    assert _error(report).split("\nstack")[0] == error
    assert report["files"][0]["tests"][0]["output"].endswith("inner\nouter")


def test_only_picks_tests_by_their_name(spec: Any, offline_hep: Hep) -> None:
    whole = 'describe("a", function() it("b", print) it("c", error) end)'
    report = spec(whole, whole=True, options=("--only", "a b"))
    assert (report["passed"], report["failed"]) == (1, 0)
    assert offline_hep.fault("hook", "spec", "--only", "x") == "hep: no test has a name that holds 'x'"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("while true do end", "the run took longer than it may"),
        ("while true do pcall(function() while true do end end) end", "the run took longer than it may"),
        ("local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end", "not enough memory"),
        ("return require('exec').run('id')", "the permission 'exec' is not granted"),
        ("local text = io.open('/etc/passwd')", "attempt to index a nil value (global 'io')"),
        ("coroutine.yield()", "attempt to yield from outside a coroutine"),
        ("error({})", "a table was raised"),
        ("spec.run = print", "spec.run cannot be set: libraries are frozen"),
    ],
)
def test_a_spec_is_as_bounded_as_a_hook(spec: Any, body: str, said: str) -> None:
    # A busy machine needs its time for all but the endless.
    timeout = "200ms" if "longer" in said else "10s"
    assert said in _error(spec(body, options=("--timeout", timeout)))


def test_a_hook_that_does_not_end_fails_its_run(spec: Any) -> None:
    hook = 'return { event_type = "a.b", timeout = 0.2, execute = function() while true do end end }'
    error = _error(spec('expect(spec.run("a.b")).to_succeed()', hook=hook, options=("--timeout", "400ms")))
    assert "the run took longer than it may" in error


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        ("it(", "hook_spec.lua:1: unexpected symbol near <eof>"),
        ("error('broken')", "hook_spec.lua:1: broken"),
        ("while true do end", "hook_spec.lua: the run took longer than it may"),
    ],
)
def test_a_spec_that_cannot_be_read_is_a_failure(spec: Any, whole: str, said: str) -> None:
    timeout = "200ms" if "longer" in said else "10s"
    report = spec(whole, whole=True, options=("--timeout", timeout))
    assert (report["failed"], report["files"][0]["error"]) == (1, said)


def test_no_test_takes_no_time(offline_hep: Hep) -> None:
    finished = offline_hep.run("hook", "spec", "--timeout", "0s")
    assert (finished.status, finished.fault) == (2, "hep: --timeout is 0: it takes the time that each test may take")


def test_a_spec_that_sticks_before_its_tests_holds_up_no_other(
    offline_hep: Hep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no longer can be interrupted is played by what is given less patience than it has time."""
    monkeypatch.setattr(apart, "_PATIENCE_SECONDS", -3.0)
    for name, body in (("one", "while true do end"), ("two", 'it("works", function() end)')):
        (tmp_path / f"{name}.lua").write_text(_HOOK)
        (tmp_path / f"{name}_spec.lua").write_text(body)
    finished = offline_hep.run("hook", "spec", "--timeout", "5s", "--format", "json")
    assert finished.status == 1
    report = json.loads(finished.output)
    assert (report["passed"], report["failed"]) == (1, 1)
    assert report["files"][0]["error"] == "one_spec.lua: its top level does not end, and cannot be interrupted"


def test_shared_code_beside_the_hook_is_there(spec: Any, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "words.lua").write_text('return { hello = function() return "from lib" end }')
    hook = 'return { event_type = "a.b", execute = function() return true, require("lib.words").hello() end }'
    report = spec(
        'expect(spec.run("a.b")).to_succeed("from lib")\n'
        'mock("lib.words", { hello = function() return "mocked" end })\n'
        'expect(spec.run("a.b")).to_succeed("mocked")',
        hook=hook,
    )
    assert report["failed"] == 0, report["files"]


def test_the_tree_is_plain_where_nobody_looks(offline_hep: Hep, tmp_path: Path) -> None:
    (tmp_path / "a.lua").write_text(_HOOK)
    (tmp_path / "a_spec.lua").write_text(
        'describe("a", function()\n'
        '  it("passes", function() end)\n'
        '  describe("b", function() it("fails", function() print("seen") error("no") end) end)\n'
        "end)\n"
    )
    finished = offline_hep.run("hook", "spec")
    assert (finished.status, finished.errors) == (1, "")
    assert finished.output.startswith(
        "a_spec.lua\n"
        "  a\n"
        "    ok passes\n"
        "    b\n"
        "      FAILED fails\n"
        "          a_spec.lua:3: no\n"
        "          printed:\n"
        "            seen\n"
        "\n1 passed, 1 failed of 2 tests in "
    )
    quiet = offline_hep.run("hook", "spec", "a.lua", "--quiet").output
    assert quiet.startswith("FAILED a_spec.lua: a > b > fails\n    a_spec.lua:3: no\n")


def test_a_hook_without_a_spec_and_a_spec_without_a_hook_are_told(offline_hep: Hep, tmp_path: Path) -> None:
    (tmp_path / "lonely.lua").write_text(_HOOK)
    (tmp_path / "orphan_spec.lua").write_text("")
    assert offline_hep.fault("hook", "spec", "lonely.lua") == (
        "hep: lonely.lua has no spec beside it: write lonely_spec.lua"
    )
    assert "the hook that it tests is missing: orphan.lua" in offline_hep.run("hook", "spec", "orphan_spec.lua").output
    (tmp_path / "orphan_spec.lua").unlink()
    assert "no specs here" in offline_hep.fault("hook", "spec")
