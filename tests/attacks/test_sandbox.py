"""Attacks on what a hook can reach, what it can leave behind, and what it can make the processor store."""

from __future__ import annotations

import threading

import pytest
from chunks import MAX_PAYLOAD, MEMORY, error, event, execute, library, outcomes, output, row, run, runtime

from hook_event_processor.event import Outcome
from hook_event_processor.lua.loader import program
from hook_event_processor.lua.memory import MemoryBudget
from hook_event_processor.processor.hooks import HookRunner
from hook_event_processor.registry import Hook

_WORTHLESS = [
    *("load", "loadstring", "loadfile", "dofile", "package", "io", "python", "jit", "newproxy", "setfenv", "getfenv"),
    *("warn", "bit32", "string.dump", "math.randomseedstate", "os.execute", "os.getenv", "os.exit", "os.remove"),
    *("os.rename", "os.tmpname", "os.setlocale", "debug.getinfo", "debug.sethook", "debug.gethook", "debug.getlocal"),
    *("debug.setlocal", "debug.getupvalue", "debug.setupvalue", "debug.upvaluejoin", "debug.upvalueid"),
    *("debug.getregistry", "debug.getmetatable", "debug.setmetatable", "debug.getuservalue", "debug.debug"),
    *("debug.setuservalue", "debug.setcstacklimit"),
]


@pytest.mark.parametrize("name", _WORTHLESS)
def test_what_leaves_the_sandbox_is_not_there(name: str) -> None:
    assert output(execute(f"return true, tostring({name})")) == "nil"


def test_everything_reachable_is_lua() -> None:
    """Whatever can be reached from the globals and the modules is a table, a function or a plain value."""
    walk = """
    local seen, count = {}, 0
    local function visit(value, path)
      local kind = type(value)
      if kind == "userdata" or kind == "thread" then error("reached " .. kind .. " at " .. path) end
      if kind ~= "table" or seen[value] then return end
      seen[value] = true
      count = count + 1
      local metatable = getmetatable(value)
      assert(metatable == nil or metatable == false, "an open metatable at " .. path)
      for key, item in pairs(value) do
        visit(key, path .. "." .. tostring(key))
        visit(item, path .. "." .. tostring(key))
      end
    end
    for _, library in ipairs({ string, table, math, os, utf8, coroutine, debug }) do visit(library, "library") end
    for _, name in ipairs({ "event", "json", "log", "slog", "time" }) do
      visit(({ event = function() return require("event") end, json = function() return require("json") end,
        log = function() return require("log") end, slog = function() return require("slog") end,
        time = function() return require("time") end })[name](), name)
    end
    visit(_G, "_G")
    visit(event, "event")
    return true, tostring(count)
    """
    assert int(output(execute(walk))) == 16
    globals_only = "return true, tostring(next(_G)) .. ' ' .. tostring(getmetatable(_G)) .. tostring(getmetatable(''))"
    assert output(execute(globals_only)) == "nil falsefalse"


def test_collectgarbage_collects_nothing() -> None:
    body = "collectgarbage('stop') collectgarbage('incremental', 1, 1) return true, collectgarbage('step')"
    assert output(execute(body)) == "0"
    assert outcomes(execute("assert(collectgarbage('count') > 0)")) == [Outcome.CONTINUE]


FROZEN = {
    "a library": "string.upper = nil",
    "a library by rawset": "rawset(string, 'upper', function() end)",
    "a library's new member": "table.mine = 1",
    "a library through pairs": "local _, library = pairs(string) library.upper = nil",
    "a module": "require('json').decode = nil",
    "a module by rawset": "rawset(require('event'), 'dispatch', nil)",
    "json.null": "require('json').null.x = 1",
    "json.null by rawset": "rawset(require('json').null, 'x', 1)",
    "json.null by table.insert": "table.insert(require('json').null, 1)",
    "json.null by table.move": "table.move({1}, 1, 1, 1, require('json').null)",
    "a library by table.insert": "table.insert(string, 1)",
    "the metatable of strings": "getmetatable('').__index = {}",
    "the metatable of a library": "setmetatable(string, {})",
    "the metatable of json.null": "setmetatable(require('json').null, {})",
    "the metatable of the event": "setmetatable(event, {})",
    "the metatable of the globals": "setmetatable(_G, {})",
    "a mark on a library": "require('json').array(string)",
}


@pytest.mark.parametrize("name", FROZEN)
def test_what_outlives_the_run_cannot_be_changed(name: str) -> None:
    result = execute(FROZEN[name])
    assert outcomes(result) == [Outcome.FAILED], result


def test_a_hook_can_use_a_name_for_itself_only() -> None:
    """Replacing a global, a library or _ENV is seen by this run alone."""
    body = """
    if event.data.n == 1 then
      print, tostring, string, _G.table = nil, nil, { upper = function() return "mine" end }, nil
      require = function() return { encode = function() return "mine" end } end
      _ENV.pcall = error
      return true, ("x"):upper() .. string.upper("x")
    end
    return true, ("x"):upper() .. string.upper("x") .. type(table) .. type(print) .. require("json").encode({})
    """
    result = execute(body, event('{"n": 1}'), event('{"n": 2}'))
    assert result.outputs == [b"Xmine", b"XXtablefunction{}"], result.errors


def test_setting_env_ends_with_the_run() -> None:
    text = (
        "count = (count or 0) + 1\nlocal seen = count\n_ENV = { error = error }\n"
        "return { execute = function() if seen ~= 1 then error('leaked') end return true end }"
    )
    assert outcomes(run(text, event(), event(), event())) == [Outcome.CONTINUE] * 3


def test_a_hook_sees_one_every_time() -> None:
    """A global, an upvalue and a field of its table are new in each run, at full chunk size."""
    text = """
    local upvalue = 0
    local hook = { field = 0 }
    function hook.execute(event)
      global = (global or 0) + 1
      upvalue = upvalue + 1
      hook.field = hook.field + 1
      _G.through_g = (_G.through_g or 0) + 1
      return true, global .. upvalue .. hook.field .. through_g
    end
    return hook
    """
    lua = runtime()
    for _ in range(2):
        result = run(text, *[event()] * 250, within=lua)
        assert outcomes(result) == [Outcome.CONTINUE] * 250
        assert set(result.outputs) == {b"1111"}


def test_globals_of_a_failed_run_do_not_reach_the_next() -> None:
    body = "local seen = leaked leaked = event leaked_co = coroutine.running() error(tostring(seen), 0)"
    result = execute(body, event(), event())
    assert [(text or b"").split(b"\n")[0] for text in result.errors] == [b"nil", b"nil"]


def test_the_event_table_is_new_in_each_run() -> None:
    body = "local seen = event.mine event.mine = 1 event.data.mine = 1 event.id = 'x' return true, tostring(seen)"
    assert execute(body, event(), event()).outputs == [b"nil", b"nil"]


def test_one_hook_cannot_poison_another() -> None:
    lua = runtime()
    execute("string.format = nil print = nil json = 1 pcall(rawset, _G, 'tostring', nil)", within=lua)
    assert execute("return true, string.format('%d', 7) .. tostring(json)", within=lua).outputs == [b"7nil"]


def test_randomseed_does_not_reach_the_next_run() -> None:
    body = "math.randomseed(42) return true, tostring(math.random(1 << 60))"
    assert len(set(execute(body, event(), event(), event()).outputs)) == 3


def test_large_patterns_are_not_kept() -> None:
    """What outlives a run is bounded: pattern after pattern leaves the memory as it was."""
    lua = runtime()
    body = "for i = 1, 400 do ('x'):find(('y'):rep(20000) .. i .. '.') end"
    assert outcomes(execute(body, within=lua, timeout=60)) == [Outcome.CONTINUE]
    lua._lua.gccollect()
    assert lua.memory_used < 1024 * 1024


def test_many_sources_are_not_kept() -> None:
    lua = runtime()
    for first in range(0, 3000, 500):
        events = [event('{"a": 1}', source="s" * 200 + str(first + n)) for n in range(500)]
        execute("local _ = event.data.x", *events, within=lua)
    lua._lua.gccollect()
    assert lua.memory_used < 1024 * 1024


PYTHON = {
    "a function of the bridge": "time.now",
    "a caught error": "select(2, pcall(time.sleep, 'x'))",
    "an error of a module": "select(2, pcall(event.dispatch, 1))",
    "an error of json": "select(2, json.decode('{'))",
    "a return value": "event.dispatch",
    "a coroutine's error": "select(2, coroutine.resume(coroutine.create(function() time.sleep(-1) end)))",
}


@pytest.mark.parametrize("name", PYTHON)
def test_no_python_object_is_reached(name: str) -> None:
    body = (
        "local event, json, time = require('event'), require('json'), require('time')"
        f" local x = {PYTHON[name]} assert(type(x) ~= 'userdata', 'userdata')"
        " local ok, globals = pcall(function() return x.__globals__ or x.__class__ or x.__self__ end)"
        " return true, tostring(ok and globals ~= nil)"
    )
    assert output(execute(body)) == "false"


def test_bytecode_is_refused() -> None:
    result = run("\x1bLua")
    assert outcomes(result) == [Outcome.REFUSED]
    assert "attempt to load a binary chunk (mode is 't')" in error(result)


def test_a_module_that_the_text_does_not_name_is_refused() -> None:
    """What a hook is follows from its text: a computed name would make an effectful hook look pure."""
    reason = error(execute("require('ti' .. 'me').sleep(1)"))
    assert "the hook's text does not name the module time" in reason
    assert "the hook's text does not name the module os" in error(execute("require('o' .. 's')"))


def test_a_pure_run_cannot_sleep() -> None:
    """Sleep under a computed name: the hook counts as pure, and must not hold its transaction open."""
    reason = error(execute("require('time')['sl' .. 'eep'](5)"))
    assert "time.sleep must stand in the hook's text by that name" in reason


def test_yielding_outside_a_coroutine_fails_that_run() -> None:
    body = "if event.data.n == 1 then coroutine.yield('x') end return true"
    result = execute(body, event('{"n": 1}'), event())
    assert outcomes(result) == [Outcome.FAILED, Outcome.CONTINUE]
    assert result.errors[0] == b"attempt to yield from outside a coroutine"


def test_resuming_the_runner_is_refused() -> None:
    body = """
    local server = coroutine.running()
    local inner = coroutine.wrap(function()
      local _, reason = coroutine.resume(server)
      assert(not pcall(coroutine.close, server))
      return reason
    end)
    return true, tostring((inner()))
    """
    assert output(execute(body)) == "cannot resume non-suspended coroutine"


# What PostgreSQL cannot store.

UNSTORABLE = {
    "NUL in the message": "return true, 'a\\0b'",
    "NUL in print": "print('a\\0b')",
    "NUL in a log line": "require('log').info('a\\0b')",
    "bytes that are no text": "print('\\xff\\xfe')",
    "half a surrogate pair": "print('\\xed\\xa0\\x80')",
    "an overlong form": "print('\\xc0\\x80')",
    "past Unicode's end": "print('\\xf7\\xbf\\xbf\\xbf')",
}


@pytest.mark.parametrize("name", UNSTORABLE)
def test_an_output_that_cannot_be_stored_fails_its_run_alone(name: str) -> None:
    result = execute(f"if event.data.n == 1 then {UNSTORABLE[name]} end", event('{"n": 1}'), event())
    assert outcomes(result) == [Outcome.FAILED, Outcome.CONTINUE]
    assert result.errors[0] == b"the output is not text: it holds a NUL byte or is not UTF-8"
    assert result.outputs == [None, None]


@pytest.mark.parametrize(
    ("end", "outcome", "reason"),
    [
        ("while true do end", Outcome.TIMEOUT, "the run took longer than it may"),
        ("local s = 'x' while true do s = s .. s end", Outcome.MEMORY, "not enough memory"),
        ("error('the reason', 0)", Outcome.FAILED, "the reason"),
        ("return false, 'the reason'", Outcome.FAILED, "the reason"),
        ("return {}", Outcome.REFUSED, "the hook returned a table"),
    ],
)
def test_an_output_that_cannot_be_stored_hides_no_other_failure(end: str, outcome: Outcome, reason: str) -> None:
    result = execute(f"print('\\xff') {end}", timeout=0.2 if outcome == Outcome.TIMEOUT else 5.0)
    assert outcomes(result) == [outcome]
    assert reason in error(result)
    assert result.outputs == [None]


@pytest.mark.parametrize("raised", ["error('a\\0b\\xff', 0)", "return false, 'a\\0b\\xff'"])
def test_an_error_is_stored_whatever_it_holds(raised: str) -> None:
    assert error(execute(raised)).startswith("a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}")


ERROR_VALUES = {
    "a table": ("error({})", "a table was raised"),
    "a table whose __tostring loops": (
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
        "a table was raised",
    ),
    "nothing": ("error()", "a nil was raised"),
    "a number": ("error(7)", "7"),
    "a function": ("error(print)", "a function was raised"),
    "megabytes": ("error(('x'):rep(13000000), 0)", "x" * 1000),
}


@pytest.mark.parametrize("name", ERROR_VALUES)
def test_any_value_can_be_raised(name: str) -> None:
    body, reason = ERROR_VALUES[name]
    text = error(execute(body))
    assert text.startswith(reason)
    assert len(text) < 20_000


def test_output_past_its_limit_is_cut_between_characters() -> None:
    result = execute("for i = 1, 100000 do print('x' .. ('ä'):rep(50)) end return true, 'the end'")
    assert outcomes(result) == [Outcome.CONTINUE]
    text = (result.outputs[0] or b"").decode()
    assert text.endswith("\n[output cut at 65536 bytes]")
    assert 65_000 < len(text.encode()) < 66_000


@pytest.mark.parametrize("printed", ["('ä'):rep(40000)", "'x' .. ('\N{GRINNING FACE}'):rep(20000)"])
def test_one_line_past_the_limit_is_cut_between_characters(printed: str) -> None:
    text = output(execute(f"print({printed})"))
    assert text.endswith("\n[output cut at 65536 bytes]")
    assert len(text.encode()) <= 65_536 + 40


# Memory.

FULL = {
    "a table": "local t = {} while true do t[#t + 1] = {} end",
    "a doubled string": "local s = 'x' while true do s = s .. s end",
    "table.concat": "local t = {} for i = 1, 100 do t[i] = ('x'):rep(1e6) end return true, table.concat(t)",
    "string.format": "local s = ('x'):rep(9e6) return true, string.format('%s%s%s%s', s, s, s, s)",
    "string.pack": "return true, string.pack('c2000000000', 'x')",
    "coroutines": "local t = {} while true do t[#t + 1] = coroutine.create(print) end",
    "closures": "local t = {} while true do t[#t + 1] = function() return t end end",
    "__index of table.concat": (
        "table.concat(setmetatable({}, { __index = function() return 'x' end, __len = function() return 1 << 60 end }))"
    ),
    "gsub": "return true, ('x'):rep(16e6):gsub('x', ('y'):rep(1000))",
    "json.encode": "local t = {} for i = 1, 100 do t[i] = ('x'):rep(1e6) end require('json').encode(t)",
}


@pytest.mark.parametrize("name", FULL)
def test_memory_ends_the_run_alone(name: str) -> None:
    """The run before it keeps its result; those after it run in a new runtime."""
    result = execute(f"if event.data.n == 1 then {FULL[name]} end", event(), event('{"n": 1}'), event(), timeout=30)
    assert outcomes(result) == [Outcome.CONTINUE, Outcome.MEMORY]
    assert result.errors == [
        None,
        b"not enough memory: one run may take 32 MB (HOOK_MEMORY_MB), all together HOOK_MEMORY_TOTAL_MB",
    ]


_FILL = "pcall(function() for _ = 1, 100 do t[#t + 1] = {} end end)"

HOARDS = {
    "a global": f"big = {{}} local t = big while {_FILL} do end",
    "the event": f"event.mine = {{}} local t = event.mine while {_FILL} do end",
    "the payload": f"local t = event.data while {_FILL} do end",
    "a dead coroutine": (
        f"co = coroutine.create(function() local t = {{}} while {_FILL} do end coroutine.yield() end)"
        " coroutine.resume(co)"
    ),
}


@pytest.mark.parametrize("name", HOARDS)
def test_a_full_heap_is_no_trouble_for_the_next_run(name: str) -> None:
    """A hook that swallows the failure and keeps all it has: what follows has room, in the processor too."""
    lua = runtime()
    body = f"if event.data.n == 1 then {HOARDS[name]} return true, 'full' end return true, ('x'):rep(100000):sub(1, 3)"
    result = execute(body, event('{"n": 1}'), event(), event('{"n": 1}'), within=lua, timeout=30)
    assert result.outputs == [b"full", b"xxx", b"full"], result.errors
    assert lua.memory_used < 4 * 1024 * 1024


_LISTS = "local json = require('json') local t = {} for i = 1, 200000 do t[i] = json.array({}) end"


def test_what_a_run_left_behind_is_no_trouble_for_the_hooks_after_it() -> None:
    """Tables that outlive the run stay as large as it made them."""
    runs = HookRunner(MEMORY, MAX_PAYLOAD, MemoryBudget(2 * MEMORY, MEMORY), library())
    for body in (f"{_LISTS} return true", "return true, tostring(collectgarbage('count') < 1024)"):
        code = program(f"return {{ execute = function() {body} end }}", "hook")
        result = runs(Hook(1, "hook", code), [row()], threading.Event())
        assert outcomes(result) == [Outcome.CONTINUE], result.errors
    assert result.outputs == [b"true"]


def test_a_runtime_is_spent_by_what_stays_only() -> None:
    """Neither by garbage nor by what is compiled, which would be compiled again."""
    lua = runtime()
    execute("local t = {} for i = 1, 100000 do t[i] = {} end", within=lua)
    assert not lua.is_spent
    libraries = {name: f"return {{ {''.join(f'{name}{i}={i}.5,' for i in range(18000))} }}" for name in ("a", "b", "c")}
    named = "".join(f"local function {name}() return require('lib.{name}') end " for name in libraries)
    large = program(f"{named} return {{ execute = function() end }}", "hook", libraries=libraries)
    assert outcomes(lua.run(large, 5, [event()], threading.Event())) == [Outcome.CONTINUE]
    assert lua.memory_used > 4 * 1024 * 1024
    assert not lua.is_spent
    execute(_LISTS, within=lua)
    assert lua.is_spent


@pytest.mark.parametrize("name", HOARDS)
def test_a_full_heap_makes_no_other_failure_of_a_timeout(name: str) -> None:
    """To say where a run stood takes memory; it goes without when there is none."""
    result = execute(f"{HOARDS[name]} while true do end", timeout=1)
    assert outcomes(result) == [Outcome.TIMEOUT]
    assert error(result).startswith("the run took longer than it may")


def test_a_chunk_larger_than_the_memory_runs_in_parts() -> None:
    large = event('{"s": "' + "x" * 99_000 + '"}')
    lua, left, parts = runtime(), [large] * 500, 0
    while left:
        result = execute("return true, tostring(#event.data.s)", *left, within=lua, timeout=30)
        assert set(outcomes(result)) == {Outcome.CONTINUE}
        left = left[len(result.codes) :]
        parts += 1
    assert parts > 1


def test_one_event_larger_than_the_memory_fails_alone() -> None:
    result = execute("return true", event('{"s": "' + "x" * 700_000 + '"}'), event(), within=runtime(1024 * 1024))
    assert outcomes(result) == [Outcome.MEMORY]


def test_what_all_runs_print_and_dispatch_is_bounded() -> None:
    """Results wait in Lua's memory: a chunk ends early when they are many."""
    result = execute("print(('x'):rep(60000))", *[event()] * 1000, timeout=30)
    assert set(outcomes(result)) == {Outcome.CONTINUE}
    assert 1 < len(result.codes) < 400
    body = "local e = require('event') for _ = 1, 200 do e.dispatch('a.b', { s = ('x'):rep(90000) }) end"
    assert "bytes of data in one run" in error(execute(body))


@pytest.mark.parametrize("length", range(65533, 65540))
@pytest.mark.parametrize(
    "body",
    ["print(('x'):rep({}))", "return true, ('x'):rep({})", "print('y') return true, ('x'):rep({} - 2)"],
    ids=["printed", "returned", "printed and returned"],
)
def test_attack_output_just_at_its_limit(body: str, length: int) -> None:
    """It once failed every run of its chunk, and left what it had dispatched to the next hook's."""
    lua = runtime()
    result = execute(f"event.dispatch('a.b', {{}}) {body.format(length)}", event(), event(), within=lua)
    assert outcomes(result) == [Outcome.CONTINUE] * 2
    assert len(result.dispatched) == 2
    assert not execute("", event(), within=lua).dispatched
