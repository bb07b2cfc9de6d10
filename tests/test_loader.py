"""What a hook's file says about itself, and every reason to refuse it, with file and line."""

from __future__ import annotations

import threading

import pytest
from chunks import error, event, output, run, runtime

from hook_event_processor.errors import HookRefused
from hook_event_processor.hook_limits import TEXT_BYTES
from hook_event_processor.lua.loader import Definition, program, read_definition

_FILE = "/etc/hooks/notify.lua"

FULL = """
-- Tells the operator.
local hook = {
  name = "notify_on_failure",
  description = "Send a notification",
  event_type = { "task.failed", "~^deploy\\\\." },
  stack = "production",
  priority = -5,
  timeout = 2.5,
  retry = { attempts = 5, delay = 0.5, max_delay = 60 },
}
local json, time = require("json"), require "time"
function hook.filter(event) return event.data.n ~= nil end
function hook.execute(event) time.sleep(1) end
return hook
"""


def test_all_that_a_file_can_say() -> None:
    assert read_definition(FULL, _FILE) == Definition(
        name="notify_on_failure",
        description="Send a notification",
        event_types=("task.failed", "~^deploy\\."),
        stack="production",
        priority=-5,
        timeout_seconds=2.5,
        retry={"attempts": 5, "delay": 0.5, "max_delay": 60},
        modules=("json", "time"),
        effectful=True,
    )


def test_what_a_file_leaves_open() -> None:
    definition = read_definition("return { execute = function() end }", _FILE)
    assert definition == Definition(None, "", (), None, 0, None, {}, (), effectful=False)


@pytest.mark.parametrize(
    ("fields", "event_types"),
    [
        ("event_type = 'task.*'", ("task.*",)),
        ("source = 'task', action = 'failed'", ("task/failed",)),
        ("source = 'task'", ("task/*",)),
        ("action = 'failed'", ("*/failed",)),
    ],
)
def test_event_types(fields: str, event_types: tuple[str, ...]) -> None:
    assert read_definition(f"return {{ {fields}, execute = print }}", _FILE).event_types == event_types


REFUSED = {
    "a syntax error": ("local x = 1\nreturn {", "notify.lua:2: unexpected symbol near <eof>"),
    "an error at the top level": ("\n\nerror('no')", "notify.lua:3: no"),
    "an error that is no text": ("error({})", "a table was raised"),
    "an error whose __tostring loops": (
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
        "a table was raised",
    ),
    "a yield at the top level": ("coroutine.yield()", "attempt to yield from outside a coroutine"),
    "no table": ("return 3", "notify.lua: a hook's file returns a table with an execute function"),
    "a text": ("return 'hook'", "a hook's file returns a table with an execute function"),
    "a function": ("return function() end", "a hook's file returns a table with an execute function"),
    "a coroutine": ("return coroutine.create(print)", "a hook's file returns a table with an execute function"),
    "nothing": ("", "a hook's file returns a table with an execute function"),
    "no execute": ("return {}", f"{_FILE}: the hook has no execute function"),
    "execute in a metatable": (
        "return setmetatable({}, { __index = { execute = print } })",
        f"{_FILE}: the hook has no execute function",
    ),
    "execute that is no function": ("return {\n  execute = 1,\n}", f"{_FILE}:2: execute is not a function"),
    "filter that is no function": (
        "return {\n  execute = print,\n  filter = true and 'x',\n}",
        f"{_FILE}:3: filter is not a function",
    ),
    "an unknown key": ("return {\n  execute = print,\n  evnt_type = 'x',\n}", f"{_FILE}:3: unknown key 'evnt_type'"),
    "a list": ("return { execute = print, 'x' }", "unknown key 1"),
    "a table as a key": ("return { execute = print, [{}] = 1 }", "unknown key"),
    "a bad pattern": ("return {\n  execute = print,\n  event_type = 'a[',\n}", f"{_FILE}:3: the pattern 'a['"),
    "a bad regex": ("return { execute = print,\n event_type = '~(' }", f"{_FILE}:2: the pattern '~('"),
    "a pattern in a list": ("return { execute = print,\n event_type = { 'a.b', '' } }", f"{_FILE}:2: the pattern ''"),
    "event_type as a number": ("return { execute = print,\n event_type = 5 }", f"{_FILE}:2: event_type is 5"),
    "event_type as an empty list": ("return { execute = print,\n event_type = {} }", f"{_FILE}:2: event_type is {{}}"),
    "event_type beside source": (
        "return { execute = print,\n event_type = 'a.b', source = 'a' }",
        f"{_FILE}:2: event_type stands beside source or action",
    ),
    "an empty name": ("return { execute = print,\n name = '' }", f"{_FILE}:2: name is ''"),
    "a name as a number": ("return { execute = print,\n name = 5 }", f"{_FILE}:2: name is 5"),
    "a description as a table": ("return { execute = print,\n description = {} }", f"{_FILE}:2: description is"),
    "a stack as a boolean": ("return { execute = print,\n stack = true }", f"{_FILE}:2: stack is True"),
    "a priority with a fraction": ("return { execute = print,\n priority = 1.5 }", f"{_FILE}:2: priority is 1.5"),
    "a priority past its range": ("return { execute = print,\n priority = 1 << 40 }", f"{_FILE}:2: priority is"),
    "a timeout of nothing": ("return { execute = print,\n timeout = 0 }", f"{_FILE}:2: timeout is 0"),
    "a timeout of a day": ("return { execute = print,\n timeout = 86400 }", f"{_FILE}:2: timeout is 86400"),
    "a timeout as text": ("return { execute = print,\n timeout = '30s' }", f"{_FILE}:2: timeout is '30s'"),
    "a timeout that is no number": ("return { execute = print,\n timeout = 0/0 }", f"{_FILE}:2: timeout is"),
    "an unknown retry key": (
        "return { execute = print,\n retry = { tries = 3 } }",
        f"{_FILE}:2: retry is {{'tries': 3}}: it takes a table with attempts, delay, max_delay",
    ),
    "eleven attempts": ("return { execute = print,\n retry = { attempts = 11 } }", f"{_FILE}:2: retry.attempts is 11"),
    "a delay of a year": ("return { execute = print,\n retry = { delay = 3e7 } }", f"{_FILE}:2: delay is"),
    "an unknown module": ("\nlocal x = require('htpp')", f"{_FILE}:2: there is no module 'htpp'"),
    "an unknown library": (
        "\nlocal x = require('lib.slack')",
        f"{_FILE}:2: there is no library 'slack': 'hep hook lib add slack.lua' adds it",
    ),
    "requires as a number": ("return { execute = print,\n requires = 5 }", f"{_FILE}:2: requires holds 5"),
    "requires that is worked out": (
        "local m = 'js' .. 'on'\nreturn { execute = print,\n requires = { m } }",
        f"{_FILE}:3: requires holds 'json': it takes a list of names that are written out",
    ),
    "an unknown module in requires": (
        "return { execute = print,\n requires = { 'htpp' } }",
        f"{_FILE}:2: there is no module 'htpp'",
    ),
    "a large text": ("-- " + "x" * TEXT_BYTES, f"{_FILE}: the text has"),
    "bytecode": ("\x1bLua", "attempt to load a binary chunk"),
    "a table in itself": (
        "local t = { execute = print } t.retry = t return t",
        "the hook's table is nested deeper than 22, or",
    ),
    "a chain of tables": (
        "local t = {} for _ = 1, 100000 do t = { t } end return { execute = print, retry = t }",
        "the hook's table is nested deeper than 22, or holds itself",
    ),
    "a million keys": (
        "local t = {} for i = 1, 100000 do t[i] = i end return t",
        "has more than 10,000 values, or holds itself",
    ),
    "a loop": ("local n = 0\nwhile true do n = n + 1 end", f"{_FILE}:2: the run took longer than it may"),
    "memory": ("local t = {} while true do t[#t + 1] = {} end", f"{_FILE}: not enough memory"),
    "an error without its place": ("error('nothing', 0)", f"{_FILE}: nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_its_reason_and_place(name: str) -> None:
    text, reason = REFUSED[name]
    with pytest.raises(HookRefused) as refusal:
        read_definition(text, _FILE)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("require('json')", ("json",)),
        ('require "json"', ("json",)),
        ("require'json'", ("json",)),
        ("require [[json]]", ("json",)),
        ("require [==[json]==]", ("json",)),
        ("require\n(\n'json'\n)", ("json",)),
        ("require('json').encode({}) require('log')", ("json", "log")),
        ("-- require('time')\nrequire('json')", ("json",)),
        ("-- require('time')\rrequire('json')", ("json",)),
        ("--[[ require('time') ]] require('json')", ("json",)),
        ("--[==[ require('time')\n ]] ]==] require('json')", ("json",)),
        ("local s = '-- no comment' require('json')", ("json",)),
        ('local s = "--[[" require("json") -- ]]', ("json",)),
        ("local s = [[ -- ]] require('json')", ("json",)),
        ("local s = 'it\\'s -- ' require('json')", ("json",)),
        ("require --[[ a ]] ('json') require -- b\n 'log'", ("json", "log")),
        ("return { requires = { 'json', \"log\"; [[time]], } }", ("json", "log", "time")),
        ("return { requires = {} , 'json' }", ()),
        ("return { requires = { 'json' }, 'log' }", ("json",)),
        ("-- requires = {\nlocal t = { 'json' }", ()),
        ("local require_time = 1", ()),
        ("require(name)", ()),
    ],
)
def test_the_modules_that_a_text_names(text: str, modules: tuple[str, ...]) -> None:
    assert program(text, "hook").modules == modules


@pytest.mark.parametrize(
    ("text", "effectful"),
    [
        ("require('time').sleep(1)", True),
        ("local t = require 'time' t.sleep(1)", True),
        ("local t = require('time') local s = t['sleep'] s(1)", True),
        ("require('time').now()", False),
        ("require('time').now() -- sleep", False),
        ("require('time').now() -- \rsleep()", True),
        ("require('json') local sleep = 1", False),
        ("local s = '--' require('time').sleep(1)", True),
        ('local s = "--[[" require("time").sleep(1) -- ]]', True),
        ("require('event') require('log') require('json')", False),
    ],
)
def test_what_has_effects_outside_the_database(text: str, effectful: bool) -> None:
    assert program(text, "hook").effectful is effectful


def test_a_computed_name_can_be_required_when_it_is_listed() -> None:
    """In the text, where it is found without running it; and nothing else."""
    text = """
    local hook = {{ requires = {{ "json" }} }}
    function hook.execute() return true, require("{}" .. "on").encode({{ 1 }}) end
    return hook
    """
    assert output(run(text.format("js"))) == "[1]"
    assert "does not name the module xson" in error(run(text.format("xs")))


def test_a_hook_runs_with_its_libraries_and_their_modules() -> None:
    libraries = {"a": 'return require("lib.b")', "b": 'return require("json").encode({ 2 })'}
    text = 'return { event_type = "a.b", execute = function() return true, require("lib.a") end }'
    definition = read_definition(text, _FILE, libraries)
    assert (definition.libraries, definition.modules, definition.effectful) == (("a", "b"), ("json",), False)
    lua = program(text, "hook", libraries=libraries)
    assert runtime().run(lua, 5, [event()], threading.Event()).outputs == [b"[2]"]


def test_a_library_that_sleeps_makes_its_hooks_effectful() -> None:
    libraries = {"a": 'return require("time").sleep'}
    assert program('require("lib.a")(1)', "hook", libraries=libraries).effectful is True
