"""Libraries: Lua code that hooks share. What is refused, who runs with which version, and when a change is live."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from chunks import error, event, outcomes, runtime
from commands import Hep
from psycopg import Connection
from running import add_hook, all_processed, insert, running
from waiting import wait_for

from hook_event_processor.cli.hook_lib import checked_name
from hook_event_processor.errors import HookRefused
from hook_event_processor.event import Outcome
from hook_event_processor.event_handlers import EventHandlerRegistry
from hook_event_processor.lua.loader import check_library, program
from hook_event_processor.lua.names import closure, cycle_through
from hook_event_processor.processor import routing
from hook_event_processor.store import hooks, libraries
from hook_event_processor.store.database import Database
from hook_event_processor.store.hooks import StoredHook

GREET = 'local greet = {}\nfunction greet.say(name) return "hello " .. name end\nreturn greet\n'
HOOK = """\
local greet = require("lib.greet")
return { event_type = "task.failed", execute = function() return true, greet.say("world") end }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "greet.lua").write_text(GREET)
    (tmp_path / "hook.lua").write_text(HOOK)
    return tmp_path


def test_a_hook_that_names_an_unknown_library_is_told_how_to_add_it(hep: Hep, folder: Path) -> None:
    fault = f"hep: {folder}/hook.lua:1: there is no library 'greet': 'hep hook lib add greet.lua' adds it"
    assert hep.fault("hook", "add", "hook.lua") == fault
    assert hep("hook", "lib", "add", "greet.lua") == (
        'added: library greet, version 1\nHooks use it with require("lib.greet").\n'
    )
    assert "libraries: lib.greet (version 1)\n" in hep("hook", "add", "hook.lua")
    assert hep.document("hook", "get", "hook")["libraries"] == {"greet": 1}


def test_a_hooks_modules_are_also_those_of_its_libraries(hep: Hep, folder: Path) -> None:
    (folder / "deep.lua").write_text('local http = require("http")\nreturn { get = http.get }\n')
    (folder / "greet.lua").write_text('local deep = require("lib.deep")\nrequire "json"\nreturn deep\n')
    hep("hook", "lib", "add", "deep.lua")
    assert "; modules: json, lib.deep" in hep("hook", "lib", "add", "greet.lua")
    assert "effectful: runs in a worker slot; modules: http, json\n" in hep("hook", "add", "hook.lua")
    assert hep.document("hook", "get", "hook")["libraries"] == {"deep": 1, "greet": 1}
    assert hep.document("hook", "lib", "list", "--format", "json")[0]["used_by"] == ["hook"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("local x = 1\nreturn {", "{path}:2: unexpected symbol near <eof>"),
        ("\n\nerror('no')", "{path}:3: no"),
        ("\nrequire('htpp')", "{path}:2: there is no module 'htpp'"),
        ("\nrequire('lib.other')", "{path}:2: there is no library 'other'"),
        ("\nreturn require('lib.greet')", "{path}:2: a library cannot require itself: lib.greet -> lib.greet"),
    ],
)
def test_a_bad_library_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(HookRefused) as refusal:
        check_library("greet", text, "/lib/greet.lua", {})
    assert reason.format(path="/lib/greet.lua") in str(refusal.value)


def test_a_bad_library_is_not_stored(hep: Hep, folder: Path) -> None:
    (folder / "greet.lua").write_text("return {")
    fault = f"hep: {folder}/greet.lua:1: unexpected symbol near <eof>"
    assert hep.fault("hook", "lib", "add", "greet.lua") == fault
    (folder / "greet.lua").write_text("return '\0'")
    fault = "hep: greet.lua is not a Lua source file: line 1 holds a NUL character"
    assert hep.fault("hook", "lib", "add", "greet.lua") == fault
    assert hep("hook", "lib", "list") == "No libraries.\n"


def test_libraries_in_a_circle_are_refused(hep: Hep, folder: Path) -> None:
    for name, text in (("a", "return {}"), ("b", 'return require("lib.a")'), ("c", 'return require("lib.b")')):
        (folder / f"{name}.lua").write_text(text)
        hep("hook", "lib", "add", f"{name}.lua")
    (folder / "a.lua").write_text('return { c = require("lib.c") }')
    circle = "lib.a -> lib.c -> lib.b -> lib.a"
    assert hep.fault("hook", "lib", "add", "a.lua").endswith(f"/a.lua:1: a library cannot require itself: {circle}")


@pytest.mark.parametrize("name", ["", "1x", "a.b", "a b", "../x", "ä", "x" * 101])
def test_a_name_that_no_hook_could_require_is_refused(name: str) -> None:
    with pytest.raises(HookRefused, match="name"):
        checked_name(name)


def test_a_changed_library_is_a_new_version_of_every_hook_that_names_it(hep: Hep, folder: Path) -> None:
    hep("hook", "lib", "add", "greet.lua")
    hep("hook", "add", "hook.lua", "--priority", "3", "--disabled")
    hep("hook", "add", "hook.lua", "--name", "second")
    (folder / "other.lua").write_text('return { event_type = "a.b", execute = function() end }')
    hep("hook", "add", "other.lua")
    (folder / "greet.lua").write_text(GREET.replace("hello", "good day"))
    assert hep("hook", "lib", "add", "greet.lua") == (
        "replaced: library greet, version 2\n"
        "used by hook, second\n"
        "hook hook runs with it as version 2\n"
        "hook second runs with it as version 2\n"
    )
    hook = hep.document("hook", "get", "hook")
    assert (hook["version"], hook["libraries"], hook["priority"], hook["enabled"]) == (2, {"greet": 2}, 3, False)
    assert [(v["libraries"], v["reason"]) for v in hook["versions"]] == [
        ({"greet": 2}, "lib.greet version 2"),
        ({"greet": 1}, ""),
    ]
    assert hep.document("hook", "get", "other")["version"] == 1
    assert hep("hook", "lib", "add", "greet.lua").startswith("unchanged: library greet, version 2")


def test_a_changed_library_leaves_a_hook_the_file_that_it_was_added_from_last(hep: Hep, folder: Path) -> None:
    hep("hook", "lib", "add", "greet.lua")
    hep("hook", "add", "hook.lua")
    (folder / "moved").mkdir()
    (folder / "hook.lua").rename(folder / "moved/hook.lua")
    hep("hook", "add", "moved/hook.lua")
    (folder / "greet.lua").write_text(GREET.replace("hello", "good day"))
    hep("hook", "lib", "add", "greet.lua")
    hook = hep.document("hook", "get", "hook")
    assert (hook["version"], hook["file_path"]) == (2, str(folder / "moved/hook.lua"))


def test_a_library_that_a_hook_does_not_load_with_is_refused(hep: Hep, folder: Path) -> None:
    (folder / "hook.lua").write_text(HOOK.replace("return {", "assert(greet.say)\nreturn {"))
    hep("hook", "lib", "add", "greet.lua")
    hep("hook", "add", "hook.lua")
    (folder / "greet.lua").write_text("return {}")
    fault = hep.fault("hook", "lib", "add", "greet.lua")
    assert fault.startswith("hep: the hook hook cannot be loaded with this version of lib.greet: ")
    assert hep.document("hook", "lib", "show", "greet", "--format", "json")["version"] == 1


def test_versions_and_their_texts_can_be_read(hep: Hep, folder: Path) -> None:
    hep("hook", "lib", "add", "greet.lua")
    hep("hook", "lib", "add", "-", "--name", "greet", stdin="return {}")
    listed = hep.document("hook", "lib", "versions", "greet", "--format", "json")
    assert [(v["version"], v["file_path"]) for v in listed] == [(2, "standard input"), (1, f"{folder}/greet.lua")]
    assert "2 (newest)" in hep("hook", "lib", "versions", "greet")
    assert hep("hook", "lib", "show", "greet", "--version", "1").endswith(f"Version 1:\n{GREET}")
    assert hep.document("hook", "lib", "show", "greet", "--format", "json")["source_text"] == "return {}"
    assert "has no version 3" in hep.fault("hook", "lib", "show", "greet", "--version", "3")
    assert hep.fault("hook", "lib", "show", "gret") == "hep: no library has the name 'gret'; did you mean 'greet'?"


def test_a_library_that_is_named_is_removed_only_by_force(hep: Hep, folder: Path, connection: Connection) -> None:
    hep("hook", "lib", "add", "greet.lua")
    (folder / "polite.lua").write_text('return require("lib.greet")')
    hep("hook", "lib", "add", "polite.lua")
    hep("hook", "add", "hook.lua")
    fault = "hep: the library 'greet' is named by the hook hook, lib.polite: --force removes it all the same"
    assert hep.fault("hook", "lib", "remove", "greet") == fault
    assert hep("hook", "lib", "remove", "polite") == "removed: library polite\n"
    before = hooks.revision(connection)
    assert hep.document("hook", "lib", "remove", "greet", "--force", "--format", "json") == {"removed": "greet"}
    assert hooks.revision(connection) > before
    assert libraries.known(connection) == {}


def test_a_name_that_comes_back_goes_on_counting(hep: Hep, folder: Path) -> None:
    hep("hook", "lib", "add", "greet.lua")
    hep("hook", "add", "hook.lua")
    hep("hook", "lib", "remove", "greet", "--force")
    assert "added: library greet, version 2\n" in hep("hook", "lib", "add", "greet.lua")
    assert hep.document("hook", "get", "hook")["libraries"] == {"greet": 2}


@pytest.mark.parametrize("written", ['"x"', "2147483647", "1e131071", "1.5", "-7", "true", "{}", "[9]"])
def test_what_authors_write_of_a_library_keeps_nobody_from_adding_it(
    hep: Hep, folder: Path, connection: Connection, written: str
) -> None:
    add_hook(connection, "odd", "odd.*", "return {execute = function() end}")
    connection.execute("UPDATE hook_versions SET libraries = %s", (f'{{"greet": {written}}}',))
    assert "added: library greet, version 1\n" in hep("hook", "lib", "add", "greet.lua")


def test_a_hook_is_loaded_with_the_library_that_it_had(
    hep: Hep, folder: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    hep("hook", "lib", "add", "greet.lua")
    hep("hook", "add", "hook.lua")
    read = hooks.enabled

    def read_just_before_a_change(connection: Connection) -> list[StoredHook]:
        rows = read(connection)
        (folder / "greet.lua").write_text(GREET.replace("hello", "welcome"))
        hep("hook", "lib", "add", "greet.lua")
        return rows

    monkeypatch.setattr(hooks, "enabled", read_just_before_a_change)
    [hook] = routing.load(connection, EventHandlerRegistry()).hooks
    code: Any = hook.code
    assert (hook.version, code.libraries) == (1, (("greet", GREET),))


@pytest.mark.alone
def test_a_change_is_live_within_a_second(hep: Hep, folder: Path, database: Database, connection: Connection) -> None:
    """With the hook's version in each execution, and a clear error once the library is removed by force."""
    hep("hook", "lib", "add", "greet.lua")
    hep("hook", "add", "hook.lua")
    with running(database, folder, lanes=1):
        _run_one(connection)
        for text in ("good day", "welcome"):
            (folder / "greet.lua").write_text(GREET.replace("hello", text))
            hep("hook", "lib", "add", "greet.lua")
            wait_for(lambda text=text: _last_output(connection, text), 1)
        hep("hook", "lib", "remove", "greet", "--force")
        wait_for(lambda: _last_output(connection, "there is no library greet for this hook"), 5)
    rows = connection.execute(
        "SELECT DISTINCT version, output FROM event_hook_executions WHERE success ORDER BY version"
    ).fetchall()
    assert rows == [(1, "hello world"), (2, "good day world"), (3, "welcome world")]


def test_what_a_library_keeps_ends_with_the_run() -> None:
    body = "return true, kept() + require('lib.kept')()"
    text = f"local kept = require('lib.kept') return {{ execute = function() {body} end }}"
    kept = "local n = 0 return function() n = n + 1 return n end"
    lua = program(text, "hook", libraries={"kept": kept})
    assert runtime().run(lua, 5, [event(), event()], threading.Event()).outputs == [b"3", b"3"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("error('boom')", "x.lua:1: boom"),
        ("error(setmetatable({}, { __tostring = function() return 'why' end }))", "why"),
        ("return require('lib.y')", "y.lua:1: deep"),
        ("local x = require('lib.x') return x", "x.lua:1: a library cannot require itself: lib.x"),
    ],
)
def test_a_library_that_failed_fails_for_the_same_reason_again(broken: str, reason: str) -> None:
    twice = "for _ = 1, 2 do local _, reason = pcall(function() require('lib.x') end) print(reason) end"
    text = f"return {{ execute = function() {twice} end }}"
    lua = program(text, "hook", libraries={"x": broken, "y": "error('deep')"})
    results = runtime().run(lua, 5, [event(), event()], threading.Event())
    assert results.outputs == [f"{reason}\n{reason}".encode()] * 2


def test_a_library_that_failed_says_how_it_got_there() -> None:
    lua = program("return { execute = function() require('lib.x') end }", "hook", libraries={"x": "error('boom')"})
    assert error(runtime().run(lua, 5, [event()], threading.Event())) == (
        "x.lua:1: boom\nstack traceback:\n\tx.lua:1: in local 'main'\n\thook.lua:1: in function <hook.lua:1>"
    )


def test_a_library_keeps_to_the_deadline_and_the_memory() -> None:
    text = "return { execute = function() for _ = 1, 2 do pcall(function() require('lib.x') end) end return true end }"
    for broken, outcome in (
        ("while true do end", Outcome.TIMEOUT),
        ("local t = {} while true do t[#t + 1] = {} end", Outcome.CONTINUE),
    ):
        lua = program(text, "hook", libraries={"x": broken})
        assert outcomes(runtime().run(lua, 2, [event()], threading.Event())) == [outcome]


def test_a_library_that_is_not_there_fails_the_run_and_says_so() -> None:
    lua = program("return { execute = function() require('lib.gone') end }", "hook")
    refusal = error(runtime().run(lua, 5, [event()], threading.Event()))
    assert "hook.lua:1: there is no library gone for this hook: its text does not name it, or it was removed" in refusal


def _run_one(connection: Connection) -> None:
    insert(connection, "task.failed")
    wait_for(lambda: all_processed(connection), 5)


def _last_output(connection: Connection, words: str) -> bool:
    """Whether the run of a new event says these words."""
    event_id = insert(connection, "task.failed")[0]
    rows: list[tuple[str]] = []

    def ran() -> bool:
        rows[:] = connection.execute(
            "SELECT coalesce(error, output) FROM event_hook_executions WHERE event_id = %s", (event_id,)
        ).fetchall()
        return bool(rows)

    wait_for(ran, 5)
    return words in rows[0][0]


def test_what_a_text_names_is_found_through_its_libraries() -> None:
    texts = {"a": 'require("http") require("lib.b")', "b": 'require("time").sleep(1) require("lib.a")'}
    named = closure('require("lib.a") require("json") require("lib.gone")', texts)
    assert (named.modules, named.libraries, named.sleeps) == (("http", "json", "time"), ("a", "b", "gone"), True)


def test_a_circle_is_found_from_each_of_its_libraries_only() -> None:
    texts = {"a": 'require("lib.b")', "b": 'require("lib.c") require("lib.a")', "c": 'require("lib.c")'}
    assert cycle_through("a", texts) == ["a", "b", "a"]
    assert cycle_through("c", texts) == ["c", "c"]
    assert cycle_through("d", {"d": 'require("lib.a")', "a": ""}) == []
