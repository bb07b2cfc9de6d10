"""Attacks by C functions that nothing interrupts: each ends at its deadline, or is refused before it starts."""

from __future__ import annotations

import time

import pytest
from chunks import error, execute, outcomes

from hook_event_processor.event import Outcome

_TIMEOUT = 0.5
_BEYOND = 10.0  # seconds of this process, whatever else the machine does
_CHAIN = "local t = {} for _ = 1, 1900 do t = setmetatable({}, { __index = t }) end "

TIMEOUTS = {
    "coroutines that end before their first check": (
        "local function tree(d) if d > 0 then for _ = 1, 15 do coroutine.wrap(tree)(d - 1) end end end tree(9)"
    ),
    "coroutines that were made early, each with megabytes": (
        "local s, all = nil, {} for i = 1, 50 do all[i] = coroutine.create(function()"
        " for _ = 1, 60 do local _ = s < s .. 'x' end end) end"
        " s = '\\0' while #s < 1000000 do s = s .. s end for i = 1, 50 do coroutine.resume(all[i]) end"
        " while true do end"
    ),
    "comparisons of NULs": (
        "local a, b = ('\\0'):rep(3000000) .. 'a', ('\\0'):rep(3000000) .. 'b' while true do local _ = a < b end"
    ),
    "numbers of megabytes": "local s = ('1'):rep(16000000) while true do local _ = s + 0 end",
    "table.unpack through a chain": f"{_CHAIN} while true do table.unpack(t, 1, 900000) end",
    "table.move through a chain": f"{_CHAIN} while true do table.move(t, 1, 900000, 1, {{}}) end",
    "table.move into a chain": (
        "local t = {} for _ = 1, 1900 do t = setmetatable({}, { __newindex = t }) end"
        " local s = {} for i = 1, 200000 do s[i] = i end while true do table.move(s, 1, 200000, 1, t) end"
    ),
    "gsub through a chain": f"{_CHAIN} ('x'):rep(4000000):gsub('x', t)",
    # Empty matches, and escapes that stand for nothing: the result does not grow.
    "a long replacement, again and again": (
        "local s, r = ('a'):rep(2400), ('%0'):rep(200000); ('x'):gsub('b*', '')"
        " coroutine.wrap(function() while true do s:gsub('b*', r) end end)()"
    ),
    "a long replacement in a number, again and again": (
        "local r = ('%0'):rep(7000000); ('x'):gsub('b*', '')"
        " coroutine.wrap(function() while true do string.gsub(1 / 3, 'b*', r) end end)()"
    ),
    "string.packsize of megabytes": (
        "local f = 'b' while #f < 8000000 do f = f .. f end while true do string.packsize(f) end"
    ),
    "string.pack of megabytes of spaces": "local f = (' '):rep(16000000) while true do string.pack(f) end",
    "string.unpack of megabytes of spaces": (
        "local f = ' ' while #f < 16000000 do f = f .. f end"
        " coroutine.wrap(function() while true do string.unpack(f, '') end end)()"
    ),
    "string.pack that pads": "while true do string.pack('c10000000', 'x') end",
    "string.format of megabytes": "local f = ('x'):rep(9000000) while true do string.format(f) end",
    "a short subject, costly, again and again": (
        # Known already, the pattern takes few instructions; and a coroutine begins with all of them left.
        "local s = ('a'):rep(1150); ('x'):find('.-.-b')"
        " coroutine.wrap(function() while true do s:find('.-.-b') end end)()"
    ),
    "gmatch that was made early": (
        "local all = {} for i = 1, 400 do all[i] = ('a'):rep(1000):gmatch('.-.-b') end for i = 1, 400 do all[i]() end"
        " while true do end"
    ),
    "strings, sorted by C alone": (
        "local t = {} for i = 1, 20000 do t[i] = ('\\0'):rep(200) .. i * 7919 % 20000 end"
        " while true do table.sort(t) end"
    ),
    # Behind the sort there is no memory left, if it comes to an end.
    "fields of a log line, sorted by C alone": (
        "local p, i = ('\\0'):rep(300), 0"
        " local function each() i = i + 1 if i <= 60000 then return p, i * 7919 % 60000 end end"
        " require('log').info('x', setmetatable({}, { __pairs = function() return each end }))"
    ),
    "utf8.len of megabytes": "local s = ('x'):rep(16000000) while true do utf8.len(s) end",
    "utf8.offset in megabytes": "local s = ('x'):rep(16000000) while true do utf8.offset(s, 16000000) end",
    "tonumber of megabytes": "local s = ('1'):rep(16000000) while true do tonumber(s, 10) end",
    "case of megabytes": "local s = ('x'):rep(9000000) while true do s:upper() end",
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_it_ends_at_its_deadline(name: str) -> None:
    started = time.process_time()
    result = execute(TIMEOUTS[name], timeout=_TIMEOUT)
    assert outcomes(result) == [Outcome.TIMEOUT], result
    assert time.process_time() - started < _TIMEOUT + _BEYOND


_MANY = "local s, t, f = ('x'):rep(8000000), {}, ('%.0s'):rep(100000)"

REFUSED = {
    "many arguments of megabytes": (
        f"{_MANY} for i = 1, 100000 do t[i] = s end string.format(f, table.unpack(t))",
        "string.format: more than",
    ),
    "many arguments of megabytes behind a nil": (
        f"{_MANY} for i = 2, 100000 do t[i] = s end string.format(f, table.unpack(t, 1, 100000))",
        "string.format: more than",
    ),
    "a long pattern without quantifiers": (
        "('a'):rep(1900000):match(('a'):rep(60000) .. 'b')",
        "string.match: the pattern could take long",
    ),
    "a stretch of letters behind a gap": (
        "('a'):rep(44000):find('.-' .. ('a'):rep(97) .. 'b')",
        "string.find: the pattern could take long",
    ),
    "a large set": (
        "('a'):rep(1900000):find('[' .. ('b'):rep(60000) .. ']')",
        "string.find: the pattern could take long",
    ),
    "a large frontier": ("('a'):rep(1900000):find('%f[' .. ('b'):rep(60000) .. ']')", "the pattern could take long"),
    "a replacement of megabytes": (
        "(('a'):rep(12e6)):gsub('b*', ('%0'):rep(4e6))",
        "hook.lua:3: string.gsub: a replacement of 8000000 bytes with % could take long on 12000000 bytes",
    ),
    "a replacement of megabytes, so many times": (
        "(('a'):rep(12e6)):gsub('()b*', ('%0'):rep(4e6), 1e6)",
        "string.gsub: a replacement of 8000000 bytes",
    ),
    "json of a table in itself": (
        "local t = {} t.t = t require('json').encode(t)",
        "json.encode: nested deeper than 1024, or in itself",
    ),
    "deep JSON": (
        "local _, reason = require('json').decode(('{\"a\":'):rep(100000)) error(reason)",
        "nested deeper than 1024",
    ),
    "a pattern of megabytes": ("('a'):find('[' .. ('b'):rep(9000000) .. ']')", "the pattern could take long"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str) -> None:
    body, reason = REFUSED[name]
    assert reason in error(execute(body, timeout=20))


@pytest.mark.parametrize(
    "call",
    [
        "assert(string.format('%s %d %q', 'a', 1, 'b') == 'a 1 \"b\"')",
        "assert(string.format(('%d'):rep(99), table.unpack({ ('1'):rep(99):byte(1, -1) })) == ('49'):rep(99))",
        "assert(table.unpack(setmetatable({ 1, 2 }, {})) == 1)",
        "assert(select('#', table.unpack(setmetatable({}, { __len = function() return 3 end }))) == 3)",
        "local t = table.move(setmetatable({ 1, 2, 3 }, {}), 1, 3, 2) assert(table.concat(t) == '1123')",
        "local t = table.move(setmetatable({ 1, 2, 3 }, {}), 2, 3, 1) assert(table.concat(t) == '233')",
        "local t = table.move({ 1, 2 }, 1, 2, 2, setmetatable({}, {})) assert(t[2] == 1 and t[3] == 2)",
        "assert(not pcall(table.move, setmetatable({}, {}), 1, 'x', 1))",
        "assert(('xy'):gsub('%a', setmetatable({}, { __index = function(_, k) return k .. k end })) == 'xxyy')",
        "assert(('x'):rep(1000000):gsub('x', '%0%%') == ('x%'):rep(1000000))",
        "assert(('x'):rep(100000):gsub('^x', ('%%'):rep(50000)) == ('%'):rep(50000) .. ('x'):rep(99999))",
        "assert(#('x'):rep(2000000):gsub('x', ('%%'):rep(50000), 2) == 2099998)",
        "assert(#('x'):rep(2000000):gsub('x', ('y'):rep(500), '3') == 2001497)",
        "assert(string.gsub(5, '^5', '%06') == '56' and not pcall(string.gsub, 'x', 'x', 'y', {}))",
        "local n = 0 for w in ('word '):rep(8000):gmatch('(%a+)%s') do n = n + #w end assert(n == 32000)",
        "assert(tonumber('10') == 10 and tonumber('ff', 16) == 255 and tonumber('x') == nil)",
        "assert(utf8.len('äö') == 2 and utf8.offset('äö', 2) == 3 and utf8.codepoint('ä') == 228)",
        "assert(string.unpack('<i4', string.pack('<i4', 7)) == 7 and string.packsize('i4i4') == 8)",
        "assert(('2024-05-06'):match('^(%d%d%d%d)-(%d%d)-(%d%d)$') == '2024')",
        "assert(('THE (quick) fox'):find('%f[%a]%a+%f[%A]') == 1)",
    ],
)
def test_ordinary_calls_are_not(call: str) -> None:
    assert outcomes(execute(call)) == [Outcome.CONTINUE], execute(call).errors
