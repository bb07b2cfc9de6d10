"""The defences of the sandbox: what reaches for Lua's libraries, for Python, for memory or for the next run meets."""

from __future__ import annotations

from defence import row

_LONG, _META, _SANDBOX = (f"tests/attacks/test_{name}.py" for name in ("long_calls", "metatables", "sandbox"))
_REFUSED, _ABSENT = "test_it_is_refused", "test_what_leaves_the_sandbox_is_not_there"
_FROZEN, _LINE = "test_what_outlives_the_run_cannot_be_changed", "test_it_is_refused_at_the_hooks_line"

_OWN_METATABLES = (
    "function metatables.set(t, metatable)\n",
    "function metatables.set(t, metatable)\n  do return setmetatable(t, metatable) end\n",
)

DEFENCES = (
    row(
        "weak keys, set late: the collector needs minutes",
        "libraries/metatables.lua:set",
        f"{_META}::{_LINE}[weak keys that are set late]",
        *_OWN_METATABLES,
    ),
    row("a finalizer", "libraries/metatables.lua:checked", f"{_META}::{_LINE}[a finalizer]", *_OWN_METATABLES),
    row(
        "a table that is called through itself",
        "libraries/metatables.lua:put",
        f"{_META}::{_LINE}[a table that is called through itself]",
        *_OWN_METATABLES,
    ),
    row(
        "a __name of megabytes",
        "libraries/metatables.lua:put",
        f"{_META}::test_a_name_of_megabytes_is_none",
        'if event == "__name" and',
        "if false and",
    ),
    row(
        "load",
        "sandbox.lua:globals",
        f"{_SANDBOX}::{_ABSENT}[load]",
        "  next = next,\n",
        "  next = next,\n  load = load,\n",
    ),
    row(
        "package",
        "sandbox.lua:globals",
        f"{_SANDBOX}::{_ABSENT}[package]",
        "  next = next,\n",
        "  next = next,\n  package = package,\n",
    ),
    row(
        "string.dump",
        "libraries/string.lua:safe_string",
        f"{_SANDBOX}::{_ABSENT}[string.dump]",
        '{ "byte", "char", "len", "sub" }',
        '{ "byte", "char", "dump", "len", "sub" }',
    ),
    row(
        "bytecode",
        "runner.lua:compile",
        f"{_SANDBOX}::test_bytecode_is_refused",
        'load(text, "@" .. name, "t", {})',
        'load(text, "@" .. name, "bt", {})',
    ),
    row(
        "debug",
        "sandbox.lua:globals",
        f"{_SANDBOX}::{_ABSENT}[debug.sethook]",
        "freeze({ traceback = debug.traceback }, ",
        "freeze(debug, ",
    ),
    row(
        "collectgarbage",
        "sandbox.lua:globals",
        f"{_SANDBOX}::test_collectgarbage_collects_nothing",
        'function(option) return option == "count" and collectgarbage("count") or 0 end',
        "collectgarbage",
    ),
    row(
        "the metatable of strings",
        "sandbox.lua:strings",
        f"{_SANDBOX}::{_FROZEN}[the metatable of strings]",
        "strings.__metatable = false\n",
        "",
        ("sandbox.lua", "getmetatable = metatables.get,", "getmetatable = getmetatable,"),
    ),
    row(
        "a shared library is changed",
        "sandbox.lua:freeze",
        f"{_SANDBOX}::{_FROZEN}[a library]",
        "  local proxy = {}\n",
        "  do return library end\n  local proxy = {}\n",
    ),
    row(
        "a shared library is changed by rawset",
        "sandbox.lua:safe_rawset",
        f"{_SANDBOX}::{_FROZEN}[a library by rawset]",
        '  if frozen[t] then error("libraries are frozen", 2) end\n',
    ),
    row("json.null is changed", "boot.lua", f"{_SANDBOX}::{_FROZEN}[json.null by rawset]", "sandbox.seal(json.null)\n"),
    row(
        "a mark is left on a library",
        "modules/json.lua:as_array",
        f"{_SANDBOX}::{_FROZEN}[a mark on a library]",
        "if is_frozen(t) then",
        "if false then",
    ),
    row(
        "globals reach the next event",
        "sandbox.lua:environment",
        f"{_SANDBOX}::test_a_hook_sees_one_every_time",
        "latest = setmetatable({}, environment)",
        "latest = globals._KEPT or setmetatable({}, environment)\n  globals._KEPT = latest",
    ),
    row(
        "math.randomseed reaches the next event",
        "sandbox.lua:math_library",
        f"{_SANDBOX}::test_randomseed_does_not_reach_the_next_run",
        "math_library.randomseed = function() end\n",
    ),
    row(
        "an exception of Python as an object",
        "door.py:cross",
        "tests/attacks/test_bridge.py::test_a_fault_of_the_library_is_a_text",
        "except Exception as fault:",
        "except ZeroDivisionError as fault:",
    ),
    row(
        "a Lua object handed to Python",
        "door.py:cross",
        "tests/attacks/test_bridge.py::test_only_plain_values_cross",
        "if not all(isinstance(argument, _PLAIN) for argument in arguments):",
        "if False:",
    ),
    row(
        "attributes of a Python object",
        "runtime.py:_no_attributes",
        "tests/attacks/test_bridge.py::test_python_objects_are_closed",
        "attribute_filter=_no_attributes,",
        "",
    ),
    row(
        "memory",
        "runner.lua:run",
        f"{_SANDBOX}::test_memory_ends_the_run_alone[a table]",
        "  confine(true)\n  started",
        "  started",
    ),
    row(
        "tables that stay large after the run",
        "runtime.py:_tidied",
        f"{_SANDBOX}::test_what_a_run_left_behind_is_no_trouble_for_the_hooks_after_it",
        "self.is_spent = self.memory_used > ",
        "self.is_spent = 2**40 < ",
    ),
    row(
        "output without an end",
        "output.lua:add",
        f"{_SANDBOX}::test_one_line_past_the_limit_is_cut_between_characters[('\\xe4'):rep(40000)]",
        "MAX_BYTES <const> = 64 * 1024",
        "MAX_BYTES <const> = 1 << 40",
    ),
    row(
        "NUL and what is no UTF-8",
        "runner.lua:checked",
        f"{_SANDBOX}::test_an_output_that_cannot_be_stored_fails_its_run_alone[NUL in print]",
        'if find(text, "\\0", 1, true) or not utf8_len(text) then',
        "if false then",
    ),
    row(
        "json of a table in itself",
        "modules/json.lua:put_table",
        f"{_LONG}::{_REFUSED}[json of a table in itself]",
        'if depth > MAX_DEPTH then error("json.encode',
        'if false then error("json.encode',
    ),
    row(
        "JSON nested without an end",
        "modules/json.lua:object",
        f"{_LONG}::{_REFUSED}[deep JSON]",
        "local function object(s, i, depth)\n  if depth > MAX_DEPTH then",
        "local function object(s, i, depth)\n  if false then",
    ),
)
