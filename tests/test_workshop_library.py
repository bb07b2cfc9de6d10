"""What the workshop says of the library is what hooks find: the stubs, and the names that the check knows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from chunks import execute, output, runtime
from commands import Hep

from hook_event_processor.lua.loader import MODULES
from hook_event_processor.lua.program import Program
from hook_event_processor.workshop.library_names import (
    ABSENT,
    GLOBALS,
    LUA_MEMBERS,
    SPEC_GLOBALS,
    completions,
    members,
    stubs,
)
from hook_event_processor.workshop.syntax import syntax_fault

_WORKSHOP = Path(__file__).parent.parent / "hook_event_processor" / "workshop"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_stub_of_a_module_has_what_the_module_has(module: str) -> None:
    listed = output(
        execute(
            f'local names = {{}} for name in pairs(require("{module}")) do names[#names + 1] = name end'
            " table.sort(names) return true, table.concat(names, ' ')"
        )
    )
    assert listed.split() == sorted(members()[module])


def test_every_stub_is_lua() -> None:
    for name, text in stubs().items():
        assert syntax_fault(text) is None, name
        assert text.startswith("---@meta")
    assert stubs().keys() == {f"{module}.lua" for module in MODULES} | {"hook.lua", "spec.lua"}


def test_the_stub_of_specs_has_every_check() -> None:
    checks = set(re.findall(r"^  (to_\w+) = function", (_WORKSHOP / "lua" / "expect.lua").read_text(), re.MULTILINE))
    assert set(re.findall(r"---@field (to_\w+) fun", stubs()["spec.lua"])) == checks
    assert {
        name for name in SPEC_GLOBALS if re.search(rf"^(function )?{name}\b", stubs()["spec.lua"], re.MULTILINE)
    } == (SPEC_GLOBALS)


def test_the_globals_that_the_check_knows_are_there_and_those_that_it_misses_are_not() -> None:
    there = " and ".join(f"{name} ~= nil" for name in sorted(GLOBALS))
    absent = " and ".join(f"{name} == nil" for name in sorted(ABSENT))
    assert output(execute(f"return {there} and {absent}, 'as it says'")) == "as it says"


@pytest.mark.parametrize("library", sorted(LUA_MEMBERS))
def test_the_check_knows_what_there_is_of_lua_s_own_libraries(library: str) -> None:
    walk = "local names = {} for name in pairs(%s) do names[#names + 1] = name end table.sort(names)"
    assert output(execute(f"{walk % library} return true, table.concat(names, ' ')")).split() == sorted(
        LUA_MEMBERS[library]
    )


def test_no_global_is_unknown_to_the_check() -> None:
    text = (_WORKSHOP.parent / "lua" / "sandbox.lua").read_text()
    block = re.search(r"^local globals = \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    provided = {"print", "require", "_G"}
    assert set(re.findall(r"^  (\w+) = ", block[1], re.MULTILINE)) | provided == GLOBALS


def test_names_are_completed() -> None:
    assert completions("crypto.sha") == ["crypto.sha1", "crypto.sha256", "crypto.sha512"]
    assert "tostring" in completions("to")
    assert completions("nothing.x") == []


def test_stubs_are_written_with_the_settings_that_name_them(offline_hep: Hep, tmp_path: Path) -> None:
    assert offline_hep("hook", "stubs", "hooks") == (
        "written: hooks/.hep-stubs\nhooks/.luarc.json names them for the Lua language server\n"
    )
    settings = json.loads((tmp_path / "hooks" / ".luarc.json").read_text())
    assert settings["workspace.library"] == [".hep-stubs"]
    written = {path.name: path.read_text() for path in (tmp_path / "hooks" / ".hep-stubs").iterdir()}
    assert written == dict(stubs())
    (tmp_path / "hooks" / "a.lua").write_text('return { event_type = "task.failed", execute = print }')
    assert offline_hep("hook", "check", "hooks") == "no complaints in 1 file\n"


def test_settings_of_ones_own_are_left_alone(offline_hep: Hep, tmp_path: Path) -> None:
    (tmp_path / ".luarc.json").write_text("{}")
    assert offline_hep("hook", "stubs") == (
        'written: .hep-stubs\n.luarc.json is there already: add ".hep-stubs" to its "workspace.library"\n'
    )
    assert (tmp_path / ".luarc.json").read_text() == "{}"


def test_a_runtime_without_an_extension_has_none() -> None:
    assert runtime().describe(Program("x.lua", "return { spec = spec == nil }"), 1.0) == {"spec": True}
