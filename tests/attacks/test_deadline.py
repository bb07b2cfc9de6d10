"""Attacks on the deadline: each must end as a timeout, soon after its time is up."""

from __future__ import annotations

import threading
import time

import pytest
from chunks import error, event, execute, outcomes, run, runtime

from hook_event_processor.event import Outcome
from hook_event_processor.lua.loader import program

_TIMEOUT = 0.3

# Runs f where C's stack has room for `n` calls less than the 200 that it has.
_DEEP = "local function deep(n, f) if n == 0 then return f() end return pcall(deep, n - 1, f) end "
_CLOSES_FOR_EVER = "setmetatable({}, { __close = function() while true do end end })"

TIMEOUTS = {
    "a loop": "while true do end",
    "pcall swallows the error": "while true do pcall(function() while true do end end) end",
    "pcall of pcall": "while true do pcall(pcall, function() while true do end end) end",
    "xpcall swallows the error": "while true do xpcall(function() while true do end end, function() end) end",
    "the handler of xpcall does not return": "xpcall(error, function() while true do end end)",
    "the handler of xpcall is called for the deadline": (
        "xpcall(function() while true do end end, function() while true do end end)"
    ),
    "handlers of xpcall raise for ever": "local function h(e) error(e) end while true do xpcall(error, h, 'x') end",
    "a coroutine by create": "coroutine.resume(coroutine.create(function() while true do end end))",
    "resume swallows the error": (
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end"
    ),
    "a coroutine by wrap": "coroutine.wrap(function() while true do end end)()",
    "pcall of a wrap": "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "coroutines in coroutines": "local function f() return coroutine.wrap(f)() end while true do pcall(f) end",
    "coroutines by the million": "while true do coroutine.wrap(function() coroutine.yield() end)() end",
    "coroutine.close runs __close": (
        f"local co = coroutine.create(function() local x <close> = {_CLOSES_FOR_EVER} coroutine.yield() end)"
        " coroutine.resume(co) coroutine.close(co)"
    ),
    "coroutine.close swallows the error": (
        f"while true do local co = coroutine.create(function() local x <close> = {_CLOSES_FOR_EVER}"
        " coroutine.yield() end) coroutine.resume(co) coroutine.close(co) end"
    ),
    "__close after an error": f"pcall(function() local x <close> = {_CLOSES_FOR_EVER} error('x') end)",
    "__close after the deadline": f"pcall(function() local x <close> = {_CLOSES_FOR_EVER} while true do end end)",
    "__close a hundred times": (
        f"local function f(n) local x <close> = {_CLOSES_FOR_EVER} if n > 0 then f(n - 1) end error('x') end"
        " while true do pcall(f, 100) end"
    ),
    "a comparator of sort": "table.sort({3, 2, 1}, function() while true do end end)",
    "__lt in sort": (
        "local m = { __lt = function() while true do end end } table.sort({ setmetatable({}, m), setmetatable({}, m) })"
    ),
    "the replacement of gsub": "('x'):gsub('x', function() while true do end end)",
    "__index of gsub's replacement": (
        "('x'):gsub('x', setmetatable({}, { __index = function() while true do end end }))"
    ),
    "__pairs without an end": (
        "for _ in pairs(setmetatable({}, { __pairs = function() return function() return 1 end end })) do end"
    ),
    "__tostring in print": "print(setmetatable({}, { __tostring = function() while true do end end }))",
    "__tostring in string.format": (
        "string.format('%s', setmetatable({}, { __tostring = function() while true do end end }))"
    ),
    "__index in json.encode": (
        "require('json').encode(setmetatable({1, 2}, { __len = function() while true do end end }))"
        " while true do require('json').decode('[1]') end"
    ),
    "__pairs of log fields": (
        "require('log').info('x', setmetatable({}, { __pairs = function() while true do end end }))"
    ),
    "__pairs of dispatch options": (
        "require('event').dispatch('a.b', {}, setmetatable({}, { __pairs = function() while true do end end }))"
    ),
    "tail calls": "local function f() return f() end f()",
    "recursion to the end of the stack": "local function f() return 1 + f() end while true do pcall(f) end",
    "a deep chain of __index": (
        "local t = {} for _ = 1, 1900 do t = setmetatable({}, { __index = t }) end while true do local _ = t.x end"
    ),
    "no room on C's stack for the check": (
        _DEEP + "local function spin() while true do end end"
        " deep(REST, function() while true do pcall(spin) end end) while true do end"
    ),
    "no room on C's stack, again and again": (
        _DEEP + "local function spin() while true do end end while true do deep(REST, spin) end"
    ),
    "no room on C's stack, in a coroutine": (
        _DEEP + "local function spin() while true do end end"
        " deep(REST, function() while true do coroutine.resume(coroutine.create(spin)) end end) while true do end"
    ),
    "no room on C's stack, in xpcall": (
        _DEEP + "local function spin() while true do end end"
        " deep(REST, function() xpcall(spin, function() while true do end end) end)"
        " while true do end"
    ),
    "a coroutine that died in its check is closed": (
        _DEEP + "local co local function make() co = coroutine.create(function()"
        f" local x <close> = {_CLOSES_FOR_EVER} while true do end end) coroutine.resume(co) end"
        " deep(REST, make) if co then coroutine.close(co) end while true do end"
    ),
    "a coroutine that was made early and died in its check is closed": (
        _DEEP + f"local c = {_CLOSES_FOR_EVER}"
        " local co = coroutine.create(function() local x <close> = c while true do end end)"
        " deep(REST, function() coroutine.resume(co) end) coroutine.close(co) while true do end"
    ),
    "copies of megabytes": "local s = ('x'):rep(7000000) while true do local _ = s .. 'y' end",
    "comparisons of megabytes": (
        "local a, b = ('x'):rep(7000000) .. 'a', ('x'):rep(7000000) .. 'a' while true do local _ = a == b end"
    ),
    "searches in megabytes": "local s = ('x'):rep(16000000) while true do s:gsub('[^x][^x]', '') end",
    "case of megabytes": "local s = ('x'):rep(8000000) while true do s:upper() end",
    "megabytes as keys": "local s = ('x'):rep(4000000) while true do local _ = { [s .. 'y'] = 1 } end",
    "concat of a large table": ("local t = {} for i = 1, 500000 do t[i] = 'x' end while true do table.concat(t) end"),
    "insert at the front of a large table": (
        "local t = {} for i = 1, 500000 do t[i] = i end while true do table.insert(t, 1, 0) table.remove(t, 1) end"
    ),
    "next on an emptied table": (
        "local t = {} for i = 1, 500000 do t[i] = i end for i = 1, 500000 do t[i] = nil end while true do next(t) end"
    ),
    "json of megabytes": "local s = '[' .. ('1,'):rep(1000000) .. '1]' while true do require('json').decode(s) end",
    "allocations in a full heap": (
        "local t = {} while pcall(function() for _ = 1, 100 do t[#t + 1] = {} end end) do end"
        " while true do pcall(function() local s = {} for i = 1, 50 do s[i] = {} end end) end"
    ),
    "__len that grows, in insert": (
        "local n = 0 local t = setmetatable({}, { __len = function() n = n + 1 return n > 1 and 1 << 60 or 1 end })"
        " table.insert(t, 1, 1) table.insert(t, 1, 1)"
    ),
    "__len that grows, in remove": (
        "local n = 0 local t = setmetatable({}, { __len = function() n = n + 1 return n > 1 and 1 << 60 or 1 end })"
        " table.remove(t, 1) table.remove(t, 1)"
    ),
    "__len without an end, in sort": (
        "table.sort(setmetatable({}, { __len = function() return (1 << 31) - 2 end }), function() return false end)"
    ),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_it_ends_at_its_deadline(name: str) -> None:
    body = TIMEOUTS[name]
    # Which depth leaves no room for the check alone depends on Lua's version: all of the last are tried.
    for rest in range(190, 200) if "REST" in body else [0]:
        started = time.process_time()
        result = execute(body.replace("REST", str(rest)), timeout=_TIMEOUT)
        assert outcomes(result) == [Outcome.TIMEOUT], result
        assert time.process_time() - started < _TIMEOUT + 5


def test_the_deadline_is_each_runs_own() -> None:
    """One that takes its whole time leaves the next as much."""
    slow = "if event.data.n == 1 then while true do end end return true"
    result = execute(slow, event(), event('{"n": 1}'), event(), timeout=_TIMEOUT)
    assert outcomes(result) == [Outcome.CONTINUE, Outcome.TIMEOUT, Outcome.CONTINUE]


def test_the_top_level_of_the_file_keeps_the_deadline() -> None:
    assert outcomes(run("while true do end", timeout=_TIMEOUT)) == [Outcome.TIMEOUT]


def test_metamethods_of_the_hooks_table_keep_the_deadline() -> None:
    endless = "return setmetatable({}, { __index = function() while true do end end })"
    assert outcomes(run(endless, timeout=_TIMEOUT)) == [Outcome.TIMEOUT]
    endless = "return setmetatable({ execute = function() end }, { __index = function() while true do end end })"
    assert outcomes(run(endless, timeout=_TIMEOUT)) == [Outcome.TIMEOUT]


def test_a_filter_keeps_the_deadline() -> None:
    hook = "return { filter = function() while true do end end, execute = function() end }"
    assert outcomes(run(hook, timeout=_TIMEOUT)) == [Outcome.TIMEOUT]


def test_what_a_run_swallowed_ends_with_it() -> None:
    """The coroutine of an expired run is gone; the runtime goes on."""
    lua = runtime()
    assert outcomes(execute("while true do pcall(error) end", timeout=_TIMEOUT, within=lua)) == [Outcome.TIMEOUT]
    assert outcomes(execute("return true", within=lua)) == [Outcome.CONTINUE]


def test_a_cancelled_chunk_ends_with_all_its_runs() -> None:
    cancelled = threading.Event()
    hook = program("return { execute = function() while true do end end }", "hook")
    thread = threading.Thread(target=runtime().run, args=(hook, 60.0, [event()] * 5, cancelled), daemon=True)
    thread.start()
    cancelled.set()
    thread.join(20)
    assert not thread.is_alive()


REFUSED = {
    "nothing, repeated for ever": ("string.rep('', 1 << 62) string.rep('', 1e15, '') error('done', 0)", "done"),
    "string.rep of gigabytes": ("string.rep('x', 1 << 40)", "string.rep would make"),
    "a separator in string.rep": ("string.rep('', 1 << 40, 'xx')", "string.rep would make"),
    "a:rep() of gigabytes": ("local s = 'x' s:rep(1e10)", "string.rep would make"),
    "a pattern with four gaps": ("('a'):rep(5000):find('.-.-.-.-b')", "the pattern could take long"),
    "the same by match": ("string.match(('a'):rep(5000), '(.-)(.-)(.-)(.-)b')", "the pattern could take long"),
    "the same by gmatch": ("for _ in ('a'):rep(5000):gmatch('.-.-.-.-b') do end", "the pattern could take long"),
    "the same by gsub": ("('a'):rep(5000):gsub('.-.-.-.-b', '')", "the pattern could take long"),
    "a leading ^ in gmatch": ("for _ in ('^'):rep(5000):gmatch('^*^*^*^*b') do end", "the pattern could take long"),
    "many question marks": ("('a'):rep(60):find(('a?'):rep(60) .. 'b')", "the pattern could take long"),
    "$ in the middle": ("('$'):rep(3000):find(('$*'):rep(20) .. 'b')", "the pattern could take long"),
    "back references": ("('a'):rep(20000):find('(.*)%1b')", "the pattern could take long"),
    "%b": ("('('):rep(100000):find('%b()')", "the pattern could take long"),
    "a long plain search": ("('a'):rep(4e6):find(('a'):rep(2e6) .. 'b', 1, true)", "the pattern could take long"),
    "a long search without signs": ("('a'):rep(4e6):find(('a'):rep(2e6) .. 'b')", "the pattern could take long"),
    "table.move of everything": ("table.move({}, 1, 1 << 60, 2)", "a range of more than"),
    "table.move around the numbers' end": ("table.move({}, -10, math.maxinteger - 20, 1, {})", "a range of more than"),
    "table.unpack of everything": ("table.unpack({}, 1, 1 << 60)", "too many results"),
    "os.date with a long format": ("os.date(('%c'):rep(300000))", "os.date: a format of more than"),
    "weak keys in chains": ("setmetatable({}, { __mode = 'k' })", "weak tables"),
    "a finalizer": ("setmetatable({}, { __gc = function() while true do end end })", "finalizers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nothing_could_interrupt_is_refused(name: str) -> None:
    body, reason = REFUSED[name]
    assert reason in error(execute(body, timeout=20))


@pytest.mark.parametrize(
    "call",
    [
        "assert(('  x  '):match('^%s*(.-)%s*$') == 'x')",
        "assert((' '):rep(40000):match('^%s*(.-)%s*$') == '')",
        "assert(('a,b'):rep(30000):gsub('[^,]+', '') == (','):rep(30000))",
        "local n = 0 for _ in ('word '):rep(20000):gmatch('%a+') do n = n + 1 end assert(n == 20000)",
        "assert(('k=v;'):rep(5000):match('(%w+)=(%w+);') == 'k')",
        "assert(('x'):rep(90000):find('y', 1, true) == nil)",
        "assert(('$5'):match('%$(%d)') == '5')",
        "assert(('f(a(b)c)'):match('%b()') == '(a(b)c)')",
        "assert(('ab'):gsub('^a', 'x') == 'xb')",
        "assert(('1.5'):find('.', 1, true) == 2 and ('a.b'):find('%.') == 2)",
        "assert(string.rep('ab', 3, '-') == 'ab-ab-ab' and string.rep('x', -1) == '' and ('x'):rep(2) == 'xx')",
        "assert(('THE (quick) fox'):find('%((%a+)%)') == 5)",
        "assert(('x'):gsub('.', { x = 'y' }) == 'y' and ('x'):gsub('.', function() return 'z' end) == 'z')",
    ],
)
def test_ordinary_calls_are_not(call: str) -> None:
    assert outcomes(execute(call)) == [Outcome.CONTINUE], execute(call).errors


@pytest.mark.parametrize(
    "calls",
    [
        "table.insert(t, 4) table.insert(t, 1, 0) return table.concat(t, ',')",
        "return table.remove(t) .. table.remove(t, 1) .. table.concat(t, ',')",
        "return tostring(table.remove(t, 4)) .. #t",
        "return table.concat(t, '-', 2, 3) .. table.concat(t, '-', 3, 2)",
        "table.sort(t, function(a, b) return a > b end) return table.concat(t)",
        "local ok = pcall(table.insert, t, 9, 1) return tostring(ok)",
        "local ok = pcall(table.remove, t, 9) return tostring(ok)",
        "local ok = pcall(table.insert, t) return tostring(ok)",
        "while #t > 0 do table.remove(t, 1) end return tostring(table.remove(t)) .. #t",
    ],
)
def test_tables_with_a_metatable_are_changed_as_others_are(calls: str) -> None:
    body = f"local function f(t) {calls} end return true, f({{1, 2, 3}}) .. '|' .. f(setmetatable({{1, 2, 3}}, {{}}))"
    result = execute(body)
    assert outcomes(result) == [Outcome.CONTINUE], result.errors
    plain, with_metatable = (result.outputs[0] or b"").decode().split("|")
    assert plain == with_metatable
