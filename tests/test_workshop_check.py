"""`hep hook check`: what it finds, and above all what it does not complain of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import Hep
from hypothesis import given, settings
from hypothesis import strategies as st

from hook_event_processor.workshop.check import check
from hook_event_processor.workshop.findings import Severity
from hook_event_processor.workshop.grammar import scopes_of
from hook_event_processor.workshop.tokens import Kind, tokens

_PACKAGE = Path(__file__).parent.parent / "hook_event_processor"


def _hook(body: str, head: str = "") -> str:
    table = 'local hook = { event_type = "task.failed" }'
    return f"{head}\n{table}\nfunction hook.execute(event)\n{body}\nend\nreturn hook\n"


def _said(text: str, name: str = "hook.lua") -> list[str]:
    return [f"{f.line}:{f.column} {f.severity}: {f.message}" for f in check(text, Path(name))]


def test_tokens_know_their_place() -> None:
    found = tokens("\nlocal s = [==[\na]]\n]==] .. 'q\\'' -- x\n--[[ y\n]] n = 0x1p-4 // 3.5e+2 ... :: z")
    shown = [(token.text, token.line, token.column) for token in found if token.kind is not Kind.END]
    assert shown == [
        ("local", 2, 1),
        ("s", 2, 7),
        ("=", 2, 9),
        ("[==[\na]]\n]==]", 2, 11),
        ("..", 4, 6),
        ("'q\\''", 4, 9),
        ("n", 6, 4),
        ("=", 6, 6),
        ("0x1p-4", 6, 8),
        ("//", 6, 15),
        ("3.5e+2", 6, 18),
        ("...", 6, 25),
        ("::", 6, 29),
        ("z", 6, 32),
    ]
    assert found[3].value == "a]]\n"


@pytest.mark.parametrize("path", sorted(_PACKAGE.rglob("lua/**/*.lua")), ids=lambda path: path.stem)
def test_every_name_in_real_code_is_found_where_it_is_declared(path: Path) -> None:
    """The product's own Lua has neither unused locals nor globals that it sets: none may be reported."""
    scopes = scopes_of(path.read_text())
    assert scopes.written == set()
    unused = [
        variable.name
        for variable in scopes.variables
        if variable.is_declared and not any(other.reads for other in variable.together)
    ]
    assert [name for name in unused if not name.startswith("_")] == []


@pytest.mark.parametrize(
    "body",
    [
        "local a <const>, b <close> = 1, nil",
        "local _unused = 1",
        "local ok, reason = pcall(print) return ok",
        "local _, second = pcall(print) return second",
        "for i = 1, 3 do end for key, value in pairs({}) do end",
        "local function again(n) return n > 0 and again(n - 1) end",
        "repeat local done = true until done",
        "goto finish ::finish::",
        "local t = {} t.x = 1 t['y'], t.z = 2, 3",
        "counter = (counter or 0) + 1 return counter > 0",
        "local t = { print = 1, [print] = 2, print; 'x' } return t ~= nil",
        "function helper() end helper()",
        "local object = {} function object:method(x) return self, x end return object:method() ~= nil",
        "local s = ('x'):rep(3) .. #'abc' return s ~= -2 ^ -3 // ~4",
        'local json = require("json") return json[event.type] == nil',
        'local json = require("json") json = { other = print } json.other()',
        "return event.own == event.data.tpye",
        "return _G.anything == undefined_but_who_knows",
        "local t <const> = { f = function(...) return ... end } return t.f'x' == t.f{}",
        "event.dispatch('task.' .. event.id) event.dispatch('custom.whatever')",
        'local names = { "json" } local requires = names return require(requires[1]) ~= nil',
    ],
)
def test_good_code_gives_no_complaint(body: str) -> None:
    assert _said(_hook(body)) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("local x = 1", "4:7 warning: the local x is never used"),
        ("local x = 1 x = 2", "4:7 warning: the local x is assigned but never read"),
        ("local function f() end", "4:16 warning: the local f is never used"),
        ('local http = require("http")', "4:7 warning: the module http is never used"),
        ("do local x = 1 end return x", "4:10 warning: the local x is never used"),
        ("pritn(event)", "4:1 warning: the global pritn is nowhere defined: did you mean print?"),
        ("io.write('x')", "4:1 warning: there is no io in hooks: files are read and written"),
        ('os.execute("ls")', '4:4 warning: there is no os.execute in hooks: programs are run with require("exec")'),
        ("return string.uper('x')", "4:15 warning: there is no string.uper in hooks: did you mean upper?"),
        ("json.encode({})", '4:1 warning: the module json was not required: local json = require("json")'),
        ('local h = require("http") h.pots("x")', "4:29 warning: the module http has no pots: did you mean post?"),
        ("return require(event.type) ~= nil", "4:8 warning: the name of the module is computed"),
        ('event.dispatch("task.faild", {})', "4:16 warning: the event type task.faild is not in the catalog: did you"),
        ('local e = require("event") e.dispatch("my.own")', "4:39 note: the event type my.own is not in the catalog"),
        ("return event.tpye == nil", "4:14 warning: events have no tpye: did you mean type?"),
        ("return nil + ", "5:1 error: unexpected symbol near 'end'"),
    ],
)
def test_a_slip_is_told_where_it_stands(body: str, said: str) -> None:
    found = _said(_hook(body))
    assert any(line.startswith(said) for line in found), found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("return {", "1:9 error: unexpected symbol near <eof>"),
        ('return {\n  naem = "x",\n  execute = print }', "2:3 error: unknown key 'naem' in the hook's table"),
        ('return { event_type = "~(",\n execute = print }', "1:24 error: the pattern '~(' is not a regular expression"),
        ('return { timeout = "x", execute = print }', "1:21 error: timeout is 'x': it takes 0.01 to 3600 seconds"),
        ('return { x = require("jsn"), execute = print }', "1:23 error: there is no module 'jsn'"),
        ("local hook = {}\nreturn hook", "1:1 error: the hook has no execute function"),
        ("error('at the top')", "1:8 error: at the top"),
    ],
)
def test_what_add_would_refuse_is_an_error(text: str, said: str) -> None:
    found = _said(text)
    assert any(line.startswith(said) for line in found), found


def test_a_misspelled_event_type_is_told_with_the_nearest() -> None:
    text = 'return { event_type = { "task.*", "task.faild", "PreToolUse/tool_invocation" }, execute = print }'
    assert "1:35 warning: the event type task.faild is not in the catalog: did you mean task.failed?" in _said(text)
    text = 'return { event_type = "task.", execute = print }'
    assert "1:23 warning: the event type task. has no action: did you mean task.*?" in _said(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("return " + "(" * 200 + "1" + ")" * 200, "C stack overflow"),
        ("return 1" + " .. 1" * 10_000, "C stack overflow"),
        ("return '" + "\\" * 10_000, "unfinished string"),
        ("return " + "1e" * 10_000, "malformed number near '1e1e1e"),
    ],
)
def test_what_lua_gives_up_on_is_told_in_a_few_words(text: str, said: str) -> None:
    (found,) = check(text, Path("hook.lua"))
    assert found.message.startswith(said)
    assert len(found.message) < 400


_REAL = (_PACKAGE / "workshop" / "templates" / "guard.lua").read_text()
_PLACES = (st.integers(0, len(_REAL)), st.integers(0, len(_REAL)))


@given(st.text(max_size=200) | st.builds(lambda i, j, new: _REAL[:i] + new + _REAL[j:], *_PLACES, st.text(max_size=9)))
@settings(max_examples=150, deadline=None)
def test_no_text_breaks_the_check(text: str) -> None:
    # A line ends for Lua with either character, or with both in any order.
    lines = len(re.findall(r"\r\n|\n\r|\r|\n", text)) + 1
    for found in check(text, Path("hook.lua")):
        assert 1 <= found.line <= lines
        assert found.column >= 1


def test_code_nested_too_deeply_is_left_alone() -> None:
    text = _hook("return " + "(" * 190 + "1" + ")" * 190 + " == undefined")
    assert all("error" not in line for line in _said(text))


def test_specs_and_shared_code_are_no_hooks() -> None:
    assert _said('describe("x", function() it("y", function() expect(1).to_be(1) end) end)', "x_spec.lua") == []
    assert _said("return { greet = function() return 'hello' end }", "lib/greet.lua") == []
    assert _said("describe('x', print)", "x.lua") != []


def test_shared_code_is_looked_for_beside_the_hook(tmp_path: Path) -> None:
    text = _hook("", 'local alerts = require("lib.alerts")\nalerts.tell()')
    (missing,) = check(text, tmp_path / "hook.lua")
    assert (missing.severity, missing.message[:14]) == (Severity.NOTE, "lib/alerts.lua")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "alerts.lua").write_text("return { tell = function() end }")
    assert check(text, tmp_path / "hook.lua") == []


def test_a_directory_is_checked_with_one_line_for_each_finding(offline_hep: Hep, tmp_path: Path) -> None:
    (tmp_path / "hooks" / ".hidden").mkdir(parents=True)
    (tmp_path / "hooks" / ".hidden" / "x.lua").write_text("not Lua")
    (tmp_path / "hooks" / "a.lua").write_text(_hook("local x = 1"))
    (tmp_path / "hooks" / "b.lua").write_text("return {")
    finished = offline_hep.run("hook", "check", "hooks")
    assert (finished.status, finished.errors) == (1, "")
    assert finished.output == (
        "hooks/a.lua:4:7: warning: the local x is never used\n"
        "hooks/b.lua:1:9: error: unexpected symbol near <eof>\n"
        "1 error, 1 warning in 2 files\n"
    )


def test_the_status_is_1_for_errors_and_strictly_for_warnings(offline_hep: Hep, tmp_path: Path) -> None:
    (tmp_path / "good.lua").write_text(_hook(""))
    (tmp_path / "slip.lua").write_text(_hook("local x = 1"))
    (tmp_path / "own.lua").write_text(_hook("").replace("task.failed", "my.own"))
    for arguments, status in (
        (("good.lua", "--strict"), 0),
        (("own.lua", "--strict"), 0),
        (("slip.lua",), 0),
        (("slip.lua", "--strict"), 1),
        (("good.lua", "slip.lua", "--strict"), 1),
    ):
        assert offline_hep.run("hook", "check", *arguments).status == status, arguments


def test_a_name_of_standard_input_is_for_standard_input(offline_hep: Hep) -> None:
    finished = offline_hep.run("hook", "check", "--as", "x.lua", "y.lua")
    assert (finished.status, finished.fault) == (2, "hep: --as is the name of standard input: it takes the FILE -")


def test_an_editor_can_pipe_its_text(offline_hep: Hep) -> None:
    text = 'describe("x", function() local y = 1 end)'
    as_hook = offline_hep.run("hook", "check", "-", stdin=text)
    assert as_hook.status == 1
    as_spec = json.loads(offline_hep("hook", "check", "--as", "x_spec.lua", "-", "--format", "json", stdin=text))
    assert as_spec == [
        {
            "file": "x_spec.lua",
            "line": 1,
            "column": 32,
            "severity": "warning",
            "message": "the local y is never used",
        }
    ]


def test_what_is_not_there_is_one_line(offline_hep: Hep) -> None:
    assert offline_hep.fault("hook", "check", "nowhere.lua") == (
        "hep: nowhere.lua cannot be read: there is no such file or directory"
    )


def test_a_file_that_is_no_text_is_one_error_among_the_others(offline_hep: Hep, tmp_path: Path) -> None:
    (tmp_path / "hooks/lib").mkdir(parents=True)
    (tmp_path / "hooks/latin.lua").write_bytes(b"-- \xe9")
    (tmp_path / "hooks/unused.lua").write_text(_hook("local x"))
    no_text = "is not a Lua source file: byte 4 is not UTF-8"
    finished = offline_hep.run("hook", "check", "hooks", "hooks/latin.lua")
    assert (finished.status, finished.output.splitlines()) == (
        1,
        [
            f"hooks/latin.lua:1:1: error: hooks/latin.lua {no_text}",
            "hooks/unused.lua:4:7: warning: the local x is never used",
            f"hooks/latin.lua:1:1: error: hooks/latin.lua {no_text}",
            "2 errors, 1 warning in 3 files",
        ],
    )
    finished = offline_hep.run("hook", "check", "hooks", "--format", "json")
    assert [(found["file"], found["severity"]) for found in json.loads(finished.output)] == [
        ("hooks/latin.lua", "error"),
        ("hooks/unused.lua", "warning"),
    ]
    (tmp_path / "hooks/latin.lua").rename(tmp_path / "hooks/lib/latin.lua")
    finished = offline_hep.run("hook", "check", "hooks/unused.lua", "-", "--as", "hooks/x.lua", stdin="\udcff")
    assert f"hooks/unused.lua:1:1: error: hooks/lib/latin.lua {no_text}" in finished.output
    assert "hooks/x.lua:1:1: error: standard input is not a Lua source file: byte 1 is not UTF-8" in finished.output


def test_a_byte_order_mark_is_no_part_of_the_text_and_nul_is_refused_with_its_line(
    offline_hep: Hep, tmp_path: Path
) -> None:
    (tmp_path / "marked.lua").write_bytes(b"\xef\xbb\xbf" + _hook("").encode())
    assert offline_hep("hook", "check", "marked.lua") == "no complaints in 1 file\n"
    (tmp_path / "nul.lua").write_bytes(_hook("").encode() + b"\0")
    finished = offline_hep.run("hook", "check", "nul.lua")
    no_text = "nul.lua is not a Lua source file: line 7 holds a NUL character"
    assert (finished.status, finished.output.splitlines()[0]) == (1, f"nul.lua:1:1: error: {no_text}")


def test_a_directory_without_lua_files_is_refused(offline_hep: Hep, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert offline_hep.fault("hook", "check", "empty") == "hep: no Lua files in empty"
    assert offline_hep.fault("hook", "check", "empty", "--format", "json") == "hep: no Lua files in empty"
