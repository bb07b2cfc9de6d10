"""The defences of the runtime: what an attack on time, memory, libraries or Python meets."""

from __future__ import annotations

from defence import row as _row

_DEADLINE, _LONG, _META, _SANDBOX = (
    f"tests/attacks/test_{name}.py" for name in ("deadline", "long_calls", "metatables", "sandbox")
)
_ENDS, _NONE = "test_it_ends_at_its_deadline", "test_what_nothing_could_interrupt_is_refused"
_REFUSED, _ABSENT = "test_it_is_refused", "test_what_leaves_the_sandbox_is_not_there"
_FROZEN, _LINE = "test_what_outlives_the_run_cannot_be_changed", "test_it_is_refused_at_the_hooks_line"

_OWN_METATABLES = (
    "function metatables.set(t, metatable)\n",
    "function metatables.set(t, metatable)\n  do return setmetatable(t, metatable) end\n",
)

DEFENCES = (
    # The deadline.
    _row(
        "pcall swallows the deadline",
        "sandbox.lua:after_call",
        f"{_DEADLINE}::{_ENDS}[pcall swallows the error]",
        "  if ok then refuse_expired() else look() end\n",
        "",
        ("deadline.lua", 'sethook(check, "", 1)', ""),
    ),
    _row(
        "xpcall swallows the deadline",
        "sandbox.lua:after_call",
        f"{_DEADLINE}::{_ENDS}[xpcall swallows the error]",
        "  if ok then refuse_expired() else look() end\n",
        "",
        ("deadline.lua", 'sethook(check, "", 1)', ""),
    ),
    _row(
        "an error handler is called for the deadline",
        "sandbox.lua:safe_xpcall",
        f"{_DEADLINE}::{_ENDS}[the handler of xpcall is called for the deadline]",
        "    if is_of_check(message) then return message end\n",
    ),
    _row(
        "a coroutine runs unwatched",
        "deadline.lua:watched",
        f"{_DEADLINE}::{_ENDS}[a coroutine by create]",
        'if heavy then sethook(co, check, "", FEW) else sethook(co, light_check, "", INSTRUCTIONS) end',
    ),
    _row(
        "coroutines that each end before their first check",
        "deadline.lua:glance",
        f"{_LONG}::{_ENDS}[coroutines that end before their first check]",
        "  if expired or time() ~= second then deadline.look() end\n",
    ),
    _row(
        "a coroutine that died in its check is closed",
        "libraries/coroutine.lua:close",
        f"{_DEADLINE}::{_ENDS}[a coroutine that was made early and died in its check is closed]",
        '  if status(co) == "dead" then return true end\n',
    ),
    _row(
        "__close runs after the deadline",
        "deadline.lua:check",
        f"{_DEADLINE}::{_ENDS}[__close after the deadline]",
        'sethook(check, "", 1)',
        "sethook()",
    ),
    _row(
        "strings are sorted by C alone",
        "libraries/table.lua:sort",
        f"{_LONG}::{_ENDS}[strings, sorted by C alone]",
        "return table.sort(t, function(a, b)",
        "do return table.sort(t, before) end\n  return table.sort(t, function(a, b)",
    ),
    _row(
        "megabytes in every instruction",
        "deadline.lua:check",
        f"{_LONG}::{_ENDS}[comparisons of NULs]",
        "FEW <const> = 1000, 100",
        "FEW <const> = 1000, 1000",
    ),
    _row(
        "an error's __tostring loops outside the run",
        "runner.lua:readable",
        f"{_SANDBOX}::test_any_value_can_be_raised[a table whose __tostring loops]",
        "return math_type(message) and tostring(message)",
        "return tostring(message)",
    ),
    # C functions that nothing interrupts.
    _row(
        "string.rep of gigabytes",
        "libraries/string.lua:rep",
        f"{_DEADLINE}::{_NONE}[string.rep of gigabytes]",
        "if size > MAX_STRING then",
        "if false then",
    ),
    _row(
        "nothing, repeated 2^62 times",
        "libraries/string.lua:rep",
        f"{_DEADLINE}::{_NONE}[nothing, repeated for ever]",
        "if one == 0 and tonumber(n)",
        "if false and tonumber(n)",
    ),
    _row(
        "a pattern that backtracks for hours",
        "libraries/string.lua:bound",
        f"{_DEADLINE}::{_NONE}[a pattern with four gaps]",
        "if #subject > limits.longest then",
        "if false then",
    ),
    _row(
        "a pattern's letters that are not counted",
        "libraries/patterns.lua:cost",
        f"{_LONG}::{_REFUSED}[a stretch of letters behind a gap]",
        "if bytes > BYTES_A_STEP then",
        "if false then",
    ),
    _row(
        "a set of kilobytes in a pattern",
        "libraries/patterns.lua:parse",
        f"{_LONG}::{_REFUSED}[a large set]",
        'c == "[" and stop - i or quantifier and 0 or 1',
        "quantifier and 0 or 1",
    ),
    _row(
        "a plain search for megabytes",
        "libraries/string.lua:find",
        f"{_DEADLINE}::{_NONE}[a long plain search]",
        "if #subject * #pattern > MAX_COMPARED then",
        "if false then",
    ),
    _row(
        "costly patterns between two checks",
        "libraries/string.lua:bound",
        f"{_LONG}::{_ENDS}[a short subject, costly, again and again]",
        "  if slow then look() end\n",
    ),
    _row(
        "gmatch that was made before",
        "libraries/string.lua:gmatch",
        f"{_LONG}::{_ENDS}[gmatch that was made early]",
        "if not slow then return following end",
        "if true then return following end",
    ),
    _row(
        "gsub's table leads through a thousand others",
        "libraries/string.lua:gsub",
        f"{_LONG}::{_ENDS}[gsub through a chain]",
        'if type(by) == "table" and getmetatable(by) ~= nil then',
        "if false then",
    ),
    _row(
        "string.format reads megabytes for each %.0s",
        "libraries/string.lua:format",
        f"{_LONG}::{_REFUSED}[many arguments of megabytes]",
        "  if count > FEW_ARGUMENTS then check_arguments(...) end\n",
    ),
    _row(
        "string.unpack of megabytes of format",
        "deadline.lua:by_size",
        f"{_LONG}::{_ENDS}[string.unpack of megabytes of spaces]",
        '    if type(s) == "string" and #s > LONG then deadline.look() end\n',
    ),
    _row(
        "a __len that grows, in table.insert",
        "libraries/table.lua:insert",
        f"{_DEADLINE}::{_ENDS}[__len that grows, in insert]",
        "if is_plain(t) then return table.insert",
        "if true then return table.insert",
    ),
    _row(
        "table.unpack through a thousand tables",
        "libraries/table.lua:unpack",
        f"{_LONG}::{_ENDS}[table.unpack through a chain]",
        "if is_plain(t) then return table.unpack",
        "if true then return table.unpack",
    ),
    _row(
        "table.move through a thousand tables",
        "libraries/table.lua:move",
        f"{_LONG}::{_ENDS}[table.move through a chain]",
        "if is_plain(a) and is_plain((select(2, ...))) then",
        "if true then",
    ),
    _row(
        "table.move of 2^60 items",
        "libraries/table.lua:move",
        f"{_DEADLINE}::{_NONE}[table.move of everything]",
        "if range > MAX_RANGE then",
        "if false then",
    ),
    # Metatables.
    _row(
        "weak keys, set late: the collector needs minutes",
        "libraries/metatables.lua:set",
        f"{_META}::{_LINE}[weak keys that are set late]",
        *_OWN_METATABLES,
    ),
    _row("a finalizer", "libraries/metatables.lua:checked", f"{_META}::{_LINE}[a finalizer]", *_OWN_METATABLES),
    _row(
        "a table that is called through itself",
        "libraries/metatables.lua:put",
        f"{_META}::{_LINE}[a table that is called through itself]",
        *_OWN_METATABLES,
    ),
    _row(
        "a __name of megabytes",
        "libraries/metatables.lua:put",
        f"{_META}::test_a_name_of_megabytes_is_none",
        'if event == "__name" and',
        "if false and",
    ),
    # What can be reached.
    _row(
        "load",
        "sandbox.lua:globals",
        f"{_SANDBOX}::{_ABSENT}[load]",
        "  next = next,\n",
        "  next = next,\n  load = load,\n",
    ),
    _row(
        "package",
        "sandbox.lua:globals",
        f"{_SANDBOX}::{_ABSENT}[package]",
        "  next = next,\n",
        "  next = next,\n  package = package,\n",
    ),
    _row(
        "string.dump",
        "libraries/string.lua:safe_string",
        f"{_SANDBOX}::{_ABSENT}[string.dump]",
        '{ "byte", "char", "len", "sub" }',
        '{ "byte", "char", "dump", "len", "sub" }',
    ),
    _row(
        "bytecode",
        "runner.lua:compile",
        f"{_SANDBOX}::test_bytecode_is_refused",
        'load(text, "@" .. name, "t", {})',
        'load(text, "@" .. name, "bt", {})',
    ),
    _row(
        "debug",
        "sandbox.lua:globals",
        f"{_SANDBOX}::{_ABSENT}[debug.sethook]",
        "freeze({ traceback = debug.traceback }, ",
        "freeze(debug, ",
    ),
    _row(
        "collectgarbage",
        "sandbox.lua:globals",
        f"{_SANDBOX}::test_collectgarbage_collects_nothing",
        'function(option) return option == "count" and collectgarbage("count") or 0 end',
        "collectgarbage",
    ),
    _row(
        "the metatable of strings",
        "sandbox.lua:strings",
        f"{_SANDBOX}::{_FROZEN}[the metatable of strings]",
        "strings.__metatable = false\n",
        "",
        ("sandbox.lua", "getmetatable = metatables.get,", "getmetatable = getmetatable,"),
    ),
    _row(
        "a shared library is changed",
        "sandbox.lua:freeze",
        f"{_SANDBOX}::{_FROZEN}[a library]",
        "  local proxy = {}\n",
        "  do return library end\n  local proxy = {}\n",
    ),
    _row(
        "a shared library is changed by rawset",
        "sandbox.lua:safe_rawset",
        f"{_SANDBOX}::{_FROZEN}[a library by rawset]",
        '  if frozen[t] then error("libraries are frozen", 2) end\n',
    ),
    _row(
        "json.null is changed", "boot.lua", f"{_SANDBOX}::{_FROZEN}[json.null by rawset]", "sandbox.seal(json.null)\n"
    ),
    _row(
        "a mark is left on a library",
        "modules/json.lua:as_array",
        f"{_SANDBOX}::{_FROZEN}[a mark on a library]",
        "if is_frozen(t) then",
        "if false then",
    ),
    _row(
        "globals reach the next event",
        "sandbox.lua:environment",
        f"{_SANDBOX}::test_a_hook_sees_one_every_time",
        "latest = setmetatable({}, environment)",
        "latest = globals._KEPT or setmetatable({}, environment)\n  globals._KEPT = latest",
    ),
    _row(
        "math.randomseed reaches the next event",
        "sandbox.lua:math_library",
        f"{_SANDBOX}::test_randomseed_does_not_reach_the_next_run",
        "math_library.randomseed = function() end\n",
    ),
    _row(
        "an exception of Python as an object",
        "door.py:cross",
        "tests/attacks/test_bridge.py::test_a_fault_of_the_library_is_a_text",
        "except Exception as fault:",
        "except ZeroDivisionError as fault:",
    ),
    _row(
        "a Lua object handed to Python",
        "door.py:cross",
        "tests/attacks/test_bridge.py::test_only_plain_values_cross",
        "if not all(isinstance(argument, _PLAIN) for argument in arguments):",
        "if False:",
    ),
    _row(
        "attributes of a Python object",
        "runtime.py:_no_attributes",
        "tests/attacks/test_bridge.py::test_python_objects_are_closed",
        "attribute_filter=_no_attributes,",
        "",
    ),
    # Sizes, and what can be stored.
    _row(
        "memory",
        "runner.lua:run",
        f"{_SANDBOX}::test_memory_ends_the_run_alone[a table]",
        "  confine(true)\n  started",
        "  started",
    ),
    _row(
        "output without an end",
        "output.lua:add",
        f"{_SANDBOX}::test_one_line_past_the_limit_is_cut_between_characters[('\\xe4'):rep(40000)]",
        "MAX_BYTES <const> = 64 * 1024",
        "MAX_BYTES <const> = 1 << 40",
    ),
    _row(
        "NUL and what is no UTF-8",
        "runner.lua:checked",
        f"{_SANDBOX}::test_an_output_that_cannot_be_stored_fails_its_run_alone[NUL in print]",
        'if find(text, "\\0", 1, true) or not utf8_len(text) then',
        "if false then",
    ),
    _row(
        "json of a table in itself",
        "modules/json.lua:put_table",
        f"{_LONG}::{_REFUSED}[json of a table in itself]",
        'if depth > MAX_DEPTH then error("json.encode',
        'if false then error("json.encode',
    ),
    _row(
        "JSON nested without an end",
        "modules/json.lua:object",
        f"{_LONG}::{_REFUSED}[deep JSON]",
        "local function object(s, i, depth)\n  if depth > MAX_DEPTH then",
        "local function object(s, i, depth)\n  if false then",
    ),
)
