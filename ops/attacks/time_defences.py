"""The defences of time: what runs for ever meets, in Lua or in a C function that nothing interrupts."""

from __future__ import annotations

from defence import row

_DEADLINE, _LONG = "tests/attacks/test_deadline.py", "tests/attacks/test_long_calls.py"
_SANDBOX = "tests/attacks/test_sandbox.py"
_ENDS, _NONE = "test_it_ends_at_its_deadline", "test_what_nothing_could_interrupt_is_refused"
_REFUSED = "test_it_is_refused"

DEFENCES = (
    row(
        "pcall swallows the deadline",
        "sandbox.lua:after_call",
        f"{_DEADLINE}::{_ENDS}[pcall swallows the error]",
        "  if ok then refuse_expired() else look() end\n",
        "",
        ("deadline.lua", 'sethook(check, "", 1)', ""),
    ),
    row(
        "xpcall swallows the deadline",
        "sandbox.lua:after_call",
        f"{_DEADLINE}::{_ENDS}[xpcall swallows the error]",
        "  if ok then refuse_expired() else look() end\n",
        "",
        ("deadline.lua", 'sethook(check, "", 1)', ""),
    ),
    row(
        "an error handler is called for the deadline",
        "sandbox.lua:safe_xpcall",
        f"{_DEADLINE}::{_ENDS}[the handler of xpcall is called for the deadline]",
        "    if is_of_check(message) then return message end\n",
    ),
    row(
        "a coroutine runs unwatched",
        "deadline.lua:watched",
        f"{_DEADLINE}::{_ENDS}[a coroutine by create]",
        'if heavy then sethook(co, check, "", FEW) else sethook(co, light_check, "", INSTRUCTIONS) end',
    ),
    row(
        "coroutines that each end before their first check",
        "deadline.lua:glance",
        f"{_LONG}::{_ENDS}[coroutines that end before their first check]",
        "  if expired or time() ~= second then deadline.look() end\n",
    ),
    row(
        "a coroutine that died in its check is closed",
        "libraries/coroutine.lua:close",
        f"{_DEADLINE}::{_ENDS}[a coroutine that was made early and died in its check is closed]",
        '  if status(co) == "dead" then return true end\n',
    ),
    row(
        "__close runs after the deadline",
        "deadline.lua:check",
        f"{_DEADLINE}::{_ENDS}[__close after the deadline]",
        'sethook(check, "", 1)',
        "sethook()",
    ),
    row(
        "strings are sorted by C alone",
        "libraries/table.lua:sort",
        f"{_LONG}::{_ENDS}[strings, sorted by C alone]",
        "return table.sort(t, function(a, b)",
        "do return table.sort(t, before) end\n  return table.sort(t, function(a, b)",
    ),
    row(
        "fields of a log line are sorted by C alone",
        "modules/log.lua:with_fields",
        f"{_LONG}::{_ENDS}[fields of a log line, sorted by C alone]",
        "sort(parts, before)",
        "sort(parts)",
    ),
    row(
        "megabytes in every instruction",
        "deadline.lua:check",
        f"{_LONG}::{_ENDS}[comparisons of NULs]",
        "FEW <const> = 1000, 100",
        "FEW <const> = 1000, 1000",
    ),
    row(
        "an error's __tostring loops outside the run",
        "runner.lua:readable",
        f"{_SANDBOX}::test_any_value_can_be_raised[a table whose __tostring loops]",
        "return math_type(message) and tostring(message)",
        "return tostring(message)",
    ),
    row(
        "string.rep of gigabytes",
        "libraries/string.lua:rep",
        f"{_DEADLINE}::{_NONE}[string.rep of gigabytes]",
        "if size > MAX_STRING then",
        "if false then",
    ),
    row(
        "nothing, repeated 2^62 times",
        "libraries/string.lua:rep",
        f"{_DEADLINE}::{_NONE}[nothing, repeated for ever]",
        "if one == 0 and tonumber(n)",
        "if false and tonumber(n)",
    ),
    row(
        "a pattern that backtracks for hours",
        "libraries/string.lua:bound",
        f"{_DEADLINE}::{_NONE}[a pattern with four gaps]",
        "if #subject > limits.longest then",
        "if false then",
    ),
    row(
        "a pattern's letters that are not counted",
        "libraries/patterns.lua:cost",
        f"{_LONG}::{_REFUSED}[a stretch of letters behind a gap]",
        "if bytes > BYTES_A_STEP then",
        "if false then",
    ),
    row(
        "a set of kilobytes in a pattern",
        "libraries/patterns.lua:parse",
        f"{_LONG}::{_REFUSED}[a large set]",
        'c == "[" and stop - i or quantifier and 0 or 1',
        "quantifier and 0 or 1",
    ),
    row(
        "a plain search for megabytes",
        "libraries/string.lua:find",
        f"{_DEADLINE}::{_NONE}[a long plain search]",
        "if #subject * #pattern > MAX_COMPARED then",
        "if false then",
    ),
    row(
        "costly patterns between two checks",
        "libraries/string.lua:bound",
        f"{_LONG}::{_ENDS}[a short subject, costly, again and again]",
        "  if slow then look() end\n",
    ),
    row(
        "gmatch that was made before",
        "libraries/string.lua:gmatch",
        f"{_LONG}::{_ENDS}[gmatch that was made early]",
        "if not slow then return following end",
        "if true then return following end",
    ),
    row(
        "gsub's table leads through a thousand others",
        "libraries/string.lua:gsub",
        f"{_LONG}::{_ENDS}[gsub through a chain]",
        'kind == "table" and getmetatable(by) ~= nil then',
        "false then",
    ),
    row(
        "a replacement of megabytes for each empty match",
        "libraries/string.lua:bound_replacement",
        f"{_LONG}::{_REFUSED}[a replacement of megabytes]",
        "if #by * matches > MAX_REPLACED and",
        "if false and",
    ),
    row(
        "long replacements between two checks",
        "libraries/string.lua:gsub",
        f"{_LONG}::{_ENDS}[a long replacement, again and again]",
        "(size + 1) > FEW_REPLACED then",
        "(size + 1) > MAX_REPLACED then",
    ),
    row(
        "string.format reads megabytes for each %.0s",
        "libraries/string.lua:format",
        f"{_LONG}::{_REFUSED}[many arguments of megabytes]",
        "  if count > FEW_ARGUMENTS then check_arguments(...) end\n",
    ),
    row(
        "string.unpack of megabytes of format",
        "deadline.lua:by_size",
        f"{_LONG}::{_ENDS}[string.unpack of megabytes of spaces]",
        '    if type(s) == "string" and #s > LONG then deadline.look() end\n',
    ),
    row(
        "a __len that grows, in table.insert",
        "libraries/table.lua:insert",
        f"{_DEADLINE}::{_ENDS}[__len that grows, in insert]",
        "if is_plain(t) then return table.insert",
        "if true then return table.insert",
    ),
    row(
        "table.unpack through a thousand tables",
        "libraries/table.lua:unpack",
        f"{_LONG}::{_ENDS}[table.unpack through a chain]",
        "if is_plain(t) then return table.unpack",
        "if true then return table.unpack",
    ),
    row(
        "table.move through a thousand tables",
        "libraries/table.lua:move",
        f"{_LONG}::{_ENDS}[table.move through a chain]",
        "if is_plain(a) and is_plain((select(2, ...))) then",
        "if true then",
    ),
    row(
        "table.move of 2^60 items",
        "libraries/table.lua:move",
        f"{_DEADLINE}::{_NONE}[table.move of everything]",
        "if range > MAX_RANGE then",
        "if false then",
    ),
)
